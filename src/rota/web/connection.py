"""One HTTP connection. Plain heartbeats are answered where they are read: no task, no ASGI scope, one write for each.

uvicorn reads and parses, and everything else goes on to its ASGI application, whose `bot_api` answers a heartbeat just
as it is answered here: one that asks for `100-continue`, that does not wait for the answer before it, and so on. Where
a head is too large, of whatever request, it is refused here.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from rota.errors import BodyTooLargeError, HeadTooLargeError, InternalError, ProblemError, RotaError
from rota.live.beats import Answer
from rota.protocol import MAX_BEAT_BYTES, MAX_HEAD_BYTES, MAX_HEADERS, BeatFields
from rota.web import heartbeats
from rota.web.held import Held
from rota.web.http import FOLLOWED, JSON, bearer, problem_body, problem_headers
from rota.web.policies import Policy
from rota.web.state import State
from rota.web.tokens import TokenOwner, read_token

PATH = b"/bot/heartbeat"
OK = 200
LINGER = 1.0
"""Seconds between an answer that comes before its request is whole and the end of the connection: one that is closed
while the other side still sends loses the answer."""

log = structlog.get_logger(__name__)


class _Nobody:
    """Stands for the event by which uvicorn wakes an ASGI application."""

    def set(self) -> None:
        return


_NOBODY = _Nobody()


class Connection(HttpToolsProtocol):
    """A connection of a bot, or of anybody else."""

    cycle: Any
    """What it is busy with: uvicorn's, or a heartbeat."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """As uvicorn makes it; the worker's state comes with that of the ASGI lifespan."""
        super().__init__(*arguments, **named)
        self._state: State | None = self.app_state.get("rota")
        self._heartbeat: _Heartbeat | None = None
        """The one that is being read or answered."""
        self._unread = 0
        """Bytes since a head, a piece of a body or a request was whole."""
        self._whole = False
        """Whether any was, in what came last …"""
        self._before = 0
        """… and the length of what came last in which one was: the next head may have begun there."""
        self._reading = False
        """Whether a body is not whole yet."""
        self._deaf = False
        """Whether the connection is about to be closed, and what still comes is not looked at."""

    def data_received(self, data: bytes) -> None:
        """Some bytes; those before a body are counted, because the parser keeps them until they are whole."""
        if self._deaf:
            return
        self._whole = False
        self._unread += len(data)
        super().data_received(data)
        if self._whole:
            self._unread, self._before = 0, len(data)
        elif self._unread > MAX_HEAD_BYTES and not self._deaf:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        """A plain heartbeat stays here. A heartbeat that is held behind it is answered: this is what its bot wants."""
        if self._deaf:
            return
        self._whole = self._reading = True
        if self._is_busy():
            self._hasten()
        if self._is_head_too_large():
            self._refuse_head()
        elif self.url == PATH and self._state is not None and self._is_plain():
            self.cycle = self._heartbeat = _Heartbeat(self, self._state)
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._whole = True
        if self._deaf:
            return
        if self._heartbeat is not None and self.cycle is self._heartbeat:
            self._heartbeat.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._whole, self._reading = True, False
        if self._deaf:
            return
        if self._heartbeat is not None and self.cycle is self._heartbeat:
            self._heartbeat.begin()
        else:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side hung up, or the connection was closed."""
        super().connection_lost(exc)
        if self._heartbeat is not None:
            self._heartbeat.forget()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Lets something be done that takes more than this moment; the server waits for its end."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def write(self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]], *, close: bool) -> None:
        """Writes a whole response, and the connection is free for the next request."""
        self._heartbeat = None
        if self.transport.is_closing():
            return
        lines = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        lines += [b"%b: %b\r\n" % header for header in headers]
        if close:
            lines.append(b"connection: close\r\n")
        head = b"%b%bcontent-length: %d\r\n\r\n" % (STATUS_LINE[status], b"".join(lines), len(body))
        self.transport.write(head + body)
        if close and not self._deaf:
            self.transport.close()
        elif close:
            self._close_later()
        self.on_response_complete()

    def write_early(self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Writes a response although the request is not whole; what still comes of it is not looked at."""
        self._deaf = True
        self.write(status, body, (*headers, (b"connection", b"close")), close=False)
        self._close_later()

    def _close_later(self) -> None:
        self.loop.call_later(LINGER, self.transport.close)

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_head_too_large(self) -> bool:
        if len(self.headers) > MAX_HEADERS:
            return True
        if self._before + self._unread <= MAX_HEAD_BYTES:
            # Less has come at all.
            return False
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES

    def _refuse_head(self) -> None:
        if self._reading and not self._whole:
            # What is endless is behind a body, whose request is answered already or never will be.
            self._deaf = True
            self.transport.close()
        elif self._is_busy():
            # An answer would be taken for that of the request before it.
            self._deaf = True
            self.cycle.keep_alive = False
            self._hasten()
        else:
            problem = HeadTooLargeError(f"Headers are limited to {MAX_HEADERS}, and to {MAX_HEAD_BYTES} bytes in all.")
            self.write_early(problem.status, problem_body(problem), problem_headers(problem))

    def _hasten(self) -> None:
        """What the connection is busy with has something behind it.

        From here on uvicorn does not read, and so would not notice that a bot whose heartbeat is held hangs up.
        """
        if self.cycle is self._heartbeat:
            self._heartbeat.hasten()
        else:
            self.cycle.scope[FOLLOWED] = True
            self.cycle.message_event.set()

    def _is_plain(self) -> bool:
        parser = self.parser
        return (
            not self._is_busy()
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not (self.expect_100_continue or parser.should_upgrade() or self.flow.write_paused)
        )


class _Heartbeat:
    """One heartbeat from its headers to its reply; uvicorn knows it as the request that its connection is busy with."""

    __slots__ = (
        *("disconnected", "keep_alive", "message_event", "response_complete"),  # uvicorn's own words
        *("_body", "_connection", "_hastened", "_held", "_owner", "_policy", "_said", "_state"),
    )

    def __init__(self, connection: Connection, state: State) -> None:
        self.disconnected = False
        self.keep_alive: bool = connection.parser.should_keep_alive()
        self.message_event = _NOBODY
        self.response_complete = False
        self._connection = connection
        self._state = state
        self._body = b""
        self._hastened = False
        self._held: Held | None = None
        self._owner: TokenOwner
        self._policy: Policy
        self._said: BeatFields

    def take(self, body: bytes) -> None:
        """A piece of the body; too many of them are refused before they are whole."""
        self._body += body
        if len(self._body) > MAX_BEAT_BYTES:
            problem = BodyTooLargeError(f"The body is over {MAX_BEAT_BYTES} bytes.")
            self.response_complete = True
            self._connection.write_early(problem.status, problem_body(problem), problem_headers(problem))

    def begin(self) -> None:
        """It is whole: lets it beat."""
        try:
            self._owner = read_token(bearer(self._connection.headers))
            self._said = heartbeats.read_beat(self._body)
            policy = self._state.policies.known(self._owner.fleet)
            if policy is None:
                self._connection.run(self._meet_fleet())
            else:
                self._beat(policy)
        except Exception as error:  # noqa: BLE001 - every error ends as an answer
            self._refuse(error)

    def tell(self, answer: Answer | RotaError | None) -> None:
        """What the beat was answered."""
        self._held = None
        if self.disconnected:
            return
        if answer is None:
            self._reply(heartbeats.nothing_new(self._said, self._policy).encode())
        else:
            self._connection.run(self._tell_news(answer))

    def hasten(self) -> None:
        """Another request has come behind it: it is not held any longer."""
        self._hastened = True
        if self._held is not None:
            self._state.waiting.hasten(self._held)

    def forget(self) -> None:
        """Nobody is there any more to be answered."""
        self.disconnected = True
        if self._held is not None:
            self._state.waiting.forget(self._held)

    def _beat(self, policy: Policy) -> None:
        self._policy = policy
        self._held = heartbeats.begin(self._state, self._owner, self._said, policy, self.tell)
        if self._hastened:
            self.hasten()

    async def _meet_fleet(self) -> None:
        try:
            self._beat(await heartbeats.policy_of(self._state, self._owner.fleet))
        except Exception as error:  # noqa: BLE001 - every error ends as an answer
            self._refuse(error)

    async def _tell_news(self, answer: Answer | RotaError) -> None:
        try:
            self._reply(await heartbeats.news(self._state, self._owner, self._policy, answer))
        except Exception as error:  # noqa: BLE001 - every error ends as an answer
            self._refuse(error)

    def _reply(self, body: bytes) -> None:
        self.response_complete = True
        self._connection.write(OK, body, (JSON,), close=not self.keep_alive)

    def _refuse(self, error: Exception) -> None:
        if not isinstance(error, ProblemError):
            log.error("bot call failed", path=PATH.decode(), exc_info=error)
            error = InternalError()
        self.response_complete = True
        body, headers = problem_body(error), problem_headers(error)
        self._connection.write(error.status, body, headers, close=not self.keep_alive)
