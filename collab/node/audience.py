"""The sessions of one room as those it writes to: messages in, frames out, each encoded once.

A write costs more than all else about a frame (the kernel wakes the reader), so what only confirms waits a moment for
something else that goes to the same session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from collab.node.connections import NOTHING
from collab.node.outbox import Frame
from collab.protocol.dialects.y_websocket import encode
from collab.protocol.messages import Update

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Sequence

    from collab.node.connections import ConnectionManager
    from collab.node.counters import Counters
    from collab.node.outbox import Outbox
    from collab.protocol.messages import Message
    from collab.room import Broadcast, Disconnect, Echo, Session

CONFIRMED_WITHIN = 0.1
"""Seconds a confirmation may wait for company. Whoever asks with sync statuses is told at once. Guessed: nobody sees
it, and in a room of three who type and move half of them find company."""

log = structlog.get_logger(__name__)


class Audience:
    """Everybody in the room of one document, here."""

    def __init__(
        self, document: str, connections: ConnectionManager, counters: Counters, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._document = document
        self._connections = connections
        self._counters = counters
        self._loop = loop
        self._echoes: dict[Session, list[Frame]] = {}
        """What waits for company, and for whom."""
        self._leaving = False
        """Whether `_let_go` is about to be called."""
        self._last: tuple[Message, Frame] | None = None

    def outbox(self, session: Session) -> Outbox | None:
        """Where to write to one session, or None when it has left."""
        return self._connections.outbox(self._document, session)

    def frame(self, message: Message) -> Frame:
        """``message`` encoded; the last one is remembered, since it is often sent again, as a confirmation."""
        last = self._last
        if last is not None and last[0] is message:
            return last[1]
        frame = Frame(encode(message))
        self._last = (message, frame)
        return frame

    def broadcast(self, broadcast: Broadcast) -> None:
        """Write one. Hot path."""
        frame, except_ = self.frame(broadcast.message), broadcast.except_
        echoes = self._take_echoes(except_) if self._echoes else None
        if echoes:
            self._connections.fan_out_together(self._document, ((frame, except_),), echoes)
        else:
            self._connections.fan_out(self._document, frame, except_)

    def broadcast_together(self, broadcasts: Sequence[Broadcast]) -> None:
        """Several broadcasts in order, in one write to whoever gets them all."""
        if len(broadcasts) == 1:
            self.broadcast(broadcasts[0])
        if len(broadcasts) < 2:
            return
        frames = [(self.frame(broadcast.message), broadcast.except_) for broadcast in broadcasts]
        self._connections.fan_out_together(self._document, frames, self._take_echoes(()) if self._echoes else NOTHING)

    def confirm(self, echo: Echo) -> None:
        """Write a committed update to those who wrote it; when it may wait, with what they are sent next."""
        frame = self.frame(echo.message)
        if not echo.may_wait:
            self._connections.send_to(self._document, frame, echo.authors)
            return
        for author in echo.authors:
            self._echoes.setdefault(author, []).append(frame)
        if not self._leaving:
            self._leaving = True
            self._loop.call_later(CONFIRMED_WITHIN, self._let_go)

    def confirm_now(self) -> None:
        """Let nothing wait any longer: the room ends, or somebody is about to go."""
        for session, frames in self._take_echoes(()).items():
            self._connections.send_to(self._document, Frame.joined(frames), (session,))

    def _let_go(self) -> None:
        self._leaving = False
        if self._echoes:
            self.confirm_now()

    def _take_echoes(self, stay: Collection[Session]) -> dict[Session, list[Frame]]:
        """Those of everybody but ``stay``."""
        echoes, self._echoes = self._echoes, {}
        for session in stay:
            if session in echoes:
                self._echoes[session] = echoes.pop(session)
        return echoes

    def send(self, session: Session, message: Message) -> None:
        """Write to one session, unless it has left; to one that is behind only what stands for itself."""
        outbox = self.outbox(session)
        if outbox is None:
            return
        frame = self.frame(message)
        self._counters.frames_out += 1
        self._counters.bytes_out += frame.size
        if isinstance(message, Update):
            outbox.write(frame)
        else:
            outbox.write_always(frame)

    def disconnect(self, effect: Disconnect) -> None:
        """Close one session's connection, unless it has left."""
        outbox = self.outbox(effect.session)
        if outbox is not None:
            log.info(
                "session_closed",
                document=self._document,
                session=effect.session.id,
                code=effect.code.code,
                detail=effect.detail[:200],
            )
            outbox.close(effect.code)
