"""How a simulation looks while it runs: a live picture on a terminal, a line every few seconds elsewhere.

`rota simulate` and `rota demo` share it. Everything goes to stderr, so that `--json` has stdout for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from rota.simulator.bot import Phase
from rota.simulator.crowd import Crowd
from rota.simulator.hosts import Hosts
from rota.simulator.simulation import Simulation

PICTURES_PER_SECOND = 4
LINE_EVERY = 5.0
"""Seconds between two lines where there is no terminal."""
RATE_OVER = 5.0
"""Seconds over which beats a second are counted."""


@dataclass
class CrowdView:
    """Draws one simulation. `title` and `footer` are the caller's own; `footer` is asked each time."""

    simulation: Simulation
    title: str
    footer: Callable[[], list[str]] = list
    _beats: deque[tuple[float, int]] = field(default_factory=deque)

    def picture(self) -> RenderableType:
        """The whole picture as it is now."""
        crowd = self.simulation.crowd
        if crowd is None:
            return Text("preparing …")
        parts = [self._bots(crowd), self._traffic(crowd), self._faults(crowd), self._promises(crowd)]
        happenings = Text("\n".join(crowd.happenings) or "nothing has happened yet", style="dim")
        happenings.no_wrap, happenings.overflow = True, "ellipsis"
        lines = Text("\n".join(self.footer()), overflow="fold")
        return Panel(
            Group(Columns(parts, padding=(0, 3)), Text(""), happenings, *((Text(""), lines) if lines else ())),
            title=f"{self.title} · {self._clock()}",
            border_style="red" if crowd.around.judge.violation_count else "green",
        )

    def line(self) -> str:
        """The same in one line."""
        crowd = self.simulation.crowd
        if crowd is None:
            return "preparing …"
        judge = crowd.around.judge
        return (
            f"{self._clock()}  bots {self._alive(crowd)}  joining {crowd.phases[Phase.JOINING]}  "
            f"profiles bound {crowd.bound} of {crowd.plan.profiles}  beats/s {self._rate(crowd):.0f}  "
            f"deaths {crowd.deaths}  take-overs {judge.takeovers.count}  "
            f"records {crowd.around.tally.records}  violations {judge.violation_count}"
        )

    def _clock(self) -> str:
        seconds = self.simulation.options.wanted.seconds
        elapsed = f"{self.simulation.elapsed:.0f} s"
        return elapsed if seconds is None else f"{elapsed} of {seconds:.0f} s"

    def _alive(self, crowd: Crowd | Hosts) -> int:
        return crowd.phases.total() - crowd.phases[Phase.GONE]

    def _rate(self, crowd: Crowd | Hosts) -> float:
        now = time.monotonic()
        self._beats.append((now, crowd.around.tally.beats))
        while len(self._beats) > 2 and self._beats[0][0] < now - RATE_OVER:  # noqa: PLR2004 - two make a rate
            self._beats.popleft()
        (since, before), (until, beats) = self._beats[0], self._beats[-1]
        return (beats - before) / (until - since) if until > since else 0.0

    def _bots(self, crowd: Crowd | Hosts) -> Table:
        order = (Phase.WORKING, Phase.STARTING, Phase.STOPPING, Phase.IDLE, Phase.JOINING, Phase.CUT_OFF)
        rows = [("bots", str(self._alive(crowd)))]
        rows += [(f"  {phase}", str(crowd.phases[phase])) for phase in order]
        return _table(rows)

    def _traffic(self, crowd: Crowd | Hosts) -> Table:
        return _table(
            [
                ("profiles bound", f"{crowd.bound} of {crowd.plan.profiles}"),
                ("beats/s", f"{self._rate(crowd):.0f}"),
                ("beat p50", _ms(crowd.beat_latency.milliseconds(0.5))),
                ("beat p99", _ms(crowd.beat_latency.milliseconds(0.99))),
                ("records", str(crowd.around.tally.records)),
                ("push p99", _ms(crowd.push_latency.milliseconds(0.99))),
                ("unanswered", str(crowd.unanswered)),
            ]
        )

    def _faults(self, crowd: Crowd | Hosts) -> Table:
        judge = crowd.around.judge
        rows = [("deaths", str(crowd.deaths))]
        rows += [(f"  {kind}", str(number)) for kind, number in sorted(crowd.faults.items())]
        rows.append(("take-overs", str(judge.takeovers.count)))
        rows.append(("  after p50", _s(judge.takeovers.percentile(0.5))))
        rows.append(("  after max", _s(judge.takeovers.longest if judge.takeovers.count else None)))
        return _table(rows)

    def _promises(self, crowd: Crowd | Hosts) -> Table:
        count = crowd.around.judge.violation_count
        rows = [("violations", f"[bold red]{count}[/]" if count else "[bold green]0[/]")]
        rows.append(("ghosts refused", str(crowd.around.tally.ghosts_refused)))
        rows += [(code, str(number)) for code, number in sorted(crowd.around.tally.refusals.items())]
        return _table(rows)


def _table(rows: list[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(name, value)
    return table


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ms"


def _s(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"


@contextlib.asynccontextmanager
async def showing(view: CrowdView, console: Console) -> AsyncIterator[None]:
    """Shows the view within the block: live on a terminal, else by a line every few seconds."""
    drawing = asyncio.create_task(_draw(view, console) if console.is_terminal else _print_lines(view, console))
    try:
        yield
    finally:
        drawing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await drawing


async def _draw(view: CrowdView, console: Console) -> None:
    with Live(view.picture(), console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(view.picture(), refresh=True)
                await asyncio.sleep(1 / PICTURES_PER_SECOND)
        finally:
            live.update(view.picture(), refresh=True)


async def _print_lines(view: CrowdView, console: Console) -> None:
    while True:
        await asyncio.sleep(LINE_EVERY)
        console.print(view.line(), highlight=False, soft_wrap=True)


@contextlib.contextmanager
def preparing(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for what is being made; nothing where there is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done)

    with bar:
        yield report
