"""A scripted rota for the SDK's tests: a real HTTP server on a loopback port, in a thread of its own.

Unscripted, it answers by the tables of the protocol for the one profile in `wish`. `script` puts answers
before that, one for each call, and `calls` keeps what the bot said.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from rota.errors import ProblemError
from rota.sdk import Bot
from rota.sdk.lease import now

KEY = "enrol_key"
PROFILE = "prf_acme"
NO_FUSE = "import rota.sdk.lease; rota.sdk.lease.fuse = lambda clock: None"
"""For `start_bot`: as on a system whose kernel ends nobody, so that only the watchdog's thread does."""
STEADY_TTL = 30.0
"""A ttl that no test outlasts."""


@dataclass(frozen=True)
class Call:
    """What the bot said, and when it was heard."""

    path: str
    secret: str
    body: dict[str, Any]
    size: int
    at: float


@dataclass(frozen=True)
class Answer:
    """What the bot is told. `lost`: all is done, and then the connection breaks before the answer."""

    body: dict[str, Any] | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False


Scripted = Answer | ProblemError | Callable[[Call], Answer | ProblemError]


@dataclass
class Wish:
    """The profile that the bot is to work for."""

    profile: str = PROFILE
    epoch: int = 1001
    revision: int = 1
    config: dict[str, Any] = field(default_factory=lambda: {"url": "http://site"})
    stop: bool = False

    def assignment(self, *, whole: bool) -> dict[str, Any]:
        """As the replies have it; `whole` with configuration and lease."""
        short = {"profile": self.profile, "name": "acme", "epoch": self.epoch, "revision": self.revision}
        return short | {"config": self.config, "lease": f"lease-{self.epoch}"} if whole else short


def lost(answer: Answer | None = None) -> Callable[[Call], Answer]:
    """The call is heard, and its answer never arrives."""
    return lambda _: Answer(answer.body if answer else None, lost=True)


class Peer:
    """The scripted rota."""

    def __init__(self) -> None:
        self.interval = 0.05
        self.ttl = STEADY_TTL
        self.wish: Wish | None = None
        self.calls: list[Call] = []
        self.down = False
        """Whether connections break before anything is heard."""
        self.refused = 0
        self.signed: list[str] = []
        """Leases that an auth gave out anew, the newest last."""
        self.children: list[subprocess.Popen[str]] = []
        self.tokens: dict[str, str] = {}
        """Bot id → its token."""
        self.stored: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
        self._scripts: dict[str, deque[Scripted]] = defaultdict(deque)
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        for child in self.children:
            with child:  # closes its pipes and waits for it
                child.kill()

    def script(self, path: str, *answers: Scripted) -> None:
        """Puts these answers before the usual ones, each for one call of `path` (`heartbeat`)."""
        self._scripts[path].extend(answers)

    def said(self, path: str) -> list[Call]:
        """All calls of `path` so far."""
        return [call for call in self.calls if call.path == path]

    @property
    def data(self) -> list[Any]:
        """The data of all stored records, in order."""
        return [record["data"] for key in self.stored for record in self.stored[key]]

    # ---- the usual answers

    def _auth(self, call: Call) -> Answer:
        bot = f"{call.body['hostname']}/{call.body.get('instance', '0a1b2c3d')}"
        self.tokens[bot] = f"token-{len(self.said('auth'))}"
        working, wish = call.body.get("working"), self.wish
        restored = (
            wish is not None
            and not wish.stop
            and working is not None
            and working["lease"] in {f"lease-{wish.epoch}", *self.signed}
            and (working["profile"], working["epoch"]) == (wish.profile, wish.epoch)
        )
        assignment = wish.assignment(whole=False) if restored and wish is not None else None
        if assignment and self.signed:
            assignment |= {"lease": self.signed[-1]}
        return Answer(
            {
                "bot": bot,
                "token": self.tokens[bot],
                "interval": self.interval,
                "ttl": self.ttl,
                "assignment": assignment,
            }
        )

    def _heartbeat(self, call: Call) -> Answer:
        working, wish = call.body.get("working"), self.wish
        if working is None:
            if wish is None or wish.stop or not call.body["accepting"]:
                self.wish = None
                return self.instruct("wait")
            return self.instruct("start")
        mine = wish is not None and (working["profile"], working["epoch"]) == (wish.profile, wish.epoch)
        if wish is None or not mine or wish.stop:
            return self.instruct("stop")
        return self.instruct("continue" if working["revision"] == wish.revision else "reconfigure")

    def instruct(self, instruction: str) -> Answer:
        """The reply to a heartbeat."""
        reply = {"instruction": instruction, "interval": self.interval, "ttl": self.ttl}
        if self.wish is not None:
            reply["assignment"] = self.wish.assignment(whole=instruction in {"start", "reconfigure"})
        return Answer(reply)

    def _push_data(self, call: Call) -> Answer:
        key = (call.body["profile"], call.body["epoch"], call.body["batch"])
        duplicate = key in self.stored
        self.stored.setdefault(key, call.body["records"])
        return Answer({"accepted": 0 if duplicate else len(call.body["records"]), "duplicate": duplicate})

    def _leave(self, call: Call) -> Answer:
        self.tokens = {bot: token for bot, token in self.tokens.items() if token != call.secret}
        return Answer(status=204)

    # ---- the server

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stop.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")) and not self.down:
                lines = head.decode().split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                path = lines[0].split()[1].removeprefix("/bot/")
                secret = headers["authorization"].removeprefix("Bearer ")
                answer = self._answer(Call(path, secret, json.loads(raw), len(raw), now()))
                if answer.lost:
                    break
                writer.write(_bytes(answer))
                await writer.drain()
            self.refused += self.down
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, call: Call) -> Answer:
        self.calls.append(call)
        scripted = self._scripts[call.path].popleft() if self._scripts[call.path] else None
        if callable(scripted):
            scripted = scripted(call)
        if scripted is None and call.path != "auth" and call.secret not in self.tokens.values():
            return Answer({"code": "unknown_bot"}, 401)
        answer = scripted or getattr(self, f"_{call.path}")(call)
        if isinstance(answer, ProblemError):
            wait = {} if answer.retry_after is None else {"Retry-After": f"{answer.retry_after:g}"}
            return Answer(answer.problem(), answer.status, wait)
        assert isinstance(answer, Answer)
        return answer


def _bytes(answer: Answer) -> bytes:
    content = b"" if answer.body is None else json.dumps(answer.body).encode()
    headers = {"Content-Length": str(len(content)), "Content-Type": "application/json", **answer.headers}
    lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + content


def lease_end(peer: Peer) -> float:
    """An upper bound of the end of the bot's lease: a heartbeat was sent before it was heard."""
    return max(call.at for call in peer.said("heartbeat")) + peer.ttl


async def eventually(reached: Callable[[], object], seconds: float = 15) -> None:
    """Waits until `reached()`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.002)


@asynccontextmanager
async def serving(bot: Bot) -> AsyncIterator[asyncio.Task[None]]:
    """The bot at work; afterwards it is stopped."""
    task = asyncio.create_task(bot.serve())
    try:
        yield task
    finally:
        while not task.done():
            bot.stop()
            await asyncio.wait([task], timeout=0.5)
    if not task.cancelled():
        task.exception()


def bot_at(peer: Peer, **options: Any) -> Bot:
    """A bot that knows only this peer."""
    described: dict[str, Any] = {"hostname": "bot-farm-1", "instance": "3", "grace": 5.0}
    return Bot(peer.url, KEY, **described | options)


def start_bot(peer: Peer, work: str, *, first: str = "", **options: Any) -> subprocess.Popen[str]:
    """A process with a bot whose work function is this source text; `first` is run before."""
    made = {"hostname": "bot-farm-1", "instance": "3"} | options
    made_bot = f"bot = Bot({peer.url!r}, {KEY!r}, **{made!r})"
    source = f"import asyncio, ctypes, os, signal, sys, time\nfrom rota import Bot\n{first}\n{made_bot}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", f"{source}\n@bot.work\n{work}\n\nbot.run()\n"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    peer.children.append(process)
    return process
