"""What a bot's author imports: a `Bot` that keeps the protocol, and the `Job` that it hands to the work.

It speaks to rota over HTTP alone, knows of rota only `protocol` and `errors`, and must never need more than
what `pip install rota` brings. `docs/sdk.md` is its guide.
"""

from rota.sdk.bot import Bot, run_bots
from rota.sdk.job import Job
from rota.sdk.lease import EXIT_LEASE_OVER
from rota.sdk.push import Superseded
from rota.sdk.waiting import Flag, Later

__all__ = ["EXIT_LEASE_OVER", "Bot", "Flag", "Job", "Later", "Superseded", "run_bots"]
