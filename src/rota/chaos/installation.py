"""One whole installation in a directory of its own: two stores, two web workers, two stewards, and the front."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from rota.chaos.front import Front
from rota.chaos.members import Member, leads, listen
from rota.chaos.stores import Stores
from rota.errors import RotaError, UnavailableError
from rota.processes import PARENT_PIPE
from rota.settings import PREFIX
from rota.simulator.rest import Rest

WEB, STEWARDS = 2, 2
READY_WITHIN = 30.0
POLL = 0.1
STORE_TIMEOUT = (1.5, 5.0)
"""Seconds that rota waits for a store: a quarter of the ttl, within these bounds."""

Found = Callable[[str], str]
"""Makes the schema in the database at an address and returns an operator's key."""


class Installation:
    """Everything of rota that runs, and where its parts can be hurt."""

    def __init__(self, ttl: float, rng: Random) -> None:
        """`ttl` in seconds; nothing happens before `start`."""
        self.folder = Path(tempfile.mkdtemp(prefix="rota-chaos-"))
        # As root the stores run as another user, who must reach what is below.
        self.folder.chmod(0o711)
        self.stores = Stores(self.folder)
        self.front = Front(rng)
        self.web: list[Member] = []
        self.stewards: list[Member] = []
        self._listener = listen()
        # Members hold the reading end; its end of file tells them that this process is gone.
        self._theirs, self._ours = os.pipe()
        shortest, longest = STORE_TIMEOUT
        self._settings = {
            "config": os.devnull,
            "data_dir": str(self.folder / "data"),
            "redis_url": self.stores.redis_url,
            "database_url": self.stores.database_url,
            "store_timeout": str(min(longest, max(shortest, ttl / 4))),
            "stop_timeout": "4",
        }

    @property
    def url(self) -> str:
        """Where the web workers are, without the front before them."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def front_url(self) -> str:
        """Where bots find the web workers: behind the front."""
        return f"http://127.0.0.1:{self.front.port}"

    async def until_serving(self, member: Member) -> None:
        """Waits until a web worker that was just started serves: it turns to Valkey, cut off or not, as it begins to.

        Raises:
            RotaError: it does not.
        """
        deadline = asyncio.get_running_loop().time() + READY_WITHIN
        while member.pid not in self.stores.valkey.callers:
            if asyncio.get_running_loop().time() > deadline or not member.running:
                raise RotaError(f"{member.name} does not start: {member.last_words()}")
            await asyncio.sleep(POLL)
        await asyncio.sleep(POLL)

    async def start(self, found: Found) -> str:
        """Starts everything and returns an operator's key.

        Raises:
            RotaError: something does not start.
        """
        await self.stores.start()
        key = await asyncio.to_thread(found, self.stores.database_url)
        descriptor = str(self._listener.fileno())
        self.web = [self._member(f"web-{number + 1}", "rota.web", "--fd", descriptor) for number in range(WEB)]
        self.stewards = [self._member(f"steward-{number + 1}", "rota.steward") for number in range(STEWARDS)]
        for member in (*self.web, *self.stewards):
            await member.start()
        await self.front.open(self._listener.getsockname()[1])
        async with Rest(self.url, key, timeout=5) as rest:
            await self._until_ready(rest)
        return key

    async def leader(self) -> Member:
        """The steward that leads.

        Raises:
            RotaError: none says so in time.
        """
        deadline = asyncio.get_running_loop().time() + READY_WITHIN
        while asyncio.get_running_loop().time() < deadline:
            for steward in self.stewards:
                if leads(steward):
                    return steward
            await asyncio.sleep(POLL)
        raise RotaError("no steward says that it leads")

    async def close(self) -> None:
        """Ends everything and removes the directory."""
        for member in (*self.web, *self.stewards):
            member.thaw()
        await asyncio.gather(*(member.end() for member in (*self.web, *self.stewards)))
        await self.front.close()
        await self.stores.close()
        self._listener.close()
        for descriptor in (self._theirs, self._ours):
            os.close(descriptor)
        _remove(self.folder)

    def last_words(self) -> str:
        """The ends of all members' logs."""
        return "\n".join(f"{member.name}: {member.last_words()}" for member in (*self.web, *self.stewards))

    async def _until_ready(self, rest: Rest) -> None:
        deadline = asyncio.get_running_loop().time() + READY_WITHIN
        while True:
            try:
                await rest.get("/fleets/default")
                await self.leader()
            except UnavailableError:
                if asyncio.get_running_loop().time() > deadline or not all(member.running for member in self.web):
                    raise RotaError(f"rota does not start\n{self.last_words()}") from None
                await asyncio.sleep(POLL)
            else:
                return

    def _member(self, name: str, *command: str) -> Member:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment |= {f"{PREFIX}{name.upper()}": value for name, value in self._settings.items()}
        environment[PARENT_PIPE] = str(self._theirs)
        descriptors = (self._listener.fileno(), self._theirs)
        return Member(name, command, environment, descriptors, self.folder / f"{name}.log")


def _remove(folder: Path) -> None:
    """Also what the stores keep elsewhere, where their user cannot reach the directory."""
    elsewhere = folder / "stores" / "stores-are-in"
    if elsewhere.exists():
        shutil.rmtree(elsewhere.read_text("utf-8").strip(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
