"""When a bot was last heard, by its deadline and by what was granted when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.protocol import deadline_after_ms
from rota.web.spells import KEPT, TOLERANCE, Spell, followed, last_beat

USUAL = Spell(30, deadline_after_ms(90), -math.inf)
SINCE = 1000.0


def changed(interval: float, ttl: float) -> tuple[Spell, ...]:
    return followed((USUAL,), Spell(interval, deadline_after_ms(ttl), SINCE))


@pytest.mark.parametrize(("interval", "ttl"), [(120, 360), (10, 20), (31.5, 94.5)])
@given(age=st.floats(0, 60), passed=st.floats(0, 500))
def test_the_age_of_a_beat_outlasts_a_change_of_what_is_granted(
    interval: float, ttl: float, age: float, passed: float
) -> None:
    spells, now = changed(interval, ttl), SINCE + passed
    spell = spells[0] if age < passed else spells[1]
    told = last_beat(spells, spell.deadline_ms - age * 1000, now)
    # Two spells may explain the same deadline: then it is told as younger than it is.
    assert told.age <= age + TOLERANCE + 0.001
    if ttl == 360:
        assert told.age == pytest.approx(age, abs=TOLERANCE)
        assert told.interval == spell.interval


def test_a_deadline_that_no_spell_explains_is_no_older_than_the_newest() -> None:
    spells = (Spell(30, 99_000, SINCE),)
    assert last_beat(spells, 0, SINCE + 5).age == 5
    assert last_beat(spells, 500_000, SINCE + 5).age == 0


def test_spells_are_forgotten_when_no_deadline_of_theirs_may_be_to_come() -> None:
    later = followed(changed(30, 90), Spell(40, 132_000, SINCE + 98))
    assert [spell.interval for spell in later] == [40, 30, 30]
    assert [spell.interval for spell in followed(later, Spell(50, 165_000, SINCE + 200))] == [50, 40]
    for step in range(100):
        later = followed(later, Spell(60 + step, 198_000, SINCE + 300 + step))
    assert len(later) == KEPT
