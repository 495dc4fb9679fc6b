"""Each Lua script's header, what Python hands over, and what the script does with it agree.

The functions here also read the scripts for the tests of the documentation.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from rota.live import keys
from rota.live.scripts import VERBS, assembled
from rota.protocol import Instruction

LIVE = Path(__file__).parents[2] / "src" / "rota" / "live"
FOLDER = LIVE / "lua"
PRELUDE = (FOLDER / "_moves.lua").read_text(encoding="utf-8")
SECTIONS = ("Purpose", "KEYS", "ARGV", "Replies", "Refusals")
TYPES = {"hash": "Hash", "set": "Set", "zset": "Sorted set", "stream": "Stream", "prefix": ""}
CALLS = ("call", "call_together")
UNITS = {"lease": "ms", "gap": "ms", "limit": "how many", "digest": "bytes"}
"""What the description of an argument of this name must hold."""
WRITES = frozenset(["HSET", "HDEL", "HINCRBY", "SADD", "SREM", "UNLINK", "ZADD", "ZREM", "XADD"])
READS = frozenset(
    [
        "EXISTS",
        "HEXISTS",
        "HGET",
        "HMGET",
        "HRANDFIELD",
        "SISMEMBER",
        "SRANDMEMBER",
        "ZCARD",
        "ZRANGE",
        "ZRANGEBYSCORE",
        "ZSCORE",
    ]
)
KEYLESS = frozenset({"INFO", "TIME"})
_COMMENT = re.compile(r"--.*")
_CALL = re.compile(r"\bcall\('(\w+)'(?:, ([a-z_]+))?")


class Header(NamedTuple):
    """A verb's header: its sections in order, and its arguments with what is said of them."""

    sections: dict[str, str]
    arguments: dict[int, tuple[str, str]]


class PythonCall(NamedTuple):
    """`live.call(verb, fleet, …)`, or `call_together`, somewhere in `rota.live`: the source of what it hands over."""

    verb: str
    arguments: list[str]


@cache
def source(verb: str) -> str:
    return (FOLDER / f"{verb}.lua").read_text(encoding="utf-8")


def code(text: str) -> str:
    """The text without its comments."""
    return _COMMENT.sub("", text)


@cache
def header(verb: str) -> Header:
    lines = []
    for line in source(verb).splitlines()[1:]:
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--"))
    sections: dict[str, str] = {}
    arguments: dict[int, tuple[str, str]] = {}
    current = ""
    for line in lines:
        if found := re.match(r" ARGV\[(\d+)\] (\w+) +(.*)", line):
            current = f"ARGV[{found[1]}]"
            arguments[int(found[1])] = (found[2], found[3])
            sections[current] = found[3]
        elif found := re.match(r" (\w+): (.*)", line):
            current = found[1]
            sections[current] = found[2]
        else:
            assert re.match(r" {5,}\S", line), f"{verb}: what is {line!r}?"
            sections[current] += f" {line.strip()}"
    return Header(sections, arguments)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Every command that the text calls, and the name before which its key stands (empty: none)."""
    for found in _CALL.finditer(code(text)):
        yield found[1], found[2] or ""


@cache
def prelude_functions() -> dict[str, str]:
    """Name → body."""
    return dict(re.findall(r"^local function (\w+)\((.*?)^end$", code(PRELUDE), re.MULTILINE | re.DOTALL))


@cache
def prelude_start() -> str:
    """What of the prelude runs in front of every verb."""
    return re.sub(r"^local function .*?^end$", "", code(PRELUDE), flags=re.MULTILINE | re.DOTALL)


@cache
def reached(verb: str) -> str:
    """A verb's own code and all of the prelude that it runs."""
    functions, text, known = prelude_functions(), prelude_start() + code(source(verb)), set[str]()
    while found := {name for name in functions if name not in known and re.search(rf"\b{name}\(", text)}:
        known |= found
        text += "".join(functions[name] for name in sorted(found))
    return text


def python_calls() -> list[PythonCall]:
    found = []
    for path in sorted(LIVE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
                verb = node.args[0]
                if isinstance(verb, ast.Constant) and isinstance(verb.value, str):
                    found.append(PythonCall(verb.value, [ast.unparse(argument) for argument in node.args[2:]]))
    return found


def own_keys() -> list[tuple[int, str, str]]:
    """Number, name and type of each key in the prelude's list."""
    found = re.findall(r"^-- KEYS\[(\d+)\] +(\w+) +(\w+) +\S", PRELUDE, re.MULTILINE)
    return [(int(number), name, type_) for number, name, type_ in found]


def bound_keys() -> dict[str, int]:
    """Local name → number, as the prelude's code binds them."""
    bound: dict[str, int] = {}
    for left, right in re.findall(r"^local ([a-z_, ]+) =\s+(KEYS\[[^\n]+)$", PRELUDE, re.MULTILINE):
        names, numbers = left.split(", "), re.findall(r"KEYS\[(\d+)\]", right)
        assert len(names) == len(numbers)
        bound |= {name: int(number) for name, number in zip(names, numbers, strict=True)}
    return bound


def test_every_lua_file_is_a_verb_or_the_prelude() -> None:
    assert {path.stem for path in FOLDER.glob("*.lua")} == {*VERBS, "_moves"}


@pytest.mark.parametrize("verb", VERBS)
def test_a_script_begins_with_the_line_that_keeps_it_in_its_slot(verb: str) -> None:
    assert assembled()[verb].startswith("#!lua\n")
    assert source(verb).startswith("#!lua\n-- Purpose: ")


@pytest.mark.parametrize("verb", VERBS)
def test_a_header_says_all_there_is_to_say_in_order(verb: str) -> None:
    said = header(verb).sections
    assert all(text.strip() for text in said.values())
    parts = list(dict.fromkeys(name.partition("[")[0] for name in said))
    assert parts == [part for part in SECTIONS if part in parts]
    assert set(SECTIONS) == set(parts)
    assert said["KEYS"] == "as in _moves.lua"


@pytest.mark.parametrize("verb", VERBS)
def test_a_script_uses_just_the_arguments_that_its_header_declares(verb: str) -> None:
    declared = list(header(verb).arguments)
    assert declared == list(range(1, len(declared) + 1))
    used = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", code(source(verb)))}
    assert used == set(declared)
    assert "ARGV" not in code(PRELUDE)


@pytest.mark.parametrize("verb", VERBS)
def test_a_script_binds_its_arguments_under_the_names_of_its_header(verb: str) -> None:
    declared = header(verb).arguments
    for left, right in re.findall(r"^local ([a-z_, ]+) = (.*\bARGV\[.*)$", code(source(verb)), re.MULTILINE):
        numbers = [int(number) for number in re.findall(r"ARGV\[(\d+)\]", right)]
        for name, number in zip(left.split(", "), numbers, strict=True):
            assert name in {declared[number][0], f"{declared[number][0]}_id", "id"}, (verb, number)


@pytest.mark.parametrize("verb", VERBS)
def test_python_hands_over_just_the_arguments_that_a_header_declares(verb: str) -> None:
    calls = [call.arguments for call in python_calls() if call.verb == verb]
    declared = header(verb).arguments.values()
    assert calls, "nobody calls it"
    for arguments in calls:
        assert len(arguments) == len(declared)
        for handed_over, (name, text) in zip(arguments, declared, strict=True):
            assert not re.search(r"\bms\b", text) or re.search(r"_ms\b", handed_over.lower()), (name, handed_over)


def test_python_calls_no_verb_that_is_not_there() -> None:
    assert {call.verb for call in python_calls()} == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_an_argument_is_described_with_its_unit(verb: str) -> None:
    for name, text in header(verb).arguments.values():
        assert UNITS.get(name, "") in text, name


@pytest.mark.parametrize("verb", VERBS)
def test_a_header_names_every_word_that_a_script_answers(verb: str) -> None:
    said = header(verb).sections
    text = f"{said['Replies']} {said['Refusals']}"
    if verb == "beat":
        codes = said["Replies"].rpartition("codes: ")[2].split(", ")
        assert sorted(codes) == sorted(Instruction)
        told = [part for line in re.findall(r"return (.*)", code(source(verb))) for part in line.split(" and ")]
        words = {word for part in told for word in re.findall(r"'([a-z]{2,})'", part)}
        assert words == {*Instruction, "unknown"}
        assert "`unknown`" in said["Refusals"]
    else:
        words = set(re.findall(r"(?:return |[{])'([a-z]+)'", code(source(verb))))
        assert words == set(re.findall(r"'([a-z]+)'", text))


def test_the_prelude_lists_the_keys_that_python_hands_over() -> None:
    listed = own_keys()
    assert [number for number, _, _ in listed] == list(range(1, len(listed) + 1))
    handed_over = keys.script_keys("f")
    assert [f"{{f}}:{name.removesuffix('_prefix')}" for _, name, _ in listed] == [
        name.removesuffix(":") for name in handed_over
    ]
    assert [name.endswith(":") for name in handed_over] == [type_ == "prefix" for _, _, type_ in listed]


def test_the_prelude_binds_the_keys_in_the_order_of_its_list() -> None:
    assert bound_keys() == {name: number for number, name, _ in own_keys()}


def test_the_prelude_and_python_agree_on_the_type_of_each_key() -> None:
    for _, name, type_ in own_keys():
        documented = getattr(keys, name.removesuffix("_prefix")).__doc__ or ""
        assert documented.startswith(TYPES[type_]), name


@pytest.mark.parametrize("verb", VERBS)
def test_a_script_touches_only_the_keys_of_the_list(verb: str) -> None:
    assert "KEYS[" not in code(source(verb))
    assert "redis." not in code(source(verb))
    for command, key in commands(reached(verb)):
        assert command in KEYLESS if not key else key in bound_keys(), (command, key)
    assert len(list(commands(reached(verb)))) == len(re.findall(r"\bcall\(", reached(verb)))


@pytest.mark.parametrize("verb", [*VERBS, "_moves"])
def test_a_script_calls_only_commands_whose_work_is_bounded(verb: str) -> None:
    text = PRELUDE if verb == "_moves" else source(verb)
    called = {command for command, _ in commands(text)}
    assert called <= WRITES | READS | KEYLESS, "KEYS, SCAN, HGETALL, SMEMBERS and the like look at everything"
    for line in code(text).splitlines():
        assert "'ZRANGEBYSCORE'" not in line or "'LIMIT'" in line
    assert not re.search(r"\b(while|repeat|goto)\b", code(text)), "loops are bounded: `for` alone"


@pytest.mark.parametrize("verb", VERBS)
def test_a_script_takes_the_time_from_the_store_alone(verb: str) -> None:
    assert not re.search(r"\bos\.|math\.random", code(assembled()[verb]))
    assert [command for command, _ in commands(assembled()[verb])].count("TIME") == 1
    assert "TIME" not in code(source(verb))
