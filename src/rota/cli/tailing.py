"""`rota records tail`: a stream of server-sent events, taken up again wherever it ends. Source: the HTML standard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import typer
from rich.text import Text

from rota.cli import shown
from rota.cli.access import Access, LostError, problem_of
from rota.errors import UnavailableError

SILENCE = 30.0
"""Seconds without even a heartbeat, after which the connection is taken for lost."""
LONGEST_PAUSE = 5.0


def tail_records(rota: Access, path: str, query: dict[str, Any], *, as_json: bool) -> None:
    """Prints records until Ctrl-C. Nothing is lost or doubled where a connection ends.

    Raises:
        RotaError: refused, or rota cannot be reached to begin with.
    """
    position, pause, has_begun = "", 0.5, False
    while True:
        try:
            headers = {"last-event-id": position} if position else {}
            with rota.stream(path, headers=headers, silence=SILENCE, **query) as pieces:
                for event_id, kind, data in _events(_lines(pieces)):
                    has_begun, pause = True, 0.5
                    if kind == "problem":
                        raise problem_of(json.loads(data)["status"], data)
                    if data:
                        _print(data, as_json=as_json)
                    position = event_id or position
        except (LostError, UnavailableError) as error:
            if not has_begun:
                raise
            shown.note(f"{error}: trying again")
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)


def _print(data: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(data)
        return
    record = json.loads(data)
    text = json.dumps(record["data"], ensure_ascii=False)
    line = Text.assemble(
        (shown.moment(record["at"]), "dim"), " ", (record["kind"], "bold"), f" {text} ", (record["bot"], "dim")
    )
    shown.console().print(line, soft_wrap=True)


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode()


def _events(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Id, kind and data of each event; what is only a comment is passed over, what is only an id is not."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if line and name:
            value = value.removeprefix(" ")
            fields[name] = f"{fields['data']}\n{value}" if name == "data" and name in fields else value
        elif not line and fields:
            yield fields.get("id", ""), fields.get("event", ""), fields.get("data", "")
            fields = {}
