"""Who is asking: the API key in `Authorization: Bearer …`, and what its role may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request

from rota.errors import ForbiddenError, InvalidKeyError
from rota.ledger import keys
from rota.web.state import State, current

_bearer = HTTPBearer(auto_error=False, scheme_name="API key", description="A key made by `rota key create`, `rota_…`.")


@dataclass(frozen=True)
class Caller:
    """The key's owner; `account` is None for an operator, who may see and change everything."""

    account: str | None
    secret: str = field(repr=False)


def state_of(request: Request) -> State:
    """The worker's state, as a dependency."""
    return current(request)


StateNeeded = Annotated[State, Depends(state_of)]


async def caller(
    state: StateNeeded, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    """Whoever holds a valid key.

    Raises:
        InvalidKeyError: no key, or an unknown, expired or revoked one.
    """
    if credentials is None:
        raise InvalidKeyError("Send an API key as `Authorization: Bearer …`.")
    async with state.ledger.begin() as tx:
        key = await keys.authenticate(tx, credentials.credentials)
    return Caller(account=key.account, secret=credentials.credentials)


async def operator(who: Annotated[Caller, Depends(caller)]) -> Caller:
    """Whoever holds a valid operator's key.

    Raises:
        ForbiddenError: it is a client's key.
    """
    if who.account is not None:
        raise ForbiddenError("This is the operator's: a client's key sees its own profiles alone.")
    return who


AnyCaller = Annotated[Caller, Depends(caller)]
OperatorOnly = Depends(operator)
