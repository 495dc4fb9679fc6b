"""`docs/keys.md` is complete: every key with its type, who writes and reads it, and every part of what it holds."""

from __future__ import annotations

import inspect
import re

import pytest

from rota.live import keys
from rota.live.entries import BOT_PHASES, PROFILE_PHASES, Details, RosterEntry, parse_details, write_details
from rota.live.scripts import VERBS
from tests.live.test_lua_headers import FOLDER, LIVE, PRELUDE, READS, TYPES, WRITES, code, commands, own_keys, reached
from tests.unit.test_docs_pages import blocks, codes, page, section, table

KEYS = page("keys.md")
PARTS = {"fleet": "fleet", "hostname": "<hostname>", "class_": "<class>"}
NAMES = [name for _, name, _ in own_keys()]


def key_functions() -> list[str]:
    """Every function of `keys.py` that makes the name of one key."""
    found = inspect.getmembers(keys, lambda item: inspect.isfunction(item) and item.__module__ == keys.__name__)
    return [name for name, _ in found if name != "script_keys"]


def key(function: str) -> str:
    """The name as the page writes it."""
    make = getattr(keys, function)
    return str(make(*(PARTS[name] for name in inspect.signature(make).parameters)))


def rows() -> dict[str, list[str]]:
    return {codes(row[0])[0]: row[1:] for row in table(KEYS, "key", "type", "written by", "read by")}


def parts(name: str, *columns: str) -> list[str]:
    return [part for row in table(section(KEYS, f"## `{name}`"), *columns) for part in codes(row[0])]


def scripts_that(kind: frozenset[str], name: str) -> set[str]:
    return {verb for verb in VERBS if any(at == name and word in kind for word, at in commands(usual(verb)))}


def usual(verb: str) -> str:
    """What a verb runs, without the forgetting of entries in another form, which all do and `form` tells."""
    text, cut = re.subn(r"^if known\[1\] and .*?^end$", "", reached(verb), flags=re.MULTILINE | re.DOTALL)
    assert cut == 1
    return text


def test_every_key_is_told_and_no_other() -> None:
    assert sorted(rows()) == sorted(map(key, key_functions()))


def test_every_key_has_its_section_and_no_other() -> None:
    assert sorted(re.findall(r"^## `(.*)`$", KEYS, re.MULTILINE)) == sorted(map(key, key_functions()))


def test_every_key_is_handed_to_the_scripts() -> None:
    assert sorted(key_functions()) == sorted(name.removesuffix("_prefix") for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_told_with_its_type(name: str) -> None:
    function = name.removesuffix("_prefix")
    documented = (getattr(keys, function).__doc__ or "").partition(":")[0].lower()
    assert documented in map(str.lower, TYPES.values())
    assert rows()[key(function)][0] == documented


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_told_with_the_scripts_that_write_it(name: str) -> None:
    told = rows()[key(name.removesuffix("_prefix"))][1]
    assert codes(told) == sorted(scripts_that(WRITES, name))


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_told_with_the_scripts_and_modules_that_read_it(name: str) -> None:
    function = name.removesuffix("_prefix")
    told = rows()[key(function)][2]
    readers = {word for word in codes(told) if word in VERBS}
    if told.startswith("all"):
        readers = set(VERBS)
    if told.startswith("the same"):
        readers |= scripts_that(WRITES, name) & scripts_that(READS, name)
    assert readers == scripts_that(READS, name)
    modules = {path.name for path in LIVE.glob("*.py") if f"keys.{function}(" in path.read_text(encoding="utf-8")}
    assert {word for word in codes(told) if word.endswith(".py")} == modules


def test_the_parts_of_a_roster_entry_are_told_in_order() -> None:
    told = [codes(row[0])[0] for row in table(section(KEYS, f"## `{key('roster')}`"), "part", "what it holds")]
    assert told == list(RosterEntry._fields)
    (form,) = re.findall(r"^    (<16 bytes>.*)$", KEYS, re.MULTILINE)
    assert re.findall(r"<(\w+)>", form) == told[1:]


def test_the_parts_of_a_profile_entry_are_told_in_order() -> None:
    first = re.findall(r"^  (p\.bot, .*), rest =$", PRELUDE, re.MULTILINE)[0]
    last = re.findall(r"^  (p\.crashes, .*) =$", PRELUDE, re.MULTILINE)[0]
    read = f"{first}, {last}".replace("p.", "").split(", ")
    told = [codes(row[0])[0] for row in table(section(KEYS, f"## `{key('profiles')}`"), "part", "what it holds")]
    assert told == read
    (form,) = re.findall(r"^    (<bot> <epoch>.*)$", KEYS, re.MULTILINE)
    assert re.findall(r"<(\w+)>", form) == read


@pytest.mark.parametrize(("name", "phases"), [("roster", BOT_PHASES), ("profiles", PROFILE_PHASES)])
def test_every_letter_of_a_phase_is_told_and_no_other(name: str, phases: dict[str, str]) -> None:
    (row,) = [row for row in table(section(KEYS, f"## `{key(name)}`"), "part") if row[0] == "`phase`"]
    assert dict(re.findall(r"`(\w)` (\w+)", row[1])) == phases


def test_every_detail_of_a_bot_is_told_in_order() -> None:
    text = section(KEYS, f"## `{key('details')}`")
    # What the script adds for a bot that took its slot from another process.
    assert parts(key("details"), "part", "what it holds") == [*Details._fields, "replaced", "due"]
    example = blocks(text, "json")[0]
    told = parse_details(example.encode())
    assert write_details(told.version, told.joined, told.address, told.labels) == example.strip()


def test_every_field_of_the_counts_is_told_and_no_other() -> None:
    fields = [f"{side}{letter}" for side, letters in (("b", BOT_PHASES), ("p", PROFILE_PHASES)) for letter in letters]
    assert sorted(parts(key("counts"), "field", "counts")) == sorted(fields)


def test_every_field_of_an_event_is_told_and_no_other() -> None:
    (written,) = re.findall(r"call\('XADD', (.*?)\)$", code(PRELUDE), re.MULTILINE | re.DOTALL)
    fields = re.findall(r"'(\w+)', \w+", written.partition("'*',")[2])
    assert parts(key("events"), "field", "what it holds") == fields


def test_every_field_of_the_pulse_is_told_and_no_other() -> None:
    text = "".join(code(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.lua"))
    used = set()
    for call in re.findall(r"call\('H\w+', pulse, (.*?)\)$", re.sub(r",\n +", ", ", text), re.MULTILINE):
        used |= set(re.findall(r"'([a-z]+)'", call)) - {"sealed", "server", "run_id"}
    assert set(parts(key("pulse"), "field", "what it holds")) == used
    listed = re.findall(r"KEYS\[9\] +pulse +hash +(.*)", PRELUDE)[0].split(", ")
    assert sorted(listed) == sorted(used)
    assert sorted((keys.pulse.__doc__ or "").removeprefix("Hash: ").rstrip(".").split(", ")) == sorted(used)


def test_the_number_of_events_that_are_kept_is_that_of_the_prelude() -> None:
    (kept,) = re.findall(r"EVENTS_KEPT = (\d+)", PRELUDE)
    assert f"about {int(kept):,} entries" in KEYS
