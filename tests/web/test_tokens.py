"""Leases: what they prove, and how the key that they are signed with is changed."""

from __future__ import annotations

import pytest

from rota.errors import SettingsError
from rota.protocol import LeasedWorking
from rota.settings import Settings, load_settings
from rota.web.app import signing_keys
from rota.web.tokens import Lease, Leases
from tests.conformance.site import Site

OLD, NEW = "o" * 32, "n" * 32
LEASE = Lease("default", "farm-1/1", "prf_1", 7)


def working(lease: str) -> LeasedWorking:
    return LeasedWorking(profile=LEASE.profile, epoch=LEASE.epoch, lease=lease)


async def leases(site: Site, keys: str) -> Leases:
    return Leases(await signing_keys(load_settings(secret_key=keys), site.state.ledger))


async def test_a_lease_under_the_old_key_is_believed_while_both_are_listed(site: Site) -> None:
    old = (await leases(site, OLD)).sign(LEASE)
    assert (await leases(site, f"{NEW},{OLD}")).prove("default", working(old)) == LEASE
    assert (await leases(site, NEW)).prove("default", working(old)) is None


async def test_the_first_key_of_the_list_signs(site: Site) -> None:
    signed = (await leases(site, f"{NEW},{OLD}")).sign(LEASE)
    assert (await leases(site, NEW)).prove("default", working(signed)) == LEASE
    assert (await leases(site, OLD)).prove("default", working(signed)) is None


async def test_without_a_setting_the_ledger_keeps_one_key_for_all(site: Site) -> None:
    assert await signing_keys(Settings(), site.state.ledger) == site.state.signing


@pytest.mark.parametrize("keys", ["short", f"{NEW},short", f"{NEW},", f",{NEW}", f"{NEW}, "])
def test_a_key_that_could_be_guessed_is_refused(keys: str) -> None:
    with pytest.raises(SettingsError, match=r"ROTA_SECRET_KEY.*32 characters"):
        load_settings(secret_key=keys)


def test_spaces_beside_the_comma_belong_to_no_key() -> None:
    given = load_settings(secret_key=f" {NEW} , {OLD} ").secret_key
    assert given is not None
    assert given.get_secret_value() == f"{NEW},{OLD}"
