"""The door every REST route has: host, origin, identity, role, media type, bounded bodies, safe headers.

`GuardedRoute` is the class of every route under /v1; `Guard` and `Bodies` are the ASGI middleware around everything
that is served. What a route works with comes from `Rest`, kept in the application's state by `collab.server.http.api`.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import Depends, HTTPException, Request
from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from collab.errors import Forbidden, Unauthenticated
from collab.protocol.names import canonical_name
from collab.room import Role
from collab.server import problems
from collab.server.auth import Access
from collab.server.refusals import Refusals
from collab.server.rights import Rights, is_nobody

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from collab.node.hub import Hub
    from collab.server.auth import Authenticate, Origins
    from collab.server.hosts import Hosts

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
UPDATE_MEDIA_TYPE = "application/octet-stream"
_TAKES_CONTENT = re.compile(r"/v1/documents(/[^/]+/updates)?/?")
_MEDIA_TYPES = frozenset({"application/json", UPDATE_MEDIA_TYPE})
REQUEST_ID = "X-Request-ID"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROBES = frozenset({"/livez", "/readyz"})
"""Asked by machines under any name or address, some of them in HTTP/1.0; they tell nothing."""
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_OVER_TLS = {"Strict-Transport-Security": "max-age=63072000; includeSubDomains"}

log = structlog.get_logger("collab.rest")


@dataclass(frozen=True, slots=True)
class Rest:
    """What the routes work with."""

    hub: Hub
    authenticate: Authenticate
    origins: Origins
    refusals: Refusals
    """How often who could not say who they are, here or at the WebSocket endpoint."""
    token_in_url: bool = True
    """Whether a link may stand in the address."""
    max_token_lifetime_s: float | None = None
    """Seconds a token is good for at most; None where `authenticate` does not tell."""
    rights: Rights = field(init=False)
    """Who is asking, and what they may: what `authenticate` says is a part of that."""

    def __post_init__(self) -> None:
        """Both ways in ask the same."""
        rights = Rights(self.hub, self.authenticate, token_in_url=self.token_in_url)
        object.__setattr__(self, "rights", rights)


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Largest request bodies, in bytes."""

    usual: int = 64 * 1024
    content: int = 10 * 1024 * 1024
    """Of routes that take content or an update."""

    def of(self, method: str, path: str) -> int:
        """The limit for a request."""
        return self.content if method == "POST" and _TAKES_CONTENT.fullmatch(path) else self.usual


class GuardedRoute(APIRoute):
    """A route nobody passes unasked: origin, name, identity, role and media type are checked before any body is read.

    An address that was refused too often for want of an identity is asked nothing: 429 (SPEC C6).

    A route with `{name}` in its path needs the role for that document which `needed_role` says. A route without it, and
    not in `OF_EVERYTHING`, checks the role itself.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the checks."""
        handle = super().get_route_handler()

        async def admitted(request: Request, rest: Rest) -> Response:
            changes = request.method not in SAFE_METHODS
            if changes and not _may_ask(request, rest.origins):
                raise Forbidden("Pages of this origin may not change anything here.")
            raw_name = request.path_params.get("name")
            document = None if raw_name is None else canonical_name(raw_name)
            access = await rest.rights.who(request, document)
            if self.path_format.startswith(OF_ACCESS) and is_nobody(access):
                raise HTTPException(409, _NOBODY)
            if self.path_format in OF_EVERYTHING:
                access.require("*", Role.ADMIN)
            if document is not None:
                await rest.rights.require(access, document, needed_role(self.path_format, request.method))
            if changes:
                _check_media_type(request)
            request.state.access = access
            return await handle(request)

        async def guarded(request: Request) -> Response:
            rest: Rest = request.app.state.rest
            if (away := rest.refusals.answer(request.scope)) is not None:
                return away
            try:
                return await admitted(request, rest)
            except Unauthenticated:
                rest.refusals.note(request.scope)
                raise

        return guarded


OF_DOCUMENT = "/v1/documents/{name}/"
OF_ACCESS = (f"{OF_DOCUMENT}grants", f"{OF_DOCUMENT}links", "/v1/tickets", "/v1/revocations")
"""Routes about who may do what. Where nobody is asked who they are (auth=open) there is nothing for them to do: 409."""
OF_EVERYTHING = frozenset({"/v1/revocations"})
"""Routes that need an admin of every document (`*`), asked before their body is read."""
_NOBODY = "This server asks nobody who they are (auth=open), so there is nobody to grant anything to."


def needed_role(path: str, method: str) -> Role:
    """What somebody must be in a document for a route with its name in the path.

    Who else may is an admin's business; else looking takes read, and whatever can change something write.
    """
    if path.startswith(OF_ACCESS):
        return Role.ADMIN
    return Role.READ if method in SAFE_METHODS else Role.WRITE


def _may_ask(request: Request, origins: Origins) -> bool:
    """Whether a request that changes something is a program's, or comes from a page that may send it.

    The browser's own word, `Sec-Fetch-Site`, is asked beside the origin: a form of another site that reaches this
    server under a name of its own, or without an origin, is still called cross-site. An origin allowed by name may be.
    """
    if not origins.allows(request):
        return False
    by_name = "*" in origins.allowed or request.headers.get("origin", "").lower() in origins.allowed
    return by_name or request.headers.get("sec-fetch-site", "none") in {"same-origin", "none"}


def _check_media_type(request: Request) -> None:
    # Types that a form cannot have: no browser sends these to another site without asking first (CORS).
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    expected = UPDATE_MEDIA_TYPE if request.scope["path"].endswith("/updates") else "application/json"
    if sent != expected and (has_body or (sent and sent not in _MEDIA_TYPES)):
        raise HTTPException(415, f"send {expected}")


def _hub(request: Request) -> Any:
    return request.app.state.rest.hub


def _jobs(request: Request) -> Any:
    return request.app.state.jobs


def _access(request: Request) -> Access:
    access: Access = request.state.access
    return access


def _rights(request: Request) -> Any:
    return request.app.state.rest.rights


def _token_lifetime(request: Request) -> Any:
    return request.app.state.rest.max_token_lifetime_s


TheRights = Annotated[Any, Depends(_rights)]
"""The node's `Rights`."""
TheHub = Annotated[Any, Depends(_hub)]
"""The node's `Hub`. Any, because FastAPI would read a class here as a request parameter."""
TheTokenLifetime = Annotated[Any, Depends(_token_lifetime)]
"""`Rest.max_token_lifetime_s`."""
TheJobs = Annotated[Any, Depends(_jobs)]
"""The node's `Jobs`."""
TheAccess = Annotated[Access, Depends(_access)]
"""What the caller was granted."""


class Guard:
    """The outermost ASGI middleware: refuses foreign hosts, names every request, and gives every response its headers.

    ``hosts`` are the names this server answers to; ``https`` says that browsers reach it over TLS. What a handler
    fails with that should be impossible is logged and answered here, so that this answer has its headers as well.
    """

    def __init__(self, app: ASGIApp, *, hosts: Hosts, https: bool = False) -> None:
        self._app = app
        self._hosts = hosts
        self._headers = {**_HEADERS, **(_OVER_TLS if https else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on with a request id, which log lines carry too, or answer 400 or 421."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get(REQUEST_ID))
        with structlog.contextvars.bound_contextvars(request=request_id):
            answer = _Answer(send, {**self._headers, REQUEST_ID: request_id})
            refusal = None if _path(scope) in _PROBES else self._hosts.refusal(scope)
            try:
                await (refusal or self._app)(scope, receive, answer)
            except ClientDisconnect:
                log.debug("client_left")
            except Exception:
                log.exception("request_failed")
                if answer.begun:
                    raise
                await problems.fault()(scope, receive, answer)


class _Answer:
    """A ``send`` that adds headers where none of that name are, and knows whether the answer has begun."""

    def __init__(self, send: Send, headers: dict[str, str]) -> None:
        self._send = send
        self._headers = headers
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        await self._send(message)


def _request_id(sent: str | None) -> str:
    """The client's own, when it is short and plain: it is repeated in a header and in log lines."""
    return sent if sent is not None and _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class Bodies:
    """ASGI middleware that bounds request bodies while they stream in."""

    def __init__(self, app: ASGIApp, *, limits: BodyLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 413 at once when the length is announced."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.of(scope["method"], _path(scope))
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isascii() or not announced.isdigit():
            await problems.problem(400, "bad_request", "The Content-Length is not a number.")(scope, receive, send)
        elif int(announced[:20]) > limit:
            refusal = problems.problem(413, "content_too_large", _too_large(limit), headers={"Connection": "close"})
            await refusal(scope, receive, send)
        else:
            await self._app(scope, _bounded(receive, limit), send)


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


def _too_large(limit: int) -> str:
    return f"The body is larger than the {limit} bytes this address takes."
