"""Records reach receivers in order and at least once, whoever is killed, and however many send."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from rota.hooks.post import Post
from rota.steward.deliver import Courier
from tests.hooks.receiver import OK, Answer, Received, Receiver
from tests.ledger.hooked import Hooked
from tests.steward.conftest import LOOPBACK
from tests.steward.receiving import SETTLED, by_profile, until

SENDER = """
import asyncio, sys
from rota.hooks.address import Networks
from rota.hooks.post import Post
from rota.ledger.connection import Ledger
from rota.steward import deliver
from rota.steward.deliver import Courier
deliver.PAUSE = 0.02
async def main():
    async with Post(Networks("127.0.0.0/8")) as post:
        await Courier(Ledger(sys.argv[1]), post).lead(True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
async def sender(migrated_database_url: str) -> AsyncIterator[Callable[[], Awaitable[Process]]]:
    """Starts senders in processes of their own; none outlives the test."""
    begun: list[Process] = []

    async def start() -> Process:
        begun.append(await asyncio.create_subprocess_exec(sys.executable, "-c", SENDER, migrated_database_url))
        return begun[-1]

    yield start
    for one in begun:
        if one.returncode is None:
            one.kill()
            await one.wait()


@pytest.mark.timeout(300)
async def test_a_sender_that_is_killed_at_any_moment_loses_nothing_and_keeps_the_order(
    hooked: Hooked, receiver: Receiver, sender: Callable[[], Awaitable[Process]]
) -> None:
    """Killed while receivers think, right after they have answered, and while it writes down that they have."""
    await hooked.add_webhook(receiver.url)
    thinking = asyncio.Event()

    async def decide(_received: Received) -> Answer:
        if len(receiver.received) % 5 == 0:
            await asyncio.wait([asyncio.create_task(thinking.wait())], timeout=0.05)
        return OK

    receiver.decide = decide
    pushed = 0
    for _life in range(4):
        living = await sender()
        known = len(receiver.received)
        for _ in range(8):
            for profile in range(3):
                await hooked.push(profile, pushed)
            pushed += 1
        await receiver.until(lambda known=known: len(receiver.received) > known + 2, within=60)  # type: ignore[misc]
        living.kill()
        await living.wait()
        # As if the claims' minute had passed.
        await hooked.execute("UPDATE webhook_deliveries SET due_at = now()")
    thinking.set()
    await sender()
    await until(hooked, SETTLED, within=60)
    assert by_profile(receiver.received, once=False) == {profile: list(range(pushed)) for profile in hooked.profiles}


async def test_two_senders_at_once_send_nothing_twice_and_keep_the_order(
    hooked: Hooked, courier: Courier, receiver: Receiver
) -> None:
    """A leader that does not know yet that it leads no more."""
    await hooked.add_webhook(receiver.url)
    async with Post(LOOPBACK) as post:
        other = Courier(hooked.ledger, post)
        await courier.lead(True)
        await other.lead(True)
        for number in range(20):
            for profile in range(3):
                await hooked.push(profile, number)
        await until(hooked, SETTLED)
        await other.stop()
    assert by_profile(receiver.received) == {profile: list(range(20)) for profile in hooked.profiles}
