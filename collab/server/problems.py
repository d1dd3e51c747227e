"""Errors as RFC 9457 problem+json: one table from exceptions to statuses, for every route and every way to fail.

A problem says what happened in a sentence and a stable ``code``; it never holds a traceback, a value that was sent,
or anything about the machine. Called by `collab.server.http`, which installs the handlers.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from collab import errors
from collab.errors import CollabError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.requests import Request

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
"""What a 503 or 423 asks for. Guessed: an engine is back within one second, a database restart takes a few."""
MAX_FAULTS = 20
"""Faults of one request that are listed; the rest would only repeat them."""

_REFUSED_TOO_OFTEN: dict[str, Any] = {
    "description": "This address was refused too often, here or over WebSocket; whoever it is, nothing was looked at.",
    "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to stay away."}},
}

log = structlog.get_logger("collab.rest")

# The first class that fits wins, so the special ones stand before their bases.
_STATUS: tuple[tuple[type[CollabError], int], ...] = (
    (errors.InvalidName, 400),
    (errors.MalformedMessage, 400),
    (errors.InvalidContent, 422),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.DocumentMissing, 404),
    (errors.SnapshotMissing, 404),
    (errors.LinkMissing, 404),
    (errors.DocumentExists, 409),
    (errors.DocumentDeleted, 410),
    (errors.DocumentTooLarge, 413),
    (errors.DocumentQuarantined, 423),
    (errors.Overloaded, 503),
    (errors.RemoteError, 400),
    (errors.Unavailable, 503),
)
# Said in place of the exception's own text, which is written for our logs.
_DETAIL: dict[type[CollabError], str] = {
    errors.DocumentMissing: "There is no document of this name.",
    errors.SnapshotMissing: "The document has no readable snapshot of this number.",
    errors.LinkMissing: "The document has no link of this number.",
    errors.DocumentExists: "A document of this name is there already, or was and is deleted; names are never reused.",
    errors.DocumentDeleted: "The document was deleted.",
    errors.DocumentTooLarge: "The document would become larger than documents may be.",
    errors.DocumentQuarantined: "The document keeps stopping the engine and rests for a while.",
    errors.StoreUnavailable: "The database does not answer; whether the change was made is not known. Try again.",
    errors.EngineDied: "The engine stopped during this work. Try again.",
    errors.Draining: "This node is shutting down. Try again on another.",
    errors.Overloaded: "There is too much to do right now. Try again.",
    errors.DeadlinePassed: "This took too long. Try again.",
}


class Fault(BaseModel):
    """One thing wrong with a request."""

    where: str = Field(description="Place in the request, for example body.meta or query.limit.")
    what: str


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(default="about:blank", description="Always about:blank; `code` tells problems apart.")
    title: str = Field(description="The phrase of the HTTP status.", examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(description="One sentence for a person.", examples=["There is no document of this name."])
    code: str = Field(description="Stable name for programs.", examples=["document_missing"])
    faults: list[Fault] | None = Field(default=None, description="Of a request that does not have the right form.")


def phrase(status: int) -> str:
    """The words of RFC 9110 for a status, which older Pythons know by older names."""
    return {413: "Content Too Large", 422: "Unprocessable Content"}.get(status) or HTTPStatus(status).phrase


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for ``statuses``, and for what everybody may be answered where they may be answered 401."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    told: dict[int | str, dict[str, Any]] = {
        status: {"description": phrase(status), "content": content} for status in statuses
    }
    return {**told, **({429: {**_REFUSED_TOO_OFTEN, "content": content}} if 401 in statuses else {})}


def problem(
    status: int, code: str, detail: str, *, faults: list[Fault] | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A response that says what went wrong."""
    body = Problem(title=phrase(status), status=status, detail=detail, code=code, faults=faults)
    return JSONResponse(
        body.model_dump(mode="json", exclude_none=True),
        status,
        media_type=MEDIA_TYPE,
        # A refused upgrade passes no middleware that would add these.
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})},
    )


def problem_of(error: CollabError) -> JSONResponse:
    """The problem that stands for one of our own exceptions."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if status == 500:  # Misuse: our mistake, and none of the client's business
        log.error("request failed", exc_info=error)
        return fault()
    headers = {401: {"WWW-Authenticate": "Bearer"}}.get(status)
    if status in {423, 503}:
        log.warning("request put off", error=type(error).__name__, detail=str(error))
        headers = {"Retry-After": str(RETRY_AFTER_S)}
    detail = _DETAIL.get(type(error)) or _sentence(str(error)) or f"{phrase(status)}."
    # What the engine refuses comes back as the bare base class.
    code = "malformed_message" if type(error) is errors.RemoteError else _snake(type(error).__name__)
    return problem(status, code, detail, headers=headers)


def fault() -> JSONResponse:
    """The answer to what should be impossible."""
    return problem(500, "fault", "The server made a mistake; it is in its log.")


def install(app: FastAPI) -> None:
    """Make every error of ``app`` a problem, unknown routes and methods included."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, CollabError)  # noqa: S101 - registered for this class only
        return problem_of(error)

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101
        status = error.status_code
        detail = error.detail if error.detail != HTTPStatus(status).phrase else ""
        code = phrase(status).lower().replace(" ", "_")
        return problem(status, code, _sentence(detail) or _DEFAULT[status], headers=error.headers)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        faults = [
            Fault(where=_place(found["loc"]), what=str(found["msg"]).removeprefix("Value error, ")[:200])
            for found in error.errors()[:MAX_FAULTS]
        ]
        return problem(422, "invalid_request", "The request does not have the right form.", faults=faults)

    async def impossible(_: Request, __: Exception) -> JSONResponse:
        return fault()

    app.add_exception_handler(CollabError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, impossible)


class _Defaults(dict[int, str]):
    def __missing__(self, status: int) -> str:
        return f"{phrase(status)}."


_DEFAULT = _Defaults(
    {404: "There is nothing at this address.", 405: "This address does not take that method; see the Allow header."}
)


def _place(location: tuple[int | str, ...]) -> str:
    # A key that the client made up is cut, so that an error cannot be made to repeat a long text.
    return ".".join(str(part)[:40].encode("ascii", "replace").decode() for part in location)


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
