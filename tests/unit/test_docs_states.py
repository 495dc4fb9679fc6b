"""`docs/states.md` is complete: scripts, phases, flags, events. `test_docs_moves` proves its moves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple, get_args

import pytest

from rota.live.bots import KillReason
from rota.live.entries import BOT_PHASES, PROFILE_PHASES
from rota.live.scripts import VERBS
from rota.protocol import LeaveRequest
from tests.live.test_lua_headers import PRELUDE, code, prelude_functions, source
from tests.unit.test_docs_pages import blocks, codes, page, section, table

STATES = page("states.md")
EVENTS = section(STATES, "## Events")
NAMED = {"candidate": "the incarnation's name", "digits(by)": "by how many ms"}
"""What an event's reason is where it is neither a literal nor one that the caller gives."""
GIVEN: dict[str, Any] = {"leave": LeaveRequest.model_fields["reason"].annotation, "kill": KillReason}
SETTLES = ("settle", "unbind", "take_away")
"""Functions of the prelude that say by their last argument why a profile goes where it goes."""
ENDS = {"new", "gone"}


class Told(NamedTuple):
    """One kind of event: what happened, why, and whose script says so."""

    kind: str
    reason: str
    script: str


def calls(name: str, text: str) -> Iterator[list[str]]:
    """The arguments of every call of a Lua function in the text."""
    for found in re.finditer(rf"(?<!function )\b{name}\(", text):
        depth, arguments, start = 1, [], found.end()
        for at in range(found.end(), len(text)):
            depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(text[at], 0)
            if depth == 0 or (depth == 1 and text[at] == ","):
                arguments.append(text[start:at].strip())
                start = at + 1
            if depth == 0:
                break
        yield arguments


def words(argument: str, verb: str) -> set[str]:
    """What a Lua expression may be: its literals, or what a local of this name stands for."""
    literals = {word for compared, word in re.findall(r"(== )?'([^']+)'", argument) if not compared}
    if literals:
        return literals
    if argument in ("nil", ""):
        return {"none"}
    if argument == "reason" and verb in GIVEN:
        return set(get_args(GIVEN[verb]))
    if argument == "reason" and verb == "auth":
        return {word for given in calls("stop", code(source(verb))) for word in words(given[0], verb)}
    if argument in NAMED:
        return {NAMED[argument]}
    (values,) = re.findall(rf"local {argument} = (.*)", source(verb))
    return words(values, verb)


def reasons(arguments: list[str], verb: str) -> set[str]:
    return words(arguments[4], verb) if len(arguments) > 4 else {"none"}


def emitted() -> set[Told]:
    """Every event that a script writes itself, or that one of the prelude's moves other than `settle` writes for it."""
    found = set()
    functions = {name: body for name, body in prelude_functions().items() if name not in ("event", "settle")}
    for verb in VERBS:
        text = code(source(verb))
        own = [*calls("event", text)]
        for name, body in functions.items():
            if re.search(rf"\b{name}\(", text):
                own += calls("event", body)
        for arguments in own:
            pairs = product(words(arguments[0], verb), reasons(arguments, verb))
            found |= {Told(kind, reason, verb) for kind, reason in pairs}
    return found


def settled() -> set[tuple[str, str]]:
    """Every reason for which a profile goes to where nobody is bound to it, and the script that gives it."""
    found = set()
    for verb in VERBS:
        text = code(source(verb))
        for arguments in (arguments for name in SETTLES for arguments in calls(name, text)):
            found |= {(reason, verb) for reason in words(arguments[-1], verb)}
    return found


def moves(title: str) -> list[tuple[str, str, str]]:
    """The rows of a table of moves: from, to, script."""
    rows = table(section(STATES, title), "from", "to", "script", "cause")
    assert all(row[3] for row in rows)
    return [(codes(start)[0], codes(end)[0], script) for start, end, scripts, _ in rows for script in codes(scripts)]


def test_every_script_is_told_and_no_other() -> None:
    rows = table(section(STATES, "## Scripts"), "script", "called by", "does")
    assert sorted(codes(row[0])[0] for row in rows) == sorted(VERBS)


@pytest.mark.parametrize(("title", "phases"), [("## Profiles", PROFILE_PHASES), ("## Bots", BOT_PHASES)])
def test_every_phase_is_told_and_no_other(title: str, phases: dict[str, str]) -> None:
    told = [name for row in table(section(STATES, title), "phase", "meaning") for name in codes(row[0])]
    assert sorted(told) == sorted(phases.values())
    assert {phase for start, end, _ in moves(title) for phase in (start, end)} <= set(phases.values()) | ENDS


@pytest.mark.parametrize("title", ["## Profiles", "## Bots"])
def test_the_drawing_shows_just_the_moves_of_the_table(title: str) -> None:
    (drawing,) = blocks(section(STATES, title), "mermaid")
    drawn = re.findall(r"^    (\S+) --> (\S+)$", drawing, re.MULTILINE)
    assert len(drawn) == len(set(drawn)) == drawing.count("-->")
    listed = {(start, end) for start, end, _ in moves(title)}
    assert set(drawn) == {tuple("[*]" if phase in ENDS else phase for phase in pair) for pair in listed}


@pytest.mark.parametrize("title", ["## Profiles", "## Bots"])
def test_no_move_is_told_twice(title: str) -> None:
    assert len(moves(title)) == len(set(moves(title)))


def test_every_event_is_told_with_its_reason_and_script_and_no_other() -> None:
    told = set()
    for kind, reason, scripts, meaning in table(EVENTS, "kind", "reason", "script", "meaning"):
        assert meaning
        told |= {Told(codes(kind)[0], (codes(reason) or [reason])[0], script) for script in codes(scripts)}
    assert told == emitted()


def test_every_reason_of_a_profile_that_nobody_is_bound_to_is_told_and_no_other() -> None:
    rows = table(EVENTS, "reason", "script", "why")
    assert {(codes(row[0])[0], script) for row in rows for script in codes(row[1])} == settled()
    assert all(row[2] for row in rows)


def test_every_kind_of_a_profile_that_nobody_is_bound_to_is_told() -> None:
    kinds = set(re.findall(r"kind = '(\w+)'", prelude_functions()["settle"]))
    (sentence,) = re.findall(r"is told by one of (.*); deleted", EVENTS)
    assert set(codes(sentence)) == kinds


def test_the_prelude_has_no_other_way_to_write_an_event() -> None:
    assert code(PRELUDE).count("'XADD'") == 1
    assert not [verb for verb in VERBS if "XADD" in code(source(verb))]


def test_every_flag_is_told_and_no_other() -> None:
    rows = table(section(STATES, "## Flags"), "flag", "set by", "effect")
    (written,) = re.findall(r"^-- Roster entry: .*flag \(([^)]*)\)", PRELUDE, re.MULTILINE)
    assert [codes(row[0])[0] for row in rows] == [pair.split()[1] for pair in written.split(", ")]


def test_the_times_of_the_page_are_those_of_the_scripts() -> None:
    first, most, forgiven, soon = map(int, re.findall(r"CRASH_SOON_MS = (\d+), (\d+), (\d+), (\d+)", PRELUDE)[0])
    holds = section(STATES, "## Holds")
    assert f"| {first // 1000} s from then; {first // 500}, {first // 250} … {most // 1000} s " in holds
    assert forgiven == 600_000
    assert f"within {soon // 1000} s of its start" in holds
    assert "Ten minutes in `working`" in holds
    least, most = map(int, re.findall(r"GAP_MOST_MS = (\d+), (\d+)", PRELUDE)[0])
    gap = f"a quarter of the lease, at least {least // 1000} s and at most {most // 1000} s"
    assert gap in section(STATES, "## Deadlines and deafness")
