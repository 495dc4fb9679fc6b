"""Errors as pages for people; programs get problem+json from elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from rota.errors import ProblemError, SignInRequiredError, UnavailableError
from rota.web.pages.rendering import SECURITY_HEADERS, render

RETRY = 5
"""Seconds after which a page that failed because of a store is loaded again."""


@dataclass(frozen=True)
class ProblemPage:
    """What went wrong.

    retries: seconds after which the page loads itself again, or None.
    """

    status: int
    title: str
    detail: str
    retries: int | None


async def problem_page(request: Request, problem: ProblemError) -> Response:
    """The error as a page; whoever has to sign in is sent there and comes back afterwards."""
    by_script = "hx-request" in request.headers
    if isinstance(problem, SignInRequiredError):
        # A script would put the sign-in form into the middle of the page.
        return Response(None, 204, {"hx-refresh": "true"}) if by_script else _to_sign_in(request)
    retries = RETRY if isinstance(problem, UnavailableError) and request.method == "GET" else None
    headers = {"hx-reswap": "none"} if by_script else {}
    if problem.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(problem.retry_after)))
    page = ProblemPage(problem.status, problem.title, problem.detail, retries)
    return render(
        request, "problem.html", page, title=problem.title, status=problem.status, headers=headers, fleet="default"
    )


def _to_sign_in(request: Request) -> Response:
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    # What was sent cannot be sent again after signing in.
    where = path if request.method == "GET" and path != "/" else ""
    query = f"?{urlencode({'next': where})}" if where else ""
    return RedirectResponse(f"/sign-in{query}", 303, SECURITY_HEADERS)
