"""What retention removes before a webhook got it is counted, told to its receiver, and not looked for any more."""

from __future__ import annotations

import pytest

from rota.ledger import fences, fleets, retention, webhook_deliveries, webhook_positions, webhooks
from rota.ledger.connection import Ledger
from rota.ledger.fleets import Fleet
from tests.steward.conftest import make_profile
from tests.steward.test_retain import EPOCH, held, make_days, push, whole_pass


@pytest.mark.parametrize("limits", [{"keep_days": 4}, {"keep_records": 7}])
@pytest.mark.parametrize("kept_longer", [False, True])
async def test_records_that_are_removed_unsent_are_counted_and_told(
    ledger: Ledger, policy: Fleet, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], kept_longer: bool
) -> None:
    monkeypatch.setattr(retention, "STEP", 4)
    profile = await make_profile(ledger, policy.name)
    others = (await make_profile(ledger, "default"),) if kept_longer else ()
    async with ledger.begin() as tx:
        await fences.raise_to(tx, [(profile, EPOCH)])
    await make_days(ledger, (profile, *others), 9)
    async with ledger.begin() as tx:
        made = await webhooks.create(
            tx, url="https://receiver.example/", secret="whsec_x", fleet=policy.name, from_start=True
        )
    more = True
    while more:
        async with ledger.begin() as tx:
            more = await webhook_positions.sweep(tx)
    async with ledger.begin() as tx:
        await fleets.set_policy(tx, policy.name, **limits)
    await whole_pass(ledger)
    left = (await held(ledger))[profile]
    assert 0 < left < 27
    async with ledger.begin() as tx:
        assert (await webhooks.get(tx, made.id)).lost == 27 - left
    await push(ledger, profile, 1)
    async with ledger.begin() as tx:
        ((delivery,), _) = await webhook_deliveries.begin(tx, made.id, [], 10)
        assert (delivery.lost, delivery.count) == (27 - left, left + 1)
        assert len(await webhook_deliveries.read(tx, delivery)) == left + 1
