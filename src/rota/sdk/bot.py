"""The public face of the SDK: a `Bot` is told where rota is and which function does the work, and runs.

It reads the environment and handles signals; what a bot says and does is in `duty`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from rota.errors import SettingsError
from rota.protocol import MAX_BODY_BYTES, AuthRequest
from rota.sdk.disk import SpoolAt
from rota.sdk.duty import Duty
from rota.sdk.job import Job
from rota.sdk.push import Pushing, Superseded
from rota.sdk.session import Session

F = TypeVar("F", bound=Callable[[Job], Any])
G = TypeVar("G", bound=Callable[[Superseded], Any])


class Bot:
    """One bot: enters the roster, works for the profile that it is given, and keeps the lease rule meanwhile.

    >>> from rota import Bot, Job
    >>> bot = Bot("http://127.0.0.1:7682", "enrol_...", hostname="bot-farm-1", instance="3")
    >>> @bot.work
    ... async def watch(job: Job) -> None:
    ...     while not job.stopping:
    ...         job.status("all quiet")
    ...         await job.push({"ok": True}, kind="check")
    ...         await job.sleep(30)
    >>> bot
    <Bot bot-farm-1/3 at http://127.0.0.1:7682>

    Then `bot.run()`, or `await bot.serve()` where an event loop runs already.
    """

    def __init__(  # noqa: PLR0913 - a keyword for each thing that can be said of a bot
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        hostname: str | None = None,
        instance: str | None = None,
        labels: Mapping[str, str] | None = None,
        version: str = "",
        grace: float = 10.0,
        last_resort: bool = True,
        spool: str | os.PathLike[str] | None = None,
        spool_bytes: int = 256 * 2**20,
    ) -> None:
        """Reads `ROTA_URL`, `ROTA_ENROLMENT_KEY`, `ROTA_INSTANCE`, `ROTA_SPOOL` and the host's name where it gets none.

        `spool`: a folder in which each slot keeps the records that rota does not have yet, so that they survive
        the process; `spool_bytes`: how much may lie there before pushing waits. `grace`: seconds that the work
        has to end when it is told to stop. `last_resort`: the process ends itself, with exit code 75, when the
        work goes on beyond its lease; without it, two bots may then work for one profile.

        Raises:
            SettingsError: something is missing, or has a form that rota does not take.
        """
        self._url = _address(url or os.environ.get("ROTA_URL", ""))
        self._key = key or os.environ.get("ROTA_ENROLMENT_KEY", "")
        if not re.fullmatch(r"[!-~]+", self._key):
            raise SettingsError("no enrolment key, or not all of it: pass Bot(url, key) or set ROTA_ENROLMENT_KEY")
        self._hello = _hello(
            hostname=hostname or socket.gethostname(),
            instance=instance or os.environ.get("ROTA_INSTANCE") or None,
            version=version,
            labels=dict(labels or {}),
        )
        self._spool = _spool_at(spool or os.environ.get("ROTA_SPOOL"), self._hello, spool_bytes)
        self._superseded: Callable[[Superseded], Any] | None = None
        self._grace = max(0.0, grace)
        self._last_resort = last_resort
        self._work: Callable[[Job], Any] | None = None
        self._duty: Duty | None = None

    def __repr__(self) -> str:
        return f"<Bot {self._hello.hostname}/{self._hello.instance or '?'} at {self._url}>"

    def work(self, function: F) -> F:
        """Decorates the work function: an `async def`, or a plain one, which gets a thread of its own."""
        self._work = function
        return function

    def superseded(self, function: G) -> G:
        """Decorates a plain function that is told when records came too late, because their profile has a newer owner.

        It is called on the bot's event loop, which it must not block.
        """
        self._superseded = function
        return function

    def run(self) -> None:
        """Runs this bot in this process until SIGTERM, SIGINT or rota's `exit`.

        Raises:
            InvalidKeyError: the enrolment key is unknown, expired or revoked.
            ServerNotAllowedError: this hostname is not on the operator's list.
            SettingsError: no work function is set, or rota does not take this bot's description.
            SpoolError: the spool cannot be used, or another process of this slot keeps it.
        """
        run_bots([self])

    async def serve(self) -> None:
        """The same as `run` on an event loop that runs already, and without signal handlers.

        Cancelling it cancels the work, and leaves.
        """
        if self._work is None:
            raise SettingsError("this bot has nothing to do: decorate a function with @bot.work")
        if self._duty is not None:
            raise RuntimeError(f"{self!r} is running already")
        session = Session(self._url, self._key, self._hello)
        push = Pushing(self._spool, self._superseded)
        self._duty = Duty(session, self._work, grace=self._grace, last_resort=self._last_resort, push=push)
        try:
            await self._duty.serve()
        finally:
            self._duty = None

    def stop(self) -> None:
        """Lets the work end and leaves, as on SIGTERM; called again, at once. From any thread."""
        if self._duty is not None:
            self._duty.leave()

    def check_lease(self) -> None:
        """Heeds the lease at this moment: for a process that handles SIGCONT itself."""
        if self._duty is not None:
            self._duty.check_lease()


def run_bots(bots: Sequence[Bot]) -> None:
    """Runs several bots in this process until SIGTERM or SIGINT, or until all were told `exit`.

    Raises:
        RotaError: what `Bot.run` raises; the other bots have left then.
    """
    asyncio.run(_serve_all(bots))


async def _serve_all(bots: Sequence[Bot]) -> None:
    with _signals(bots):
        tasks = [asyncio.create_task(bot.serve()) for bot in bots]
        _, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if others:
            for bot in bots:
                bot.stop()
            await asyncio.wait(others)
        for task in tasks:
            task.result()


@contextlib.contextmanager
def _signals(bots: Sequence[Bot]) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for bot in bots:
            bot.stop()

    def check_leases(*_: object) -> None:
        for bot in bots:
            bot.check_lease()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    # Not the loop's: Python calls this one before any other code of the main thread goes on, so that a
    # process that was stopped for longer than its lease finds that out before its work does anything.
    before = signal.signal(signal.SIGCONT, check_leases)
    try:
        yield
    finally:
        signal.signal(signal.SIGCONT, before)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _address(url: str) -> str:
    if not url:
        raise SettingsError("no address of rota: pass Bot(url, key) or set ROTA_URL")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise SettingsError(f"{url!r} is not an address of rota: it has to be http://… or https://…")
    return url.rstrip("/")


def _hello(**fields: Any) -> AuthRequest:
    try:
        return AuthRequest.model_validate(fields)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in wrong["loc"])
        raise SettingsError(f"{name} of this bot: {wrong['msg']}, not {wrong['input']!r}") from None


def _spool_at(folder: str | os.PathLike[str] | None, hello: AuthRequest, most: int) -> SpoolAt | None:
    if not folder:
        return None
    if hello.instance is None:
        # A drawn slot is another one each time, and what it left would never be found again.
        raise SettingsError("a spool belongs to a slot: pass Bot(instance=…) or set ROTA_INSTANCE")
    if most < MAX_BODY_BYTES:
        raise SettingsError(f"spool_bytes has to be {MAX_BODY_BYTES} at least, the size of one batch, not {most}")
    return SpoolAt(Path(folder).absolute() / f"{hello.hostname}~{hello.instance}.spool", most)
