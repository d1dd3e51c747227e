"""The door every REST route has: origin, identity, grant, media type, bounded bodies, safe headers.

`GuardedRoute` is the class of every route under /v1; `Guard` is the ASGI middleware around them. What a route works
with comes from `Rest`, kept in the application's state by `collab.server.http.api`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders

from collab.errors import Forbidden
from collab.protocol.names import canonical_name
from collab.server import problems
from collab.server.auth import Access

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from collab.node.hub import Hub
    from collab.server.auth import Authenticate, Origins

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
UPDATE_MEDIA_TYPE = "application/octet-stream"
_TAKES_CONTENT = re.compile(r"/v1/documents(/[^/]+/updates)?/?")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Rest:
    """What the routes work with."""

    hub: Hub
    authenticate: Authenticate
    origins: Origins


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Largest request bodies, in bytes."""

    usual: int = 1024 * 1024
    content: int = 10 * 1024 * 1024
    """Of routes that take content or an update."""

    def of(self, method: str, path: str) -> int:
        """The limit for a request."""
        return self.content if method == "POST" and _TAKES_CONTENT.fullmatch(path) else self.usual


class GuardedRoute(APIRoute):
    """A route nobody passes unasked: origin, name, identity, grant and media type are checked before any body is read.

    A route with `{name}` in its path needs a read grant for that document, and a write grant when its method can
    change something. A route without it checks the grant itself.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the checks."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            rest: Rest = request.app.state.rest
            changes = request.method not in SAFE_METHODS
            if changes and not rest.origins.allows(request):
                raise Forbidden("Pages of this origin may not change anything here.")
            raw_name = request.path_params.get("name")
            document = None if raw_name is None else canonical_name(raw_name)
            access = await rest.authenticate(request, document)
            if document is not None:
                access.require(document, write=changes)
            if changes:
                _check_media_type(request)
            request.state.access = access
            return await handle(request)

        return guarded


def _check_media_type(request: Request) -> None:
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if not has_body:
        return
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    expected = UPDATE_MEDIA_TYPE if request.scope["path"].endswith("/updates") else "application/json"
    if sent != expected:
        raise HTTPException(415, f"send {expected}")


def _hub(request: Request) -> Any:
    return request.app.state.rest.hub


def _jobs(request: Request) -> Any:
    return request.app.state.jobs


def _access(request: Request) -> Access:
    access: Access = request.state.access
    return access


TheHub = Annotated[Any, Depends(_hub)]
"""The node's `Hub`. Any, because FastAPI would read a class here as a request parameter."""
TheJobs = Annotated[Any, Depends(_jobs)]
"""The node's `Jobs`."""
TheAccess = Annotated[Access, Depends(_access)]
"""What the caller was granted."""


class Guard:
    """ASGI middleware: bounds request bodies while they stream in, and gives every /v1 response its headers."""

    def __init__(self, app: ASGIApp, *, limits: BodyLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 413 at once when the length is announced."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        limit = self._limits.of(scope["method"], path)
        announced = Headers(scope=scope).get("content-length", "0")
        guarded = _with_headers(send) if path.startswith("/v1/") else send
        if not announced.isascii() or not announced.isdigit():
            await problems.problem(400, "bad_request", "The Content-Length is not a number.")(scope, receive, guarded)
        elif int(announced[:20]) > limit:
            refusal = problems.problem(413, "content_too_large", _too_large(limit), headers={"Connection": "close"})
            await refusal(scope, receive, guarded)
        else:
            await self._app(scope, _bounded(receive, limit), guarded)


def _bounded(receive: Receive, limit: int) -> Receive:
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            # An HTTPException passes through FastAPI's body reader as it is; anything else becomes a 400 there.
            raise HTTPException(413, _too_large(limit), headers={"Connection": "close"})
        return message

    return bounded


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return with_headers


def _too_large(limit: int) -> str:
    return f"The body is larger than the {limit} bytes this address takes."
