"""What must be true of the tree itself: names, sizes, docstrings, the lock file, the wheel."""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "rota"
MOST_LINES = 400
NAMES_THAT_SAY_NOTHING = "utils? helpers? common managers? services? base"

# Joined here, so that this file may itself be searched for them.
REGISTRIES = [
    ".".join(labels)
    for labels in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("deb", "debian", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("crates", "io"),
    )
]
PLACES_OF_ONE_MACHINE = re.compile(r"(?<![\w.*/>}~-])/(?:work|root|home/\w+|tmp/\w+)/")


def tracked_files() -> list[Path]:
    """What git tracks or would add; without git, what is not hidden and not made by tools."""
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    made = {"__pycache__", "dist", "test-results"}
    return [path for folder, folders, names in os.walk(ROOT) for path in _kept(folder, folders, names, made)]


def _kept(folder: str, folders: list[str], names: list[str], made: set[str]) -> Iterator[Path]:
    folders[:] = [name for name in folders if name == ".ci" or not (name.startswith(".") or name in made)]
    return (Path(folder, name) for name in names)


def texts() -> Iterator[tuple[str, str]]:
    """Every tracked text file: its path from the root, and what it says."""
    for path in tracked_files():
        raw = path.read_bytes()
        if b"\0" not in raw:
            yield path.relative_to(ROOT).as_posix(), raw.decode()


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked() -> dict[str, tuple[Version, list[str]]]:
    """The lock file's packages, each with its version and its files' SHA-256."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    packages: dict[str, tuple[Version, list[str]]] = {}
    for line in lines:
        pin, *hashes = re.split(r"\s+--hash=sha256:", line.strip())
        requirement = Requirement(pin)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        packages[canonicalize_name(requirement.name)] = (Version(specifier.version), hashes)
    return packages


def package_files() -> list[Path]:
    return [path for path in tracked_files() if path.is_relative_to(PACKAGE)]


def test_no_file_names_a_registry() -> None:
    found = [(name, host) for name, text in texts() for host in REGISTRIES if host in text]
    assert not found, "packages are named, never where they come from"


def test_no_file_names_a_place_of_one_machine() -> None:
    found = [(name, match[0]) for name, text in texts() for match in PLACES_OF_ONE_MACHINE.finditer(text)]
    assert not found, "paths start at the checkout, the data directory, or what the system says"


def test_every_module_is_short() -> None:
    lines = {name: text.count("\n") for name, text in texts() if name.endswith(".py")}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}, "split it by noun"


def test_every_module_of_the_package_says_what_it_is() -> None:
    modules = {name: text for name, text in texts() if name.startswith("src/") and name.endswith(".py")}
    silent = [name for name, text in modules.items() if not ast.get_docstring(ast.parse(text))]
    assert not silent, "a module's docstring says what lives there, who calls it, what it must never do"


def test_every_file_is_named_for_what_it_holds() -> None:
    vague = re.compile("|".join(NAMES_THAT_SAY_NOTHING.split()))
    found = [path for path in tracked_files() if vague.fullmatch(path.stem.strip("_").lower())]
    assert not found, "a file is named for its noun"


def test_every_ignored_lint_rule_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if re.match(r'    "[A-Z]+\d+",', line)]
    assert rules
    assert not [line for line in rules if "# " not in line]


def test_the_lock_file_proves_every_file_and_names_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert not [line for line in text.splitlines() if re.match(r"\s*-(?!-hash=sha256:[0-9a-f]{64}\b)", line)]
    assert not [name for name, (_, hashes) in locked().items() if not hashes]


def test_the_lock_file_satisfies_what_the_project_asks_for() -> None:
    about, packages = project(), locked()
    asked = [
        *about["build-system"]["requires"],
        *about["project"]["dependencies"],
        *(line for extra in about["project"]["optional-dependencies"].values() for line in extra),
    ]
    for requirement in map(Requirement, asked):
        version, _ = packages[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement}: run `make lock`"


def test_the_pip_that_fills_the_venv_is_the_locked_one() -> None:
    (wheel,) = (ROOT / "tools").glob("pip-*.whl")
    version, hashes = locked()[canonicalize_name("pip")]
    assert wheel.name == f"pip-{version}-py3-none-any.whl"
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() in hashes


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("rota-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("rota/")}
    assert held == {path.relative_to(PACKAGE.parent).as_posix() for path in package_files()}


@pytest.mark.parametrize("module", ["pydantic", "httpx2", "rota.sdk", "importlib.metadata"])
def test_importing_rota_loads_nothing(module: str) -> None:
    program = f"import sys, rota; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
