"""The WebSocket endpoint `/yjs/{document}`: the door, then a session in a room until the connection ends.

Written on raw ASGI: after the handshake a frame goes from the transport to the room in one call. What a stock client
must learn as final is told by a close code after the upgrade, since browsers hide the status of a refused one; pages
of other origins, and everybody while this node is full or leaving, are refused before it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING

import structlog
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from collab.errors import CloseCode, CollabError, Forbidden, close_code_for
from collab.node.outbox import Outbox
from collab.protocol.names import canonical_name
from collab.room import Session
from collab.server.asgi import AsgiConnection
from collab.server.auth import select_subprotocol
from collab.server.direct import EXTENSION
from collab.server.problems import problem

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from collab.node import Hub, LiveRoom
    from collab.server.auth import Access, Authenticate, Origins
    from collab.server.connection import Newcomer, ServedConnection

MAX_SESSION_S = 12 * 3600.0
"""A session that outlives this has to show its token again."""

log = structlog.get_logger(__name__)


class YjsEndpoint:
    """The ASGI application behind the route."""

    def __init__(
        self, hub: Hub, authenticate: Authenticate, origins: Origins, *, outbox_bytes: int, max_frame_bytes: int
    ) -> None:
        self._hub = hub
        self._authenticate = authenticate
        self._origins = origins
        self._outbox_bytes = outbox_bytes
        self._max_frame_bytes = max_frame_bytes
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket from its upgrade request on; a direct connection lives on when this has returned."""
        await self._hub.door.turn()
        newcomer = self._newcomer(scope, receive, send)
        refusal = self._refuse(scope)
        if refusal is not None:
            self._hub.counters.denials.add(str(refusal.status_code))
            await newcomer.refuse(refusal)
            return
        verdict = await self._admit(scope)
        await newcomer.accept(select_subprotocol(scope.get("subprotocols") or ()))
        visit = Visit(self._hub, newcomer)
        try:
            if isinstance(verdict, CollabError):
                visit.turn_away(verdict)
            else:
                await visit.enter(*verdict, f"{self._hub.node}-{next(self._numbers)}")
            await newcomer.serve(visit)
        except BaseException:
            visit.on_ended()
            raise

    def _refuse(self, scope: Scope) -> Response | None:
        if not self._origins.allows(HTTPConnection(scope)):
            return problem(403, "origin_refused", "This page may not connect here.")
        if self._hub.draining:
            return problem(503, "draining", "This node is shutting down.", headers={"Retry-After": "2"})
        if self._hub.connections.full:
            return problem(503, "overloaded", "This node has all the sessions it may.", headers={"Retry-After": "2"})
        return None

    async def _admit(self, scope: Scope) -> tuple[str, Access] | CollabError:
        try:
            document = canonical_name(scope["path_params"]["document"])
            access = await self._authenticate(HTTPConnection(scope), document)
            if access.grant(document) is None:
                return Forbidden("no access")
        except CollabError as error:
            return error
        return document, access

    def _newcomer(self, scope: Scope, receive: Receive, send: Send) -> Newcomer:
        direct: Newcomer | None = scope["extensions"].get(EXTENSION) if "extensions" in scope else None
        if direct is not None:
            return direct
        return AsgiConnection(
            WebSocket(scope, receive, send), outbox_bytes=self._outbox_bytes, max_frame_bytes=self._max_frame_bytes
        )


class Visit:
    """One session from the end of its handshake to the end of its connection, which it hears."""

    __slots__ = ("_connection", "_ended", "_expiry", "_hub", "_outbox", "_room", "_session")

    def __init__(self, hub: Hub, connection: ServedConnection) -> None:
        self._hub = hub
        self._connection = connection
        self._outbox = Outbox(connection)
        self._ended = False
        self._room: LiveRoom | None = None
        self._session: Session | None = None
        self._expiry: asyncio.TimerHandle | None = None
        hub.counters.connections_opened += 1
        hub.counters.connections += 1

    async def enter(self, document: str, access: Access, session_id: str) -> None:
        """Join the document's room, or be turned away."""
        grant = access.grant(document)
        if grant is None:
            self.turn_away(Forbidden("no access"))
            return
        session = Session(session_id, access.identity, grant)
        try:
            self._room = await self._hub.enter(document, session, self._outbox)
        except CollabError as error:
            log.info("session_refused", document=document, session=session_id, error=type(error).__name__)
            self.turn_away(error)
            return
        self._session = session
        log.info("session_joined", document=document, session=session_id, grant=grant.value)
        if access.expires_at is not None:
            lifetime = max(0.0, access.expires_at - time.time())
            self._expiry = asyncio.get_running_loop().call_later(
                min(lifetime, MAX_SESSION_S), self._connection.close, CloseCode.UNAUTHENTICATED
            )

    def turn_away(self, error: CollabError) -> None:
        """Close with the code that stands for ``error``."""
        self._connection.close(close_code_for(error))

    # Listener

    def on_frame(self, data: bytes) -> None:
        """A message for the room."""
        room, session = self._room, self._session
        if room is not None and session is not None:
            room.receive(session, data)

    def on_text(self) -> None:
        """No dialect here has text."""
        self._connection.close(CloseCode.UNSUPPORTED_DATA)

    def on_over_bound(self) -> None:
        """The reader is slow."""
        self._outbox.over_bound()

    def on_drained(self) -> None:
        """The reader has caught up with what was written."""
        self._outbox.drained()

    def on_ended(self) -> None:
        """The connection is gone; told twice is no mistake."""
        if self._ended:
            return
        self._ended = True
        counters, code = self._hub.counters, self._connection.closed_with
        counters.connections -= 1
        counters.closes.add("client" if code is None else str(code.code))
        if self._expiry is not None:
            self._expiry.cancel()
        if self._room is not None and self._session is not None:
            self._hub.leave(self._room, self._session)
            log.info("session_left", document=self._room.name, session=self._session.id)
            self._room = None
