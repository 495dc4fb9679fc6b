"""Whatever path is asked for, wherever records are searched: it is answered or refused, and never fails inside."""

from __future__ import annotations

import json
import random
from contextlib import aclosing
from typing import Any

import pytest

from rota.errors import InvalidRequestError
from rota.ledger.sieve import Sieve
from tests.conformance.fleet import Fleet
from tests.conformance.site import Site

DATA: list[Any] = [
    {"price": 50, "name": "äx", "at": "2026-11-23T10:00:00Z", "tags": ["a", None, 1.5], "deep": {"a": {"b": [[1]]}}},
    {"price": "50", "name": "", "at": "yesterday", "tags": {}, "zero": 0},
    [1, "1", True, None, [2], {}],
    10**400,
    -1.5e300,
    "text",
    True,
    None,
]
TRAPS = [
    "$x > 1",
    "$.a > $x",
    '$."x" ? (@ == $"no such")',
    "$.at.datetime() > 1",
    '$.at.datetime("nonsense") == 1',
    '"now".datetime() < "2026-11-23".datetime()',
    '"2026-11-23T10:00:00+01:00".datetime() < "2026-11-23T10:00:00".datetime()',
    '$.at.datetime() < "2026-11-23 10:00:00".datetime()',
    '$.name like_regex "("',
    '$ like_regex "a{999999}"',
    '$.name like_regex "(?=x)" flag "q"',
    '$.name like_regex "x" flag "x"',
    "$.price / 0 > 1",
    "1 / 0 == 1",
    "strict $.price % 0",
    "1e400000 > 1",
    "$ + 1e131071 * 1e131071 > 0",
    f"$ > {'9' * 1900}",
    "$[9999999999] == 1",
    "$[1e400] == 1",
    "$.keyvalue().value > 1",
    "strict $.no.such == 1",
    "strict $[99]",
    "strict $.**{4294967295}",
    "$.**{2 to 1}",
    "$.size() + $.type() > 1",
    "$.double() > 1",
    '"nan".double() > 1',
    '"1e400".double()',
    "$.abs().ceiling().floor() > 1",
    "$.bigint() > 1",
    "$.number() > 1",
    "$.decimal(1, 99) > 1",
    "$.boolean() == true",
    "$.string() == 1",
    "$.date() > 1",
    "$.time_tz(99) > 1",
    '("12:00".time_tz() < "12:00".time()) == true',
    "exists($)",
    "$ ? (exists(@.a ? (@ > $y)))",
    "(" * 300 + "$ > 1" + ")" * 300,
    "!(" * 600 + "$ > 1" + ")" * 600,
    "-" * 1900 + "1 > 1",
    "$" + ".a" * 900,
    "$" + "[*]" * 600,
    "$.**" * 400,
    "$ ? (" * 200 + "@ > 1" + ")" * 200,
    "$[last - last] == 1",
    "last",
    "@",
    "",
    " ",
    "$.\x01",
    "lax strict $",
    '$."\\u0000"',
    '$."\\ud800" == 1',
    '"a\\u{110000}"',
    "$.a starts with $b",
    '$ starts with "x"',
    "($ > 1) is unknown",
    "$ is unknown",
    "null",
    "true && $ > 1",
]
ROOTS = ["$", "$x", "@", "1", "0", '"a"', "null", "true", "1e999", "9999999999999999999", "last", "-1", '"2026-11-23"']
STEPS = [
    *(
        ".price",
        ".name",
        ".at",
        ".tags",
        ".deep",
        ".*",
        ".**",
        ".**{1 to 2}",
        ".**{last}",
        "[*]",
        "[0]",
        "[last]",
        "[-1]",
    ),
    *("[0 to 99999999999]", ".size()", ".type()", ".double()", ".abs()", ".keyvalue()", ".datetime()", ".ceiling()"),
    *('.datetime("HH24:MI")', ".bigint()", ".boolean()", ".date()", ".decimal(3,2)", ".integer()", ".number()"),
    *(".string()", ".time()", ".timestamp_tz(3)", ' ? (@ like_regex "^(a+)+$")', " ? (@ > $x)", '."\\ud800"'),
]
OPERATORS = ["+", "-", "*", "/", "%", "==", "!=", ">", "<=", "&&", "||", "starts with", "like_regex", "?", ","]


def made_up(chance: random.Random, depth: int = 3) -> str:
    """A path, or something like one."""
    term = chance.choice(ROOTS) + "".join(chance.choices(STEPS, k=chance.randrange(4)))
    if depth == 0 or chance.random() < 0.3:
        return term
    inner = made_up(chance, depth - 1)
    around = ["({})", "!({})", "exists({})", "({}) is unknown", "-{}", "strict {}", "$ ? ({})", "$[{}]", "+{}"]
    if chance.random() < 0.4:
        return chance.choice(around).replace("{}", inner)
    return f"{term} {chance.choice(OPERATORS)} {inner}"


PATHS = TRAPS + [made_up(random.Random(seed)) for seed in range(60)]


async def answers(site: Site, profile: str, path: str) -> dict[str, str]:
    """What each search says to this path: what it found, or why it does not look."""
    address = f"/api/v1/profiles/{profile}/records"
    said = {}
    for call in ("", "/count", "/rate", "/export"):
        answer = await site.rest.get(address + call, params={"where": path})
        assert answer.status_code in {200, 422}, (path, call, answer.text)
        if answer.status_code == 422:
            (wrong,) = answer.json()["errors"]
            assert wrong["field"] == "where"
            assert wrong["message"].isprintable(), path
            said[call] = wrong["message"]
    try:
        async with aclosing(await site.state.follower.begin(profile, Sieve(where=path), None, last=2)) as events:
            await anext(events)
    except InvalidRequestError as error:
        said["/live"] = error.fields[0].message
    return said


async def test_no_path_makes_a_search_fail_inside(bots: Fleet) -> None:
    working = await bots.work("1", "acme")
    assert (await bots.push("1", [{"data": item} for item in DATA])).status_code == 200
    for path in PATHS:
        await answers(bots.site, working["profile"], path)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("$x > 1", "there are no variables here: write the value itself instead of $x"),
        ('$.price > $"a b"', "there are no variables here: write the value itself instead of $a b"),
        ('"2026-11-23".datetime() < "2026-11-23T10:00:00+01:00".datetime()', "without time zone usage"),
        ("1e400000 > 1", "not a JSONPath"),
    ],
)
async def test_a_path_that_cannot_be_tried_is_refused_with_what_to_do(bots: Fleet, path: str, told: str) -> None:
    working = await bots.work("1", "acme")
    assert (await bots.push("1", [{"data": item} for item in DATA])).status_code == 200
    said = await answers(bots.site, working["profile"], path)
    assert sorted(said) == ["", "/count", "/export", "/live", "/rate"]
    assert all(told in message for message in said.values()), json.dumps(said)
