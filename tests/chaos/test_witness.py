"""The log's account finds each broken promise in a faked log, and nothing in one where all were kept."""

from __future__ import annotations

import pytest

from rota.chaos.proof import Outcome, conclude
from rota.chaos.witness import Account, BatchName, LedgerAccount, Row, Witness, audit
from rota.simulator.judge import Worker

ANNA, BERT = Worker("sim-1/1", 1), Worker("sim-2/1", 1)
ANNA_AGAIN = Worker("sim-1/1", 2)
PROFILE = "prf_a"
TTL = 5.0
"""The deadline is one second behind the lease's end."""


def starts(witness: Witness, worker: Worker, epoch: int, at: float) -> None:
    witness.told(PROFILE, worker, epoch, at)
    witness.began(PROFILE, worker, epoch, at)


@pytest.fixture
def witness() -> Witness:
    """Anna works on the profile since the beginning."""
    found = Witness(ttl=TTL)
    starts(found, ANNA, 1, 0.0)
    found.open_account()
    return found


def outcome(account: Account, ledger: LedgerAccount | None = None, recovered: float | None = 1.0) -> Outcome:
    return conclude("any", 1, recovered, account, ledger or LedgerAccount())


def test_a_log_in_which_nothing_happens_breaks_nothing(witness: Witness) -> None:
    starts(witness, ANNA, 1, 5.0)
    assert witness.account() == Account()
    assert not outcome(witness.account()).broken


def test_a_profile_that_leaves_a_bot_that_nothing_befell_has_moved_without_need(witness: Witness) -> None:
    witness.ended(PROFILE, ANNA, 5.0)
    starts(witness, BERT, 2, 5.5)
    account = witness.account()
    assert (account.moved, account.moves, account.overlaps) == (1, 1, 0)
    assert outcome(account).broken
    assert "without need: prf_a moved from sim-1/1 (1) to sim-2/1 (2)" in outcome(account).texts[0]


def test_the_same_bot_under_another_epoch_has_moved_too(witness: Witness) -> None:
    witness.ended(PROFILE, ANNA, 5.0)
    starts(witness, ANNA, 2, 5.5)
    assert witness.account().moved == 1


def test_a_profile_of_a_bot_that_something_befell_may_move_once(witness: Witness) -> None:
    witness.hurt([ANNA])
    witness.ended(PROFILE, ANNA, 5.0, died=True)
    starts(witness, BERT, 2, 12.0)
    assert (witness.account().moved, witness.account().moves) == (0, 1)
    assert witness.struck == {PROFILE}
    witness.ended(PROFILE, BERT, 20.0)
    starts(witness, ANNA, 3, 21.0)
    assert witness.account().moved == 1, "nothing befell Bert"


def test_two_bots_at_work_overlap(witness: Witness) -> None:
    witness.hurt([ANNA])
    starts(witness, BERT, 2, 5.0)
    account = witness.account()
    assert (account.moved, account.overlaps) == (0, 1)
    assert outcome(account).broken


def test_the_process_that_takes_a_slot_over_overlaps_with_nobody(witness: Witness) -> None:
    witness.contested.add(ANNA.bot)
    starts(witness, ANNA_AGAIN, 2, 5.0)
    assert witness.account() == Account(moves=1)


def beats(witness: Witness, worker: Worker, sent: float) -> None:
    """A beat of somebody at work is answered."""
    witness.spoke(worker, sent)
    witness.leased(PROFILE, worker, sent + TTL)


def test_the_pause_after_a_death_counts_from_the_lease_and_from_the_deadline(witness: Witness) -> None:
    beats(witness, ANNA, 2.0)
    witness.hurt([ANNA])
    witness.ended(PROFILE, ANNA, 3.0, died=True)
    starts(witness, BERT, 2, 8.5)
    account = witness.account()
    assert (account.pause_min, account.pause_max) == pytest.approx((8.5 - 7.0, 8.5 - 8.0))
    assert not outcome(account).broken


def test_a_profile_that_goes_on_before_the_lease_is_over_breaks_a_promise_even_if_nobody_works_on_it(
    witness: Witness,
) -> None:
    beats(witness, ANNA, 2.0)
    witness.hurt([ANNA])
    witness.ended(PROFILE, ANNA, 3.0, died=True)
    starts(witness, BERT, 2, 6.9)
    account = witness.account()
    assert (account.moved, account.overlaps) == (0, 0)
    assert account.pause_min == pytest.approx(-0.1)
    assert outcome(account).broken
    assert "0.100 s before sim-1/1's lease ended" in account.texts[0]


def test_a_push_moves_the_deadline_and_not_the_lease(witness: Witness) -> None:
    beats(witness, ANNA, 2.0)
    witness.spoke(ANNA, 2.9)
    witness.hurt([ANNA])
    witness.ended(PROFILE, ANNA, 3.0, died=True)
    starts(witness, BERT, 2, 9.9)
    account = witness.account()
    assert (account.pause_min, account.pause_max) == pytest.approx((9.9 - 7.0, 9.9 - 8.9))


def test_whoever_says_that_it_has_stopped_needs_no_pause(witness: Witness) -> None:
    beats(witness, ANNA, 2.0)
    witness.hurt([ANNA])
    witness.ended(PROFILE, ANNA, 3.0)
    witness.freed(ANNA)
    starts(witness, BERT, 2, 3.1)
    assert witness.account() == Account(moves=1)


def test_whoever_an_operator_has_killed_cannot_free_its_profile_any_more(witness: Witness) -> None:
    beats(witness, ANNA, 2.0)
    witness.hurt([ANNA])
    witness.killed([ANNA], 3.0)
    witness.ended(PROFILE, ANNA, 3.5)
    witness.spoke(ANNA, 3.6)
    witness.freed(ANNA)
    starts(witness, BERT, 2, 8.2)
    account = witness.account()
    assert (account.pause_min, account.pause_max) == pytest.approx((1.2, 0.2))


def test_an_answer_that_comes_after_the_kill_to_what_was_sent_before_it_moves_the_deadline(witness: Witness) -> None:
    beats(witness, ANNA, 2.0)
    witness.hurt([ANNA])
    witness.killed([ANNA], 3.0)
    beats(witness, ANNA, 2.99)
    witness.ended(PROFILE, ANNA, 3.5)
    starts(witness, BERT, 2, 9.0)
    assert witness.account().pause_max == pytest.approx(9.0 - 8.99)


def test_a_killed_bot_that_gets_its_profile_again_waits_for_its_own_lease(witness: Witness) -> None:
    beats(witness, ANNA, 2.0)
    witness.hurt([ANNA])
    witness.killed([ANNA], 3.0)
    witness.ended(PROFILE, ANNA, 3.5)
    starts(witness, ANNA, 2, 6.0)
    assert witness.account().pause_min == pytest.approx(-1.0)


def test_the_pause_is_measured_from_new_for_each_account(witness: Witness) -> None:
    beats(witness, ANNA, 2.0)
    witness.hurt([ANNA])
    witness.ended(PROFILE, ANNA, 3.0, died=True)
    starts(witness, BERT, 2, 8.5)
    witness.open_account()
    assert witness.account() == Account()


def test_a_restless_profile_may_move_as_often_as_it_has_to(witness: Witness) -> None:
    witness.restless.add(PROFILE)
    for epoch, worker in ((2, BERT), (3, ANNA), (4, BERT)):
        witness.ended(PROFILE, witness.working(PROFILE)[0].worker, float(epoch))
        starts(witness, worker, epoch, epoch + 0.5)
    assert (witness.account().moved, witness.account().moves) == (0, 3)


def test_a_profile_that_something_befell_may_move_once_whoever_works_on_it(witness: Witness) -> None:
    witness.hurt_profiles([PROFILE, "prf_unknown"])
    assert witness.bereft() == [PROFILE]
    witness.ended(PROFILE, ANNA, 5.0)
    starts(witness, BERT, 2, 5.5)
    assert (witness.account().moved, witness.bereft()) == (0, [])


def test_what_a_scenario_expects_and_does_not_see_breaks_a_promise(witness: Witness) -> None:
    found = conclude("any", 1, 1.0, witness.account(), LedgerAccount(), ("nobody raised the alarm",))
    assert found.broken
    assert found.as_json()["unmet"] == ("nobody raised the alarm",)


def test_an_epoch_that_falls_is_out_of_order(witness: Witness) -> None:
    witness.hurt([ANNA])
    witness.ended(PROFILE, ANNA, 5.0)
    starts(witness, BERT, 7, 6.0)
    witness.hurt([BERT])
    witness.ended(PROFILE, BERT, 7.0)
    starts(witness, ANNA, 6, 8.0)
    assert witness.account().epochs == 1
    assert outcome(witness.account()).broken


def test_data_of_an_old_epoch_that_is_taken_is_stale(witness: Witness) -> None:
    witness.hurt([ANNA])
    witness.ended(PROFILE, ANNA, 5.0)
    starts(witness, BERT, 2, 6.0)
    witness.stored(PROFILE, ANNA, 1, sent=7.0, at=7.1)
    assert witness.account().stale == 1
    assert outcome(witness.account()).stale == 1
    assert outcome(witness.account()).broken


def test_what_was_counted_before_an_account_is_opened_is_not_in_it(witness: Witness) -> None:
    starts(witness, BERT, 2, 5.0)
    witness.open_account()
    assert witness.account() == Account()


def test_a_fleet_that_does_not_recover_breaks_a_promise() -> None:
    assert outcome(Account(), recovered=None).broken


def test_what_is_acknowledged_and_in_the_ledger_once_is_well() -> None:
    rows = [Row(1, 1, 0), Row(1, 2, 0), Row(1, 2, 1), Row(5, 1, 0)]
    found = audit(PROFILE, [BatchName(PROFILE, 1, 2), BatchName(PROFILE, 5, 1)], rows)
    assert found == LedgerAccount(acknowledged=2, rows=4)
    assert not outcome(Account(), found).broken


def test_what_is_acknowledged_and_not_in_the_ledger_is_lost() -> None:
    found = audit(PROFILE, [BatchName(PROFILE, 1, 1), BatchName(PROFILE, 1, 2)], [Row(1, 1, 0)])
    assert (found.lost, found.texts) == (1, ("lost: prf_a misses batch 2 of epoch 1",))
    assert outcome(Account(), found).broken


def test_a_record_that_is_in_the_ledger_twice_is_doubled() -> None:
    found = audit(PROFILE, [], [Row(1, 1, 0), Row(1, 1, 0)])
    assert (found.doubled, found.lost) == (1, 0)
    assert outcome(Account(), found).broken


def test_a_record_behind_one_of_a_newer_epoch_is_stale() -> None:
    found = audit(PROFILE, [], [Row(1, 1, 0), Row(3, 1, 0), Row(1, 2, 0)])
    assert found.stale == 1
    assert outcome(Account(), found).broken


def test_the_accounts_of_all_profiles_add_up() -> None:
    one = LedgerAccount(acknowledged=3, lost=1, texts=("lost",))
    assert one.plus(LedgerAccount(acknowledged=2, doubled=4)) == LedgerAccount(5, 1, 4, 0, texts=("lost",))


def test_records_out_of_their_order_and_parts_of_batches_are_found() -> None:
    whole = [Row(1, 1, 0), Row(1, 1, 1), Row(1, 2, 0), Row(1, 2, 1), Row(2, 1, 0), Row(2, 1, 1)]
    found = audit(PROFILE, [], whole, size=2)
    assert (found.disordered, found.incomplete, found.rows, found.texts) == (0, 0, 6, ())
    found = audit(PROFILE, [], [whole[2], whole[3], whole[1], whole[4], whole[5]], size=2)
    assert (found.disordered, found.incomplete) == (1, 1)
    assert len(found.texts) == 2
