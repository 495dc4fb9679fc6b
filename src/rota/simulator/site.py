"""A small web site for a demonstration: a few pages that mostly work, and now and then do not.

It listens on the loopback only, serves a real page to a real browser, and has its bad moments page by page,
so that watchers have something to find.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from random import Random

MAX_HEAD = 8_192
PATIENCE = 5.0
"""Seconds that a client has for its request."""
SLOW = (0.8, 2.0)
GOOD_FOR, BAD_FOR = (20.0, 90.0), (4.0, 15.0)
"""Seconds that a page works, and then does not."""


class Mood(StrEnum):
    """How a page feels."""

    FINE = "fine"
    BROKEN = "broken"
    """Answers 500."""
    SLOW = "slow"
    """Takes its time."""
    AWAY = "away"
    """Hangs up without a word."""


@dataclass
class Page:
    """One page and how long its mood lasts (loop time)."""

    name: str
    mood: Mood
    until: float
    served: int = 0


class Site:
    """An HTTP server with `pages` pages `/page-1` … on a free port of 127.0.0.1."""

    def __init__(self, pages: int, rng: Random) -> None:
        """Listens only within `async with`."""
        self.port = 0
        self.served = 0
        self.failed = 0
        self._rng = rng
        self._pages = {f"/page-{number}": Page(f"Page {number}", Mood.FINE, 0.0) for number in range(1, pages + 1)}
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def troubled(self) -> int:
        """How many pages have a bad moment now."""
        return sum(page.mood is not Mood.FINE for page in self._pages.values())

    async def __aenter__(self) -> Self:
        now = asyncio.get_running_loop().time()
        for page in self._pages.values():
            page.until = now + self._rng.uniform(GOOD_FOR[0] / 2, GOOD_FOR[1])
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server:
            self._server.close()
        for talk in tuple(self._talks):
            talk.cancel()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task:
            self._talks.add(task)
            task.add_done_callback(self._talks.discard)
        try:
            async with asyncio.timeout(PATIENCE + SLOW[1]):
                head = await reader.readuntil(b"\r\n\r\n")
                if answer := await self._answer(head):
                    writer.write(answer)
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: bytes) -> bytes | None:
        """The whole answer; None hangs up."""
        path = [*head.split(b" ", 2), b"/"][1].decode("latin-1").partition("?")[0]
        if path == "/":
            return _response(200, _document("A small site", self._index()))
        page = self._pages.get(path)
        if page is None:
            return _response(404, _document("Nothing here", "<p>There is no such page.</p>"))
        self._change_mood(page)
        self.served += 1
        self.failed += page.mood in (Mood.BROKEN, Mood.AWAY)
        if page.mood is Mood.AWAY:
            return None
        if page.mood is Mood.BROKEN:
            return _response(500, _document(page.name, "<p>Something broke here. It will pass.</p>"))
        if page.mood is Mood.SLOW:
            await asyncio.sleep(self._rng.uniform(*SLOW))
        page.served += 1
        return _response(200, _document(page.name, f"<p>All is well. Seen {page.served} times.</p>"))

    def _change_mood(self, page: Page) -> None:
        now = asyncio.get_running_loop().time()
        if now < page.until:
            return
        bad = page.mood is Mood.FINE
        page.mood = self._rng.choice((Mood.BROKEN, Mood.SLOW, Mood.AWAY)) if bad else Mood.FINE
        page.until = now + self._rng.uniform(*(BAD_FOR if bad else GOOD_FOR))

    def _index(self) -> str:
        rows = "".join(
            f'<li><a href="{path}">{page.name}</a> <span>{page.mood}</span></li>' for path, page in self._pages.items()
        )
        return f"<p>Watched by rota's site watchers. Now and then a page has a bad moment.</p><ul>{rows}</ul>"


def _document(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><style>:root{color-scheme:light dark}'
        "body{font:1rem/1.6 system-ui,sans-serif;max-width:36rem;margin:12vh auto;padding:0 1rem}"
        "li{display:flex;justify-content:space-between;border-bottom:1px solid #8883}ul{padding:0}</style>"
        f"<h1>{title}</h1>{body}</html>"
    )


def _response(status: int, document: str) -> bytes:
    reason = {200: "OK", 404: "Not Found", 500: "Internal Server Error"}[status]
    body = document.encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/html; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
