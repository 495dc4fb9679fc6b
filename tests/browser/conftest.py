"""A real Chromium in front of a real `rota serve`, and bots whose every call a test makes itself."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, expect, sync_playwright

from tests.acceptance.conftest import RotaServer
from tests.conformance.site import NO_TLS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",  # Chromium has none for root
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
WIDE, PHONE = ViewportSize(width=1440, height=900), ViewportSize(width=390, height=844)
WITHIN_MS = 15_000
GRANTED_WITHIN = 20.0
Opener = Callable[..., Page]
expect.set_options(timeout=WITHIN_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs the browser."""
    missing = pytest.mark.skip(reason="there is no chromium on this machine: apt install chromium")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(missing)


# For a module, not for the session: Playwright keeps an event loop running, beside which no asynchronous test can run.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served() -> Iterator[RotaServer]:
    """A running `rota serve` on data of its own."""
    folder = Path(tempfile.mkdtemp(prefix="rb-"))
    # The stores run as another user when the tests run as root, and must reach what is below.
    folder.chmod(0o711)
    server = RotaServer(folder / "data")
    try:
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Farm:
    """One server with bots, named by their instance."""

    rota: RotaServer
    hostname: str
    tokens: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, rota: RotaServer, expected: int) -> Farm:
        hostname = f"web-{uuid4().hex[:6]}"
        rota.list_server(hostname, expected, labels={"farm": hostname})
        return cls(rota, hostname)

    def auth(self, bot: str) -> None:
        """The bot enters."""
        answer = self._call(self.rota.enrolment_key, "auth", hostname=self.hostname, instance=bot)
        self.tokens[bot] = answer["token"]

    def beat(self, bot: str, working: dict[str, Any] | None = None, status: str = "") -> dict[str, Any]:
        """What the bot is told."""
        return self._call(self.tokens[bot], "heartbeat", working=working, status=status)

    def work(self, bot: str, status: str = "") -> dict[str, Any]:
        """The bot takes the work that it is given, which rota withholds for a moment after its start."""
        deadline = time.monotonic() + GRANTED_WITHIN
        while (told := self.beat(bot))["instruction"] == "wait" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert told["instruction"] == "start", told
        working = {name: told["assignment"][name] for name in ("profile", "epoch", "revision")}
        assert self.beat(bot, working, status)["instruction"] == "continue"
        return working

    def profile(self, name: str, *, start: bool) -> str:
        """A profile that only bots of this farm may work for."""
        with self.rota.api as api:
            wish = {"name": name, "start": start, "account": self._account(api), "labels": {"farm": self.hostname}}
            made = api.post("/profiles", json=wish)
            return str(made.raise_for_status().json()["id"])

    def webhook(self, label: str) -> str:
        """A webhook to which nothing is sent."""
        with self.rota.api as api:
            wish = {"url": "https://1.1.1.1/" + "x" * 80, "label": label, "kinds": ["alarm", "order"], "paused": True}
            return str(api.post("/webhooks", json=wish).raise_for_status().json()["id"])

    def change(self, path: str, **body: Any) -> None:
        """One POST to REST."""
        with self.rota.api as api:
            api.post(path, json=body or None).raise_for_status()

    def leave(self, bot: str, reason: str = "shutdown") -> None:
        """The bot goes."""
        key = {"authorization": f"Bearer {self.tokens[bot]}"}
        httpx2.post(
            f"{self.rota.url}/bot/leave", json={"reason": reason}, headers=key, verify=NO_TLS
        ).raise_for_status()

    def contest(self, bot: str) -> None:
        """Processes take the bot's slot from each other until rota lets nobody more in."""
        code = ""
        for _ in range(10):
            try:
                self.auth(bot)
            except httpx2.HTTPStatusError as refused:
                code = refused.response.json()["code"]
                break
            self.beat(bot)
        assert code == "slot_contested"

    def _account(self, api: httpx2.Client) -> str:
        made = api.post("/accounts", json={"name": f"client-{uuid4().hex[:6]}"})
        return str(made.raise_for_status().json()["id"])

    def _call(self, key: str, verb: str, **body: Any) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {key}"}
        answer = httpx2.post(f"{self.rota.url}/bot/{verb}", json=body, headers=headers, verify=NO_TLS)
        told: dict[str, Any] = answer.raise_for_status().json()
        return told


@pytest.fixture
def farm(served: RotaServer) -> Iterator[Farm]:
    """Two bots, of which the first works."""
    made = Farm.of(served, expected=2)
    profile = made.profile("acme", start=True)
    made.auth("1")
    made.work("1", status="step 3 of 4")
    made.auth("2")
    made.beat("2")
    yield made
    made.change(f"/profiles/{profile}/stop")
    with served.api as api:
        api.delete(f"/fleets/default/drains/{made.hostname}")
        for bot in api.get("/bots", params={"server": made.hostname}).raise_for_status().json()["items"]:
            api.post(f"/bots/{bot['id']}/kill")
        for server in api.get("/servers").raise_for_status().json()["items"]:
            if server["hostname"] == made.hostname:
                api.delete(f"/servers/{server['id']}").raise_for_status()


@pytest.fixture(scope="module")
def session_of_an_operator(chromium: Browser, served: RotaServer) -> Any:
    """What a browser keeps after signing in by a one-time link."""
    context = chromium.new_context()
    page = context.new_page()
    with served.api as api:
        page.goto(api.post("/sign-ins").raise_for_status().json()["url"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{served.url}/")
    kept = context.storage_state()
    context.close()
    return kept


def is_complaint(line: ConsoleMessage) -> bool:
    """Whether a line of the console is one; a page that is not found, or a lost connection, is what a test wants."""
    wanted = ("status of 404", "ERR_INTERNET_DISCONNECTED", "Failed to fetch")
    return line.type in {"error", "warning"} and not any(text in line.text for text in wanted)


@pytest.fixture
def opened(chromium: Browser, served: RotaServer, session_of_an_operator: Any) -> Iterator[Opener]:
    """Opens a page as an operator; afterwards no page may have complained in its console."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def opener(path: str, **options: Any) -> Page:
        wanted = {"viewport": WIDE, "base_url": served.url, "storage_state": session_of_an_operator, **options}
        context = chromium.new_context(**wanted)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WITHIN_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if is_complaint(line) else None)
        page.goto(path)
        return page

    yield opener
    for context in contexts:
        context.close()
    assert not complaints
