"""Who may come in: when a whole farm starts, thousands ask for the same at once, and the ledger is asked once for many.

Whoever asks while the ledger is being asked waits for the next question, so that nobody gets an answer that is older
than what was asked: a key that was revoked counts no more from then on.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from rota.ledger import enrolment
from rota.ledger.connection import Ledger
from rota.ledger.enrolment import Admission


class _Question(NamedTuple):
    secret: str
    hostname: str


class Admissions:
    """One web worker's."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._next: dict[_Question, asyncio.Task[Admission]] = {}
        self._asking: dict[_Question, asyncio.Task[Admission]] = {}

    async def of(self, secret: str, hostname: str) -> Admission:
        """What a bot with this enrolment key on this host is admitted to.

        Raises:
            InvalidKeyError: the key is unknown, expired or revoked.
            ServerNotAllowedError: no listed server matches the hostname.
            UnavailableError: the ledger is away.
        """
        question = _Question(secret, hostname)
        answer = self._next.get(question)
        if answer is None:
            answer = self._next[question] = asyncio.create_task(self._ask(question, self._asking.get(question)))
            # Whoever asked may be gone when it is refused: then nobody is to be told.
            answer.add_done_callback(lambda task: task.cancelled() or task.exception())
        # Shielded: a bot that hangs up must not take the answer from the others.
        return await asyncio.shield(answer)

    async def _ask(self, question: _Question, before: asyncio.Task[Admission] | None) -> Admission:
        if before is not None:
            await asyncio.wait((before,))
        self._asking[question] = self._next.pop(question)
        try:
            async with self._ledger.begin() as tx:
                return await enrolment.admit(tx, *question)
        finally:
            del self._asking[question]
