"""How the command line reaches a rota: address and key, and REST with rota's own errors."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import quote

import httpx2
import typer
from platformdirs import user_data_path

from rota.errors import FieldError, InternalError, ProblemError, RotaError, problem_classes

TIMEOUT = 30.0
PAGE = 500

Url = Annotated[str | None, typer.Option(help="Where rota is (ROTA_URL).")]
Key = Annotated[str | None, typer.Option(help="An API key (ROTA_API_KEY).")]
DataDir = Annotated[Path | None, typer.Option(help="Data directory of a rota on this machine (ROTA_DATA_DIR).")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]
After = Annotated[str | None, typer.Option(help="The `next` that the page before ended with.")]
Expires = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"], help="UTC.")
]
FleetName = Annotated[str, typer.Option(help="Which fleet.")]


def find_access(url: str | None, key: str | None, data_dir: Path | None = None) -> tuple[str, str]:
    """Address and key: what is given, else the environment, else what `rota serve` left in the data directory.

    Raises:
        RotaError: one of them cannot be found; the text says what to do.
    """
    found_url, found_key = url or os.environ.get("ROTA_URL"), key or os.environ.get("ROTA_API_KEY")
    if not (found_url and found_key):
        folder = data_dir or Path(os.environ.get("ROTA_DATA_DIR") or user_data_path("rota"))
        kept = _kept(folder / "access.json")
        found_url, found_key = found_url or kept.get("url"), found_key or kept.get("key")
    if not found_url:
        raise RotaError("where is rota? Start one with `rota serve`, or give --url (ROTA_URL)")
    if not found_key:
        raise RotaError("which key? Give --key (ROTA_API_KEY), or --data-dir of a rota on this machine")
    return found_url.rstrip("/"), found_key


class LostError(RotaError):
    """A connection ended before the answer did."""


class Access:
    """REST with an API key; every error is one of rota's own."""

    def __init__(self, url: str | None, key: str | None, data_dir: Path | None = None) -> None:
        """See `find_access` for what is taken where something is not given."""
        self.url, found = find_access(url, key, data_dir)
        if not found.isascii():
            raise RotaError("that is no API key: keys are made of plain letters and digits")
        headers = {"authorization": f"Bearer {found}"}
        self._client = httpx2.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        """The answer's JSON."""
        return self._call("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """The answer's JSON; None where there is none."""
        return self._call("POST", path, json=body, params=query)

    def patch(self, path: str, body: Any) -> Any:
        """The answer's JSON."""
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> Any:
        """Deletes what is at `path`; the answer's JSON, None where there is none."""
        return self._call("DELETE", path)

    @contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, silence: float = TIMEOUT, **query: Any
    ) -> Iterator[Iterator[bytes]]:
        """The answer piece by piece as it comes; `silence` is how many seconds may lie between two pieces.

        Raises:
            LostError: the connection ended, or could not be made; at any piece.
            ProblemError: refused.
        """
        timeout = httpx2.Timeout(TIMEOUT, read=silence)
        try:
            with self._client.stream("GET", path, params=query, headers=headers, timeout=timeout) as reply:
                if not reply.is_success:
                    reply.read()
                    raise problem_of(reply.status_code, reply.text)
                yield reply.iter_bytes()
        except httpx2.InvalidURL as error:
            raise RotaError(f"{self.url} is not an address: {error}") from None
        except httpx2.HTTPError as error:
            raise LostError(f"lost rota at {self.url} ({str(error) or type(error).__name__})") from None

    def page(self, path: str, limit: int, after: str | None, **query: Any) -> dict[str, Any]:
        """`items`, at most `limit` however many pages of REST that takes, and `next`, null at the end."""
        items: list[Any] = []
        while True:
            page = self.get(path, limit=min(PAGE, limit - len(items)), after=after, **query)
            items += page["items"]
            after = page["next"]
            if after is None or len(items) >= limit:
                return {"items": items, "next": after}

    def id_of(self, path: str, prefix: str, wanted: str, field: str = "name", **query: Any) -> str:
        """The id of the one item whose `field` is `wanted`; an id, told by its prefix, is taken as it is.

        Raises:
            RotaError: there is none of that name, or more than one.
        """
        if wanted.startswith(prefix):
            return part(wanted)
        found, after = [], None
        while True:
            page = self.get(path, limit=PAGE, after=after, **query)
            found += [item["id"] for item in page["items"] if item[field] == wanted]
            after = page["next"]
            if after is None:
                break
        if not found:
            raise RotaError(f"there is no {path.strip('/').removesuffix('s')} named {wanted!r}")
        if len(found) > 1:
            raise RotaError(
                f"{len(found)} of {path.strip('/')} are named {wanted!r}; give an id: {', '.join(found[:5])}"
            )
        return str(found[0])

    def _call(self, method: str, path: str, **more: Any) -> Any:
        try:
            reply = self._client.request(method, path, **more)
        except httpx2.InvalidURL as error:
            raise RotaError(f"{self.url} is not an address: {error}") from None
        except httpx2.TimeoutException:
            message = (
                f"rota at {self.url} does not answer within {TIMEOUT:g} s: is it stopped or overloaded, or one of its "
                "stores away? See its log, and what GET /healthz says"
            )
            raise RotaError(message) from None
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            message = f"cannot reach rota at {self.url} ({reason}): start it with `rota serve`, or set ROTA_URL"
            raise RotaError(message) from None
        except (ValueError, RecursionError) as error:
            # NaN, half a surrogate pair, nesting without end: Python has it, JSON does not.
            raise RotaError(f"what was given cannot be sent as JSON: {error}") from None
        if reply.is_success:
            return reply.json() if reply.content else None
        raise problem_of(reply.status_code, reply.text)


def with_rota(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes an open `Access` as its first argument, made from `--url`, `--key` and `--data-dir`."""

    @wraps(command)
    def opened(*, url: str | None, key: str | None, data_dir: Path | None, **rest: Any) -> None:
        with Access(url, key, data_dir) as rota:
            command(rota, **rest)

    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    named = (("url", Url), ("key", Key), ("data_dir", DataDir))
    access = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in named]
    parameters = [*(parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in own), *access]
    # Typer makes the options of a command from its signature.
    opened.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    opened.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return opened


def part(name: str) -> str:
    """A name as one part of a path.

    Raises:
        RotaError: no name could look like that.
    """
    if name.strip(".") == "":
        raise RotaError(f"{name!r} is not a name")
    return quote(name.encode("utf-8", "replace"), safe="")


def utc(moment: datetime | None) -> str | None:
    """A moment as REST takes it; without a zone it is meant in UTC."""
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def problem_of(status: int, text: str) -> ProblemError:
    """The error that an answer tells of."""
    try:
        told = json.loads(text)
        fields = tuple(FieldError(wrong["field"], wrong["message"]) for wrong in told.get("errors", []))
        cls = problem_classes().get(told["code"], InternalError)
        problem = cls(told["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return InternalError(f"an answer that is not rota's (status {status}): is the address right?")
    problem.fields = fields
    return problem


@with_rota
def login(rota: Access, *, as_json: AsJson = False) -> None:
    """Print a link that signs one person in to the pages, once."""
    made = rota.post("/sign-ins")
    typer.echo(json.dumps(made) if as_json else made["url"])


def _kept(path: Path) -> dict[str, str]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RotaError(f"cannot read {path}: {error}") from None
    return kept if isinstance(kept, dict) else {}
