"""The few REST calls that preparing a simulation takes, as an operator makes them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self

import httpx2

from rota.errors import InternalError, ProblemError, UnavailableError, problem_classes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE = 500
"""Items asked for at once."""
AGAIN = 1.0
"""Seconds from an answer that rota cannot read now to the next try."""


class Rest:
    """`/api/v1` of one rota, with an operator's key."""

    def __init__(
        self, url: str, key: str, *, connections: int = 8, timeout: float = 30.0, patience: float = 0.0
    ) -> None:
        """Opens nothing yet; `connections` is also how many calls are under way at most.

        What is read is asked for again for `patience` seconds while rota or a store of it is away.
        """
        self.url = url.rstrip("/")
        self._patience = patience
        self._client = httpx2.AsyncClient(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout,
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, path: str, **params: str | int) -> Any:
        """Reads something."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return await self._call("GET", path, params=params)
            except UnavailableError:
                if time.monotonic() + AGAIN > deadline:
                    raise
                await asyncio.sleep(AGAIN)

    async def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Makes something, or has something done."""
        return await self._call("POST", path, json=body or {})

    async def patch(self, path: str, body: dict[str, Any]) -> Any:
        """Changes something."""
        return await self._call("PATCH", path, json=body)

    async def delete(self, path: str) -> None:
        """Removes something."""
        await self._call("DELETE", path)

    async def pages(self, path: str, **params: str | int) -> AsyncIterator[dict[str, Any]]:
        """Every item of a list, page after page."""
        after: str | None = ""
        while after is not None:
            page = await self.get(path, limit=PAGE, **params, **({"after": after} if after else {}))
            for item in page["items"]:
                yield item
            after = page["next"]

    async def _call(self, method: str, path: str, **request: Any) -> Any:
        """The answer's JSON.

        Raises:
            ProblemError: rota refused, or (`UnavailableError`) could not be reached at all.
        """
        try:
            response = await self._client.request(method, path, **request)
        except httpx2.TransportError as error:
            why = str(error) or type(error).__name__
            msg = f"cannot reach rota at {self.url} ({why}): is `rota serve` running?"
            raise UnavailableError(msg) from None
        if response.is_error:
            raise _problem(response)
        return response.json() if response.content else None


def _problem(response: httpx2.Response) -> ProblemError:
    where = f"{response.request.method} {response.request.url.path}"
    try:
        problem = response.json()
        error = problem_classes().get(problem["code"], InternalError)
        fields = "".join(f"; {wrong['field']}: {wrong['message']}" for wrong in problem.get("errors", ()))
        return error(f"{problem['detail']} ({where}{fields})")
    except (ValueError, KeyError, TypeError):
        return InternalError(f"{where} was answered with {response.status_code} and no problem of rota's")
