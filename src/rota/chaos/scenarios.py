"""The scenarios: what is broken, and what must come of it. `docs/chaos.md` lists the same; a test compares the two.

Each injects its faults, waits until they act no more, and returns how many there were and when that was.
"""

from __future__ import annotations

from rota.chaos.crew import sdk_stopped
from rota.chaos.drained import server_drained
from rota.chaos.links import BOTH, Direction
from rota.chaos.on_bots import (
    bots_cloned,
    bots_cut_off,
    bots_killed,
    bots_killed_by_operator,
    bots_restarted,
)
from rota.chaos.on_rota import (
    all_web_killed,
    everything_restarted,
    rota_away,
    steward_killed,
    web_killed,
    web_rolled,
    web_stopped,
)
from rota.chaos.on_stores import (
    cut,
    jump,
    network_unruly,
    postgres,
    postgres_killed,
    slow,
    valkey,
    valkey_flushed,
    valkey_killed,
    valkey_lost,
    valkey_rewound,
)
from rota.chaos.orders import orders_cut_short
from rota.chaos.poison import profiles_poisonous
from rota.chaos.pushers import everything_killed
from rota.chaos.scenario import Scenario

HOUR = 3600

SCENARIOS = (
    Scenario("web-killed", "kill -9 of one of two web workers", web_killed),
    Scenario("all-web-killed", "kill -9 of all web workers", all_web_killed),
    Scenario("web-rolled", "each web worker is ended and started again, one after another", web_rolled),
    Scenario("steward-killed", "kill -9 of the leading steward while 5 bots die", steward_killed),
    Scenario("web-stopped", "SIGSTOP of one web worker for 3 ttl, then SIGCONT", web_stopped),
    Scenario("rota-away", "web workers and stewards are away for 3.5 ttl", rota_away),
    Scenario(
        "orders-cut-short", "clients' orders are written down, and rota dies before they are applied", orders_cut_short
    ),
    Scenario(
        "clock-forward",
        "the clock of live state jumps an hour ahead; then 8 bots die",
        jump(HOUR),
        prompt=True,
        mistrust=1,
    ),
    Scenario(
        "clock-back",
        "the clock of live state jumps back by an hour; then 8 bots die",
        jump(-HOUR),
        prompt=True,
        mistrust=1,
    ),
    Scenario("bots-cut-off", "15 bots hear and say nothing for 2 ttl, then are back", bots_cut_off, prompt=True),
    Scenario("bots-killed", "all bots of three servers die at once; others start in other slots", bots_killed),
    Scenario(
        "bots-killed-by-operator",
        "an operator kills 20 bots that know nothing of it",
        bots_killed_by_operator,
        prompt=True,
    ),
    Scenario("bots-restarted", "half of the bots die at once and start again in their slots", bots_restarted),
    Scenario("bots-cloned", "5 bots get a second process in their slots for 2 ttl", bots_cloned),
    Scenario("sdk-stopped", "SIGSTOP of real bots until others have their work, then SIGCONT", sdk_stopped),
    Scenario("server-drained", "a server is drained while half of its bots crash, and is let back in", server_drained),
    Scenario("valkey-killed", "kill -9 of Valkey with its append-only file", valkey_killed),
    Scenario("postgres-killed", "kill -9 of PostgreSQL", postgres_killed),
    Scenario("everything-restarted", "web workers, stewards and stores are restarted in order", everything_restarted),
    Scenario(
        "everything-killed",
        "50 bots push all the time; they, web workers, stewards and stores are killed at random",
        everything_killed,
        by_records=True,
    ),
    Scenario("valkey-slow", "every answer of Valkey takes 500 ms longer, for 1.5 ttl", slow(valkey)),
    Scenario("postgres-slow", "every answer of PostgreSQL takes 500 ms longer, for 1.5 ttl", slow(postgres)),
    Scenario("valkey-cut", "no byte to or from Valkey for 1.5 ttl", cut(valkey, BOTH)),
    Scenario("postgres-cut", "no byte to or from PostgreSQL for 1.5 ttl", cut(postgres, BOTH)),
    Scenario("valkey-mute", "no byte from Valkey for 1.5 ttl; it hears", cut(valkey, Direction.BACK)),
    Scenario("postgres-mute", "no byte from PostgreSQL for 1.5 ttl; it hears", cut(postgres, Direction.BACK)),
    Scenario("network-unruly", "5 % each of all requests delayed, doubled, reordered, unanswered", network_unruly),
    Scenario("valkey-flushed", "FLUSHALL", valkey_flushed),
    Scenario("valkey-lost", "kill -9 of Valkey, and its append-only file is gone", valkey_lost),
    Scenario("valkey-rewound", "Valkey loses its last second while grants are made", valkey_rewound, spoils=True),
    Scenario(
        "profiles-poisonous", "whoever works for one of 5 profiles crashes", profiles_poisonous, crowd=2, patient=True
    ),
)
"""In the order in which they are run."""
