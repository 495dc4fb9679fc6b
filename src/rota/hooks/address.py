"""Where webhooks may go: an address that a client names must not lead into the operator's own network.

An address is checked when it is registered, and again at every connection, after the name was resolved and before
anything is sent (`rota.hooks.post`): what a name resolves to may change in between.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import httpx2

from rota.errors import FieldError, InvalidRequestError

LONGEST_URL = 2_000
MOST_ADDRESSES = 16
"""Addresses of one name that are looked at; a name with more is refused."""
HTTPS_PORT, FIRST_HIGH_PORT, LAST_PORT = 443, 1_024, 65_535

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_GLOBAL_IPV6 = IPv6Network("2000::/3")
"""All of IPv6 that was ever given out for the Internet at large; what lies outside is local, old or made up."""
_NAT64 = IPv6Network("64:ff9b::/96")
_TUNNELS = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))
"""6to4 and Teredo: an IPv4 address in disguise, by ways that nobody needs any more."""
_SERVES_MACHINES = (IPv4Network("168.63.129.16/32"), IPv4Network("192.0.0.0/24"))
"""Public by their number or in part, and yet clouds' own services for their machines (Azure, Oracle)."""


class Networks:
    """The networks that webhooks may reach although they are the operator's own."""

    def __init__(self, text: str | None = None) -> None:
        """`text` names them as `10.20.0.0/16, ::1`.

        Raises:
            ValueError: one of them is no network.
        """
        named = [part.strip() for part in (text or "").split(",")]
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(part) for part in named if part)

    def __contains__(self, address: object) -> bool:
        return any(address in network for network in self._networks)


@dataclass(frozen=True)
class Target:
    """A webhook's URL, taken apart."""

    scheme: str
    host: str
    port: int
    authority: bytes
    path: bytes


def target_of(url: str) -> Target:
    """The parts of a URL that a webhook may have, whatever its host resolves to.

    Raises:
        InvalidRequestError: it may not; the text says why.
    """
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise refused(f"must be at most {LONGEST_URL} printable ASCII characters without blanks")
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise refused(f"is not an address: {error}") from None
    if parsed.scheme not in ("https", "http") or not parsed.host:
        raise refused("must begin with https:// and name a host")
    if parsed.userinfo:
        raise refused("must not hold a user or password: receivers know rota by its signature")
    if parsed.fragment:
        raise refused("must not hold a fragment (#…), which is never sent")
    if parsed.port is not None and not 0 < parsed.port <= LAST_PORT:
        raise refused(f"must have a port of 1 to {LAST_PORT}")
    port = parsed.port or (HTTPS_PORT if parsed.scheme == "https" else 80)
    return Target(parsed.scheme, parsed.raw_host.decode(), port, parsed.netloc, parsed.raw_path)


def refusal(address: str, port: int, networks: Networks, *, encrypted: bool) -> str | None:
    """Why nothing is sent to this address, without naming it; None where it may be.

    A client is not told what a name of the operator's network resolves to.
    """
    found = _plain(ipaddress.ip_address(address.partition("%")[0]))
    if found in networks:
        return None
    why = _of_no_stranger(found)
    if why is not None:
        return f"leads to {why}; ROTA_WEBHOOK_ALLOW may allow its network"
    if not encrypted:
        return "leads to the Internet: only https:// may"
    if port != HTTPS_PORT and port < FIRST_HIGH_PORT:
        return f"has port {port}, which is not one of a web server: 443, or {FIRST_HIGH_PORT} and above"
    return None


class Resolver:
    """Names to addresses that may be reached, in threads of its own: a slow name server must not hold up others."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="webhook-names")

    def close(self) -> None:
        """Waits for no name that is still being looked up."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def addresses(self, host: str, port: int, *, encrypted: bool) -> list[str]:
        """The addresses behind a name; nothing else may be connected to in its place.

        Raises:
            InvalidRequestError: there are none, or one of them may not be reached.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, _look_up, host, port)
        except (OSError, UnicodeError) as error:
            raise refused(f"{host} cannot be resolved: {getattr(error, 'strerror', None) or error}") from None
        if not 0 < len(found) <= MOST_ADDRESSES:
            raise refused(f"{host} has {len(found)} addresses: 1 to {MOST_ADDRESSES} are taken")
        for address in found:
            why = refusal(address, port, self._networks, encrypted=encrypted)
            if why is not None:
                raise refused(f"{host} {why}")
        return found


async def check_url(url: str, resolver: Resolver, *, within: float = 5.0) -> None:
    """Proves that a webhook may have this URL, and that its host leads where it may lead at this moment.

    Raises:
        InvalidRequestError: it may not.
    """
    target = target_of(url)
    try:
        async with asyncio.timeout(within):
            await resolver.addresses(target.host, target.port, encrypted=target.scheme == "https")
    except TimeoutError:
        raise refused(f"{target.host} cannot be resolved within {within:.0f} s") from None


def refused(message: str) -> InvalidRequestError:
    """The error for an address that a webhook may not have."""
    return InvalidRequestError(f"url: {message}", fields=(FieldError("url", message),))


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, or the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _of_no_stranger(address: Address) -> str | None:
    """What kind of address it is, where it is none of the Internet at large."""
    kinds: Sequence[tuple[bool, str]] = (
        (address.is_loopback, "a loopback address"),
        (address.is_unspecified, "no address of anybody"),
        (address.is_multicast, "a multicast address"),
        (address.is_link_local, "a link-local address, such as clouds serve metadata at"),
        (any(address in network for network in _SERVES_MACHINES), "a cloud's own service"),
        (address.is_private or not address.is_global or address.is_reserved, "a private or reserved address"),
        (isinstance(address, IPv6Address) and not _is_of_the_internet(address), "a private or reserved address"),
    )
    return next((name for is_so, name in kinds if is_so), None)


def _is_of_the_internet(address: IPv6Address) -> bool:
    return address in _GLOBAL_IPV6 and not any(address in tunnel for tunnel in _TUNNELS)
