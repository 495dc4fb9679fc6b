"""How `rota check` says what it found, and what it could not look at."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from rota.cli.app import app

BEHIND = "history is behind: does the steward record?"


class Behind(BaseHTTPRequestHandler):
    """REST of a sound fleet whose history is behind."""

    def do_GET(self) -> None:
        self._answer({"ok": True, "findings": []})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer({"count": 3, "differences": [], "next": None, "skipped": BEHIND})

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _answer(self, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Behind) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_comparison_that_left_something_out_says_why_and_what_to_do(url: str) -> None:
    done = CliRunner().invoke(app, ["check", "--deep", "--url", url, "--key", "key"])
    assert done.exit_code == 2
    assert done.stderr == f"not everything was compared, try again in a moment: {BEHIND}\n"
    assert done.stdout == "3 profiles and assignments compared: nothing differed, as far as they could be compared\n"
