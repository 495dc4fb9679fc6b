"""The model that the random walk through live state is checked against: what bots, clients and workers know."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

import hypothesis.strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
)

from rota.errors import SlotContestedError, UnavailableError
from rota.live import bots as live_bots
from rota.live import liveness
from rota.live.beats import Answer
from rota.live.liveness import Hearing
from rota.live.scripts import Live
from rota.protocol import Working
from tests.live.conftest import build
from tests.live.driver import TTL, Driver

SERVERS = ("s1", "s2")
SLOTS = [f"{server}/{instance}" for server in SERVERS for instance in "12"]
CLASSES = ("-", "kind=site")
PROFILES = ["prf_1", "prf_2"]
LABELS = {"s1/1": {"kind": "site"}, "s2/1": {"kind": "site"}}
slots = st.sampled_from(SLOTS)
profile_ids = st.sampled_from(PROFILES)
lost = st.sampled_from([False, False, False, True])


NOTHING = ("-", 0)


class Message(NamedTuple):
    """A heartbeat as it went over the wire; the network may deliver it again, or late."""

    slot: str
    digest: bytes
    work: Working | None
    ended: tuple[str, int]


@dataclass
class Process:
    """What one bot process knows; `lease_ends` is on the model's clock, in seconds."""

    digest: bytes | None = None
    work: Working | None = None
    lease_ends: float = 0
    granted: Working | None = None
    ended: tuple[str, int] = NOTHING


class Model(RuleBasedStateMachine):
    """What is true of the bots, clients and workers of one fleet; the rules are in `test_machine`."""

    valkey_url = ""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.live = Live(self.valkey_url)
        self.driver = Driver(self.live, f"m{uuid4().hex[:10]}")
        self.processes: dict[str, Process] = {}
        self.messages: list[Message] = []
        self.clock = 0.0
        self.epochs: dict[str, int] = {}
        self.fences: dict[str, int] = {}
        """What the ledger knows: raised before a bot is told its epoch, so also where it never hears of it."""
        self.drained: set[str] = set()
        self.incarnation = 1
        self.clock_set_ms = 0
        """By how much the store's clock was set since a web worker looked at it last."""
        self.hearing = [self.web_worker(), self.web_worker()]
        self.revisions: dict[str, int] = dict.fromkeys(PROFILES, 1)
        self.wanted: dict[str, str] = {}
        self.wishes: dict[str, dict[str, Any]] = {}
        self.run(build(self.live, self.driver.fleet))
        self.pulse([0, 1])
        for slot in SLOTS:
            self.start(slot, lost=False)
        for profile in PROFILES:
            self.want(profile, "started")

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        if hasattr(self, "live"):
            self.run(self.live.aclose())
            self.loop.close()

    def auth(self, slot: str, process: Process, work: Working | None, *, lost: bool) -> None:
        sent, digest = self.clock, os.urandom(16)
        newcomer = live_bots.Newcomer(slot, digest, "1", LABELS.get(slot, {}), "::1")
        try:
            restored = self.run(live_bots.auth(self.live, self.driver.fleet, newcomer, ttl=TTL, leased=work))
        except UnavailableError:
            return
        except SlotContestedError:
            if not lost:
                self.end(process)
            return
        if lost:
            return
        process.digest = digest
        if restored is None:
            self.end(process)
        else:
            assert work is not None
            assert (restored.profile, restored.epoch) == (work.profile, work.epoch)
            process.lease_ends = sent + TTL

    def beat(self, slot: str, *, accepting: bool, lost: bool) -> None:
        process = self.processes.get(slot)
        if process is None or process.digest is None:
            return
        sent = self.clock
        self.messages = [*self.messages[-20:], Message(slot, process.digest, process.work, process.ended)]
        told = self.run(
            self.driver.beat(slot, process.work, accepting=accepting, digest=process.digest, ended=process.ended)
        )
        if told.code == "start":
            self.fences[told.profile] = max(told.epoch, self.fences.get(told.profile, 0))
        if not lost:
            self.obey(slot, process, told, sent)

    def obey(self, slot: str, process: Process, told: Answer, sent: float) -> None:
        if told.code == "unknown":
            return
        process.lease_ends = sent + TTL
        if process.work is None:
            process.ended = (told.profile, told.epoch) if told.code == "stop" else NOTHING
        if told.code == "start":
            assert process.work is None
            process.work = Working(profile=told.profile, epoch=told.epoch, revision=told.revision)
            process.granted = process.work
            assert told.epoch >= self.epochs.get(told.profile, 0), "an epoch fell"
            self.epochs[told.profile] = told.epoch
        elif told.code == "reconfigure":
            assert process.work is not None
            process.work = process.work.model_copy(update={"revision": told.revision})
        elif told.code in ("stop", "exit"):
            self.end(process)

    def end(self, process: Process) -> None:
        if process.work is not None:
            process.ended = (process.work.profile, process.work.epoch)
            process.work = None

    def web_worker(self) -> Hearing:
        return Hearing(self.live, self.driver.fleet, clock=lambda: time.monotonic() + self.clock)

    def rebuild(self) -> None:
        """As the steward's duty does it."""
        self.incarnation += 1
        name, known = f"incarnation {self.incarnation}", f"incarnation {self.incarnation - 1}"
        fleet = self.driver.fleet
        self.run(liveness.pulse(self.live, fleet, "steward", ttl=TTL, incarnation=name, known=known))
        for profile, want in self.wanted.items():
            changes = {"revision": self.revisions[profile], "epoch": self.fences.get(profile, 0)}
            self.run(self.driver.want(profile, want, **changes, **self.wishes[profile]))
        for server in self.drained:
            self.run(live_bots.drain(self.live, fleet, server, draining=True))
        self.run(liveness.pulse(self.live, fleet, "built", ttl=TTL, incarnation=name))
        self.pulse([0, 1])

    def come_back(self, order: list[str]) -> None:
        for slot in order:
            process = self.processes.get(slot)
            if process is not None:
                self.auth(slot, process, process.work, lost=False)

    def want(self, profile: str, want: str, **changes: Any) -> None:
        self.wishes[profile] = changes
        self.wanted[profile] = want
        applied = self.run(self.driver.want(profile, want, revision=self.revisions[profile], **changes))
        assert applied == 1

    def start(self, slot: str, *, lost: bool) -> None:
        """A supervisor starts a process in this slot; one that was there is gone before."""
        process = self.processes[slot] = Process()
        self.auth(slot, process, None, lost=lost)

    def pulse(self, order: list[int]) -> None:
        """Both web workers look at the clock; what one that has just started leaves to the other, that has done."""
        for number in order:
            self.run(self.hearing[number].pulse(TTL))
        self.clock_set_ms = 0
