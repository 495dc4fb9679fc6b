"""Makes `.venv`, or brings it up to date: what requirements.lock names, and rota itself, editable.

`make` runs it before everything else, so it answers at once when there is nothing to do. It needs Python's
standard library alone: neither pip nor ensurepip (Debian leaves both out of its python3), for pip comes as a
wheel beside it.
"""

import sys

# What requirements.lock has wheels for. An older Python must still be able to read this file, to be told so.
if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    found = "{} is Python {}.{}".format(sys.executable, *sys.version_info[:2])
    sys.exit("rota needs Python 3.11 to 3.14 but " + found + ": name another, as in `make PYTHON=python3.12`")

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
import venv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
# One stamp per step, written when the step is done: a step that was cut short has none, and is done again.
PACKAGES_STAMP = VENV / "packages.stamp"
PROJECT_STAMP = VENV / "project.stamp"
# These would send the packages elsewhere, or let modules from elsewhere in.
FOREIGN = ("PIP_PREFIX", "PIP_ROOT", "PIP_TARGET", "PIP_USER", "PYTHONHOME", "PYTHONPATH")


def main() -> None:
    """Leaves a complete `.venv`, or ends with what went wrong."""
    with one_at_a_time() as lock:
        if not is_done(PACKAGES_STAMP, packages_digest()):
            make_venv()
            install_packages(lock)
        if not is_done(PROJECT_STAMP, project_digest()):
            install_project(lock)


@contextmanager
def one_at_a_time() -> Iterator[int]:
    """Waits until no other set-up runs in this checkout; yields the lock's descriptor.

    Children inherit it: one that outlives this process keeps the lock until it is done meddling with `.venv`.
    """
    lock = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up of this checkout")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def packages_digest() -> str:
    """What the packages depend on: the lock file, the interpreter, and the place of `.venv`."""
    digest = hashlib.sha256(LOCK.read_bytes())
    digest.update(f"{sys.version} {sys.base_prefix} {VENV}".encode())
    return digest.hexdigest()


def project_digest() -> str:
    """What rota's own installation depends on: the packages, and pyproject.toml (version, entry points)."""
    return hashlib.sha256(packages_digest().encode() + PROJECT.read_bytes()).hexdigest()


def is_done(stamp: Path, digest: str) -> bool:
    """Tells whether the step of this stamp was done, for this digest."""
    return stamp.is_file() and stamp.read_text(encoding="ascii") == digest and PYTHON.exists()


def make_venv() -> None:
    """Makes `.venv` anew, without any package."""
    say(f"making .venv with Python {sys.version.split()[0]}")
    shutil.rmtree(VENV, ignore_errors=True)
    venv.create(VENV, symlinks=True)


def install_packages(lock: int) -> None:
    """Installs exactly what requirements.lock names, each file proven by its hash."""
    wanted = sum("==" in line for line in LOCK.read_text(encoding="utf-8").splitlines())
    say(f"installing {wanted} packages from requirements.lock")
    # Wheels alone: building from source would fetch build tools that no lock names.
    run_pip(lock, "--require-hashes", "--only-binary=:all:", f"--requirement={LOCK}")
    PACKAGES_STAMP.write_text(packages_digest(), encoding="ascii")


def install_project(lock: int) -> None:
    """Installs rota itself, editable, with the build backend that the lock file brought."""
    say("installing rota itself")
    run_pip(lock, "--no-deps", "--no-build-isolation", "--no-index", f"--editable={ROOT}")
    PROJECT_STAMP.write_text(project_digest(), encoding="ascii")


def run_pip(lock: int, *arguments: str) -> None:
    """Runs `pip install` out of the wheel in tools/; shows what pip said only if it fails."""
    (wheel,) = Path(__file__).parent.glob("pip-*.whl")
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    started = time.monotonic()
    with subprocess.Popen(
        [str(PYTHON), str(wheel / "pip"), "install", "--no-input", "--disable-pip-version-check", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        pass_fds=[lock],
    ) as pip:
        said = list(follow(pip.stdout or ()))
    if pip.returncode:
        sys.exit("".join(said) + "\nset-up: pip failed, and tells why above. `make` tries again.")
    say(f"  done in {time.monotonic() - started:.0f} s")


def follow(lines: Iterable[str]) -> Iterator[str]:
    """Passes pip's lines on, and counts the packages on a terminal as they go by."""
    packages = 0
    for line in lines:
        yield line
        if line.startswith("Collecting ") and sys.stderr.isatty():
            packages += 1
            print(f"\rset-up:   package {packages} ", end="", file=sys.stderr, flush=True)
    if packages:
        print("\r", end="", file=sys.stderr)


def say(text: str) -> None:
    """Prints one line of progress."""
    print(f"set-up: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
