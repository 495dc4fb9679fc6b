"""Runs a crowd of simulated bots against one rota: wakes them, carries their calls, lets faults befall them.

Everything happens in one asyncio loop and in the order of its clock: before an answer is handed to a bot,
whatever was due earlier is done first, so that a lease that has run out has run out for everybody.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from rota.protocol import AuthReply, HeartbeatReply, PushReply
from rota.simulator.agenda import Agenda, Ticker
from rota.simulator.bot import Phase, SimulatedBot
from rota.simulator.calls import Call, Errand
from rota.simulator.faults import Fault, Rate, Slots, draw_fault, exit_delay, restart_delay, silence
from rota.simulator.histogram import Histogram
from rota.simulator.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from random import Random

    from rota.simulator.wire import Answer, Wire

BOUND = (Phase.STARTING, Phase.WORKING, Phase.STOPPING)
SETTLING = 30.0
"""Seconds after which faults begin even where the crowd has not settled."""
PATIENCE = 0.2
"""Seconds between two looks whether it is time for the first fault."""
RESTED = 3.0
"""Times the ttl that a crashed process's slot stays empty."""
TRIES = 200
"""How often a victim is drawn before a fault is let off, because hardly any bot works."""


@dataclass(frozen=True)
class Plan:
    """What a crowd is to be: `servers` is hostname → bots, `interval` and `ttl` the fleet's, in seconds."""

    servers: Mapping[str, int]
    profiles: int
    enrolment_key: str
    interval: float
    ttl: float
    kill: Rate | None = None


class Crowd:
    """All bots of one simulation."""

    def __init__(self, plan: Plan, around: Surroundings, wire: Wire, push_wire: Wire | None = None) -> None:
        """Nothing happens before `run`. With a `push_wire` no beat waits for a connection behind slow pushes."""
        self.plan = plan
        self.around = around
        self.phases: Counter[Phase] = Counter()
        self.faults: Counter[Fault] = Counter()
        self.beat_latency = Histogram()
        self.push_latency = Histogram()
        self.unanswered = 0
        self.most_bound = 0
        self.settled_at: float | None = None
        """When every bot had joined and every profile its bot (loop time): latencies are counted from then on."""
        self.began_at = 0.0
        self.happenings: deque[str] = deque(maxlen=8)
        """The last things worth telling, oldest first."""
        self.bots: list[SimulatedBot] = []
        self.most_missing = 0
        """The most bots that were not on the roster at one time, since it was last set to 0."""
        self.loop_lag = Histogram()
        self._wire = wire
        self._push_wire = push_wire or wire
        self._agenda = Agenda()
        self._ticker = Ticker(self._agenda, self._do_due, self._note_lag)
        self._slots = {hostname: Slots(hostname) for hostname in plan.servers}
        self._ended = asyncio.Event()
        self._running = False
        self._seen_violations = 0
        self._restarting = 0
        self._size = sum(plan.servers.values())
        self._tell: dict[Errand, Callable[[SimulatedBot, Answer, float], None]] = {
            Errand.AUTH: self._tell_auth,
            Errand.BEAT: self._tell_beat,
            Errand.PUSH: self._tell_push,
            Errand.LEAVE: lambda bot, _answer, _now: bot.left(),
        }

    @property
    def rng(self) -> Random:
        """The one source of chance."""
        return self.around.rng

    @property
    def bound(self) -> int:
        """How many profiles have a bot at work now, as far as the bots know."""
        return sum(self.phases[phase] for phase in BOUND)

    @property
    def missing(self) -> int:
        """How many bots are not on the roster now: dead and not yet replaced, or not yet let in."""
        return self._size - len(self.bots) + self.phases[Phase.JOINING]

    @property
    def deaths(self) -> int:
        """How many faults befell bots."""
        return sum(self.faults.values())

    async def run(self, seconds: float | None = None) -> None:
        """Lets the crowd live for `seconds`, or until `stop`, or until the last bot was refused for good."""
        self.began_at = now = asyncio.get_running_loop().time()
        self._running = True
        for hostname, bots in self.plan.servers.items():
            for _ in range(bots):
                self._start_process(self._slots[hostname], now + self.rng.uniform(0, self.plan.interval))
        if self.plan.kill:
            self._agenda.plan(now + self.plan.interval, self._inflict)
        if seconds is not None:
            self._agenda.plan(now + seconds, lambda _now: self.stop())
        self._tick()
        await self._ended.wait()
        self._running = False
        self._ticker.stop()

    def stop(self) -> None:
        """Ends `run` soon; may be called from a signal handler."""
        self._ended.set()

    async def leave(self, deadline: float) -> int:
        """All bots say good-bye, for at most `deadline` seconds; returns how many were not heard in time."""
        loop = asyncio.get_running_loop()
        all_left = asyncio.Event()
        missing = 0

        def heard(_answer: Answer) -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                all_left.set()

        for bot in self.bots:
            if bot.phase is not Phase.GONE and (call := bot.leave(loop.time())):
                missing += 1
                self._wire.post(f"/bot/{call.errand}", call.body, call.token, heard)
        if missing:
            try:
                await asyncio.wait_for(all_left.wait(), deadline)
            except TimeoutError:
                return missing
        return 0

    # -- the order of things -----------------------------------------------------------------------

    def _tick(self) -> None:
        if self._running:
            self._ticker.tick()

    def _note_lag(self, seconds: float) -> None:
        self.loop_lag.add(seconds)

    def _do_due(self, now: float) -> None:
        for item in self._agenda.due(now):
            if isinstance(item, SimulatedBot):
                self._wake(item, now)
            else:
                item(now)

    def _wake(self, bot: SimulatedBot, now: float) -> None:
        before = bot.phase
        calls = bot.wake(now)
        self._settle(bot, before)
        for call in calls:
            token = self.plan.enrolment_key if call.errand is Errand.AUTH else call.token
            wire = self._push_wire if call.errand is Errand.PUSH else self._wire
            wire.post(f"/bot/{call.errand}", call.body, token, partial(self._answered, bot, call, now))

    def _settle(self, bot: SimulatedBot, before: Phase) -> None:
        """After anything that may have moved a bot: its place in the counts and in the agenda."""
        if bot.phase is not before:
            self.phases[before] -= 1
            if bot.phase is Phase.GONE:
                self._bury(bot)
            else:
                self.phases[bot.phase] += 1
            self.most_bound = max(self.most_bound, self.bound)
            self.most_missing = max(self.most_missing, self.missing)
            if self.settled_at is None:
                self._notice_settling()
        self._agenda.plan_bot(bot)

    def _notice_settling(self) -> None:
        """What was slow while all came at once is no measure of how rota serves a fleet; so both are kept apart."""
        if self.phases[Phase.JOINING] or self.phases[Phase.WORKING] < min(self.plan.profiles, len(self.bots)):
            return
        self.settled_at = asyncio.get_running_loop().time()
        self.beat_latency, self.push_latency = Histogram(), Histogram()

    def _bury(self, bot: SimulatedBot) -> None:
        if bot.refusal:
            self.happenings.append(f"{bot.worker} was refused: {bot.refusal}")
        elif bot.leaving:
            self.happenings.append(f"{bot.worker} was told to exit")
        self.bots.remove(bot)
        self._replace(bot)
        if not self.bots and not self._restarting:
            self.stop()

    # -- answers -----------------------------------------------------------------------------------

    def _answered(self, bot: SimulatedBot, call: Call, asked: float, answer: Answer) -> None:
        if not self._running:
            return
        now = asyncio.get_running_loop().time()
        self._do_due(now)
        if 0 < answer.status < 300:  # noqa: PLR2004
            self.around.judge.spoke(bot.worker, answer.sent)
        if call.era == bot.era:
            before = bot.phase
            self._hand_over(bot, call, answer, now, now - asked)
            self._settle(bot, before)
            self._report()
        self._tick()

    def _hand_over(self, bot: SimulatedBot, call: Call, answer: Answer, now: float, took: float) -> None:
        if answer.status == 0:
            self.unanswered += 1
            bot.unanswered(call, now)
            return
        self._measure(call.errand, asked=now - took, took=took)
        if answer.status >= 300:  # noqa: PLR2004
            bot.refused(call, answer.code, now, answer.retry_after)
            return
        try:
            self._tell[call.errand](bot, answer, now)
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            self.happenings.append(f"{bot.worker} could not read an answer to {call.errand}: {why}")
            bot.refused(call, "unreadable_answer", now, None)

    def _measure(self, errand: Errand, *, asked: float, took: float) -> None:
        if self.settled_at is not None and asked < self.settled_at:
            return
        if errand is Errand.BEAT:
            self.beat_latency.add(took)
        elif errand is Errand.PUSH:
            self.push_latency.add(took)

    def _tell_auth(self, bot: SimulatedBot, answer: Answer, now: float) -> None:
        bot.authenticated(AuthReply.model_validate_json(answer.body), now)

    def _tell_beat(self, bot: SimulatedBot, answer: Answer, now: float) -> None:
        bot.beaten(HeartbeatReply.model_validate_json(answer.body), answer.sent, now)

    def _tell_push(self, bot: SimulatedBot, answer: Answer, now: float) -> None:
        bot.pushed(PushReply.model_validate_json(answer.body), answer.sent, now)

    def _report(self) -> None:
        judge = self.around.judge
        if judge.last_takeover:
            profile, dead, heir, seconds = judge.last_takeover
            self.happenings.append(f"{heir} took over {profile} from {dead} after {seconds:.1f} s")
            judge.last_takeover = None
        if judge.violation_count > self._seen_violations:
            self._seen_violations = judge.violation_count
            self.happenings.append(f"VIOLATION {judge.violations[-1]}")

    # -- processes and what befalls them -----------------------------------------------------------

    def _start_process(self, slots: Slots, joins_at: float, instance: str | None = None) -> None:
        now = asyncio.get_running_loop().time()
        name, number = slots.again(instance) if instance else slots.take(now)
        bot = SimulatedBot(slots.hostname, name, number, self.around, joins_at=joins_at, interval=self.plan.interval)
        self.bots.append(bot)
        self.phases[bot.phase] += 1
        self._agenda.plan_bot(bot)

    def _inflict(self, now: float) -> None:
        """One fault on one working bot, and when the next; the first waits until the crowd has settled."""
        kill = cast("Rate", self.plan.kill)
        if self.settled_at is None and now < self.began_at + SETTLING:
            self._agenda.plan(now + PATIENCE, self._inflict)
            return
        self._agenda.plan(now + kill.pause(self.rng), self._inflict)
        bot = self._pick_victim()
        if bot is None or bot.work is None:
            return
        fault = draw_fault(self.rng)
        self.happenings.append(f"{bot.worker}: {fault} while working on {bot.work.profile}")
        self._befall(bot, fault, now, silence(bot.ttl, self.rng))

    def strike(self, bots: Iterable[SimulatedBot], fault: Fault, silent: float = 0.0) -> None:
        """Lets one fault befall these bots now; `silent` is for how long those that are cut off say nothing."""
        loop = asyncio.get_running_loop()
        for bot in bots:
            self._befall(bot, fault, loop.time(), silent)
        loop.call_soon(self._tick)

    def clone(self, bot: SimulatedBot) -> SimulatedBot:
        """Starts another process in a bot's slot although it lives, as on a copied machine."""
        loop = asyncio.get_running_loop()
        self._start_process(self._slots[bot.hostname], loop.time(), bot.instance)
        loop.call_soon(self._tick)
        return self.bots[-1]

    def poison(self, profile: str) -> None:
        """Whoever works for a profile now learns that it has become poisonous."""
        loop = asyncio.get_running_loop()
        for bot in self.bots:
            if bot.work and bot.work.profile == profile:
                bot.sicken(loop.time())
                self._agenda.plan_bot(bot)
        loop.call_soon(self._tick)

    def end(self, bot: SimulatedBot) -> None:
        """A process vanishes, and nobody starts another."""
        before = bot.phase
        bot.crash(asyncio.get_running_loop().time())
        self._settle(bot, before)

    def _befall(self, bot: SimulatedBot, fault: Fault, now: float, silent: float) -> None:
        self.faults[fault] += 1
        before = bot.phase
        if fault is Fault.CUT_OFF:
            bot.cut_off(now, silent)
        else:
            bot.crash(now)
            self._supervise(bot, fault, now)
        self._settle(bot, before)

    def _replace(self, gone: SimulatedBot) -> None:
        """Who crashed by its work gets an heir in another slot; who was told to exit is started again, later."""
        now = asyncio.get_running_loop().time()
        if gone.failed:
            self._supervise(gone, Fault.CRASH, now)
        elif gone.leaving:
            self._restarting += 1
            slots = self._slots[gone.hostname]
            pause = exit_delay(gone.ttl, self.rng)
            self._agenda.plan(now + pause, partial(self._start_later, slots, gone.instance))

    def _supervise(self, dead: SimulatedBot, fault: Fault, now: float) -> None:
        """The crashed process's supervisor starts another: at once in the same slot, or later in another."""
        slots = self._slots[dead.hostname]
        if fault is Fault.RESTART:
            self._start_process(slots, now, dead.instance)
            return
        slots.free(dead.instance, now + RESTED * dead.ttl)
        self._restarting += 1
        self._agenda.plan(now + restart_delay(self.rng), partial(self._start_later, slots, None))

    def _start_later(self, slots: Slots, instance: str | None, now: float) -> None:
        self._restarting -= 1
        self._start_process(slots, now, instance)

    def _pick_victim(self) -> SimulatedBot | None:
        """A working bot, found by trying at random: no list of the working ones needs to be kept."""
        for _ in range(TRIES):
            bot = self.rng.choice(self.bots)
            if bot.phase is Phase.WORKING:
                return bot
        return None
