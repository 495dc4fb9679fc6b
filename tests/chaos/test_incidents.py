"""What rota reports is compared with what a scenario did: the right incidents, once, and closed in the end."""

from __future__ import annotations

from typing import Any, cast

import pytest

from rota.chaos import incidents
from rota.chaos.incidents import Incidents
from rota.chaos.stage import Options, Stage


class Reports:
    """A stage whose rota says what it is told to say, one answer after another; the last one for ever."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.now = 0.0
        self.rest = self
        self.options = Options(ttl=5.0)

    async def get(self, path: str, **params: int) -> dict[str, Any]:
        self.now += 1.0
        return {"items": self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]}


def silence(number: int, *servers: str, closed: bool = True) -> dict[str, Any]:
    detail = {"bots": 20, "servers": dict.fromkeys(servers, 10)}
    at = "2026-11-23T10:00:00Z" if closed else None
    message = f"fell silent: {servers}"
    return {"id": number, "kind": "mass_silence", "subject": "chaos", "detail": detail, "message": message} | {
        "closed_at": at
    }


def contested(number: int, bot: str) -> dict[str, Any]:
    return {"id": number, "kind": "contested_slot", "subject": bot, "detail": {}, "message": "", "closed_at": None}


async def begun(*answers: list[dict[str, Any]]) -> Incidents:
    return await Incidents.begin(cast("Stage", Reports(*answers)))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incidents, "POLL", 0)


async def test_one_incident_that_names_the_servers_and_is_closed_is_as_it_should_be() -> None:
    raised = silence(2, "sim-1", "sim-2", closed=False)
    seen = await begun([silence(1, "sim-9")], [], [raised], [raised], [silence(2, "sim-1", "sim-2")])
    assert await seen.one_that_names("mass_silence", ["sim-2", "sim-1"]) == ()


async def test_no_incident_is_one_too_few() -> None:
    seen = await begun([silence(1, "sim-1")])
    [text] = await seen.one_that_names("mass_silence", ["sim-1"])
    assert text.startswith("0 incidents")


async def test_two_incidents_are_one_too_many() -> None:
    seen = await begun([], [silence(2, "sim-1"), silence(3, "sim-1")])
    [text] = await seen.one_that_names("mass_silence", ["sim-1"])
    assert text.startswith("2 incidents")


@pytest.mark.parametrize("named", [["sim-1"], ["sim-1", "sim-2", "sim-3"]])
async def test_an_incident_names_the_servers_concerned_and_no_others(named: list[str]) -> None:
    seen = await begun([], [silence(2, *named)])
    [text] = await seen.one_that_names("mass_silence", ["sim-1", "sim-2"])
    assert "concerns ['sim-1', 'sim-2']" in text


async def test_an_incident_that_is_never_closed_is_found() -> None:
    seen = await begun([], [silence(2, "sim-1", closed=False)])
    assert await seen.one_that_names("mass_silence", ["sim-1"]) == ("the incident of kind mass_silence is not closed",)


async def test_each_slot_has_an_incident_of_its_own() -> None:
    seen = await begun([], [contested(1, "sim-1/1"), contested(2, "sim-2/4")])
    assert await seen.one_for_each("contested_slot", ["sim-1/1", "sim-2/4"]) == []
    assert await seen.one_for_each("contested_slot", ["sim-3/1"]) == ["no incident of kind contested_slot for sim-3/1"]
