"""What the benchmark writes straight into live state is what the scripts write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from bench import crowd
from bench.script import LEASE_MS, Scripts
from bench.script import packed as packed_beats
from rota.live import keys
from rota.live.entries import DIGEST_BYTES, parse_details, write_details
from rota.live.profiles import STEP, Want, packed

SIZE = 150
"""More than one server's bots, and more than one call binds."""
NOW = datetime.now(UTC)


@pytest.fixture
def by_scripts(valkey_url: str, fleet: str) -> Iterator[Scripts]:
    found = Scripts(valkey_url, fleet)
    found.build()
    yield found
    found.close()


@pytest.fixture
def by_loading(valkey_url: str, fleet: str) -> Iterator[Scripts]:
    found = Scripts(valkey_url, f"{fleet}-l")
    yield found
    found.close()


def test_a_loaded_idle_crowd_is_the_one_that_the_scripts_make(by_scripts: Scripts, by_loading: Scripts) -> None:
    _auth(by_scripts)
    crowd.load(by_loading, SIZE, lambda _: None, bound=False)
    assert _state(by_loading) == _state(by_scripts)


def test_a_loaded_working_crowd_is_the_one_that_the_scripts_make(by_scripts: Scripts, by_loading: Scripts) -> None:
    _auth(by_scripts)
    wishes = [
        Want(crowd.member(n).profile, version=1, want="started", revision=1, priority=0, labels={}, epoch=0)
        for n in range(SIZE)
    ]
    for start in range(0, SIZE, STEP):
        by_scripts.call("want", packed(wishes[start : start + STEP]), 0)
    for batch in crowd.batches(range(SIZE), 10, idle=True):  # no more than one call gives work to
        by_scripts.call("beat", batch, LEASE_MS)
    _confirm(by_scripts)
    crowd.load(by_loading, SIZE, lambda _: None)
    assert _state(by_loading) == _state(by_scripts)
    assert crowd.beat_cost(by_loading, SIZE).us > 0


def _auth(scripts: Scripts) -> None:
    for number in range(SIZE):
        one = crowd.member(number)
        known = write_details(crowd.VERSION, datetime.now(UTC), one.address, {})
        scripts.call("auth", one.bot, one.digest, known, LEASE_MS, "", "")


def _confirm(scripts: Scripts) -> None:
    """Each bot reports the work that it was given."""
    redis: Any = scripts.redis
    entries = redis.hgetall(keys.roster(scripts.fleet))
    for number in range(SIZE):
        one = crowd.member(number)
        profile, epoch = entries[one.bot.encode()][DIGEST_BYTES + 3 :].decode().split(" ")[:2]
        confirmed = one._replace(profile=profile, epoch=int(epoch)).entry
        scripts.call("beat", packed_beats([one.bot, confirmed]), LEASE_MS)


def _state(scripts: Scripts) -> dict[str, Any]:
    """All of live state but the moves that led there, its moments, and who of the crowd got which profile."""
    redis: Any = scripts.redis
    fleet = scripts.fleet
    hosts = sorted(redis.hkeys(keys.servers(fleet)))
    now = redis.time()[0] * 1000
    due = redis.zrange(keys.due(fleet), 0, -1, withscores=True)
    return {
        "roster": {
            bot: (entry[:DIGEST_BYTES], _plain(entry[DIGEST_BYTES:]))
            for bot, entry in redis.hgetall(keys.roster(fleet)).items()
        },
        "details": {
            bot: parse_details(known)._replace(joined=NOW) for bot, known in redis.hgetall(keys.details(fleet)).items()
        },
        "due": {bot: now < score < now + 2 * LEASE_MS for bot, score in due},
        "profiles": sorted(_plain(entry) for entry in redis.hgetall(keys.profiles(fleet)).values()),
        "profile ids": sorted(redis.hkeys(keys.profiles(fleet))),
        "servers": redis.hgetall(keys.servers(fleet)),
        "members": [redis.smembers(keys.server(fleet, host.decode())) for host in hosts],
        "counts": {name: number for name, number in redis.hgetall(keys.counts(fleet)).items() if int(number)},
        "others": [redis.exists(name(fleet)) for name in (keys.classes, keys.held, keys.drains, keys.contested)],
        "waiting": redis.exists(keys.waiting(fleet, "-")),
    }


def _plain(entry: bytes) -> bytes:
    """Without epochs and moments, profiles and bots."""
    return re.sub(rb"prf_\d+|bot-farm-\S+|\d{13,}", b"*", entry)
