"""Bots in the words of the protocol, for tests: every call is plain HTTP with a token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from httpx2 import Response

from tests.conformance.site import Json, Site

SERVER = "farm-1"


@dataclass
class Fleet:
    """The bots of one site, named by their instance on the server `farm-1`; the newest token of each is kept."""

    site: Site
    key: str
    tokens: dict[str, str] = field(default_factory=dict)

    @classmethod
    async def of(cls, site: Site) -> Fleet:
        """Lists the server and makes the enrolment key."""
        await site.made("servers", hostname=SERVER, expected_bots=1)
        return cls(site, (await site.made("enrolment-keys"))["key"])

    async def auth(self, bot: str, **body: Any) -> Json:
        """What /bot/auth answers; the token is kept."""
        answer = await self.site.wire.post(
            "/bot/auth",
            json={"hostname": SERVER, "instance": bot, **body},
            headers={"authorization": f"Bearer {self.key}"},
        )
        assert answer.status_code == 200, answer.text
        told: Json = answer.json()
        self.tokens[bot] = told["token"]
        return told

    async def call(self, bot: str, verb: str, **request: Any) -> Response:
        """Any call with the bot's token; `request` is as for `AsyncClient.post`."""
        headers = {"authorization": f"Bearer {self.tokens[bot]}", **request.pop("headers", {})}
        return await self.site.wire.post(f"/bot/{verb}", headers=headers, **request)

    async def beat(self, bot: str, working: Json | None = None, **body: Any) -> Json:
        """What the bot is told."""
        answer = await self.call(bot, "heartbeat", json={"working": working, **body})
        assert answer.status_code == 200, answer.text
        told: Json = answer.json()
        return told

    async def profile(self, name: str = "acme", *, start: bool = True, **fields: Any) -> str:
        """A new profile's id."""
        made = await self.site.made("profiles", name=name, start=start, **fields)
        return str(made["id"])

    async def work(self, bot: str = "1", name: str = "acme") -> Json:
        """A new bot at work on a new profile; what it works on."""
        profile = await self.profile(name)
        await self.auth(bot)
        told = await self.beat(bot)
        assert told["instruction"] == "start", told
        working = {key: told["assignment"][key] for key in ("profile", "epoch", "revision")}
        assert working["profile"] == profile
        assert (await self.beat(bot, working))["instruction"] == "continue"
        return working

    async def push(self, bot: str, records: list[Any], batch: int = 1, **body: Any) -> Response:
        """One batch."""
        return await self.call(bot, "push_data", json={"batch": batch, "records": records, **body})

    async def records(self, profile: str) -> list[Json]:
        """What rota has of a profile."""
        found: list[Json] = (await self.site.shown(f"profiles/{profile}/records"))["items"]
        return found
