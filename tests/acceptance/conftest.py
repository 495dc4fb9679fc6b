"""A whole installation as processes: `rota serve` in a data directory of its own."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conformance.site import NO_TLS

START_WITHIN = 60.0
END_WITHIN = 12.0


class RotaServer:
    """One `rota serve`; may be killed and started again on the same data."""

    def __init__(
        self, data_dir: Path, *options: str, environment: dict[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.data_dir = data_dir
        self.cwd = cwd
        self.options = options
        self.environment = environment or {}
        self.process: subprocess.Popen[str] | None = None
        self.output: list[str] = []
        self.url = ""
        self.sign_in_url = ""
        self.operator_key = ""
        self._enrolment_key: str | None = None

    def start(self, port: int = 0) -> None:
        command = [sys.executable, "-m", "rota", "serve", "--data-dir", str(self.data_dir), "--port", str(port)]
        log = (self.data_dir.parent / f"{self.data_dir.name}.log").open("a")
        self.process = subprocess.Popen(
            [*command, *self.options],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=self.cwd,
            env={**os.environ, "ROTA_WORKERS": "1", **self.environment},
        )
        log.close()
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, args=(self.process, lines), daemon=True).start()
        deadline = time.monotonic() + START_WITHIN
        while not self.sign_in_url:
            line = lines.get(timeout=max(0.1, deadline - time.monotonic()))
            assert line is not None, f"rota serve ended: {self.log()}"
            self._hear(line)
        self.operator_key = json.loads((self.data_dir / "access.json").read_text())["key"]

    def stop(self) -> int:
        """Ends it as an operator would and returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(END_WITHIN)
        self.sign_in_url = ""
        return code

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.sign_in_url = ""

    def log(self) -> str:
        return (self.data_dir.parent / f"{self.data_dir.name}.log").read_text()[-4000:]

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def api(self) -> httpx2.Client:
        headers = {"authorization": f"Bearer {self.operator_key}"}
        return httpx2.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=20, verify=NO_TLS)

    @property
    def enrolment_key(self) -> str:
        if self._enrolment_key is None:
            with self.api as api:
                self._enrolment_key = str(api.post("/enrolment-keys", json={}).raise_for_status().json()["key"])
        return self._enrolment_key

    def list_server(self, hostname: str, bots: int = 1, **more: Any) -> None:
        with self.api as api:
            body = {"hostname": hostname, "expected_bots": bots, **more}
            api.post("/servers", json=body).raise_for_status()

    def _read(self, process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        process.stdout.close()
        lines.put(None)

    def _hear(self, line: str) -> None:
        self.output.append(line)
        if found := re.match(r"rota is ready at (\S+)", line):
            self.url = found[1]
        if found := re.match(r"sign in: (\S+)", line):
            self.sign_in_url = found[1]


@contextmanager
def temporary_data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ra-"))
    # The stores run as another user when the tests run as root, and must reach what is below.
    folder.chmod(0o711)
    yield folder / "data"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with temporary_data_dir() as made:
        yield made


@pytest.fixture
def rota_server(data_dir: Path) -> Iterator[RotaServer]:
    """A running installation with one web worker."""
    server = RotaServer(data_dir)
    server.start()
    yield server
    if server.process is not None and server.process.poll() is None:
        server.stop()
