"""tools/make_venv.py as `make` runs it, in a tree of its own, with a pip that only notes what it is asked."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "make_venv.py"
PIP = """
import pathlib, sys
tree = pathlib.Path(__file__).parents[3]
with (tree / "asked").open("a") as asked:
    asked.write("project\\n" if "--no-deps" in sys.argv else "packages\\n")
if (tree / "broken").exists():
    sys.exit("no such package")
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    pip = tmp_path / "tools" / "pip-1.0-py3-none-any.whl" / "pip" / "__main__.py"
    pip.parent.mkdir(parents=True)
    pip.write_text(PIP)
    shutil.copy(SCRIPT, tmp_path / "tools")
    (tmp_path / "requirements.lock").write_text("one==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


def start(tree: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(tree / "tools" / "make_venv.py")], stderr=subprocess.PIPE, text=True)


def run(tree: Path) -> list[str]:
    """Runs the set-up to its end; returns what it asked of pip."""
    (tree / "asked").unlink(missing_ok=True)
    with start(tree) as setup:
        _, said = setup.communicate()
    assert setup.returncode == 0, said
    return (tree / "asked").read_text().split() if (tree / "asked").exists() else []


def test_the_first_run_installs_the_packages_then_rota(tree: Path) -> None:
    assert run(tree) == ["packages", "project"]
    assert (tree / ".venv" / "bin" / "python").exists()


def test_a_run_with_nothing_to_do_does_nothing(tree: Path) -> None:
    run(tree)
    assert run(tree) == []


def test_a_changed_project_is_installed_without_the_packages(tree: Path) -> None:
    run(tree)
    (tree / "pyproject.toml").write_text("[project]\nname = 'rota'\n")
    assert run(tree) == ["project"]


def test_a_changed_lock_file_makes_everything_anew(tree: Path) -> None:
    run(tree)
    left_over = tree / ".venv" / "left-over"
    left_over.touch()
    (tree / "requirements.lock").write_text("one==2\n")
    assert run(tree) == ["packages", "project"]
    assert not left_over.exists()


def test_a_moved_checkout_makes_everything_anew(tree: Path) -> None:
    run(tree)
    moved = tree.rename(tree.with_name("moved"))
    assert run(moved) == ["packages", "project"]


def test_a_failed_run_says_why_and_the_next_one_starts_anew(tree: Path) -> None:
    (tree / "broken").touch()
    with start(tree) as setup:
        _, said = setup.communicate()
    assert setup.returncode == 1
    assert "no such package" in said
    (tree / "broken").unlink()
    assert run(tree) == ["packages", "project"]


def test_runs_at_the_same_time_wait_for_each_other(tree: Path) -> None:
    setups = [start(tree) for _ in range(3)]
    for setup in setups:
        _, said = setup.communicate()
        assert setup.returncode == 0, said
    assert (tree / "asked").read_text().split() == ["packages", "project"]
