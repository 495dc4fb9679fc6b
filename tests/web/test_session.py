"""Signing in and out, what the cookie proves, and which forms count as ours."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rota.settings import Settings
from rota.web import session
from rota.web.pages import sign_in
from tests.conformance.site import Site, speaker
from tests.web.pages_client import form_token, one_time_token, signed_in


@pytest.fixture(autouse=True)
def _refuse_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "REFUSED_AFTER", 0.0)


@pytest.mark.parametrize("path", ["/", "/?view=table", "/servers/farm-1", "/bots/farm-1/1", "/profiles/prf_1"])
async def test_every_page_sends_a_stranger_to_sign_in_and_back(site: Site, path: str) -> None:
    answer = await site.anybody.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in")
    if path != "/":
        form = await site.anybody.get(answer.headers["location"])
        assert f'name="next" value="{path}"' in form.text


async def test_opening_a_link_does_not_use_it_up(site: Site) -> None:
    token = await one_time_token(site)
    for _ in range(3):
        page = await site.anybody.get("/sign-in", params={"token": token})
        assert page.status_code == 200
        assert f'name="token" value="{token}"' in page.text
        assert "set-cookie" not in page.headers
    assert (await site.anybody.head("/sign-in", params={"token": token})).status_code == 405
    assert (await site.anybody.post("/sign-in", data={"token": token})).status_code == 303


async def test_a_link_signs_in_once(site: Site) -> None:
    token = await one_time_token(site)
    assert (await site.anybody.post("/sign-in", data={"token": token})).status_code == 303
    async with speaker(site.app) as second:
        again = await second.post("/sign-in", data={"token": token})
        assert again.status_code == 401
        assert "was used before or has expired" in again.text
        assert (await second.get("/")).status_code == 303


async def test_an_operators_key_signs_in(site: Site) -> None:
    key = site.rest.headers["authorization"].removeprefix("Bearer ")
    answer = await site.anybody.post("/sign-in", data={"key": f" {key}\n", "next": "/servers/farm-1"})
    assert answer.headers["location"] == "/servers/farm-1"
    assert (await site.anybody.get("/")).status_code == 200


async def test_a_clients_key_does_not_sign_in(site: Site) -> None:
    async with site.client_of(await site.account("acme")) as client:
        key = client.headers["authorization"].removeprefix("Bearer ")
    answer = await site.anybody.post("/sign-in", data={"key": key})
    assert answer.status_code == 403
    assert "for operators" in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("key", ["", "rota_nonsense", "ключ", "\x00"])
async def test_a_wrong_key_is_refused_in_words(site: Site, key: str) -> None:
    answer = await site.anybody.post("/sign-in", data={"key": key})
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(site: Site) -> None:
    answer = await site.anybody.post("/sign-in", data={"token": await one_time_token(site)})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie  # plain HTTP here


async def test_the_cookie_is_for_tls_alone_where_people_come_by_tls(site: Site) -> None:
    behind = Settings(public_url="https://rota.example")
    object.__setattr__(site.state, "settings", behind)
    answer = await site.anybody.post("/sign-in", data={"token": await one_time_token(site)})
    assert "Secure" in answer.headers["set-cookie"]


async def test_a_cookie_that_was_changed_proves_nothing(site: Site) -> None:
    async with signed_in(site) as pages:
        cookie = pages.client.cookies[session.COOKIE]
    body, signature = cookie.rsplit(".", 1)
    for changed in (
        f"{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}",
        "nonsense",
        "",
        cookie.split(".")[0],
    ):
        answer = await site.anybody.get("/", headers={"cookie": f"{session.COOKIE}={changed}"})
        assert answer.status_code == 303


async def test_a_session_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async with signed_in(site) as pages:
        monkeypatch.setattr(session, "LIFETIME", timedelta(seconds=-1))
        assert (await pages.client.get("/")).status_code == 303


async def test_signing_out_ends_the_session_of_this_browser(site: Site) -> None:
    async with signed_in(site) as pages:
        answer = await pages.send("/sign-out")
        assert answer.headers["location"] == "/sign-in"
        assert (await pages.client.get("/")).status_code == 303


async def test_a_form_without_the_sessions_token_does_nothing(site: Site) -> None:
    async with signed_in(site) as pages, signed_in(site) as other:
        foreign = form_token(await other.look("/"))
        for token in ("", "nonsense", foreign):
            answer = await pages.client.post("/sign-out", data={"form_token": token})
            assert answer.status_code == 403
        assert (await pages.client.get("/")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
    ],
)
async def test_a_form_from_another_site_does_nothing(site: Site, headers: dict[str, str]) -> None:
    async with signed_in(site) as pages:
        token = form_token(await pages.look("/"))
        answer = await pages.client.post("/sign-out", data={"form_token": token}, headers=headers)
        assert answer.status_code == 403
    refused = await site.anybody.post("/sign-in", data={"token": await one_time_token(site)}, headers=headers)
    assert refused.status_code == 403


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "same-origin"}, {"origin": "http://rota.test"}, {}])
async def test_a_form_from_here_is_taken(site: Site, headers: dict[str, str]) -> None:
    async with signed_in(site) as pages:
        token = form_token(await pages.look("/"))
        answer = await pages.client.post("/sign-out", data={"form_token": token}, headers=headers)
        assert answer.status_code == 303


async def test_only_small_forms_are_read(site: Site) -> None:
    big = await site.anybody.post("/sign-in", data={"key": "x" * 20_000})
    assert big.status_code == 413
    assert (await site.anybody.post("/sign-in", json={"key": "x"})).status_code == 422


@pytest.mark.parametrize("path", ["/", "/servers/farm-1?after=farm-1%2F9", "/profiles/prf_1"])
def test_a_path_of_this_site_is_gone_back_to(path: str) -> None:
    assert session.local_path(path) == path


@pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", "https://evil.example", "", "x", "/\t/evil"])
def test_another_site_is_never_gone_to(path: str) -> None:
    assert session.local_path(path) == "/"
