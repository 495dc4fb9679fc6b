"""Who has signed in, kept in a signed cookie alone: there is no session store, and none that could be away.

A form is proven to be ours three times over: the cookie is SameSite=Lax, the browser says where the form came from, and
the form carries a signed token that belongs to the session. Called by the pages; never by REST, which takes keys.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from fastapi import Request
from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer
from starlette.responses import Response

from rota.errors import ForbiddenError, SignInRequiredError
from rota.settings import Settings
from rota.web.state import State, current

COOKIE = "rota_session"
LIFETIME = timedelta(hours=12)

_FOREIGN = "This form did not come from this site, or is too old: reload the page and try again."


@dataclass(frozen=True)
class Session:
    """One person's sign-in. `by` is the key or `link`; `nonce` ties forms to it."""

    by: str
    nonce: str
    ends_at: datetime


def begin(request: Request, response: Response, by: str) -> None:
    """Signs the browser in that receives `response`."""
    state = current(request)
    response.set_cookie(
        COOKIE,
        str(_sessions(state.signing).dumps([by, secrets.token_urlsafe(12)])),
        max_age=int(LIFETIME.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=_over_tls(request, state.settings),
    )


def end(response: Response) -> None:
    """Signs the browser out that receives `response`."""
    response.delete_cookie(COOKIE, httponly=True, samesite="lax")


def find(request: Request) -> Session | None:
    """The session that the request's cookie proves, or None."""
    cookie = request.cookies.get(COOKIE)
    if cookie is None:
        return None
    lifetime = int(LIFETIME.total_seconds())
    serializer = _sessions(current(request).signing)
    try:
        (by, nonce), signed_at = serializer.loads(cookie, max_age=lifetime, return_timestamp=True)
    except (BadData, TypeError, ValueError):
        return None
    return Session(by=by, nonce=nonce, ends_at=signed_at.astimezone(UTC) + LIFETIME)


async def signed_in(request: Request) -> Session:
    """FastAPI dependency: the session.

    Raises:
        SignInRequiredError: there is none; pages turn it into a redirect.
    """
    session = find(request)
    if session is None:
        raise SignInRequiredError
    request.state.session = session
    return session


def form_token(state: State, session: Session) -> str:
    """What every form of this session carries."""
    return _forms(state.signing).sign(session.nonce).decode()


def check_form(request: Request, session: Session, token: str) -> None:
    """Proves that a form is ours and this session's.

    Raises:
        ForbiddenError: it is not.
    """
    check_origin(request)
    try:
        nonce = _forms(current(request).signing).unsign(token, max_age=int(LIFETIME.total_seconds()))
    except BadData:
        raise ForbiddenError(_FOREIGN) from None
    if not secrets.compare_digest(nonce.decode(), session.nonce):
        raise ForbiddenError(_FOREIGN)


def check_origin(request: Request) -> None:
    """Proves by what the browser says of itself that a form was sent from our own pages.

    Raises:
        ForbiddenError: it was sent from elsewhere. A caller that says nothing is no browser.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        # Browsers send it over TLS and to localhost, whatever a proxy made of Host.
        ours = site in ("same-origin", "none")
    else:
        origin = request.headers.get("origin")
        ours = origin is None or urlsplit(origin).netloc in _own_hosts(request)
    if not ours:
        raise ForbiddenError(_FOREIGN)


def local_path(wanted: str) -> str:
    """Where to go after signing in: `wanted` if it is a path of this site, else the status page."""
    # Browsers read `//host` and `/\host` as another site, and drop tabs and line ends while they read.
    plain = wanted.startswith("/") and wanted.isprintable() and "\\" not in wanted
    return wanted if plain and not wanted.startswith("//") else "/"


def _own_hosts(request: Request) -> set[str]:
    hosts = {request.headers.get("host", "")}
    public = current(request).settings.public_url
    if public:
        hosts.add(urlsplit(public).netloc)
    return hosts - {""}


def _over_tls(request: Request, settings: Settings) -> bool:
    return request.url.scheme == "https" or (settings.public_url or "").startswith("https:")


def _sessions(signing: list[str]) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(signing, salt="rota.session")


def _forms(signing: list[str]) -> TimestampSigner:
    return TimestampSigner(signing, salt="rota.form")
