"""The two stores as the other side of the keeper's pipe sees them, each behind a link that can be slow or cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from rota.chaos.links import Link
from rota.embedded.postgres import DATABASE, USER
from rota.errors import StoreError

ENDS_WITHIN = 15.0


class Stores:
    """A Valkey and a PostgreSQL of their own, reached through `valkey` and `postgres`, the links to them."""

    def __init__(self, folder: Path) -> None:
        """`folder` must be short enough for unix sockets; nothing happens before `start`."""
        self._folder = folder
        self._keeper: asyncio.subprocess.Process | None = None
        self._sockets: dict[str, str] = {}
        self._one_at_a_time = asyncio.Lock()
        links = folder / "links"
        self.valkey = Link(links / "valkey.sock")
        self.postgres = Link(links / ".s.PGSQL.5432")
        self.redis_url = f"unix://{self.valkey.path}"
        self.database_url = f"postgresql://{USER}@/{DATABASE}?host={links}"

    async def start(self) -> None:
        """Starts both stores and opens the links to them.

        Raises:
            StoreError: one does not start.
        """
        self.valkey.path.parent.mkdir(mode=0o700)
        self._keeper = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rota.chaos.keeper", str(self._folder / "stores")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._sockets = await self._ask("addresses")
        for name, link in (("postgres", self.postgres), ("valkey", self.valkey)):
            await self._ask("start", name)
            await link.open(self._sockets[name])

    async def begin(self, name: str) -> None:
        """Starts a store again that is not running.

        Raises:
            StoreError: it does not start.
        """
        await self._ask("start", name)

    async def stop(self, name: str) -> None:
        """Ends a store in order."""
        await self._ask("stop", name)

    async def kill(self, name: str) -> None:
        """Has a store die at once."""
        await self._ask("kill", name)

    async def forget(self) -> None:
        """A Valkey that is not running loses its append-only file."""
        await self._ask("forget")

    async def copy(self) -> None:
        """Keeps Valkey's files as they are now."""
        await self._ask("copy")

    async def rewind(self) -> None:
        """A Valkey that is not running gets the files of the last `copy`."""
        await self._ask("rewind")

    async def tell_valkey(self, *words: str) -> str:
        """Has Valkey itself carry out a command, and returns the first line of its answer.

        Raises:
            StoreError: it refuses.
        """
        reader, writer = await asyncio.open_unix_connection(self._sockets["valkey"])
        parts = (f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        writer.write((f"*{len(words)}\r\n" + "".join(parts)).encode())
        answer = (await reader.readline()).decode(errors="replace").strip()
        writer.close()
        if not answer.startswith(("+", ":")):
            raise StoreError(f"Valkey refused {words[0]}: {answer}")
        return answer

    async def close(self) -> None:
        """Closes the links and ends the stores."""
        for link in (self.valkey, self.postgres):
            await link.close()
        if self._keeper is None or self._keeper.stdin is None:
            return
        with contextlib.suppress(OSError):
            self._keeper.stdin.close()
        try:
            await asyncio.wait_for(self._keeper.wait(), ENDS_WITHIN)
        except TimeoutError:
            # The kernel ends the stores then: they die with their parent.
            self._keeper.kill()
            await self._keeper.wait()

    async def _ask(self, *command: str) -> Any:
        keeper = self._keeper
        if keeper is None or keeper.stdin is None or keeper.stdout is None:
            raise StoreError("the stores are not started")
        async with self._one_at_a_time:
            keeper.stdin.write(json.dumps(command).encode() + b"\n")
            line = await keeper.stdout.readline()
        if not line:
            raise StoreError("the process that keeps the stores has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise StoreError(str(answer["error"]))
        return answer["ok"]
