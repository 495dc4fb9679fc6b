"""What can be kept as JSON: found where it is pushed, and said in one plain line that names the place."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota import storable

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(categories=["L", "N", "Cc", "Cs", "Zl"]), max_size=5),
    st.sampled_from([10**4299, b"bytes", (1,), {1}, "NaN", "\\u0000"]),
)
NAMES = st.one_of(st.text(max_size=3), st.integers(), st.sampled_from(["\x00", "\ud800", "a\nb"]))
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=20)


@given(VALUES)
def test_a_value_is_encoded_whole_or_refused_in_one_line(value: Any) -> None:
    wrong = storable.fault(value)
    if wrong is None:
        text = storable.encoded(value, "data")
        assert json.loads(text) == value
        assert storable.fault(json.loads(text)) is None
    else:
        with pytest.raises(ValueError, match=r"^data") as raised:
            storable.encoded(value, "data")
        assert str(raised.value) == f"{wrong.place('data')}: {wrong.why}"
        assert str(raised.value).isprintable()


def nested(levels: int, around: Any = 1) -> Any:
    for _ in range(levels):
        around = [around]
    return around


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (math.nan, "data: is not a finite number"),
        ({"items": [1, 2, 3, -math.inf]}, "data.items.3: is not a finite number"),
        ({"a": [{"b": "x\ud800"}]}, "data.a.0.b: holds half of a surrogate pair"),
        ({"a": "\x00"}, "data.a: holds a NUL character"),
        ({"a": {"b\x00": 1}}, "data.a.(name): holds a NUL character"),
        ({"a": {1: 2}}, "data.a.(name): is of the type int: names in JSON are text"),
        ([b"x"], "data.0: is of the type bytes, which JSON does not have"),
        ([10**4300], "data.0: is a number of more than 4300 digits"),
        ({"deep": nested(197)}, "data.deep: is nested more than 197 levels deep"),
        (ENDLESS, "data.0: is nested more than 197 levels deep"),
        (nested(100_000), "data.0: is nested more than 197 levels deep"),
    ],
)
def test_the_place_and_the_reason_are_named(value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=r"^data") as raised:
        storable.encoded(value, "data")
    assert str(raised.value).startswith(told)


@pytest.mark.parametrize("value", [nested(197), 10**4300 - 1, "NaN", "Infinity", "\\u0000", {"": {}}, -0.0, True])
def test_what_merely_looks_wrong_is_encoded(value: Any) -> None:
    assert json.loads(storable.encoded(value, "data")) == value
