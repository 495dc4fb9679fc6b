"""Waiting that serves async functions and plain ones alike, so that the SDK needs no second set of classes.

Everything that a bot may wait for rings one `Bell`. Whoever asks on the event loop gets a `Later` to await,
and whoever asks in another thread is held there until it is over. Nothing here may block the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class Later:
    """A yes or no that an async function awaits, and that a plain function already has.

    Async: `if await job.sleep(30): …`. Plain, where the call itself took the time: `if job.sleep(30): …`.
    """

    __slots__ = ("_outcome", "_unawaited", "_wait")

    def __init__(
        self,
        *,
        outcome: bool | None = None,
        wait: Callable[[], Coroutine[Any, Any, bool]] | None = None,
        unawaited: Callable[[], object] | None = None,
    ) -> None:
        """`unawaited` is called when nobody awaits this any more, and the waiting is not over."""
        self._outcome = outcome
        self._wait = wait
        self._unawaited = unawaited

    def __del__(self) -> None:
        if self._wait is not None and self._unawaited is not None:
            self._unawaited()

    def __await__(self) -> Generator[Any, None, bool]:
        if self._wait is not None:
            wait, self._wait = self._wait, None
            try:
                self._outcome = yield from wait().__await__()
            except (asyncio.CancelledError, GeneratorExit):
                if self._unawaited is not None:
                    self._unawaited()
                raise
        return bool(self)

    def __bool__(self) -> bool:
        if self._outcome is None:
            raise RuntimeError("in an async function this has to be awaited: `await job.…(…)`")
        return self._outcome


class Bell:
    """Wakes everybody who waits for a change, on the loop it was made on and in any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._condition = threading.Condition()
        self._event = asyncio.Event()

    def on_loop(self) -> bool:
        """Whether the caller is on the event loop's thread, and so must not be held."""
        return threading.get_ident() == self._thread

    def call(self, function: Callable[[], object]) -> None:
        """Has the loop call `function` soon; from any thread. A closed loop has nobody left to call."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def ring(self) -> None:
        """Says that something changed; from any thread, after the change."""
        with self._condition:
            self._condition.notify_all()
        self.call(self._wake)

    def _wake(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    def until(
        self,
        reached: Callable[[], bool],
        timeout: float | None = None,
        answer: Callable[[], bool] | None = None,
    ) -> Later:
        """Waits until `reached()`, at most `timeout` seconds; the outcome is `answer()`, else `reached()`."""
        if self.on_loop():
            return Later(wait=lambda: self._until(reached, timeout, answer or reached))
        with self._condition:
            self._condition.wait_for(reached, timeout)
        return Later(outcome=(answer or reached)())

    async def _until(
        self,
        reached: Callable[[], bool],
        timeout: float | None,  # noqa: ASYNC109 - threads need it as a number, too
        answer: Callable[[], bool],
    ) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not reached():
                    await self._event.wait()
        return answer()


class Flag:
    """A flag to look at (`if job.stopping: …`) and to wait for, in async and plain functions."""

    def __init__(self, bell: Bell, *, ends_with: Flag | None = None, before: Callable[[], None] | None = None) -> None:
        """Who waits for this flag is let go, too, once `ends_with` is set. Before anybody looks, `before` is called."""
        self._bell = bell
        self._set = False
        self._ends_with = ends_with
        self._before = before

    def __bool__(self) -> bool:
        return self.is_set()

    def is_set(self) -> bool:
        """Whether the flag is set; the flag itself can stand in a condition, too."""
        if self._before is not None:
            self._before()
        return self._set

    def was_set(self) -> bool:
        """Whether it is set already: for what is waited for, which must take no lock."""
        return self._set

    def set(self) -> None:
        """Sets the flag and wakes who waits for it; from any thread."""
        self._set = True
        self._bell.ring()

    def clear(self) -> None:
        """Takes the flag back, for the next time."""
        self._set = False

    def wait(self, timeout: float | None = None) -> Later:
        """Waits until the flag is set, for `timeout` seconds at most; says whether it is set.

        An async function awaits it. In a plain function the call itself waits.
        """
        return self._bell.until(self._over, timeout, self.is_set)

    def _over(self) -> bool:
        return self._set or (self._ends_with is not None and self._ends_with.was_set())
