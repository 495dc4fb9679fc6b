"""Bots' tokens and leases: made, read and proven here; opaque to everybody else.

A token names its fleet and bot, so that no store is asked whose it is, and holds 192 random bits; rota keeps only the
beginning of its SHA-256. It is read with every heartbeat: one match and one digest. A lease is signed, so that it
proves a grant even when all live state is gone.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from functools import lru_cache
from typing import NamedTuple

from itsdangerous import BadData, URLSafeSerializer

from rota.errors import UnknownBotError
from rota.live.entries import DIGEST_BYTES
from rota.protocol import LeasedWorking

_RANDOM_BYTES = 24
# A forged token must not carry anything else to the stores. `~` is in no name, and allowed in a token by RFC 6750.
_TOKEN = re.compile(r"bot_([a-z0-9-]{1,32})~([a-z0-9_][a-z0-9._-]{0,252}/[A-Za-z0-9._-]{1,64})~[A-Za-z0-9_-]{32,64}")


class TokenOwner(NamedTuple):
    """Whom a token claims to belong to; only the roster knows whether `digest` is right."""

    fleet: str
    bot: str
    digest: bytes


class Lease(NamedTuple):
    """What a genuine lease proves: this bot was granted this profile under this epoch."""

    fleet: str
    bot: str
    profile: str
    epoch: int


def make_token(fleet: str, bot: str) -> str:
    """A new token of this bot."""
    return f"bot_{fleet}~{bot}~{secrets.token_urlsafe(_RANDOM_BYTES)}"


def digest(token: str) -> bytes:
    """What rota keeps of a token."""
    return hashlib.sha256(token.encode()).digest()[:DIGEST_BYTES]


@lru_cache(maxsize=65_536)
def read_token(token: str) -> TokenOwner:
    """Whom the token names.

    Raises:
        UnknownBotError: there is none, or it is not of the form that rota gives out.
    """
    if not token:
        raise UnknownBotError("Send the bot's token as `Authorization: Bearer …`; /bot/auth gives one.")
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise UnknownBotError
    return TokenOwner(found[1], found[2], digest(token))


class Leases:
    """Signs leases with the last of the installation's keys, and proves them with all."""

    def __init__(self, signing: list[str]) -> None:
        self._serializer = URLSafeSerializer(signing, salt="rota.lease")

    def sign(self, lease: Lease) -> str:
        """The lease as text."""
        return str(self._serializer.dumps(list(lease)))

    def prove(self, fleet: str, working: LeasedWorking | None) -> Lease | None:
        """The lease that comes with `working`, if it is genuine and for just that assignment of this fleet."""
        if working is None or not working.lease:
            return None
        try:
            lease = Lease(*self._serializer.loads(working.lease))
        except (BadData, TypeError):
            return None
        claimed = (fleet, working.profile, working.epoch)
        return lease if (lease.fleet, lease.profile, lease.epoch) == claimed else None
