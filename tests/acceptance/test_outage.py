"""A store that goes away while rota runs: calls are told to come back, and all recovers by itself."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rota.embedded import EmbeddedPostgres, EmbeddedValkey, Place
from tests.acceptance.conftest import RotaServer
from tests.acceptance.test_serve import RawBot, records_of, working_bot
from tests.unit.sdk_peer import eventually


class Outside:
    """Stores that `rota serve` is pointed at and that the test takes away."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)
        self.place.open()
        self.valkey = EmbeddedValkey(self.place)
        self.postgres = EmbeddedPostgres(self.place)

    def start(self) -> None:
        self.valkey.start()
        self.postgres.start()

    def stop(self) -> None:
        self.valkey.stop()
        self.postgres.stop()
        self.place.close()


@pytest.fixture
def outside() -> Iterator[Outside]:
    folder = Path(tempfile.mkdtemp(prefix="ro-"))
    folder.chmod(0o711)
    stores = Outside(folder / "stores")
    stores.start()
    yield stores
    stores.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(outside: Outside, data_dir: Path) -> Iterator[RotaServer]:
    urls = {"ROTA_REDIS_URL": outside.valkey.url, "ROTA_DATABASE_URL": outside.postgres.url}
    running = RotaServer(data_dir, environment=urls)
    running.start()
    yield running
    assert running.stop() == 0


def told_to_come_back(bot: RawBot, call: str, body: dict[str, object]) -> bool:
    reply = bot.call(call, body)
    if reply.status_code != 503:
        return False
    problem = reply.json()
    assert reply.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "unavailable"
    assert int(reply.headers["retry-after"]) >= 1
    return True


@pytest.mark.parametrize("how", ["in order", "killed"])
async def test_a_live_store_that_goes_away_and_returns_moves_no_binding(
    server: RotaServer, outside: Outside, how: str
) -> None:
    bot = working_bot(server)
    if how == "killed":
        outside.valkey.child.kill()
    else:
        outside.valkey.stop()
    await eventually(lambda: told_to_come_back(bot, "heartbeat", {"working": bot.work}), seconds=20)
    assert told_to_come_back(bot, "push_data", {"batch": 1, "records": [{"data": 1}]})
    with server.api as api:
        assert api.get("/fleets/default").status_code == 503
        assert api.get("/profiles").json()["items"][0]["phase"] is None, "what is wanted is still shown"
    outside.valkey.start()
    await eventually(lambda: bot.call("heartbeat", {"working": bot.work}).status_code == 200, seconds=20)
    assert bot.beat() == "continue"
    assert bot.push(1).status_code == 200


async def test_without_the_ledger_bots_keep_their_work_and_nothing_pushed_is_lost(
    server: RotaServer, outside: Outside
) -> None:
    bot = working_bot(server)
    outside.postgres.stop()
    push = {"batch": 1, "records": [{"kind": "check", "data": {"n": 1}}]}
    await eventually(lambda: told_to_come_back(bot, "push_data", push), seconds=20)
    assert bot.beat() == "continue"
    with server.api as api:
        assert api.get("/profiles").status_code == 503
    outside.postgres.start()
    await eventually(lambda: bot.push(1).status_code == 200, seconds=20)
    assert records_of(server, bot) == [1]


async def test_a_wish_that_live_state_could_not_hear_is_applied_when_it_returns(
    server: RotaServer, outside: Outside
) -> None:
    bot = working_bot(server)
    assert bot.work
    outside.valkey.stop()
    with server.api as api:
        stopped = api.post(f"/profiles/{bot.work['profile']}/stop")
        assert stopped.status_code == 200
        assert stopped.json()["wanted"] is False
    outside.valkey.start()
    await eventually(lambda: bot.call("heartbeat", {"working": bot.work}).status_code == 200, seconds=20)
    await eventually(lambda: bot.beat() == "stop", seconds=20)


async def test_a_live_store_that_hangs_is_not_waited_for_longer_than_the_setting_says(
    server: RotaServer, outside: Outside
) -> None:
    bot = working_bot(server)
    process = outside.valkey.child._process
    assert process
    process.send_signal(signal.SIGSTOP)
    try:
        calls: list[tuple[str, dict[str, object]]] = [
            ("heartbeat", {"working": bot.work}),
            ("push_data", {"batch": 1, "records": []}),
        ]
        for call, body in calls:
            began = time.monotonic()
            assert told_to_come_back(bot, call, body)
            assert time.monotonic() - began < 30, "store_timeout is 5 seconds"
    finally:
        process.send_signal(signal.SIGCONT)
    await eventually(lambda: bot.call("heartbeat", {"working": bot.work}).status_code == 200, seconds=20)
    assert bot.beat() == "continue"
