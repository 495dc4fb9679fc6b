"""An operator's browser without scripts, and a crowd of bots made through live's own scripts."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape

from httpx2 import AsyncClient, Response

from rota.ledger import accounts, profiles, servers, sign_ins
from rota.live import bots
from rota.live.bots import Newcomer
from rota.live.entries import idle_entry, working_entry
from rota.protocol import deadline_after_ms
from rota.steward.apply import apply_wishes
from tests.conformance.site import Site, speaker

TTL = 90.0


@dataclass
class Pages:
    """What one operator sees and sends."""

    site: Site
    client: AsyncClient

    async def look(self, path: str, status: int = 200) -> str:
        """A page's HTML."""
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.text

    async def send(self, path: str, **fields: str) -> Response:
        """Sends a form as the browser does, with the token that a page gave it."""
        return await self.client.post(path, data={"form_token": await self.form_token(), **fields})

    async def form_token(self) -> str:
        """What this session's forms carry."""
        return form_token(await self.look("/"))


def form_token(html: str) -> str:
    """What the page's forms carry."""
    found = re.search(r'name="form_token" value="([^"]+)"', html)
    assert found is not None
    return unescape(found[1])


async def one_time_token(site: Site) -> str:
    """What a sign-in link carries."""
    async with site.state.ledger.begin() as tx:
        return await sign_ins.create(tx)


@asynccontextmanager
async def signed_in(site: Site) -> AsyncIterator[Pages]:
    """A browser that has signed in by a link."""
    async with speaker(site.app) as client:
        answer = await client.post("/sign-in", data={"token": await one_time_token(site)})
        assert answer.status_code == 303
        yield Pages(site, client)


@dataclass(frozen=True)
class Crowd:
    """How many, and what they say of themselves."""

    servers: int = 1
    bots: int = 4
    profiles: int = 3
    name: str = "client-{}"
    status: str = "reading"


async def make_crowd(site: Site, crowd: Crowd) -> list[str]:
    """Lists the servers, starts the profiles, and lets each bot come in and take one; the profiles' ids."""
    async with site.state.ledger.begin() as tx:
        account = (await accounts.create(tx, "crowd")).id
        for number in range(1, crowd.servers + 1):
            await servers.add(tx, hostname=f"host-{number}", expected_bots=crowd.bots)
        made = [
            await profiles.create(tx, account=account, name=crowd.name.format(number), config={}, wanted=True)
            for number in range(1, crowd.profiles + 1)
        ]
    ids = [profile.id for profile in made]
    await apply_wishes(site.state.ledger, site.state.live, "default", ids)
    names = [f"host-{host}/{n}" for host in range(1, crowd.servers + 1) for n in range(1, crowd.bots + 1)]
    for start in range(0, len(names), 50):
        await asyncio.gather(*(come_in(site, bot, crowd.status) for bot in names[start : start + 50]))
    return ids


async def come_in(site: Site, bot: str, status: str = "") -> None:
    """A bot enters, and begins to work if there is work for it."""
    digest = hashlib.sha256(bot.encode()).digest()[:16]
    live, deadline = site.state.live, deadline_after_ms(TTL)
    await bots.auth(live, "default", Newcomer(bot, digest, "1", {}, "::1"), ttl=TTL, leased=None)
    told = await site.state.beats.beat("default", bot, idle_entry(digest, accepting=True, status=status), deadline)
    if told is not None and told.code == "start":
        entry = working_entry(digest, told.profile, told.epoch, told.revision, accepting=True, status=status)
        await site.state.beats.beat("default", bot, entry, deadline)
