"""The first protocol of every connection to `collab serve`: HTTP as uvicorn speaks it, and a short way to documents.

An upgrade request for a document that is as RFC 6455 wants it becomes a `DirectProtocol`, and the endpoint is called
without the layers REST has around it: they made half of what a join cost, and stayed in memory as long as the session.
Every other upgrade request goes uvicorn's own way, which knows what to answer.

Leans on uvicorn's ``HttpToolsProtocol``; `tests/unit/server/test_direct.py` fails when its insides move.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import structlog
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import is_ssl

from collab.errors import Misuse
from collab.server.direct import EXTENSION, DirectProtocol, Terms

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from starlette.types import ASGIApp, Scope

PREFIX = b"/yjs/"
KEY_BYTES = 16
MAX_HEADERS, MAX_LINE_BYTES = 128, 8192
"""What the `websockets` library takes; it refuses more with the proper status."""

log = structlog.get_logger(__name__)


class FrontProtocol(HttpToolsProtocol):
    """See the module; made by `front`."""

    endpoint: ASGIApp
    """Serves the extension `EXTENSION`, and calls neither ``receive`` nor ``send``."""
    somebody_came: Callable[[], None]
    terms: Terms

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection was accepted. As uvicorn does it, without two socket objects made to ask for addresses."""
        type(self).somebody_came()
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = _address(transport.get_extra_info("sockname"))
        self.client = _address(transport.get_extra_info("peername"))
        self.scheme = "https" if is_ssl(transport) else "http"

    def handle_websocket_upgrade(self) -> None:
        """An upgrade request has been read."""
        key = websocket_key(self.headers) if self.scope["method"] == "GET" else None
        document = document_of(self.url)
        if key is None or document is None:
            super().handle_websocket_upgrade()
            return
        direct = DirectProtocol(self.transport, self.loop, self.server_state, self.terms, key)
        task = self.loop.create_task(_introduce(self.endpoint, self._websocket_scope(document, direct), self.transport))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        self.transport.set_protocol(direct)
        self.connections.discard(self)
        # As when a connection is lost. The parser and this are a cycle, and the collector comes rarely.
        self.parser = None  # type: ignore[assignment]

    def _websocket_scope(self, document: str, direct: DirectProtocol) -> Scope:
        raw_path, _, query = self.url.partition(b"?")
        offered = [value for name, value in self.headers if name == b"sec-websocket-protocol"]
        return {
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if self.scheme == "https" else "ws",
            "server": self.server,
            "client": self.client,
            "root_path": self.root_path,
            "path": self.root_path + unquote(raw_path.decode("ascii")),
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "path_params": {"document": document},
            "query_string": query,
            "headers": self.headers,
            "subprotocols": [token.strip() for value in offered for token in value.decode("latin-1").split(",")],
            "state": self.app_state.copy(),
            "extensions": {EXTENSION: direct},
        }


def front(
    endpoint: ASGIApp, *, somebody_came: Callable[[], None], terms: Terms, trusted: list[str] | str
) -> type[FrontProtocol]:
    """`FrontProtocol` for ``uvicorn.Config(http=...)``.

    ``somebody_came`` is called for every connection; ``trusted`` are the proxies whose `X-Forwarded-*` are believed, as
    uvicorn believes them for REST.
    """
    behind_proxy: Any = ProxyHeadersMiddleware(endpoint, trusted_hosts=trusted)  # type: ignore[arg-type]
    members = {"endpoint": staticmethod(behind_proxy), "somebody_came": staticmethod(somebody_came), "terms": terms}
    return type("BoundFrontProtocol", (FrontProtocol,), members)


def document_of(url: bytes) -> str | None:
    """The name in the path of a document's WebSocket, still to be checked; None when this is some other path."""
    path = url.partition(b"?")[0]
    if not path.startswith(PREFIX) or len(url) > MAX_LINE_BYTES or not url.isascii():
        return None
    name = unquote(path[len(PREFIX) :].decode("ascii"))
    return None if not name or "/" in name else name


def websocket_key(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """The key of a handshake of version 13 (RFC 6455 section 4.2.1); None when something about it is not right."""
    if len(headers) > MAX_HEADERS or any(len(name) + len(value) > MAX_LINE_BYTES for name, value in headers):
        return None
    versions = [value for name, value in headers if name == b"sec-websocket-version"]
    keys = [value for name, value in headers if name == b"sec-websocket-key"]
    if versions != [b"13"] or len(keys) != 1:
        return None
    try:
        key = base64.b64decode(keys[0], validate=True)
    except binascii.Error:
        return None
    return keys[0].decode("ascii") if len(key) == KEY_BYTES else None


def _address(name: object) -> tuple[str, int] | None:
    """Host and port, as ASGI wants them; None for a UNIX socket."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple | list) and len(name) >= 2 else None


async def _introduce(endpoint: ASGIApp, scope: Scope, transport: asyncio.Transport) -> None:
    try:
        await endpoint(scope, _not_called, _not_called)
    except Exception:
        log.exception("websocket_failed")
        transport.abort()


async def _not_called(*_: object) -> Any:
    raise Misuse("a direct connection is spoken to directly")
