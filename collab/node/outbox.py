"""One session's bounded way out, and what happens when its reader is slow.

The policy: frames are written to the connection as they come. When more than the bound waits there, nothing of the
document is written any more; once the connection has drained, the session gets one diff from the state it had. So a
slow reader costs a constant, and nobody else waits for it.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from collab.errors import CloseCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collab.room import Session

MAX_SMALL_BYTES = 256 * 1024
"""Who asks for this much of acknowledgements without reading any is no editor."""


class Frame:
    """One write to any number of connections: a WebSocket message, or several in order; encoded once.

    ``wire`` is the same bytes with the WebSocket headers, filled in by the first connection that needs it.
    """

    __slots__ = ("payloads", "size", "wire")

    def __init__(self, *payloads: bytes) -> None:
        """``payloads`` are the messages."""
        self.payloads = payloads
        self.size = sum(map(len, payloads))
        """Bytes of the messages."""
        self.wire: bytes | None = None

    @classmethod
    def joined(cls, frames: Sequence[Frame]) -> Frame:
        """Several, at least one, as one write."""
        return frames[0] if len(frames) == 1 else cls(*(payload for frame in frames for payload in frame.payloads))


class Connection(Protocol):
    """A socket as the node sees it; `collab.server` makes them. No method waits."""

    @property
    def waiting_bytes(self) -> int:
        """Bytes written and not yet taken by the network."""
        ...

    def write(self, frame: Frame) -> None:
        """Send, after what was sent before; a closed connection ignores it."""
        ...

    def close(self, code: CloseCode) -> None:
        """Say goodbye, then cut the connection off if the other side does not answer."""
        ...

    def pause_reading(self) -> None:
        """Take nothing more from the network for now."""
        ...

    def resume_reading(self) -> None:
        """Take on."""
        ...


class Flow(Enum):
    """How far an outbox is behind."""

    OPEN = "open"
    FALLING = "falling"
    """Over the bound; still written to until the room has noted the state vector of this moment."""
    BEHIND = "behind"
    """Nothing of the document is written; ``Outbox.state_vector`` says what the session has."""
    DRAINED = "drained"
    """Behind, but the connection is empty again: due one diff."""


class Outbox:
    """What a room writes one session's frames to."""

    __slots__ = (
        "_notify",
        "_parting",
        "_session",
        "_small_bytes",
        "answer_after",
        "connection",
        "echo_left_out",
        "flow",
        "paused",
        "state_vector",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.flow = Flow.OPEN
        self.paused = False
        """Whether the room reads this session more slowly because too much is unsaved."""
        self.answer_after = 0.0
        """Until this time of the loop its questions wait, because the answer to the last was large."""
        self.state_vector: bytes | None = None
        self.echo_left_out = False
        """Whether a confirmation was left out while it was behind: then its diff must repeat what it wrote."""
        self._session: Session | None = None
        self._notify: Callable[[Session, Outbox], None] | None = None
        self._parting: Callable[[], None] | None = None
        self._small_bytes = 0
        """What was written on top of the bound since the reader fell behind."""

    def belongs_to(
        self, session: Session, notify: Callable[[Session, Outbox], None], parting: Callable[[], None]
    ) -> None:
        """``notify`` is called when the room has something to do about this outbox, ``parting`` when it is about to be
        closed: what still waits to be written is written then."""
        self._session, self._notify, self._parting = session, notify, parting

    def close(self, code: CloseCode) -> None:
        """Close the connection, after all that its session is to be told."""
        if self._parting is not None:
            self._parting()
        self.connection.close(code)

    def write(self, frame: Frame) -> None:
        """A frame of the document or its awareness: left out while the reader is behind."""
        if self.flow is Flow.OPEN or self.flow is Flow.FALLING:
            self.connection.write(frame)

    def write_echo(self, frame: Frame) -> None:
        """A confirmation of what the session itself wrote."""
        self.note_echo()
        self.write(frame)

    def note_echo(self) -> None:
        """A confirmation is about to be written, or to be left out because the reader is behind."""
        self.echo_left_out = self.echo_left_out or self.flow in (Flow.BEHIND, Flow.DRAINED)

    def write_always(self, frame: Frame) -> None:
        """A small frame that stands for itself: an acknowledgement, a keep-alive. Too many end the connection."""
        if self.flow is Flow.BEHIND:
            self._small_bytes += frame.size
            if self._small_bytes > MAX_SMALL_BYTES:
                self.close(CloseCode.OVERLOADED)
                return
        self.connection.write(frame)

    def over_bound(self) -> None:
        """Called by the connection when more waits than it may hold."""
        if self.flow is Flow.OPEN:
            self.flow = Flow.FALLING
            self._tell_room()

    def drained(self) -> None:
        """Called by the connection when little or nothing waits any more."""
        self._small_bytes = 0
        if self.flow is Flow.FALLING:
            self.flow = Flow.OPEN
        elif self.flow is Flow.BEHIND:
            self.flow = Flow.DRAINED
        self._tell_room()

    def fall_behind(self, state_vector: bytes) -> None:
        """Called by the room: everything up to ``state_vector`` was written, nothing after it will be."""
        if self.flow is Flow.FALLING:
            self.flow = Flow.BEHIND
            self.state_vector = state_vector

    def catch_up(self) -> None:
        """Called by the room when it has the diff from ``state_vector`` and is about to write it."""
        self.state_vector = None
        self.echo_left_out = False
        self.flow = Flow.OPEN

    def _tell_room(self) -> None:
        if self._notify is not None and self._session is not None:
            self._notify(self._session, self)
