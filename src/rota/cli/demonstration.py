"""What `rota demo` does: everything that it starts, in the order in which it starts.

Apart from the command's options, so that the other commands start without the simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from rota.cli.crowd_view import CrowdView, preparing, showing
from rota.cli.demo_server import DemoServer, free_port
from rota.cli.signals import INTERRUPTED, ending_in_order
from rota.cli.watchers import FLEET, Watchers, program
from rota.errors import ProblemError
from rota.simulator.faults import Rate
from rota.simulator.preparation import Wanted
from rota.simulator.rest import Rest
from rota.simulator.simulation import Options, Simulation
from rota.simulator.site import Site
from rota.simulator.summary import Summary

POLICY = {"interval": 2, "ttl": 6}
"""Seconds. Much shorter than in earnest, so that deaths and take-overs are seen while somebody looks."""
GOODBYES_WITHIN = 4.0
WATCHERS_END_WITHIN = 5.0
COUNTED_WITHIN, COUNTED_IN_HASTE = 30.0, 1.5
"""Seconds for counting the records in the ledger: at the end of `--for`, and after Ctrl-C."""
LOOK_EVERY = 1.0


@dataclass(frozen=True)
class Choices:
    """The command line."""

    data_dir: Path
    port: int
    servers: int
    bots: int
    watchers: int
    kill: Rate | None
    seconds: float | None
    browser: bool


class Demonstration:
    """Everything that one `rota demo` starts, in the order in which it starts, and ends it in reverse."""

    def __init__(self, choices: Choices) -> None:
        """Nothing happens before `run`."""
        self.most_bound = 0
        self.profiles_started = 0
        self.records = 0
        self.watchers_running = 0
        self._choices = choices
        self._console = Console(stderr=True)
        self._server = DemoServer(choices.data_dir, free_port(choices.port))
        self._simulation: Simulation | None = None
        self._watchers: Watchers | None = None
        self._interrupted = False
        self._failure = ""

    async def run(self) -> Summary:
        """From the start of the stores to the end of the last child."""
        whole = asyncio.current_task()

        def first() -> None:
            self._interrupted = True
            self._console.print("Everything ends in order; once more to end at once.")
            if self._simulation and self._simulation.crowd:
                self._simulation.stop()
            elif whole:
                whole.cancel()

        with ending_in_order(first, self._end_at_once):
            try:
                return await self._perform()
            except asyncio.CancelledError:
                raise typer.Exit(INTERRUPTED) from None
            finally:
                await self._server.end()

    def findings(self) -> dict[str, Any]:
        """What the simulation's summary does not know, because real bots are in it, as rota tells it."""
        return {
            "profiles_started": self.profiles_started,
            "profiles_bound": self.most_bound,
            "records": self.records,
            "watchers": self.watchers_running,
        }

    def complain(self) -> None:
        """Says what went wrong beyond violations, and ends the command with exit code 1."""
        everybody = self._choices.bots + self.watchers_running
        wanted = min(self.profiles_started, everybody)
        if not self._failure and self.most_bound < wanted and not self._interrupted:
            self._failure = f"only {self.most_bound} of {wanted} profiles found a bot"
        if self._failure:
            self._console.print(self._failure, style="bold red", highlight=False)
            raise typer.Exit(1)

    # -- inside --------------------------------------------------------------------------------------

    async def _perform(self) -> Summary:
        choices = self._choices
        self._console.print("Starting the stores and rota …")
        await self._server.start()
        port = self._server.url.rpartition(":")[2]
        if choices.port and port != str(choices.port):
            self._console.print(f"Port {choices.port} is taken; the demonstration uses {port}.")
        self._console.print(f"Status page: {self._server.sign_in}", soft_wrap=True, highlight=False)
        rng = random.Random()  # noqa: S311 - chance, not secrets
        async with Rest(self._server.url, self._server.key) as rest, Site(choices.watchers, rng) as site:
            await rest.patch(f"/fleets/{FLEET}", POLICY)
            example = self._example()
            self._watchers = Watchers(rest, site, choices.watchers if example else 0)
            await self._watchers.prepare()
            self._simulation = Simulation(rest, self._options(example is not None))
            with preparing(self._console) as report:
                await self._simulation.prepare(report)
            if example:
                await self._watchers.start(example, choices.data_dir / "watchers.log")
                self.watchers_running = choices.watchers
            if choices.browser and _has_desktop():
                webbrowser.open(self._server.sign_in)
            return await self._live(rest, self._simulation, site)

    def _options(self, with_watchers: bool) -> Options:  # noqa: FBT001 - what else it depends on is fixed
        choices = self._choices
        profiles = choices.bots - choices.watchers if with_watchers else choices.bots
        return Options(
            wanted=Wanted(FLEET, choices.servers, choices.bots, max(0, profiles), choices.seconds),
            kill=choices.kill,
            leave_within=GOODBYES_WITHIN,
        )

    def _example(self) -> Path | None:
        if not self._choices.watchers:
            return None
        example = program()
        if example is None:
            self._console.print("No examples folder here (not a checkout): the demo runs without site watchers.")
        return example

    async def _live(self, rest: Rest, simulation: Simulation, site: Site) -> Summary:
        view = CrowdView(simulation, "rota demo", lambda: self._footer(site))
        looking = [asyncio.create_task(self._look(rest)), asyncio.create_task(self._guard(simulation))]
        try:
            async with showing(view, self._console):
                summary = await simulation.run()
                await self._count_records(rest, summary)
        finally:
            for task in looking:
                task.cancel()
            await self._end_watchers()
        return summary

    def _footer(self, site: Site) -> list[str]:
        return [
            f"status page   {self._server.sign_in}",
            f"fleet         {self.most_bound} of {self.profiles_started} profiles bound at most",
            f"watched site  {site.url}   looks {site.served}, failed {site.failed}, down {site.troubled}",
        ]

    async def _look(self, rest: Rest) -> None:
        """Asks rota how many profiles are bound: this counts the real bots' too."""
        while True:
            with contextlib.suppress(ProblemError):
                profiles = (await rest.get(f"/fleets/{FLEET}"))["profiles"]
                bound = profiles["starting"] + profiles["working"] + profiles["stopping"]
                self.most_bound = max(self.most_bound, bound)
                self.profiles_started = bound + profiles["waiting"] + profiles["held"]
            await asyncio.sleep(LOOK_EVERY)

    async def _guard(self, simulation: Simulation) -> None:
        """A server or watchers that end by themselves end the demonstration."""
        children = [self._server.child, self._watchers.child if self._watchers else None]
        ends = {asyncio.create_task(child.ended()): child for child in children if child}
        done, others = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        child = ends[done.pop()]
        self._failure = f"{child.name} ended by itself (exit code {child.code}):\n{child.last_words()}"
        simulation.stop()

    async def _count_records(self, rest: Rest, summary: Summary) -> None:
        """Rows in the ledger for the watchers' profiles, and what the simulated bots had acknowledged."""
        self.records = summary.records
        if self._watchers is None:
            return
        with contextlib.suppress(ProblemError, TimeoutError):
            async with asyncio.timeout(COUNTED_IN_HASTE if self._interrupted else COUNTED_WITHIN):
                for profile in self._watchers.profiles:
                    async for _ in rest.pages(f"/profiles/{profile}/records"):
                        self.records += 1

    async def _end_watchers(self) -> None:
        if self._watchers:
            await self._watchers.end(WATCHERS_END_WITHIN)
            with contextlib.suppress(ProblemError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._watchers.revoke()

    def _end_at_once(self) -> None:
        for part in (self._watchers, self._server):
            if part:
                part.kill()
        os._exit(INTERRUPTED)


def _has_desktop() -> bool:
    if os.environ.get("CI"):
        return False
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
