"""The WebSocket endpoint `/yjs/{document}`: the door, then a session in a room until the connection ends.

Written on raw ASGI: after the handshake a frame goes from the transport to the room in one call. What a stock client
must learn as final is told by a close code after the upgrade, since browsers hide the status of a refused one; pages
of other origins, and everybody while this node is full or leaving, are refused before it.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from collab.errors import CloseCode, CollabError, DeadlinePassed, Forbidden, RemoteError, close_code_for
from collab.node.connections import ANONYMOUS
from collab.node.outbox import Outbox
from collab.protocol.names import canonical_name
from collab.room import Session
from collab.server.admission import Admission
from collab.server.allowance import COST, Allowance, Rates
from collab.server.asgi import AsgiConnection
from collab.server.audit import event
from collab.server.auth import select_subprotocol
from collab.server.direct import EXTENSION
from collab.server.hosts import Hosts
from collab.server.problems import problem
from collab.server.refusals import Refusals
from collab.server.rights import Rights, is_nobody

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from collab.node import Hub, LiveRoom
    from collab.server.auth import Access, Authenticate, Origins
    from collab.server.connection import Newcomer, ServedConnection
    from collab.server.rights import Standing

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EndpointLimits:
    """What clients of the endpoint may."""

    outbox_bytes: int = 1024 * 1024
    max_frame_bytes: int = 16 * 1024 * 1024
    rates: Rates = field(default_factory=Rates)
    authentication_s: float = 5.0
    """Seconds `authenticate` may take, whatever the client sends meanwhile."""
    token_in_url: bool = True
    """Whether a link may stand in the address; a ticket always may."""


class YjsEndpoint:
    """The ASGI application behind the route."""

    def __init__(
        self,
        hub: Hub,
        authenticate: Authenticate,
        origins: Origins,
        limits: EndpointLimits,
        refusals: Refusals,
        *,
        hosts: Hosts | None = None,
    ) -> None:
        """``refusals`` are those of the node, which REST asks as well."""
        self._hub = hub
        self._rights = Rights(hub, authenticate, token_in_url=limits.token_in_url)
        self._origins = origins
        self._hosts = hosts or Hosts()
        self._limits = limits
        self._refusals = refusals
        self._newcomers = 0
        """Upgrade requests nobody has decided about yet."""
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket from its upgrade request on; a direct connection lives on when this has returned."""
        self._newcomers += 1
        try:
            await self._hub.door.turn()
            newcomer = self._newcomer(scope, receive, send)
            refusal = self._refuse(scope)
            if refusal is not None:
                self._hub.counters.denials.add(str(refusal.status_code))
                await newcomer.refuse(refusal)
                return
            verdict = await self._admit(scope)
        finally:
            self._newcomers -= 1
        await newcomer.accept(select_subprotocol(scope.get("subprotocols") or ()))
        visit = Visit(self._hub, newcomer, self._rights, self._limits.rates)
        try:
            if isinstance(verdict, CollabError):
                visit.turn_away(verdict)
            else:
                await visit.enter(*verdict, f"{self._hub.node}-{next(self._numbers)}", scope.get("client"))
            await newcomer.serve(visit)
        except BaseException:
            visit.on_ended()
            raise

    def _refuse(self, scope: Scope) -> Response | None:
        if (refusal := self._hosts.refusal(scope)) is not None:
            return refusal
        if not self._origins.allows(HTTPConnection(scope)):
            return problem(403, "origin_refused", "This page may not connect here.")
        if self._hub.draining:
            return problem(503, "draining", "This node is shutting down.", headers={"Retry-After": "2"})
        if not self._hub.connections.has_room_for(self._newcomers):
            self._hub.counters.limits.add("sessions")
            return problem(503, "overloaded", "This node has all the sessions it may.", headers={"Retry-After": "2"})
        return self._refusals.answer(scope)

    async def _admit(self, scope: Scope) -> tuple[str, Access, Standing] | CollabError:
        try:
            document = canonical_name(scope["path_params"]["document"])
            access, standing = await self._identify(scope, document)
            if standing.role is None:
                raise Forbidden("no access")
        except CollabError as error:
            if isinstance(error, RemoteError):  # anything else is no fault of theirs
                self._refusals.note(scope)
            return error
        return document, access, standing

    async def _identify(self, scope: Scope, document: str) -> tuple[Access, Standing]:
        """Who it is and what they may, within a time that nothing the client sends makes longer (faults matrix A09)."""
        try:
            async with asyncio.timeout(self._limits.authentication_s) as deadline:
                access = await self._rights.who(HTTPConnection(scope), document)
                return access, await self._rights.standing(access, document)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            self._hub.counters.limits.add("authentication")
            log.warning("authentication_timed_out", document=document)
            raise DeadlinePassed("authentication takes too long") from error

    def _newcomer(self, scope: Scope, receive: Receive, send: Send) -> Newcomer:
        direct: Newcomer | None = scope["extensions"].get(EXTENSION) if "extensions" in scope else None
        if direct is not None:
            return direct
        return AsgiConnection(
            WebSocket(scope, receive, send),
            outbox_bytes=self._limits.outbox_bytes,
            max_frame_bytes=self._limits.max_frame_bytes,
        )


class Visit:
    """One session from the end of its handshake to the end of its connection, which it hears."""

    __slots__ = (
        "_admission",
        "_allowance",
        "_connection",
        "_ended",
        "_hub",
        "_outbox",
        "_rights",
        "_room",
        "_session",
        "_was_held",
    )

    def __init__(self, hub: Hub, connection: ServedConnection, rights: Rights, rates: Rates) -> None:
        self._hub = hub
        self._rights = rights
        self._connection = connection
        self._allowance = Allowance(rates, asyncio.get_running_loop().time())
        self._was_held = False
        self._outbox = Outbox(connection)
        self._ended = False
        self._room: LiveRoom | None = None
        self._session: Session | None = None
        self._admission: Admission | None = None
        hub.counters.connections_opened += 1
        hub.counters.connections += 1

    async def enter(self, document: str, access: Access, standing: Standing, session_id: str, client: object) -> None:
        """Join the document's room, or be turned away."""
        role = standing.role
        if role is None:
            self.turn_away(Forbidden("no access"))
            return
        session = Session(session_id, access.identity, role)
        try:
            with self._counted(session, access):
                self._room = await self._hub.enter(document, session, self._outbox)
        except CollabError as error:
            log.info("session_refused", document=document, session=session_id, error=type(error).__name__)
            self.turn_away(error)
            return
        self._session = session
        log.info("session_joined", document=document, session=session_id, role=role.value)
        if not is_nobody(access):
            self._hub.audit.note(event("document.open", access, document, role=role.value, session=session_id))
            self._admission = Admission(
                self._hub, self._rights, access, room=self._room, session=session, outbox=self._outbox, client=client
            )
            self._admission.begin(standing)

    def _counted(self, session: Session, access: Access) -> AbstractContextManager[None]:
        """Whoever is known counts as a user; of whom nobody knows more than the link they came by, for that link."""
        if access.link is None or access.identity.subject != ANONYMOUS:
            return nullcontext()
        return self._hub.connections.by_link(session, access.link.id)

    def turn_away(self, error: CollabError) -> None:
        """Close with the code that stands for ``error``."""
        self._connection.close(close_code_for(error))

    # Listener

    def on_frame(self, data: bytes) -> None:
        """A message for the room. Hot path."""
        allowance = self._allowance
        left = allowance.left = allowance.left - len(data) - COST  # one load less than with -= (measured: a quarter)
        if left < 0:
            self._slow_down()
        room, session = self._room, self._session
        if room is not None and session is not None:
            messages = room.receive(session, data)
            if messages > 1:
                allowance.left -= (messages - 1) * COST

    def on_short(self) -> None:
        """It costs the allowance as much as a small message."""
        self._allowance.left -= COST
        if self._allowance.left < 0:
            self._slow_down()

    def _slow_down(self) -> None:
        """Read this session more slowly, or send it away when that has gone on for too long (SPEC N17)."""
        hold = self._allowance.settle(asyncio.get_running_loop().time())
        if hold is None or self._connection.closed_with is not None:
            return
        self._hub.counters.limits.add(hold.limit)
        if hold.for_good:
            self._hub.counters.limits.add("persistent")
            self._outbox.close(CloseCode.OVERLOADED)
        else:
            self._connection.rest(hold.seconds)
        if hold.for_good or not self._was_held:
            self._was_held = True
            session = self._session.id if self._session is not None else None
            log.info("session_too_fast", session=session, limit=hold.limit, closed=hold.for_good)

    def on_text(self) -> None:
        """No dialect here has text."""
        self._outbox.close(CloseCode.UNSUPPORTED_DATA)

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
        if self._admission is not None:
            self._admission.end()
        if self._room is not None and self._session is not None:
            self._hub.leave(self._room, self._session)
            log.info("session_left", document=self._room.name, session=self._session.id)
            self._room = None
