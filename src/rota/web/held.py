"""Heartbeats that one worker holds for one fleet: the single one, and the idle bots' by the labels that these bear.

`waiting` keeps them and asks for them. Labels are read from live state when a profile first requires any, and known
from then on for as long as a bot keeps its token: whoever waits for profiles without labels costs nothing for it.
"""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Iterator, Mapping

from rota.live.beats import Tell
from rota.live.entries import DIGEST_BYTES
from rota.web.tokens import TokenOwner

Labels = frozenset[tuple[str, str]]
FORGOTTEN_FROM = 1000
"""So many bots more than twice those that wait may have known labels, before the others' are forgotten."""


class Held:
    """One heartbeat that waits: whose it is, what it says, and who is called with its answer."""

    __slots__ = (
        *("bot", "deadline_ms", "entry", "fleet", "group", "idle", "tell", "timer"),
        *("again", "begun", "brief"),
    )

    def __init__(self, owner: TokenOwner, entry: bytes, deadline_ms: int, tell: Tell, *, idle: bool) -> None:
        self.fleet = owner.fleet
        self.bot = owner.bot
        self.entry = entry
        self.deadline_ms = deadline_ms
        self.tell: Tell | None = tell
        """None once it was called."""
        self.idle = idle
        """Whether it may be given work."""
        self.timer: TimerHandle | None = None
        """Ends the wait; None where it has not begun, or is over."""
        self.brief = False
        """Its first answer is told at once, whatever it is: there is no wait for more."""
        self.again = False
        """Something has happened that concerns its bot since the store was first asked."""
        self.begun = 0
        """How often profiles had begun to wait when the store was first asked."""
        self.group: Group | None = None
        """Where the reserve keeps it, if it does."""

    @property
    def digest(self) -> bytes:
        """The bot's token's."""
        return self.entry[:DIGEST_BYTES]


Group = dict[str, Held]
"""Bot → its heartbeat, in the order of their coming."""


class Reserve:
    """The held heartbeats of idle bots that accept work."""

    def __init__(self) -> None:
        """Empty."""
        self._strangers: Group = {}
        """Those whose labels were not asked for yet."""
        self._groups: dict[Labels, Group] = {}
        self._known: dict[str, tuple[bytes, Group]] = {}
        """Bot → its token's digest, since only a new token brings other labels, and where it belongs."""

    def enter(self, held: Held) -> None:
        """Its bot may be given work from now on."""
        known = self._known.get(held.bot)
        group = self._strangers if known is None or known[0] != held.digest else known[1]
        group[held.bot] = held
        held.group = group

    def leave(self, held: Held) -> None:
        """Its bot waits no more."""
        group, held.group = held.group, None
        if group is not None and group.get(held.bot) is held:
            del group[held.bot]

    def strangers(self) -> list[Held]:
        """Those whose labels are to be told by `sort` before anybody is chosen by labels."""
        return list(self._strangers.values())

    def sort(self, held: Held, labels: Mapping[str, str]) -> None:
        """Takes note of the labels that a stranger bears."""
        if held.group is not self._strangers:
            return
        group = self._groups.setdefault(frozenset(labels.items()), {})
        self._known[held.bot] = (held.digest, group)
        self.leave(held)
        self.enter(held)

    def forget_others(self) -> None:
        """Forgets the labels of bots that do not wait, where they are many."""
        if len(self._known) > FORGOTTEN_FROM + 2 * sum(map(len, self._groups.values())):
            self._known = {bot: known for bot, known in self._known.items() if bot in known[1]}
            self._groups = {labels: group for labels, group in self._groups.items() if group}

    def suited(self, required: Labels) -> Iterator[Held]:
        """Those that bear these labels, first who bears few others: they are of less use elsewhere."""
        if not required:
            yield from self._strangers.values()
        for labels in sorted(self._groups, key=len):
            if required <= labels:
                yield from self._groups[labels].values()
