"""The sessions of one room as those it writes to: messages in, frames out, each encoded once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from collab.node.outbox import Frame
from collab.protocol.dialects.y_websocket import encode
from collab.protocol.messages import Update

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from collab.node.connections import ConnectionManager
    from collab.node.counters import Counters
    from collab.node.outbox import Outbox
    from collab.protocol.messages import Message
    from collab.room import Broadcast, Disconnect, Session

log = structlog.get_logger(__name__)


class Audience:
    """Everybody in the room of one document, here."""

    def __init__(self, document: str, connections: ConnectionManager, counters: Counters) -> None:
        self._document = document
        self._connections = connections
        self._counters = counters
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

    def broadcast(self, message: Message, except_: Collection[Session]) -> None:
        """Write to everybody but ``except_``. Hot path."""
        self._connections.fan_out(self._document, self.frame(message), except_)

    def broadcast_together(self, broadcasts: Sequence[Broadcast]) -> None:
        """Several broadcasts in order, in one write to whoever gets them all."""
        frames = [(self.frame(broadcast.message), broadcast.except_) for broadcast in broadcasts]
        self._connections.fan_out_together(self._document, frames)

    def confirm(self, message: Message, authors: Collection[Session]) -> None:
        """Write a committed update to those who wrote it."""
        self._connections.send_to(self._document, self.frame(message), authors)

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
            outbox.connection.close(effect.code)
