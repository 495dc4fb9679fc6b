"""Runs scenarios one after another, each from a settled state, and draws up what each has shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rota.chaos.installation import Found
from rota.chaos.scenarios import Injected, Scenario
from rota.chaos.stage import Options, Stage
from rota.chaos.witness import Account, LedgerAccount
from rota.errors import RotaError
from rota.simulator.histogram import Histogram

RECOVERS_WITHIN = 6.0
"""Times the ttl, and `GRACE` seconds more, that a recovery may take."""
GRACE = 20.0
WATCHED = 1.2
"""Times the ttl that a scenario is watched after its recovery: whoever was taken for dead would lose his profile."""
FAULT_WITHIN = 120.0
"""Seconds after which a fault that cannot be injected is given up."""

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
    own_lag_s: float = 0.0
    texts: tuple[str, ...] = field(default=())

    @property
    def broken(self) -> bool:
        """Whether a promise was broken, or the fleet did not recover."""
        wrong = (self.moved_without_need, self.overlaps, self.stale, self.epochs_out_of_order, self.lost, self.doubled)
        return any(wrong) or self.recovered_s is None

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
            if stage is None:
                report("starting an installation")
                stage = Stage(options)
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
    if not await stage.until_settled(stage.now):
        texts = (f"the fleet did not settle before the scenario: {stage.state()}",)
        return Outcome(scenario.name, texts=texts)
    stage.crowd.loop_lag = Histogram()
    try:
        await stage.forgive()
        stage.witness.open_account()
        report(f"{scenario.name}: {scenario.summary}")
        operator = asyncio.create_task(stage.hurry())
        try:
            async with asyncio.timeout(FAULT_WITHIN):
                injected = await scenario.inject(stage)
            report(f"{scenario.name}: waiting for the recovery")
            recovered = await _recovery(stage, injected)
        finally:
            operator.cancel()
            await asyncio.gather(operator, return_exceptions=True)
        report(f"{scenario.name}: watching on")
        await asyncio.sleep(WATCHED * stage.options.ttl)
        report(f"{scenario.name}: comparing the ledger with what was acknowledged")
        ledger = await stage.audit()
    except (RotaError, TimeoutError) as error:
        account = stage.witness.account()
        return Outcome(scenario.name, texts=(f"{type(error).__name__}: {error}", *account.texts))
    finally:
        stage.witness.contested.clear()
    state = "" if recovered is not None else f"not recovered: {stage.state()}"
    return conclude(scenario.name, injected.faults, recovered, stage.witness.account(), ledger, state, stage)


async def _recovery(stage: Stage, injected: Injected) -> float | None:
    if not await stage.until_settled(injected.over, RECOVERS_WITHIN * stage.options.ttl + GRACE):
        return None
    return stage.now - injected.over


def conclude(
    name: str,
    faults: int,
    recovered: float | None,
    account: Account,
    ledger: LedgerAccount,
    state: str = "",
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
        recovered_s=None if recovered is None else round(recovered, 2),
        own_lag_s=round(stage.crowd.loop_lag.longest, 3) if stage else 0.0,
        texts=(*((state,) if state else ()), *account.texts, *ledger.texts),
    )
