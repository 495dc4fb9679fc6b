"""One steward process, started by `rota serve` or by a supervisor of its own: `python -m rota.steward`."""

from __future__ import annotations

import asyncio
import sys

from rota.errors import RotaError
from rota.hooks.address import Networks
from rota.hooks.post import Post
from rota.ledger.connection import Ledger
from rota.live.scripts import Live
from rota.logs import configure_logging
from rota.processes import stop_event
from rota.settings import Settings, load_settings
from rota.steward.deliver import Courier
from rota.steward.lead import Steward


async def main(settings: Settings) -> None:
    """Runs the duties until SIGTERM, SIGINT or the end of the parent process."""
    if settings.redis_url is None or settings.database_url is None:
        msg = "the steward needs ROTA_REDIS_URL and ROTA_DATABASE_URL; `rota serve` sets both"
        raise RotaError(msg)
    live = Live(settings.redis_url.get_secret_value(), timeout=settings.store_timeout)
    ledger = Ledger(settings.database_url.get_secret_value(), timeout=settings.store_timeout)
    # Connections of its own: whatever receivers do, the rounds never wait for one.
    couriers = Ledger(settings.database_url.get_secret_value(), timeout=settings.store_timeout)
    try:
        async with Post(Networks(settings.webhook_allow)) as post:
            await Steward(ledger, live, Courier(couriers, post)).run(stop_event())
    finally:
        await live.aclose()
        await couriers.aclose()
        await ledger.aclose()


if __name__ == "__main__":
    try:
        loaded = load_settings()
        configure_logging(loaded, process="steward")
        asyncio.run(main(loaded))
    except RotaError as error:
        sys.stderr.write(f"rota: {error}\n")
        sys.exit(2)
