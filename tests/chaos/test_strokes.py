"""The notes of real workers show each broken promise, and none where all were kept."""

from __future__ import annotations

from pathlib import Path

from rota.chaos.strokes import Kept, Stroke, lost, newest, overlaps, read, stale

PROFILE = "prf_a"


def strokes(worker: str, epoch: int, *moments: float, profile: str = PROFILE, thought: float = 0.0) -> list[Stroke]:
    """`thought` is the time from asking the job to the stroke."""
    return [Stroke(worker, "stroke", profile, epoch, at - thought, at, 0) for at in moments]


def stored(worker: str, epoch: int, number: int) -> Stroke:
    return Stroke(worker, "stored", PROFILE, epoch, 1.0, 1.0, number)


def test_one_who_stops_before_the_other_begins_overlaps_with_nobody() -> None:
    assert overlaps([*strokes("anna", 1, 1.0, 2.0), *strokes("bert", 2, 2.1, 3.0)]) == []


def test_a_single_stroke_after_another_has_begun_under_a_newer_epoch_is_found() -> None:
    [text] = overlaps([*strokes("bert", 2, 5.0, 5.5), *strokes("anna", 1, 1.0, 5.25)])
    assert text == (
        "anna worked on prf_a under epoch 1 (1 strokes, the last one 0.2500 s) after bert had begun under 2"
    )


def test_what_a_lasting_worker_asked_for_before_another_began_is_excused_and_nothing_else() -> None:
    heir = strokes("bert", 2, 5.0)
    begun_before = strokes("anna", 1, 1.0, 5.25, thought=0.5)
    assert overlaps([*heir, *begun_before], ["anna"]) == []
    assert len(overlaps([*heir, *begun_before], ["bert"])) == 1
    [text] = overlaps([*heir, *begun_before, *strokes("anna", 1, 5.75, thought=0.5)], ["anna"])
    assert "anna worked on prf_a under epoch 1 (1 strokes" in text


def test_whoever_comes_third_is_measured_against_the_second() -> None:
    noted = [*strokes("anna", 1, 1.0, 4.0), *strokes("bert", 2, 3.0), *strokes("carl", 3, 9.0)]
    assert [text.partition(" ")[0] for text in overlaps(noted)] == ["anna"]


def test_two_who_work_under_the_same_epoch_are_found() -> None:
    [text] = overlaps([*strokes("anna", 1, 1.0), *strokes("bert", 1, 2.0)])
    assert "anna and bert worked on prf_a under the same epoch 1" in text


def test_profiles_are_told_apart() -> None:
    assert overlaps([*strokes("anna", 1, 1.0, 9.0), *strokes("bert", 2, 5.0, profile="prf_b")]) == []


def test_the_newest_of_a_profile_is_the_first_stroke_under_its_highest_epoch() -> None:
    noted = [*strokes("bert", 2, 6.0, 5.0), *strokes("anna", 1, 1.0, 9.0)]
    assert newest(noted) == {PROFILE: strokes("bert", 2, 5.0)[0]}


def test_a_record_that_is_taken_after_the_heir_has_begun_is_stale() -> None:
    noted = [*strokes("anna", 1, 1.0), *strokes("bert", 2, 5.0)]
    kept = [Kept(1, 1, 4.9), Kept(1, 2, 5.1), Kept(2, 1, 5.2)]
    assert stale(PROFILE, noted, kept) == ["record 2 of prf_a under epoch 1 was taken 0.100 s too late"]


def test_a_record_that_was_told_to_be_stored_and_is_not_is_lost() -> None:
    noted = [stored("anna", 1, 1), stored("anna", 1, 2)]
    assert lost(PROFILE, noted, [Kept(1, 1, 0.5)]) == ["record 2 of prf_a under epoch 1 is lost"]
    assert lost("prf_b", noted, []) == []


def test_notes_are_read_line_by_line_and_half_a_line_is_left_for_later(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    assert read("anna", notes) == []
    notes.write_text(
        "stroke prf_a 7 12.400000 12.500000 0\nstored prf_a 7 12.6 12.750000 3\nstroke prf_a 7 12.8", "ascii"
    )
    assert read("anna", notes) == [
        Stroke("anna", "stroke", "prf_a", 7, 12.4, 12.5, 0),
        Stroke("anna", "stored", "prf_a", 7, 12.6, 12.75, 3),
    ]
