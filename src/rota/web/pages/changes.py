"""What the stream of the status page says: the regions that differ between two readings, and who has beaten since.

Each region is an `<hx-partial>` that htmx puts in the place of the element with its id. Whole servers are sent only
where bots came or went; beats travel as numbers beside the HTML, so that an age that grows changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from markupsafe import escape

from rota.web.pages.cells import Cell
from rota.web.pages.fleet import FleetPage, View
from rota.web.pages.rendering import environment
from rota.web.pages.servers import ServerCard
from rota.web.stream import event

ALONE = ("notices", "incidents", "verdict", "figures", "queue")
"""Regions that depend on one field of the page, whose name they bear."""
BEAT_MOVED = 0.5
"""Seconds: a beat's time is worked out from its deadline and wavers by a few milliseconds."""


def write(old: FleetPage | None, new: FleetPage) -> str:
    """The events that lead from `old` to `new`, everything where `old` is None; empty where nothing differs.

    While live state is away only that is said: what was shown before stays.
    """
    if new.figures is None:
        html = "" if old and old.notices == new.notices else _region("notices", new)
    else:
        html = "".join(_regions(old if old and old.figures else None, new))
    if html and (old is None or old.title != new.title):
        html = f"<title>{escape(new.title)} · rota</title>{html}"
    return (event("", html) if html else "") + _beats(old, new)


def _regions(old: FleetPage | None, new: FleetPage) -> Iterator[str]:
    for name in ALONE:
        if old is None or getattr(old, name) != getattr(new, name):
            yield _region(name, new)
    if old is None or _skeleton(old) != _skeleton(new):
        yield _region("servers", new)
        return
    for before, after in zip(old.servers, new.servers, strict=True):
        if before != after:
            yield from _server(before, after, new)


def _skeleton(page: FleetPage) -> object:
    """What the list of servers is made of, apart from what happens within each."""
    return page.server_count, page.page_count, [card.place.hostname for card in page.servers]


def _server(before: ServerCard, after: ServerCard, page: FleetPage) -> Iterator[str]:
    hostname = after.place.hostname
    same_bots = [cell.id for cell in before.cells] == [cell.id for cell in after.cells]
    if not same_bots or before.hidden != after.hidden:
        yield _partial(f"server-{hostname}", "_server.html", page=page, card=after)
        return
    if before.place != after.place:
        yield _partial(f"head-{hostname}", "_server_head.html", card=after)
    if before.looks != after.looks:
        yield _partial(f"looks-{hostname}", "_looks.html", card=after)
    for was, now in zip(before.cells, after.cells, strict=True):
        if was != now:
            yield _bot(now, page.scope.view)


def _bot(cell: Cell, view: View) -> str:
    return _partial(cell.id, "_bot.html" if view == "wall" else "_bot_row.html", cells=[cell])


def _region(name: str, page: FleetPage) -> str:
    return _partial(name, f"_{name}.html", page=page)


def _partial(id_: str, template: str, **context: object) -> str:
    html = environment().get_template(template).render(**context)
    return f'<hx-partial id="{escape(id_)}" hx-swap="outerMorph">{html}</hx-partial>'


def _beats(old: FleetPage | None, new: FleetPage) -> str:
    before = {cell.id: cell.beat for cell in _cells(old)} if old else {}
    moved = {
        cell.id: int(cell.beat)
        for cell in _cells(new)
        if cell.id not in before or abs(cell.beat - before[cell.id]) > BEAT_MOVED
    }
    if not moved:
        return ""
    return event("beats", json.dumps({"now": int(new.now.timestamp()), "beats": moved}, separators=(",", ":")))


def _cells(page: FleetPage) -> Iterator[Cell]:
    return (cell for card in page.servers for cell in card.cells)
