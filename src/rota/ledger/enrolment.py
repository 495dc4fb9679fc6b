"""Who may come in: an enrolment key and a listed hostname, looked up together."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from rota.errors import InvalidKeyError, ServerNotAllowedError
from rota.ledger.connection import Transaction
from rota.ledger.fleets import Fleet
from rota.ledger.keys import digest


@dataclass(frozen=True)
class Admission:
    """Where the bot comes in, and the labels that its server gives it."""

    fleet: Fleet
    server_id: str
    labels: dict[str, str]


# A pattern's `*` becomes LIKE's `%`; what LIKE would take for a wildcard is escaped. An exact hostname comes first,
# then the longest pattern.
_ADMIT = text(r"""
    SELECT f.name, f.interval, f.ttl, f.incarnation, f.recorded_to, f.created_at, f.keep_days, f.keep_records,
           f.beats_per_second,
           s.id, s.labels
    FROM enrolment_keys k
    JOIN fleets f ON f.name = k.fleet
    LEFT JOIN LATERAL (
        SELECT id, labels FROM servers
        WHERE servers.fleet = k.fleet
          AND (hostname = :hostname
               OR (strpos(hostname, '*') > 0
                   AND :hostname LIKE replace(replace(hostname, '_', '\_'), '*', '%')))
        ORDER BY hostname = :hostname DESC, length(hostname) DESC, hostname LIMIT 1
    ) s ON true
    WHERE k.digest = :digest AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
""")


async def admit(tx: Transaction, secret: str, hostname: str) -> Admission:
    """What a bot with this enrolment key on this host is admitted to.

    Raises:
        InvalidKeyError: the key is unknown, expired or revoked.
        ServerNotAllowedError: no listed server matches the hostname.
    """
    row = (await tx.execute(_ADMIT, {"digest": digest(secret), "hostname": hostname})).one_or_none()
    if row is None:
        raise InvalidKeyError
    *fleet, server_id, labels = row
    if server_id is None:
        msg = f"The hostname {hostname} is not listed in fleet {fleet[0]}: run `rota server add {hostname} --bots N`."
        raise ServerNotAllowedError(msg)
    return Admission(Fleet(*fleet), server_id, labels)
