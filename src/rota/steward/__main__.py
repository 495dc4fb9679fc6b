"""One steward process, started by `rota serve` or by a supervisor of its own: `python -m rota.steward`."""

from __future__ import annotations

import asyncio
import sys

from rota.errors import RotaError
from rota.ledger.connection import Ledger
from rota.live.scripts import Live
from rota.logs import configure_logging
from rota.processes import stop_event
from rota.settings import Settings, load_settings
from rota.steward.lead import Steward


async def main(settings: Settings) -> None:
    """Runs the duties until SIGTERM, SIGINT or the end of the parent process."""
    if settings.redis_url is None or settings.database_url is None:
        msg = "the steward needs ROTA_REDIS_URL and ROTA_DATABASE_URL; `rota serve` sets both"
        raise RotaError(msg)
    live = Live(settings.redis_url.get_secret_value(), timeout=settings.store_timeout)
    ledger = Ledger(settings.database_url.get_secret_value(), timeout=settings.store_timeout)
    try:
        await Steward(ledger, live).run(stop_event())
    finally:
        await live.aclose()
        await ledger.aclose()


if __name__ == "__main__":
    try:
        loaded = load_settings()
        configure_logging(loaded, process="steward")
        asyncio.run(main(loaded))
    except RotaError as error:
        sys.stderr.write(f"rota: {error}\n")
        sys.exit(2)
