"""Runs one vector against a worker in process; everything but the faults goes over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rota.embedded import EmbeddedValkey
from rota.errors import RateLimitedError
from rota.live import beats
from tests.conformance.matching import Known, MismatchError
from tests.conformance.site import Site
from tests.conformance.vector import (
    Call,
    ClientAct,
    EnrolmentKey,
    Fault,
    GivenProfile,
    ListedServer,
    OperatorAct,
    Vector,
)

_INFORMAL = {"show": "", "records": "/records"}


class Run:
    """One vector on one site."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch, store: EmbeddedValkey | None = None) -> None:
        """`store` is the live store, where the test may stop it."""
        self._site = site
        self._monkeypatch = monkeypatch
        self._store = store
        self._known = Known()
        self._keys: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self._servers: dict[str, str] = {}

    async def run(self, vector: Vector) -> None:
        """Raises `MismatchError` where an answer is not as expected."""
        await self._give(EnrolmentKey(enrolment_key="valid", state="valid"))
        for given in vector.given:
            await self._give(given)
        for number, step in enumerate(vector.steps, 1):
            try:
                await self._step(step)
            except MismatchError as mismatch:
                raise MismatchError(f"step {number}: {mismatch}") from None

    async def _give(self, given: ListedServer | EnrolmentKey | GivenProfile) -> None:
        if isinstance(given, ListedServer):
            listed = await self._site.made("servers", hostname=given.server, expected_bots=1, labels=given.labels)
            self._servers[given.server] = listed["id"]
        elif isinstance(given, EnrolmentKey):
            made = await self._site.made("enrolment-keys")
            self._keys[given.enrolment_key] = made["key"]
            if given.state == "expired":
                await self._site.expire("enrolment_keys", made["id"])
            elif given.state == "revoked":
                await self._rest("DELETE", f"enrolment-keys/{made['id']}")
        else:
            fields = given.model_dump(include={"config", "labels", "priority"})
            made = await self._site.made("profiles", name=given.profile, start=given.started, **fields)
            self._known.learn(f"$profile:{given.profile}", made["id"])

    async def _step(self, step: Call | ClientAct | OperatorAct | Fault) -> None:
        if isinstance(step, Call):
            await self._call(step)
        elif isinstance(step, ClientAct):
            await self._client(step)
        elif isinstance(step, OperatorAct):
            await self._operator(step)
        else:
            await self._break(step)

    async def _call(self, step: Call) -> None:
        content = b""
        if step.raw is not None:
            content = step.raw.encode()
        elif "body" in step.model_fields_set:
            content = json.dumps(self._known.filled(step.body)).encode()
        secret = self._secret(step)
        headers = [("authorization", f"Bearer {secret}")] if secret is not None else []
        for name, values in self._known.filled(step.headers).items():
            headers += [(name, value) for value in (values if isinstance(values, list) else [values])]
        answer = await self._site.wire.request(step.method, step.call, content=content, headers=headers)
        if answer.status_code != step.expect.status:
            raise MismatchError(f"status {step.expect.status} is expected, not {answer.status_code}: {answer.text}")
        self._match_headers(step, dict(answer.headers))
        body: Any = answer.json() if answer.content else None
        if answer.status_code >= 400 and answer.headers["content-type"] != "application/problem+json":
            raise MismatchError(f"an error is application/problem+json, not {answer.headers['content-type']}")
        if answer.status_code >= 400:
            self._known.match({"status": answer.status_code, "title": "$text", "detail": "$text"}, body)
        self._known.match(step.expect.body, body)
        if step.call == "/bot/auth" and answer.status_code == 200:
            self._tokens[step.bot] = body["token"]

    def _secret(self, step: Call) -> str | None:
        if step.call == "/bot/auth":
            return self._keys.get(step.key, step.key) if step.key is not None else None
        if "token" in step.model_fields_set:
            return str(self._known.filled(step.token)) if step.token is not None else None
        return self._tokens[step.bot]

    def _match_headers(self, step: Call, headers: dict[str, str]) -> None:
        for name, value in step.expect.headers.items():
            found: Any = headers.get(name)
            self._known.match(value, int(found) if found and found.isdigit() else found, f"header {name}")

    async def _client(self, step: ClientAct) -> None:
        path = f"profiles/{self._known.filled(f'$profile:{step.profile}')}"
        if step.client in _INFORMAL:
            self._known.match(step.expect, await self._site.shown(path + _INFORMAL[step.client]))
        elif step.client == "change":
            await self._rest("PATCH", path, step.body)
        elif step.client == "delete":
            await self._rest("DELETE", path)
        else:
            await self._rest("POST", f"{path}/{step.client}")

    async def _operator(self, step: OperatorAct) -> None:
        if step.operator == "show":
            self._known.match(step.expect, await self._site.shown(f"bots/{step.of}"))
        elif step.operator == "unlist":
            await self._rest("DELETE", f"servers/{self._servers[step.of]}")
        else:
            await self._rest("POST", f"bots/{step.of}/{step.operator}")

    async def _rest(self, method: str, path: str, body: Any = None) -> None:
        answer = await self._site.rest.request(method, f"/api/v1/{path}", json=body)
        assert answer.is_success, answer.text

    async def _break(self, step: Fault) -> None:
        if step.fault == "lose_live_state":
            await self._site.lose_live_state()
        elif step.fault == "store_away":
            assert self._store is not None
            self._store.stop()
        elif step.fault == "worker_full":
            self._monkeypatch.setattr(beats, "MOST_WAITING", 0)
            self._monkeypatch.setattr(beats, "MOST_OF_CALLS", 1)  # of a bot at work
        else:
            error = RateLimitedError(retry_after=3) if step.fault == "refuse_by_rate" else RuntimeError("made up")
            self._monkeypatch.setattr(self._site.state.beats, "add", _Raiser(error))


class _Raiser:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, *_: object) -> None:
        raise self._error
