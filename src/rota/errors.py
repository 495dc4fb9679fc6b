"""Every exception of rota, in one tree.

Each class carries the stable `code` that bots and programs branch on, the HTTP `status` it is answered with, and the
message that is used where the raiser has nothing better to say. Nothing here knows HTTP servers or stores.

    RotaError
    ├── SettingsError               a setting is missing or makes no sense
    ├── StoreError                  a store cannot be started or used at all (start-up)
    ├── SpoolError                  a bot's spool on disk cannot be read or written
    └── ProblemError                answered to a caller as application/problem+json
        ├── InvalidRequestError     invalid_request 422
        ├── InvalidKeyError         invalid_key 401
        ├── SignInRequiredError     sign_in_required 401
        ├── UnknownBotError         unknown_bot 401
        ├── ForbiddenError          forbidden 403
        ├── ServerNotAllowedError   server_not_allowed 403
        ├── NotFoundError           not_found 404
        ├── MethodNotAllowedError   method_not_allowed 405
        ├── ConflictError           conflict 409
        ├── SlotContestedError      slot_contested 409
        ├── SupersededError         superseded 409
        ├── BodyTooLargeError       body_too_large 413
        ├── RateLimitedError        rate_limited 429
        ├── HeadTooLargeError       head_too_large 431
        ├── InternalError           internal_error 500
        └── UnavailableError        unavailable 503
            └── DiskFullError       unavailable 503
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


class RotaError(Exception):
    """Something that rota itself noticed; its text is one line that says what to do."""


class SettingsError(RotaError):
    """A setting is missing, unknown or out of range."""


class StoreError(RotaError):
    """Redis or PostgreSQL cannot be started, reached or used (too old, wrong password)."""


class SpoolError(RotaError):
    """A bot's spool on disk cannot be read or written: the disk is full, the file is broken or in use."""


@dataclass(frozen=True)
class FieldError:
    """One field of a request that is wrong: where (`config.url`), and why."""

    field: str
    message: str


class ProblemError(RotaError):
    """An error that a caller of the HTTP interface is told as `application/problem+json` (RFC 9457)."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    default: ClassVar[str] = "Something went wrong inside rota; the log tells more."

    def __init__(
        self,
        detail: str | None = None,
        *,
        fields: tuple[FieldError, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        """`retry_after` is in seconds; `fields` names what is wrong in the request."""
        self.detail = detail or self.default
        self.fields = fields
        self.retry_after = retry_after
        super().__init__(self.detail)

    def problem(self) -> dict[str, Any]:
        """The body of the answer: `status`, `title`, `detail`, `code`, and `errors` where fields are wrong."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "status": self.status,
            "title": self.title,
            "detail": self.detail,
            "code": self.code,
        }
        if self.fields:
            body["errors"] = [{"field": wrong.field, "message": wrong.message} for wrong in self.fields]
        return body


class InvalidRequestError(ProblemError):
    """The request makes no sense as it stands; sending it again will not help."""

    code = "invalid_request"
    status = 422
    title = "Invalid request"
    default = "The request is not valid."


class MalformedRequestError(InvalidRequestError):
    """The body is not JSON at all."""

    status = 400


class InvalidKeyError(ProblemError):
    """The key in `Authorization` is unknown, expired or revoked."""

    code = "invalid_key"
    status = 401
    title = "Invalid key"
    default = "The key is unknown, expired or revoked; ask the operator for a new one."


class SignInRequiredError(ProblemError):
    """A page was asked for without a valid session."""

    code = "sign_in_required"
    status = 401
    title = "Sign-in required"
    default = "Sign in first: run `rota login` on the server for a one-time link."


class UnknownBotError(ProblemError):
    """The token is not, or not any more, that of a bot on the roster."""

    code = "unknown_bot"
    status = 401
    title = "Unknown bot"
    default = "This token is not known (any more): call /bot/auth with what you are working on."


class ForbiddenError(ProblemError):
    """The key is genuine and may not do this."""

    code = "forbidden"
    status = 403
    title = "Forbidden"
    default = "This key may not do that."


class ServerNotAllowedError(ProblemError):
    """No listed server matches the hostname that a bot gave."""

    code = "server_not_allowed"
    status = 403
    title = "Server not allowed"
    default = "This hostname is not on the list: run `rota server add HOSTNAME --bots N`."


class NotFoundError(ProblemError):
    """The thing does not exist, or this key may not see it."""

    code = "not_found"
    status = 404
    title = "Not found"
    default = "There is nothing here by that name."


class MethodNotAllowedError(ProblemError):
    """The address exists, for other methods."""

    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"
    default = "This address does not take that method."


class ConflictError(ProblemError):
    """The wish contradicts what is already there."""

    code = "conflict"
    status = 409
    title = "Conflict"
    default = "That contradicts what is already there."


class SlotContestedError(ProblemError):
    """Several processes replace each other in one slot; whoever holds it now keeps it."""

    code = "slot_contested"
    status = 409
    title = "Slot contested"
    default = (
        "This slot (hostname and instance) was taken over again and again: two processes run in it, as on a cloned "
        "machine, or one is restarted all the time. Stop any work, give each process an instance of its own, and try "
        "again after Retry-After."
    )


class SupersededError(ProblemError):
    """The profile has a newer owner."""

    code = "superseded"
    status = 409
    title = "Superseded"
    default = "The profile has a newer owner: stop that work at once and drop its data."


class BodyTooLargeError(ProblemError):
    """The body is over the limit of this address."""

    code = "body_too_large"
    status = 413
    title = "Body too large"
    default = "The body is too large: split the batch."


class HeadTooLargeError(ProblemError):
    """The request's line and headers are over their limit."""

    code = "head_too_large"
    status = 431
    title = "Headers too large"
    default = "The address and the headers are too large, or the headers too many."


class RateLimitedError(ProblemError):
    """The caller asks more often than it may."""

    code = "rate_limited"
    status = 429
    title = "Rate limited"
    default = "Too many requests: wait as long as Retry-After says."


class InternalError(ProblemError):
    """A fault in rota."""


class UnavailableError(ProblemError):
    """A store is away, or live state is being rebuilt; a later try will do."""

    code = "unavailable"
    status = 503
    title = "Unavailable"
    default = "A store is away at the moment: keep working while the lease lasts and try again."

    def __init__(self, detail: str | None = None, *, retry_after: float = 2) -> None:
        super().__init__(detail, retry_after=retry_after)


class DiskFullError(UnavailableError):
    """The ledger's disk is full; what was not committed is tried again by whoever holds it."""

    default = "The ledger's disk is full: keep the data and try again; an operator has to make room."


def problem_classes() -> dict[str, type[ProblemError]]:
    """Code → class, for whoever turns a received problem back into an exception."""
    found: dict[str, type[ProblemError]] = {}
    queue: list[type[ProblemError]] = [ProblemError]
    while queue:
        cls = queue.pop()
        queue.extend(cls.__subclasses__())
        if cls is not ProblemError:
            found.setdefault(cls.code, cls)  # a class comes before those below it
    return found
