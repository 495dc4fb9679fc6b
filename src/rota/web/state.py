"""What every request of a web worker shares: the stores, the settings, and what is signed with."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from rota.hooks.post import Post
from rota.ledger.connection import Ledger
from rota.live.beats import Beats
from rota.live.scripts import Live
from rota.settings import Settings
from rota.web.admissions import Admissions
from rota.web.exports import Exports
from rota.web.follow import Follower
from rota.web.policies import Policies
from rota.web.push import Pushes
from rota.web.readers import Readers
from rota.web.tokens import Leases
from rota.web.waiting import Waiting


@dataclass(frozen=True)
class State:
    """One web worker's; stands at `app.state.rota`.

    The last of the `signing` keys signs leases and sessions; all of them prove one.
    """

    settings: Settings
    live: Live
    ledger: Ledger
    signing: list[str]
    beats: Beats
    policies: Policies
    leases: Leases
    waiting: Waiting
    admissions: Admissions
    pushes: Pushes
    readers: Readers
    exports: Exports
    follower: Follower
    post: Post


def current(connection: HTTPConnection) -> State:
    """The worker's state, for routes and dependencies."""
    state: State = connection.app.state.rota
    return state
