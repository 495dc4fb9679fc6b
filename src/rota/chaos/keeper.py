"""The process that keeps the two stores: `python -m rota.chaos.keeper DIRECTORY`, one command a line.

Apart from the process that runs the bots, because starting a store blocks, and bots that are kept waiting are a
fault that nobody ordered. A command is a JSON list, its answer one JSON object with `ok` or `error`. When standard
input ends, the stores end too.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rota.embedded import EmbeddedPostgres, EmbeddedValkey, Place
from rota.errors import RotaError, StoreError

START_TRIES = 5
"""A killed PostgreSQL's last backends may keep its memory for a moment."""
PAUSE = 0.3
APPEND_ONLY = "appendonlydir"


class Keeper:
    """A Valkey and a PostgreSQL in one directory, and what may befall them."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)
        self.place.open()
        self.stores: dict[str, EmbeddedValkey | EmbeddedPostgres] = {
            "valkey": EmbeddedValkey(self.place),
            "postgres": EmbeddedPostgres(self.place),
        }
        self._files = self.place.folder("valkey") / APPEND_ONLY
        self._copy = self.place.home / "appendonly-before"

    def start(self, name: str) -> None:
        """Starts a store and waits until it answers."""
        for left in range(START_TRIES - 1, -1, -1):
            try:
                self.stores[name].start()
            except StoreError:
                if not left:
                    raise
                time.sleep(PAUSE)
            else:
                return

    def stop(self, name: str) -> None:
        """Ends a store in order."""
        self.stores[name].stop()

    def kill(self, name: str) -> None:
        """Has it die at once."""
        self.stores[name].child.kill()

    def forget(self) -> None:
        """A Valkey that is not running loses its append-only file."""
        shutil.rmtree(self._files)

    def copy(self) -> None:
        """Takes Valkey's files as they are now, as a replica that hears nothing more would have them."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._files, self._copy)

    def rewind(self) -> None:
        """A Valkey that is not running gets the files of the last `copy`."""
        self.forget()
        shutil.copytree(self._copy, self._files)
        for path in (self._files, *self._files.iterdir()):
            self.place.own(path)

    def addresses(self) -> dict[str, str]:
        """Where the stores listen: unix sockets, and the folder that holds them."""
        sockets = self.place.sockets()
        return {"valkey": str(sockets / "valkey.sock"), "postgres": str(sockets / ".s.PGSQL.5432")}

    def close(self) -> None:
        """Ends both."""
        for store in reversed(self.stores.values()):
            store.stop()
        self.place.close()


def main(folder: Path) -> None:
    """Does what standard input says until it ends."""
    keeper = Keeper(folder)
    verbs: dict[str, Callable[..., object]] = {
        "start": keeper.start,
        "stop": keeper.stop,
        "kill": keeper.kill,
        "forget": keeper.forget,
        "copy": keeper.copy,
        "rewind": keeper.rewind,
        "addresses": keeper.addresses,
    }
    try:
        for line in sys.stdin:
            verb, *arguments = json.loads(line)
            try:
                answer = {"ok": verbs[verb](*arguments)}
            except (RotaError, OSError) as error:
                answer = {"error": str(error)}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        keeper.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
