"""Who may come in is asked once for many, and never remembered."""

from __future__ import annotations

import asyncio

from tests.conformance.fleet import SERVER, Fleet


async def test_many_bots_of_one_host_come_in_at_once(bots: Fleet) -> None:
    told = await asyncio.gather(*(bots.auth(str(number)) for number in range(20)))
    assert len({one["token"] for one in told}) == 20


async def test_a_key_that_was_revoked_lets_nobody_in_although_many_ask(bots: Fleet) -> None:
    await bots.auth("1")
    (key,) = (await bots.site.shown("enrolment-keys"))["items"]
    asked = [asyncio.create_task(_status(bots)) for _ in range(5)]
    await bots.site.rest.delete(f"/api/v1/enrolment-keys/{key['id']}")
    assert await asyncio.gather(*(_status(bots) for _ in range(5))) == [401] * 5
    assert set(await asyncio.gather(*asked)) <= {200, 401}


async def test_what_was_refused_is_asked_anew(bots: Fleet) -> None:
    assert await _status(bots, "farm-2") == 403
    await bots.site.made("servers", hostname="farm-2", expected_bots=1)
    assert await _status(bots, "farm-2") == 200


async def _status(bots: Fleet, hostname: str = SERVER) -> int:
    headers = {"authorization": f"Bearer {bots.key}"}
    answer = await bots.site.anybody.post("/bot/auth", json={"hostname": hostname}, headers=headers)
    return answer.status_code
