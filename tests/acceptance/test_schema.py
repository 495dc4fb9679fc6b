"""Schemathesis against a running rota: whatever is sent, no answer is a fault, or other than openapi.json says.

`ROTA_EXAMPLES=300` before the command makes it a longer run by hand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from rota.web.api.__main__ import description
from tests.acceptance.conftest import RotaServer, temporary_data_dir
from tests.conformance.site import NO_TLS

EXAMPLES = int(os.environ.get("ROTA_EXAMPLES", "4"))
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
ENDLESS = "follow_records"
"""A stream that does not end by itself."""
OPERATIONS = {
    operation.definition.raw["operationId"]: operation
    for result in schemathesis.openapi.from_dict(json.loads(description())).get_all_operations()
    if isinstance(result, Ok)
    for operation in [result.ok()]
}


@dataclass
class Target:
    """A rota with something of everything in it, and what its callers carry."""

    server: RotaServer
    known: dict[str, str] = field(default_factory=dict)
    token: str = ""

    def fill(self) -> None:
        """A profile at work with records, and a name for every parameter of a path."""
        self.server.list_server("farm-*", 5)
        with self.server.api as api:
            made = api.post("/profiles", json={"name": "acme", "start": True}).raise_for_status().json()
            server = api.get("/servers").raise_for_status().json()["items"][0]["id"]
        self.known = {"profile_id": made["id"], "account_id": made["account"], "server_id": server, "fleet": "default"}
        self.known |= {"server": "farm-1", "instance": "1", "subject": "farm-1"}
        self.enter(wait=20)
        self.bot("push_data", {"batch": 1, "records": [{"data": {"n": n}} for n in range(20)]})

    def enter(self, wait: float = 0) -> None:
        """A bot comes in, and takes the work if it is free; in a slot of its own, for which nobody else contends."""
        self.token = self.server.enrolment_key
        self.token = str(self.bot("auth", {"hostname": "farm-1", "instance": uuid4().hex[:8]})["token"])
        self.bot("heartbeat", {"wait": wait})

    def bot(self, call: str, body: Any) -> Any:
        """One call of the bot protocol."""
        key = {"authorization": f"Bearer {self.token}"}
        answer = httpx2.post(f"{self.server.url}/bot/{call}", json=body, headers=key, timeout=30, verify=NO_TLS)
        return answer.raise_for_status().json()

    def key(self, path: str) -> str:
        """What a caller carries there."""
        if not path.startswith("/bot/"):
            return self.server.operator_key
        return self.server.enrolment_key if path == "/bot/auth" else self.token


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with temporary_data_dir() as folder:
        running = RotaServer(folder)
        try:
            running.start()
            made = Target(running)
            made.fill()
            yield made
        finally:
            if running.process is not None and running.process.poll() is None:
                running.stop()


def cases(operation: APIOperation[Any, Any, Any, Any]) -> st.SearchStrategy[Case[Any]]:
    """What fits the description, and what does not."""
    positive, negative = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
    return st.sampled_from([positive, negative]).flatmap(lambda mode: operation.as_strategy(generation_mode=mode))


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {ENDLESS}))
def test_every_answer_is_as_it_is_described(target: Target, name: str) -> None:
    operation = OPERATIONS[name]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=EXAMPLES < 50,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases(operation), knows=st.booleans() if operation.method != "delete" else st.just(value=False))
    def holds(case: Case[Any], *, knows: bool) -> None:
        if knows:
            # Made-up names are hardly ever those of something that is there.
            parameters = case.path_parameters or {}
            case.path_parameters = {part: target.known.get(part, value) for part, value in parameters.items()}
            if name == "bot_push_data" and isinstance(case.body, dict):
                # What the bot works for, then.
                case.body = {part: value for part, value in case.body.items() if part not in ("profile", "epoch")}
        headers = {"authorization": f"Bearer {target.key(operation.path)}"}
        answer = case.call(base_url=target.server.url, headers=headers, timeout=60)
        if answer.status_code == 401 and operation.path.startswith("/bot/"):
            target.enter()
        case.validate_response(answer, checks=CHECKS)

    holds()
