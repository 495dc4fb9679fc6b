"""Runs scenarios one after another, each from a settled state, and draws up what each has shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rota.chaos.installation import Found
from rota.chaos.scenario import Injected, Scenario
from rota.chaos.stage import Options, Stage
from rota.chaos.witness import Account, LedgerAccount
from rota.errors import RotaError
from rota.protocol import deadline_after_ms
from rota.simulator.histogram import Histogram

RECOVERS_WITHIN = 6.0
"""Times the ttl, and `GRACE` seconds more, that a recovery may take."""
GRACE = 20.0
WATCHED = 1.3
"""Times the ttl after the faults that a scenario is watched: whoever was taken for dead would have lost his profile."""
WATCHED_ON = 0.2
"""Times the ttl that it is watched after its recovery, however late that comes."""
FAULT_WITHIN = 10.0
"""Times the ttl, and `FAULT_GRACE` seconds more, after which a fault that cannot be injected is given up."""
FAULT_GRACE = 90.0
SLOWEST = 100
"""Records a second that are pushed while everything is killed; with fewer the scenario is given up."""
PROMPTLY = 2.0
"""Seconds after rota's deadline within which somebody works again for a dead bot's profile, if enough bots are free."""

Report = Callable[[str], None]
"""Hears what is being done."""


@dataclass(frozen=True)
class Outcome:
    """What one scenario has shown. `recovered_s` is None where it did not come to that."""

    scenario: str
    faults: int = 0
    moved_without_need: int = 0
    moves: int = 0
    overlaps: int = 0
    stale: int = 0
    epochs_out_of_order: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    recovered_s: float | None = None
    pause_min_s: float | None = None
    pause_max_s: float | None = None
    most_missing: int = 0
    own_lag_s: float = 0.0
    unmet: tuple[str, ...] = field(default=())
    texts: tuple[str, ...] = field(default=())
    told: tuple[str, ...] = field(default=())

    @property
    def broken(self) -> bool:
        """Whether a promise was broken, or the fleet did not recover."""
        wrong = (self.moved_without_need, self.overlaps, self.stale, self.epochs_out_of_order, self.lost, self.doubled)
        early = self.pause_min_s is not None and self.pause_min_s < 0
        return any(wrong) or early or bool(self.unmet) or self.recovered_s is None

    def as_json(self) -> dict[str, Any]:
        """The same as a dictionary that JSON can carry."""
        return {**asdict(self), "broken": self.broken}


async def prove(
    scenarios: Sequence[Scenario],
    options: Options,
    found: Found,
    report: Report,
    concluded: Callable[[Outcome], None],
) -> list[Outcome]:
    """Runs them all; `concluded` hears each outcome. An installation that was broken is not used again.

    Raises:
        RotaError: an installation does not start.
    """
    outcomes: list[Outcome] = []
    stage: Stage | None = None
    try:
        for scenario in scenarios:
            size = scenario.crowd * options.bots
            if stage and stage.options.bots != size:
                spent, stage = stage, None
                await spent.close()
            if stage is None:
                report("starting an installation")
                stage = Stage(replace(options, bots=size))
                await stage.open(found)
            outcomes.append(await _try(stage, scenario, report))
            concluded(outcomes[-1])
            if scenario.spoils or outcomes[-1].broken:
                spent, stage = stage, None
                await spent.close()
    finally:
        if stage:
            await stage.close()
    return outcomes


async def _try(stage: Stage, scenario: Scenario, report: Report) -> Outcome:
    report(f"{scenario.name}: waiting until all is settled")
    if not await stage.until_settled(stage.now - stage.options.interval):
        texts = (f"the fleet did not settle before the scenario: {stage.state()}",)
        return Outcome(scenario.name, texts=texts)
    stage.crowd.loop_lag, stage.crowd.most_missing = Histogram(), 0
    stage.told.clear()
    try:
        await stage.forgive()
        stage.witness.open_account()
        report(f"{scenario.name}: {scenario.summary}")
        injected, recovered, unmet = await _inject(stage, scenario, report)
        report(f"{scenario.name}: watching on, and comparing the ledger with what was acknowledged")
        watched = asyncio.create_task(_watch(stage, injected))
        ledger = await stage.audit()
        unmet += await watched
    except (RotaError, TimeoutError) as error:
        account = stage.witness.account()
        return Outcome(scenario.name, texts=(f"{type(error).__name__}: {error}", *account.texts))
    finally:
        stage.witness.contested.clear()
        stage.witness.restless.clear()
    if recovered is None:
        unmet = (f"not recovered: {stage.state()}", *unmet)
    account = stage.witness.account()
    if scenario.prompt:
        unmet += slowness(stage, account, scenario.mistrust)
    return conclude(scenario.name, injected.faults, recovered, account, ledger, unmet, stage)


async def _inject(stage: Stage, scenario: Scenario, report: Report) -> tuple[Injected, float | None, tuple[str, ...]]:
    """Injects the faults and waits for the recovery: what was injected, how long it took, and what was amiss."""
    operator = None if scenario.patient else asyncio.create_task(stage.hurry())
    try:
        within = FAULT_WITHIN * stage.options.ttl + FAULT_GRACE
        if scenario.by_records:
            within += stage.options.records / SLOWEST
        async with asyncio.timeout(within):
            injected = await scenario.inject(stage)
        operator = operator or asyncio.create_task(stage.hurry())
        report(f"{scenario.name}: waiting for the recovery")
        recovered = await _recovery(stage, injected)
        return injected, recovered, injected.unmet
    finally:
        if operator:
            operator.cancel()
            await asyncio.gather(operator, return_exceptions=True)


async def _recovery(stage: Stage, injected: Injected) -> float | None:
    if not await stage.until_settled(injected.over, RECOVERS_WITHIN * stage.options.ttl + GRACE):
        return None
    return stage.now - injected.over


async def _watch(stage: Stage, injected: Injected) -> tuple[str, ...]:
    """Looks what the faults have left behind, for as long as that may take to show."""
    ttl = stage.options.ttl
    until = max(injected.over + WATCHED * ttl, stage.now + WATCHED_ON * ttl)
    unmet = await injected.afterwards() if injected.afterwards else ()
    await asyncio.sleep(max(0.0, until - stage.now))
    return unmet


def slowness(stage: Stage, account: Account, mistrust: int) -> tuple[str, ...]:
    """What is wrong if a profile that was free waited although bots were; `mistrust` counts leases more."""
    # Idle bots of a long interval ask seldom, and a machine that is late makes everybody late.
    within = PROMPTLY + stage.beat_beyond(PROMPTLY) + stage.crowd.loop_lag.longest
    within += mistrust * deadline_after_ms(stage.options.ttl) / 1000
    if account.pause_max is None:
        return ("no profile went from a dead bot to another",)
    if account.pause_max > within:
        return (f"a profile waited for {account.pause_max:.2f} s after rota's deadline, more than {within:.2f} s",)
    return ()


def conclude(
    name: str,
    faults: int,
    recovered: float | None,
    account: Account,
    ledger: LedgerAccount,
    unmet: tuple[str, ...] = (),
    stage: Stage | None = None,
) -> Outcome:
    """Puts the log's account and the ledger's together."""
    return Outcome(
        scenario=name,
        faults=faults,
        moved_without_need=account.moved,
        moves=account.moves,
        overlaps=account.overlaps,
        # Both may have noticed the same data.
        stale=max(account.stale, ledger.stale),
        epochs_out_of_order=account.epochs,
        acknowledged=ledger.acknowledged,
        lost=ledger.lost,
        doubled=ledger.doubled,
        recovered_s=_rounded(recovered),
        pause_min_s=_rounded(account.pause_min),
        pause_max_s=_rounded(account.pause_max),
        most_missing=stage.crowd.most_missing if stage else 0,
        own_lag_s=round(stage.crowd.loop_lag.longest, 3) if stage else 0.0,
        unmet=unmet,
        texts=(*account.texts, *ledger.texts),
        told=tuple(stage.told) if stage else (),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
