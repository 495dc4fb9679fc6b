"""`rota demo`, as small as it gets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SMALL = ("--for", "1", "--bots", "2", "--servers", "1", "--watchers", "0", "--no-browser")


def test_a_demonstration_takes_a_free_port_if_it_is_told_to(data_dir: Path) -> None:
    command = [sys.executable, "-m", "rota", "demo", *SMALL, "--port", "0", "--data-dir", str(data_dir)]
    # Whether a second was enough for everything that it has to show is another question.
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert re.search(r"^Status page: http://127\.0\.0\.1:[1-9]\d+/", done.stderr, re.MULTILINE), done.stderr
    assert "is taken" not in done.stderr
