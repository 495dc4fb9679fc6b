"""What the command line says of a rota that it cannot speak to."""

from __future__ import annotations

import socket

import pytest

from rota.cli import access
from rota.cli.access import Access
from rota.errors import RotaError


def test_a_rota_that_hangs_is_not_one_that_has_to_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # the kernel connects, and nobody ever answers
        address = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with Access(address, "key") as rota, pytest.raises(RotaError) as told:
            rota.get("/fleets")
    assert str(told.value).startswith(f"rota at {address} does not answer within 0.2 s: ")
    assert "rota serve" not in str(told.value)
    assert "healthz" in str(told.value)
