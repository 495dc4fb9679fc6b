"""The site watchers of a demonstration: real bots from `examples/`, and the profiles that they work for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import rota
from rota.cli.children import Child
from rota.simulator.preparation import in_parallel, make_enrolment_key, prepare_servers
from rota.simulator.rest import Rest
from rota.simulator.site import Site

HOSTNAME = "watchers-1"
LABELS = {"kind": "site"}
"""What the watchers' server gives its bots and their profiles require."""
FLEET = "default"


def program() -> Path | None:
    """Where the example is, if this is a checkout and not only the installed package."""
    path = Path(str(rota.__file__)).resolve().parents[2] / "examples" / "site_watcher.py"
    return path if path.is_file() else None


class Watchers:
    """`count` site watchers in one process, one profile for each page of `site`."""

    def __init__(self, rest: Rest, site: Site, count: int) -> None:
        """Nothing happens before `prepare` and `start`."""
        self.profiles: list[str] = []
        self.child: Child | None = None
        self._rest = rest
        self._site = site
        self._count = count
        self._key: dict[str, Any] = {}

    async def prepare(self) -> None:
        """Makes their server, their key and their profiles; earlier ones get the site's new address."""
        await prepare_servers(self._rest, FLEET, {HOSTNAME: self._count}, LABELS)
        self._key = await make_enrolment_key(self._rest, FLEET, "rota demo: site watchers", None)
        there: dict[str, dict[str, Any]] = {}
        async for profile in self._rest.pages("/profiles", fleet=FLEET, name="watch /page-"):
            there[profile["name"]] = profile
        names = [f"watch /page-{number}" for number in range(1, self._count + 1)]
        made = await in_parallel((self._profile(name, there.get(name)) for name in names), lambda _done: None)
        self.profiles = [profile["id"] for profile in made]
        surplus = [profile["id"] for name, profile in there.items() if name not in names and profile["wanted"]]
        await in_parallel((self._rest.post(f"/profiles/{gone}/stop") for gone in surplus), lambda _done: None)

    async def start(self, example: Path, log: Path) -> None:
        """Starts the process."""
        self.child = await Child.start(
            "site watchers",
            sys.executable,
            str(example),
            *("--url", self._rest.url, "--hostname", HOSTNAME),
            *("--instance", "w", "--count", str(self._count)),
            log=log,
            environment={"ROTA_ENROLMENT_KEY": self._key["key"]},  # not among the arguments, which all users see
        )

    async def end(self, within: float) -> None:
        """Lets them leave."""
        if self.child:
            await self.child.end(within)

    async def revoke(self) -> None:
        """Their key is not needed any more."""
        await self._rest.delete(f"/enrolment-keys/{self._key['id']}")

    def kill(self) -> None:
        """Ends them at once."""
        if self.child:
            self.child.kill()

    async def _profile(self, name: str, there: dict[str, Any] | None) -> dict[str, Any]:
        config = {
            "url": self._site.url + name.removeprefix("watch "),
            "every": 5,
            "expect_status": 200,
            "expect_text": "All is well",
        }
        wish: dict[str, Any] = {"name": name, "labels": LABELS, "config": config}
        if there is None:
            made: dict[str, Any] = await self._rest.post("/profiles", {**wish, "fleet": FLEET, "start": True})
            return made
        await self._rest.patch(f"/profiles/{there['id']}", wish)
        if not there["wanted"]:
            await self._rest.post(f"/profiles/{there['id']}/start")
        return there
