"""From a page's context to its response: templates, the frame around every page, and the headers that guard it.

Every HTML answer of rota goes through `render`. Templates know their context and what is defined here, nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import Response

from rota import __version__
from rota.web import session
from rota.web.state import current

HERE = Path(__file__).parent.parent
STATIC = HERE / "static"
SECURITY_HEADERS = {
    # Nothing inline, nothing from elsewhere: what a bot writes into its status can never run.
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    # Not `no-referrer`: with it a browser sends `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "vary": "accept-encoding, cookie",
}
WORTH_COMPRESSING = 1_000
"""Bytes."""
MINUTE, HOUR, DAY = 60, 3_600, 86_400


@dataclass(frozen=True)
class Frame:
    """What every template may use besides its page.

    title: of the window, without `rota`.
    signed_in: whether to offer signing out.
    form_token: goes into every form as the field `form_token`; empty where nobody has signed in.
    refresh: seconds after which a browser without scripts loads the page again, or None.
    now: when the page was made.
    fleet: whose incidents the frame leads to.
    """

    title: str
    signed_in: bool
    form_token: str
    refresh: int | None
    now: datetime
    fleet: str


def render(
    request: Request,
    template: str,
    page: object,
    *,
    title: str,
    status: int = 200,
    refresh: int | None = None,
    headers: Mapping[str, str] | None = None,
    fleet: str | None = None,
) -> Response:
    """The page as a response, compressed where the browser takes that; `fleet` is the address's where it is missing."""
    found = session.find(request)
    frame = Frame(
        title=title,
        signed_in=found is not None,
        form_token=session.form_token(current(request), found) if found else "",
        refresh=refresh,
        now=datetime.now(UTC),
        fleet=fleet or request.query_params.get("fleet") or "default",
    )
    body = environment().get_template(template).render(page=page, frame=frame).encode()
    all_headers = {**SECURITY_HEADERS, **(headers or {})}
    if len(body) > WORTH_COMPRESSING and "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, compresslevel=5, mtime=0)
        all_headers["content-encoding"] = "gzip"
    return Response(body, status, all_headers, media_type="text/html")


@cache
def environment() -> Environment:
    """The templates: everything is escaped, and a name that is not there is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals |= {"asset": asset, "version": __version__, "link": link}
    made.filters |= {"age": age, "ago": ago, "clock": clock, "exact": exact, "number": number}
    return made


@cache
def asset(name: str) -> str:
    """The address of a static file, with its content's digest, so that browsers may keep it for good."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


@lru_cache(maxsize=8_192)  # a page of 600 bots is rendered every second, and has two links for each
def link(*parts: str, fleet: str = "default", **query: str | int | None) -> str:
    """A path of this site; the default fleet goes without saying, and so does what is None."""
    given: dict[str, Any] = {"fleet": None if fleet == "default" else fleet, **query}
    text = urlencode({name: value for name, value in given.items() if value is not None})
    return "/" + "/".join(quote(part, safe="") for part in parts) + (f"?{text}" if text else "")


def age(seconds: float) -> str:
    """A duration for people, one unit: `4 s`, `12 min`, `5 h`, `3 d`. `static/rota.js` does the same."""
    whole = max(0, int(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    return f"{whole // HOUR} h" if whole < 2 * DAY else f"{whole // DAY} d"


def ago(moment: datetime) -> Markup:
    """How long ago (or how soon) a moment is; the page's script keeps the number right."""
    seconds = abs((datetime.now(UTC) - moment).total_seconds())
    return Markup('<time datetime="{}" data-t="{}">{}</time>').format(
        _iso(moment), int(moment.timestamp()), age(seconds)
    )


def clock(moment: datetime) -> Markup:
    """A moment in UTC; the page's script turns it into the reader's own time."""
    now = datetime.now(UTC)
    form = "%H:%M:%S UTC" if moment.date() == now.date() else "%-d %b %Y %H:%M UTC"
    return Markup('<time datetime="{}" data-clock>{}</time>').format(_iso(moment), moment.strftime(form))


def exact(moment: datetime) -> Markup:
    """As `clock`, to the millisecond; whole, with its date and in UTC, in the tooltip."""
    utc = moment.astimezone(UTC)
    form = "%H:%M:%S" if utc.date() == datetime.now(UTC).date() else "%-d %b %Y %H:%M:%S"
    ms = f".{utc.microsecond // 1000:03}"
    return Markup('<time datetime="{}" title="{}" data-clock="ms">{}</time>').format(
        f"{utc:%Y-%m-%dT%H:%M:%S}{ms}Z", f"{utc:%Y-%m-%d %H:%M:%S.%f} UTC", f"{utc.strftime(form)}{ms} UTC"
    )


def number(value: int) -> str:
    """With a thin space between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
