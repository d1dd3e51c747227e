"""One live session's rights, kept current from its join to its end.

`AccessWatch` has it look again when a grant, a link or a revocation changed; its timer when a link or the token
expires; its client when it sends a new token (message 103). The session's role then changes in place, or its connection
is closed with the code that says why. The room asks `session.role` for every message and nobody else.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

import structlog

from collab.errors import CloseCode, CollabError, Forbidden, Unavailable, close_code_for
from collab.node.outbox import Frame
from collab.protocol.dialects.y_websocket import encode
from collab.protocol.messages import TimeLeft
from collab.server.auth import LEEWAY_S

if TYPE_CHECKING:
    from collab.node import Hub, LiveRoom, Outbox
    from collab.node.access_watch import Key
    from collab.room import Session
    from collab.server.auth import Access
    from collab.server.rights import Rights, Standing

MAX_SESSION_S = 12 * 3600.0
"""A session that outlives this has to come in anew; new tokens do not make it longer."""
ASK_BEFORE_S = 60.0 + LEEWAY_S
"""So long before its token ends a session the client is asked for a new one: a minute before the token itself expires.
Of a short-lived token after half its time, so that nobody is asked without end."""
RENEW_EVERY_S = 1.0
"""Pause between two tokens of one client that are verified; signatures cost time. Guessed."""

log = structlog.get_logger(__name__)


class Admission:
    """Of one session in one room: `begin` it when the session has joined, `end` it when its connection is gone."""

    __slots__ = (
        "_access",
        "_ask_before",
        "_client",
        "_ends_at",
        "_hub",
        "_outbox",
        "_renewing",
        "_rights",
        "_room",
        "_timer",
        "_token",
        "_understands",
        "keys",
        "session",
    )

    def __init__(
        self,
        hub: Hub,
        rights: Rights,
        access: Access,
        *,
        room: LiveRoom,
        session: Session,
        outbox: Outbox,
        client: object,
    ) -> None:
        """``client`` is the address that `authenticate` is shown with new tokens."""
        self._hub = hub
        self._rights = rights
        self._access = access
        self._room = room
        self.session = session
        self._outbox = outbox
        self._client = client
        self._ends_at = asyncio.get_running_loop().time() + MAX_SESSION_S
        self._timer: asyncio.TimerHandle | None = None
        self._understands = False
        """Whether the client knows message 103."""
        self._ask_before = 0.0
        """Seconds before the end at which the client is told; 0 when it has been."""
        self._token: bytes | None = None
        """The newest that waits to be verified."""
        self._renewing: asyncio.Task[None] | None = None
        self.keys: tuple[Key, ...] = _keys(access)

    @property
    def document(self) -> str:
        """Where the session is."""
        return self._room.name

    def begin(self, standing: Standing) -> None:
        """Watch from now on; what changed since ``standing`` was asked for counts."""
        self._hub.access.add(self, heard=standing.heard)
        self._ask_before = min(ASK_BEFORE_S, self._token_left / 2)
        self._schedule()

    def end(self) -> None:
        """Watch no more; twice is no mistake."""
        self._hub.access.remove(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._renewing is not None:
            self._renewing.cancel()

    # looking again

    async def examine(self) -> bool:
        """See `Concerned.examine`."""
        access = self._access
        try:
            standing = await self._rights.standing(access, self.document)
            if access is self._access:  # else a new token has been judged meanwhile
                self._take(standing)
        except Unavailable:
            return False
        except Exception as error:
            self._close(error)
        return True

    def _take(self, standing: Standing) -> None:
        if standing.role is None:
            self._close(Forbidden("no access any more"))
        elif standing.role is not self.session.role:
            log.info("role_changed", document=self.document, session=self.session.id, role=standing.role.value)
            self._room.change_role(self.session, standing.role)

    def _close(self, error: Exception) -> None:
        code = close_code_for(error)
        if not isinstance(error, CollabError):
            log.exception("access_not_examined", document=self.document, session=self.session.id)
        log.info("session_ended", document=self.document, session=self.session.id, code=code.code, detail=str(error))
        self._outbox.close(code)

    # time

    @property
    def _token_left(self) -> float:
        expires_at = self._access.expires_at
        return math.inf if expires_at is None else expires_at - time.time()

    @property
    def _session_left(self) -> float:
        return self._ends_at - asyncio.get_running_loop().time()

    @property
    def _link_left(self) -> float:
        link = self._access.link
        ends = None if link is None else link.expires_at
        return math.inf if ends is None else ends.timestamp() - time.time()

    def _schedule(self) -> None:
        """Wake up when something is due next."""
        asking = self._ask_before if self._understands else 0.0
        due = min(self._token_left - asking, self._session_left)
        if self._link_left > 0:
            due = min(due, self._link_left)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(due, 0.0), self._wake)

    def _wake(self) -> None:
        if self._token_left <= 0:
            self._outbox.close(CloseCode.UNAUTHENTICATED)
        elif self._session_left <= 0:
            self._outbox.close(CloseCode.DEADLINE)
        else:
            if self._understands and 0 < self._token_left <= self._ask_before:
                self._ask_before = 0.0
                self._tell_time()
            if self._link_left <= 0:
                self._hub.access.note(self)
            self._schedule()

    def _tell_time(self) -> None:
        left = min(self._token_left, self._session_left)
        self._outbox.write_always(Frame(encode(TimeLeft(max(0, int(left))))))

    # new tokens

    def renew(self, token: bytes) -> None:
        """See `Concerned.renew`. Where nothing expires there is nothing to renew."""
        if self._access.expires_at is None:
            return
        self._understands = True
        if not token:
            self._schedule()
            return
        self._token = token
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._verify_all(), name="token renewal")

    async def _verify_all(self) -> None:
        try:
            while self._token is not None:
                token, self._token = self._token, None
                try:
                    await self._verify(token.decode())
                except Unavailable:
                    if not self._token:  # nobody can say now; the session's own end bounds the attempts
                        self._token = token
                except CollabError as error:
                    self._close(error)
                    return
                await asyncio.sleep(RENEW_EVERY_S)
        except Exception as error:
            self._close(error)
        finally:
            self._renewing = None

    async def _verify(self, token: str) -> None:
        access = await self._rights.renewed(token, self.document, self._access, self._client)
        standing = await self._rights.standing(access, self.document)
        self._hub.access.remove(self)
        self._access, self.keys = access, _keys(access)
        self._take(standing)
        self._tell_time()
        self.begin(standing)


def _keys(access: Access) -> tuple[Key, ...]:
    keys: list[Key] = [("subject", access.identity.subject)]
    if access.token_id is not None:
        keys.append(("token", access.token_id))
    if access.link is not None:
        keys.append(("link", access.link.id))
    return tuple(keys)
