"""A fleet that is built, and a driver that speaks for its bots."""

from __future__ import annotations

import pytest

from rota.live.liveness import pulse
from rota.live.scripts import Live
from tests.live.driver import TTL, Driver


@pytest.fixture
async def driver(live: Live, fleet: str) -> Driver:
    """A fleet that is built, hears, and is past its first deafness."""
    await build(live, fleet)
    return Driver(live, fleet)


async def build(live: Live, fleet: str) -> None:
    await pulse(live, fleet, "steward", ttl=TTL, incarnation="first")
    await pulse(live, fleet, "built", ttl=TTL, incarnation="first")
    await pulse(live, fleet, "web", ttl=TTL)
    await Driver(live, fleet).pass_time(TTL * 1100 + 1)
