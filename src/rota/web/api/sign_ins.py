"""One-time sign-in links for the pages. The operator's."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request

from rota.ledger import sign_ins
from rota.web.api.access import OperatorOnly, StateNeeded

router = APIRouter(prefix="/sign-ins", tags=["sign-ins"], dependencies=[OperatorOnly])


class SignIn(BaseModel):
    """A link that signs one person in, once, within an hour."""

    url: str


@router.post("", status_code=201, operation_id="create_sign_in")
async def create(state: StateNeeded, request: Request) -> SignIn:
    """Makes a one-time sign-in link."""
    async with state.ledger.begin() as tx:
        token = await sign_ins.create(tx)
    base = (state.settings.public_url or str(request.base_url)).rstrip("/")
    return SignIn(url=f"{base}/sign-in?token={token}")
