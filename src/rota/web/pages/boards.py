"""What all requests of one web worker share among the pages: the ledger's facts, and one board per status page."""

from __future__ import annotations

from fastapi import Request

from rota.web.pages.changes import write
from rota.web.pages.facts import Facts
from rota.web.pages.fleet import FleetPage, Scope, read_fleet
from rota.web.state import State, current
from rota.web.stream import Board

MOST = 64
"""Boards kept; those that nobody looks at go first."""


class Boards:
    """One worker's boards, made when they are first looked at."""

    def __init__(self, state: State) -> None:
        self.facts = Facts(state.ledger)
        self._state = state
        self._boards: dict[Scope, Board[FleetPage]] = {}

    def of(self, scope: Scope) -> Board[FleetPage]:
        """The board that shows this."""
        board = self._boards.get(scope)
        if board is None:
            self._forget_idle()
            board = self._boards[scope] = Board(lambda: read_fleet(self._state, self.facts, scope), write)
        return board

    def _forget_idle(self) -> None:
        if len(self._boards) >= MOST:
            self._boards = {scope: board for scope, board in self._boards.items() if board.is_watched}


def boards(request: Request) -> Boards:
    """The worker's; made with the first page that is asked for."""
    found: Boards | None = getattr(request.app.state, "boards", None)
    if found is None:
        found = request.app.state.boards = Boards(current(request))
    return found
