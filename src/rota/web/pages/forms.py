"""Forms that pages send: read within bounds, and proven to be ours before anything is done."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from rota.errors import InvalidRequestError
from rota.web.http import read_body
from rota.web.session import Session, check_form, signed_in

MOST_BYTES = 16_384


async def read_form(request: Request) -> dict[str, str]:
    """The form's fields; the last one counts where a name comes twice.

    Raises:
        BodyTooLargeError: it is longer than any of ours.
        InvalidRequestError: it is no form.
    """
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise InvalidRequestError("This address takes a form.")
    body = await read_body(request.receive, MOST_BYTES)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=32))
    except ValueError:
        raise InvalidRequestError("This form cannot be read.") from None


async def our_form(request: Request, session: Annotated[Session, Depends(signed_in)]) -> dict[str, str]:
    """FastAPI dependency of everything that changes something: the form, proven to be ours.

    Raises:
        SignInRequiredError: nobody has signed in.
        ForbiddenError: the form is not ours.
    """
    form = await read_form(request)
    check_form(request, session, form.get("form_token", ""))
    return form
