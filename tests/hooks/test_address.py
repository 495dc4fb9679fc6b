"""Nothing is sent to where a stranger must not lead rota."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.errors import InvalidRequestError
from rota.hooks.address import Networks, Resolver, check_url, refusal, target_of

NOWHERE = Networks()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",  # noqa: S104 - to be refused
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "168.63.129.16",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:1::1",
        "2001:db8::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "100::1",
        "5f00::1",
    ],
)
def test_an_address_of_nobody_on_the_internet_is_refused(address: str) -> None:
    assert refusal(address, 443, NOWHERE, encrypted=True)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_an_address_of_the_internet_is_taken_over_tls_alone(address: str) -> None:
    assert refusal(address, 443, NOWHERE, encrypted=True) is None
    assert refusal(address, 8443, NOWHERE, encrypted=True) is None
    assert "only https" in str(refusal(address, 8080, NOWHERE, encrypted=False))


@pytest.mark.parametrize("port", [22, 25, 80, 465, 587, 993])
def test_a_port_of_another_service_is_refused(port: int) -> None:
    assert "not one of a web server" in str(refusal("1.1.1.1", port, NOWHERE, encrypted=True))


def test_an_allowed_network_may_be_reached_at_any_port_and_without_tls() -> None:
    allowed = Networks("10.20.0.0/16, ::1")
    assert refusal("10.20.3.4", 80, allowed, encrypted=False) is None
    assert refusal("::ffff:10.20.3.4", 80, allowed, encrypted=False) is None
    assert refusal("::1", 8080, allowed, encrypted=True) is None
    assert refusal("10.21.0.1", 80, allowed, encrypted=False)
    assert "ROTA_WEBHOOK_ALLOW" in str(refusal("127.0.0.1", 443, allowed, encrypted=True))


@given(st.ip_addresses(v=4))
def test_every_disguise_of_an_address_is_judged_as_the_address(address: ipaddress.IPv4Address) -> None:
    plain = refusal(str(address), 443, NOWHERE, encrypted=True)
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | int(address))
    nat64 = ipaddress.IPv6Address((0x64FF9B << 96) | int(address))
    assert (refusal(str(mapped), 443, NOWHERE, encrypted=True) is None) == (plain is None)
    assert (refusal(str(nat64), 443, NOWHERE, encrypted=True) is None) == (plain is None)
    sixtofour = ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80))
    assert refusal(str(sixtofour), 443, NOWHERE, encrypted=True)


@given(st.ip_addresses())
def test_what_is_taken_is_global_and_of_one_machine(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if refusal(str(address), 443, NOWHERE, encrypted=True) is None:
        assert address.is_global or getattr(address, "ipv4_mapped", None) or str(address).startswith("64:ff9b::")
        assert not address.is_multicast


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "https:///path",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://example.com/#part",
        "https://example.com/ blank",
        "https://exämple.com/",
        "https://example.com:99999/",
        "https://" + "a" * 2001,
        "file:///etc/passwd",
        "//example.com",
        "",
        "https://example.com/\r\nHost: evil",
    ],
)
def test_what_is_no_address_of_a_receiver_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        target_of(url)
    assert refused.value.fields[0].field == "url"


def test_a_url_is_taken_apart_in_one_way_alone() -> None:
    target = target_of("https://[2606:4700::1111]:8443/hook?a=b")
    assert (target.host, target.port, target.path) == ("2606:4700::1111", 8443, b"/hook?a=b")
    assert target_of("https://Example.COM").host == "example.com"
    assert target_of("http://example.com/").port == 80


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:7f00:1]", "0"]
)
async def test_a_name_for_this_machine_is_refused_however_it_is_written(host: str) -> None:
    resolver = Resolver(NOWHERE)
    with pytest.raises(InvalidRequestError):
        await check_url(f"https://{host}/", resolver)
    resolver.close()


async def test_a_name_that_does_not_exist_is_refused() -> None:
    resolver = Resolver(NOWHERE)
    with pytest.raises(InvalidRequestError, match="cannot be resolved"):
        await check_url("https://no-such-host.invalid/", resolver, within=20)
    resolver.close()
