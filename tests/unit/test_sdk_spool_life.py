"""The spool's file through the lives of many processes: every record arrives once and in order, or lies apart."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from rota.protocol import PushRequest
from rota.sdk.outbox import Batch
from rota.sdk.spool import Spool
from tests.unit.sdk_peer import PROFILE

MOST_ASIDE = 2**30


class KilledError(BaseException):
    """The process ends here."""


class Mortal:
    """A connection whose process is killed before one of its next statements, and does nothing afterwards."""

    def __init__(self, real: sqlite3.Connection, statements: int) -> None:
        self._real = real
        self._left = statements

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._real, name)
        return self._counted(attribute) if name.startswith("execute") else attribute

    def _counted(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise KilledError
            return run(*arguments)

        return counted


def records_of(batch: Batch) -> list[int]:
    request = PushRequest.model_validate_json(batch.body)
    assert (request.profile, request.batch, len(request.records)) == (PROFILE, batch.number, batch.count)
    return [int(record["data"]["n"]) for record in json.loads(batch.body)["records"]]


class Life(RuleBasedStateMachine):
    """Processes that put, send and die, one after another, with one spool; and a rota that keeps what it has taken."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-"))
        self.path = self.folder / "farm~1.spool"
        self.spool: Spool
        self.epoch = 7
        self.count = 0
        self.put: dict[int, list[int]] = {}
        self.sent: dict[tuple[int, int], bytes] = {}
        """The bytes of every batch that was ever on its way, and not refused."""
        self.taken: dict[tuple[int, int], list[int]] = {}
        self.over: set[int] = set()
        """Epochs of which rota takes nothing any more."""
        self.bad: set[int] = set()
        """Records that rota never takes."""

    @initialize()
    def open(self) -> None:
        self.spool = Spool(self.path, most_aside=MOST_ASIDE)

    def teardown(self) -> None:
        self.open_anew()
        for epoch in self.put:
            while batch := self.spool.batch(PROFILE, epoch):
                if epoch in self.over:
                    self.spool.supersede(PROFILE, epoch)
                elif self.take(epoch, batch):
                    self.spool.settle(PROFILE, epoch, batch.number)
            self.judge(epoch)
        self.spool.close()
        shutil.rmtree(self.folder)

    def judge(self, epoch: int) -> None:
        numbers = sorted(number for taken_epoch, number in self.taken if taken_epoch == epoch)
        delivered = [n for number in numbers for n in self.taken[epoch, number]]
        apart = self.set_aside(epoch)
        assert delivered == sorted(set(delivered)), "once, in order"
        assert not set(delivered) & set(apart), "set aside although rota has it"
        assert len(apart) == len(set(apart)), "set aside twice"
        assert sorted(delivered + apart) == self.put[epoch], "lost"

    def set_aside(self, epoch: int) -> list[int]:
        """What lies in files, without what they themselves say that rota may have."""
        found = list[int]()
        for path in self.folder.glob(f"*~{epoch}~*.ndjson"):
            for line in path.read_text().splitlines():
                piece = json.loads(line)
                assert piece["reason"]
                if (epoch, piece["batch"]) not in self.taken or piece["reason"] != "superseded":
                    found += [record["data"]["n"] for record in piece["records"]]
        return found

    def take(self, epoch: int, batch: Batch) -> bool:
        """Rota stores a batch, unless it has one of this number already; False: it refused some of it."""
        numbers = records_of(batch)
        if bad := {at for at, n in enumerate(numbers) if n in self.bad}:
            gone, size = self.spool.refuse(PROFILE, epoch, bad, "cannot be stored")
            assert gone.count == len(bad)
            assert size > 0
            return False
        key = (epoch, batch.number)
        assert self.sent.setdefault(key, batch.body) == batch.body, "a number stands for one content"
        self.taken.setdefault(key, numbers)
        return True

    def open_anew(self) -> None:
        """The next process."""
        self.spool.close()
        self.open()

    def until_killed(self, act: Callable[[], Any], statements: int | None) -> bool:
        """Whether the process lived to the end of the act; if not, the next one has begun."""
        if statements is None:
            act()
            return True
        real = self.spool._db
        self.spool._db = Mortal(real, statements)  # type: ignore[assignment]
        try:
            act()
        except KilledError:
            real.close()
            self.open()
            return False
        self.spool._db = real
        return True

    DEATHS = st.one_of(st.none(), st.none(), st.integers(0, 9))

    @rule(count=st.integers(1, 1200), size=st.sampled_from([1, 1, 1, 900, 3000]), death=DEATHS)
    def put_some(self, count: int, size: int, death: int | None) -> None:
        numbers = list(range(self.count, self.count + count))
        self.count += count
        rows = [
            (self.spool.next_seq() + at, json.dumps({"kind": "x", "data": {"n": n, "pad": "x" * size}}).encode())
            for at, n in enumerate(numbers)
        ]
        before = self.waiting()
        self.until_killed(lambda: self.spool.put(PROFILE, self.epoch, rows), death)
        here = self.waiting()
        assert here in (before, before + count), "all or nothing"
        self.put.setdefault(self.epoch, [])
        self.put[self.epoch] += numbers if here > before else []

    def waiting(self) -> int:
        return sum(box.count for box in self.spool.boxes())

    @rule(answered=st.booleans(), death=DEATHS)
    def send(self, answered: bool, death: int | None) -> None:
        epoch = self.epoch

        def act() -> None:
            batch = self.spool.batch(PROFILE, epoch)
            if batch is not None and self.take(epoch, batch) and answered:
                assert self.spool.settle(PROFILE, epoch, batch.number) > 0

        self.until_killed(act, death)

    @rule(death=DEATHS)
    def find_too_large(self, death: int | None) -> None:
        epoch = self.epoch

        def act() -> None:
            batch = self.spool.batch(PROFILE, epoch)
            if batch is None or (epoch, batch.number) in self.taken or batch.count == 1:
                return
            self.spool.split(PROFILE, epoch, len(batch.body) // 2)
            smaller = self.spool.batch(PROFILE, epoch)
            assert smaller is not None
            assert smaller.count < batch.count

        self.until_killed(act, death)

    @rule(positions=st.sets(st.integers(0, 1000), max_size=5), death=DEATHS)
    def push_what_cannot_be_stored(self, positions: set[int], death: int | None) -> None:
        epoch = self.epoch

        def act() -> None:
            batch = self.spool.batch(PROFILE, epoch)
            if batch is not None and (epoch, batch.number) not in self.taken:
                self.bad |= {n for at, n in enumerate(records_of(batch)) if at in positions}
                if self.take(epoch, batch):
                    self.spool.settle(PROFILE, epoch, batch.number)

        self.until_killed(act, death)

    @precondition(lambda self: self.put)
    @rule(death=DEATHS)
    def grant_to_another(self, death: int | None) -> None:
        """The rest of this epoch comes too late; the profile comes back under the next one."""
        self.over.add(self.epoch)
        self.until_killed(lambda: self.spool.supersede(PROFILE, self.epoch), death)
        self.epoch += 1

    @rule()
    def restart(self) -> None:
        self.open_anew()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
