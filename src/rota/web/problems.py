"""A problem as a response of REST: `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import json
import math

from starlette.responses import Response

from rota.errors import ProblemError


def problem_response(problem: ProblemError) -> Response:
    """The answer, with Retry-After where the caller is to come back and the scheme where a key is wanted."""
    headers = {}
    if problem.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(problem.retry_after)))
    if problem.status == 401:  # noqa: PLR2004 - RFC 9110 wants the scheme named
        headers["www-authenticate"] = "Bearer"
    body = json.dumps(problem.problem()).encode()
    return Response(body, problem.status, headers, media_type="application/problem+json")
