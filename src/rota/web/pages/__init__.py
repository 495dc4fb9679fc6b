"""The pages for people. `router`, `static_app` and `problem_page` are what the application is put together from.

One module per page: its context (a frozen dataclass, all that its template may use), how it is read, and its routes.
"""

from __future__ import annotations

from fastapi import APIRouter

from rota.web.pages import bot, incidents, profile, records, server, sign_in, status, webhook, webhooks
from rota.web.pages.problem import problem_page
from rota.web.pages.static import static_app

router = APIRouter(include_in_schema=False)
for _page in (status, incidents, server, bot, profile, records, webhooks, webhook, sign_in):
    router.include_router(_page.router)

__all__ = ["problem_page", "router", "static_app"]
