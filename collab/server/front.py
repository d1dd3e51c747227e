"""The first protocol of every connection to `collab serve`: HTTP as uvicorn speaks it, and a short way to documents.

An upgrade request for a document that is as RFC 6455 wants it becomes a `DirectProtocol`, and the endpoint is called
without the layers REST has around it: they made half of what a join cost, and stayed in memory as long as the session.
Every other upgrade request goes uvicorn's own way, which knows what to answer.

Leans on uvicorn's ``HttpToolsProtocol``; `tests/unit/server/test_direct.py` fails when its insides move.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import structlog
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import is_ssl

from collab.errors import Misuse
from collab.server.direct import EXTENSION, DirectProtocol, Terms, last_response
from collab.server.problems import phrase, problem
from collab.server.request_head import MAX_HEAD_BYTES, MAX_HEADERS, MAX_LINE_BYTES, TOO_LARGE, Objection, objection

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from starlette.types import ASGIApp, Scope

PREFIX = b"/yjs/"
KEY_BYTES = 16

UNREAD_BYTES = 20 * 1024
"""1 KiB a second: a slower reader is no reader."""

TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds a client may take to send the parts of a request, however busily it sends them."""

    head: float = 10.0
    body: float = 120.0
    unread: float = 20.0
    """For the next `UNREAD_BYTES` of an answer, or what is left of it."""


class FrontProtocol(HttpToolsProtocol):
    """See the module; made by `front`."""

    endpoint: ASGIApp
    """Serves the extension `EXTENSION`, and calls neither ``receive`` nor ``send``."""
    somebody_came: Callable[[], None]
    timed_out: Callable[[], None]
    terms: Terms
    deadlines: Deadlines

    _deadline: asyncio.TimerHandle | None = None
    """When the head, or the body, of the request that is being read has to be whole. Nothing the client sends moves it:
    who sends a byte a second would otherwise keep a connection for ever (faults matrix A08)."""
    _reading = False
    """Whether the head of a request has been read, and not the end of its body."""
    _unread = 0
    """Bytes of answers that the client had not taken when last looked at."""
    _look: asyncio.TimerHandle | None = None
    """When that is looked at again. Who asks and does not read would keep answers in memory for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection was accepted. As uvicorn does it, without two socket objects made to ask for addresses."""
        type(self).somebody_came()
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = _address(transport.get_extra_info("sockname"))
        self.client = _address(transport.get_extra_info("peername"))
        self.scheme = "https" if is_ssl(transport) else "http"
        self._head_bytes = 0
        """Of a head under way; negative while there is none."""
        self._objection: Objection | None = None
        self._finish_within(self.deadlines.head)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_waiting()
        self._stop_looking()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """The client has taken most of what waited."""
        self._unread = 0
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request: from the first one on, its head has a deadline and a bound. uvicorn would gather a head
        without an end for as long as it comes.
        """
        if self._deadline is None and not self._reading:
            self._finish_within(self.deadlines.head)
        began_before = self._head_bytes >= 0
        super().data_received(data)
        if began_before and self._head_bytes >= 0 and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._objection = TOO_LARGE
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Its head has been read. What is raised here ends the parsing, and `send_400_response` is called."""
        self._head_bytes = -1
        upgrade = bool(self.parser.should_upgrade()) and self._should_upgrade()
        self._objection = objection(self.parser.get_http_version(), self.url, self.headers, upgrade=upgrade)
        if self._objection is not None:
            raise ValueError(self._objection.sentence)
        self._reading = True
        self._finish_within(self.deadlines.body)
        if self._look is None and not upgrade:
            self._look_later()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._reading = False
        self._stop_waiting()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Say what was wrong, in the form of every other refusal, and hang up."""
        status, sentence = self._objection or Objection(400, "This is not HTTP.")
        code = phrase(status).lower().replace(" ", "_")
        self.transport.write(last_response(problem(status, code, sentence), self.server_state.default_headers))
        self.transport.close()

    def _finish_within(self, seconds: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self._time_out)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _look_later(self) -> None:
        self._look = self.loop.call_later(self.deadlines.unread, self._look_at_unread)

    def _stop_looking(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _look_at_unread(self) -> None:
        """Cut off a client that took nothing worth mentioning since the last look."""
        left = self.transport.get_write_buffer_size()
        if left and self._unread and left > self._unread - UNREAD_BYTES:
            type(self).timed_out()
            self.transport.abort()
            return
        self._unread = left
        self._look_later()

    def _time_out(self) -> None:
        """Cut off whoever is this slow, with a word of why unless something else was said already."""
        self._deadline = None
        cycle: RequestResponseCycle | None = self.cycle
        if not self._reading and cycle is not None and not cycle.response_complete:
            self._finish_within(self.deadlines.head)  # of the next request, while this side is the slow one
            return
        type(self).timed_out()
        if self._reading and cycle is not None and cycle.response_started:
            self.transport.abort()
        else:
            self.transport.write(TOO_SLOW)
            self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        """An upgrade request has been read."""
        self._stop_waiting()
        self._stop_looking()
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
    endpoint: ASGIApp,
    *,
    somebody_came: Callable[[], None],
    timed_out: Callable[[], None],
    terms: Terms,
    deadlines: Deadlines,
    trusted: list[str] | str,
) -> type[FrontProtocol]:
    """``somebody_came`` is called for every connection, ``timed_out`` for every missed deadline; ``trusted`` are the
    proxies whose `X-Forwarded-*` are believed, as uvicorn believes them for REST.
    """
    behind_proxy: Any = ProxyHeadersMiddleware(endpoint, trusted_hosts=trusted)  # type: ignore[arg-type]
    members = {
        "endpoint": staticmethod(behind_proxy),
        "somebody_came": staticmethod(somebody_came),
        "timed_out": staticmethod(timed_out),
        "terms": terms,
        "deadlines": deadlines,
    }
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
