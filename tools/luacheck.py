"""Runs luacheck over the Lua scripts as the store sees them: each verb with the shared prelude before it.

A finding is reported where it stands in src/rota/live/lua. What the prelude offers may go unused in some
scripts, but not in all of them. `make check` calls this; without luacheck it passes, except in CI.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from rota.live.scripts import assembled

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path("src/rota/live/lua")
FINDING = re.compile(r"(?P<path>.+\.lua):(?P<line>\d+):(?P<column>\d+): \((?P<code>\w+)\) (?P<text>.+)")
UNUSED = re.compile(r"[EW]211")


class Finding(NamedTuple):
    """What luacheck said about one place of a file in `FOLDER`."""

    file: str
    line: int
    column: int
    code: str
    text: str

    def __str__(self) -> str:
        return f"{FOLDER / self.file}:{self.line}:{self.column}: {self.code} {self.text}"


def main() -> None:
    """Prints every finding; the exit code is 1 if there is any."""
    if not shutil.which("luacheck"):
        if os.environ.get("CI") == "true":
            sys.exit("luacheck is not installed, and CI must not skip it (apt install lua-check)")
        print("luacheck is not installed: skipped (apt install lua-check)")
        return
    scripts = assembled()
    found = Counter(finding for verb, source in scripts.items() for finding in check(verb, source))
    findings = sorted(finding for finding, times in found.items() if counts(finding, times, len(scripts)))
    for finding in findings:
        print(finding)
    print(f"luacheck: {len(findings)} findings in {len(scripts)} scripts")
    sys.exit(bool(findings))


def check(verb: str, source: str) -> list[Finding]:
    """Runs luacheck over one assembled script."""
    without_shebang = re.sub(r"\A#!.*", "", source)  # luacheck reads plain Lua; the line stays, empty
    with TemporaryDirectory() as folder:
        script = Path(folder, f"{verb}.lua")
        script.write_text(without_shebang, encoding="utf-8")
        command = ["luacheck", "--config=.luacheckrc", "--formatter=plain", "--codes", str(script)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode not in {0, 1, 2}:
        sys.exit(f"luacheck failed: {result.stderr or result.stdout}")
    matches = map(FINDING.fullmatch, result.stdout.splitlines())
    return [place(verb, source, match) for match in matches if match]


def place(verb: str, source: str, match: re.Match[str]) -> Finding:
    """Finds where a line of an assembled script came from: the prelude, or the verb's own file after it."""
    own = (ROOT / FOLDER / f"{verb}.lua").read_text(encoding="utf-8").count("\n")
    line, before = int(match["line"]), source.count("\n") - own
    file, line = (f"{verb}.lua", line - before) if line - before > 1 else ("_moves.lua", line - 1)
    return Finding(file, line, int(match["column"]), match["code"], match["text"])


def counts(finding: Finding, times: int, scripts: int) -> bool:
    """Tells whether a finding is one: what one script leaves unused of the prelude, another may use."""
    return finding.file != "_moves.lua" or not UNUSED.fullmatch(finding.code) or times == scripts


if __name__ == "__main__":
    main()
