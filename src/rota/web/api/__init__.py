"""REST for operators and clients under `/api/v1`: one module per noun, described by OpenAPI.

`python -m rota.web.api` prints that description; `openapi.json` in the repository is a copy of it.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends

from rota.web.api import (
    accounts,
    bots,
    comparisons,
    dead_letters,
    drains,
    fleets,
    incidents,
    keys,
    profiles,
    records,
    servers,
    sign_ins,
    webhooks,
)
from rota.web.api.models import PROBLEMS, storable

router = APIRouter(prefix="/api/v1", responses=PROBLEMS, dependencies=[Depends(storable)])
for noun in (
    profiles,
    records,
    servers,
    bots,
    fleets,
    comparisons,
    drains,
    incidents,
    accounts,
    keys,
    sign_ins,
    webhooks,
    dead_letters,
):
    router.include_router(noun.router)
