"""tools/luacheck.py: what luacheck says about an assembled script is told of the file that it stands in."""

import os
import shutil

import pytest

from rota.live.scripts import assembled
from tools.luacheck import Finding, check, counts

needs_luacheck = pytest.mark.skipif(
    not shutil.which("luacheck") and os.environ.get("CI") != "true",
    reason="luacheck is not installed (apt install lua-check)",
)


def leaks(verb: str, source: str) -> list[Finding]:
    return [finding for finding in check(verb, source) if "leaked" in finding.text]


@needs_luacheck
@pytest.mark.parametrize("verb", assembled())
def test_a_finding_is_told_of_the_verbs_own_file(verb: str) -> None:
    before, header, after = assembled()[verb].rpartition("-- Purpose:")
    (finding,) = leaks(verb, f"{before}leaked = 1 {header}{after}")
    assert str(finding).startswith(f"src/rota/live/lua/{verb}.lua:2:1: W111")


@needs_luacheck
def test_a_finding_in_the_prelude_is_told_of_the_prelude() -> None:
    shebang, _, rest = assembled()["beat"].partition("\n")
    (finding,) = leaks("beat", f"{shebang}\nleaked = 1 {rest}")
    assert str(finding).startswith("src/rota/live/lua/_moves.lua:1:1: W111")


def test_what_the_prelude_offers_must_be_used_by_some_script() -> None:
    unused = Finding("_moves.lua", 28, 7, "W211", "unused function 'bind'")
    assert not counts(unused, times=10, scripts=11)
    assert counts(unused, times=11, scripts=11)


def test_what_a_script_itself_leaves_unused_is_a_finding() -> None:
    assert counts(Finding("beat.lua", 12, 7, "W211", "unused variable 'never'"), times=1, scripts=11)
