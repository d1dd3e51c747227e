"""One WebSocket of `collab serve`: frames straight from and to the transport, no task or queue per message or session.

It parses whole masked binary frames itself, and pings and pongs; the rest is left to `rare_frames`. A frame going to a
thousand clients has one header and one bytes object: server frames are not masked, so without compression they are the
same for everybody. `collab.server.front` makes these connections out of upgrade requests. Under another ASGI server the
endpoint uses `collab.server.asgi` instead.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from websockets.frames import Close
from websockets.speedups import apply_mask
from websockets.utils import accept_key

from collab.server.frames import (
    BINARY,
    CLOSE,
    MASKED,
    NO_PONG,
    OUR_PING,
    PING,
    PONG,
    SERVER_GOES,
    SHORT_BYTES,
    frame_head,
    server_frame,
)
from collab.server.rare_frames import RareFrames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response
    from uvicorn.server import ServerState

    from collab.errors import CloseCode
    from collab.node.outbox import Frame
    from collab.server.connection import Listener

EXTENSION = "collab.direct"
"""Key in ``scope["extensions"]`` under which the endpoint finds this connection."""

COPIED_BYTES = 64 * 1024
"""A frame up to this is one bytes object with its head; a larger one is not copied."""

CLOSE_TIMEOUT = 5.0
"""Seconds a client may take to answer a close frame before it is cut off."""

GOODBYE_REST = 0.1
"""Seconds between two looks for that answer. Whoever sends on instead of answering cost the node nearly half a core."""

TURN_BYTES = 4 * 1024
"""Of what one client sent at once, messages beyond this wait for the next turn of the loop: 64 KiB of keystrokes are
two thousand, and everybody else would wait for all of them."""


def last_response(response: Response, default_headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """``response`` as bytes, the last of its connection."""
    phrase = HTTPStatus(response.status_code).phrase
    headers = (*default_headers, *response.raw_headers, (b"connection", b"close"))
    lines = [f"HTTP/1.1 {response.status_code} {phrase}".encode(), *(b": ".join(header) for header in headers)]
    return b"\r\n".join((*lines, b"", bytes(response.body)))


@dataclass(frozen=True, slots=True)
class Terms:
    """What all connections of a server have in common. Times are seconds."""

    max_frame_bytes: int = 16 * 1024 * 1024
    outbox_bytes: int = 1024 * 1024
    bytes_before_served: int = 64 * 1024
    """What a client may send before its session is let in; then it is not read until it is."""
    ping_every: float = 20.0
    pong_within: float = 20.0
    """A client that vanished without a word is gone after at most the sum of both (faults matrix F33)."""


class DirectProtocol(asyncio.Protocol):
    """One WebSocket: `accept` or `refuse` it, then `serve` it. Until then bytes are kept."""

    __slots__ = (
        "_ended",
        "_held",
        "_key",
        "_listener",
        "_loop",
        "_needed",
        "_pong_due",
        "_rare",
        "_resting",
        "_rests",
        "_state",
        "_tail",
        "_terms",
        "_timer",
        "_transport",
        "close_sent",
        "closed_with",
    )

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, state: ServerState, terms: Terms, key: str
    ) -> None:
        """``state`` is uvicorn's list of what to shut down; ``key`` the `Sec-WebSocket-Key` of the request."""
        self._transport = transport
        self._loop = loop
        self._state = state
        self._terms = terms
        self._key = key
        self._listener: Listener | None = None
        self._rare: RareFrames | None = None
        """Reads everything that is no ping or pong while a message in pieces is under way."""
        self._tail = bytearray()
        self._needed = 0
        self._held = False
        self._resting: asyncio.TimerHandle | None = None
        """Ends a time in which nothing is read because the client has sent more than it may."""
        self._rests = False
        """Whether there was such a time since the last ping: its answer may still wait to be read."""
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        """Of the next ping, of the answer to the last, or of the answer to our goodbye."""
        self._pong_due = False
        self.close_sent = False
        self.closed_with: CloseCode | None = None
        _connections(state).add(self)

    # the handshake

    async def accept(self, subprotocol: str | None) -> None:
        """Switch protocols (RFC 6455 section 4.2.2)."""
        if self._transport.is_closing():
            return
        lines = [
            b"HTTP/1.1 101 Switching Protocols",
            *(name + b": " + value for name, value in self._state.default_headers),
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + accept_key(self._key).encode(),
        ]
        if subprotocol is not None:
            lines.append(b"Sec-WebSocket-Protocol: " + subprotocol.encode())
        self._transport.write(b"\r\n".join((*lines, b"\r\n")))
        self._ping_later()

    async def refuse(self, response: Response) -> None:
        """Answer the upgrade request with an ordinary response, and end the connection."""
        self._transport.write(last_response(response, self._state.default_headers))
        self._transport.close()

    # the connection, as the node sees it

    @property
    def waiting_bytes(self) -> int:
        """Bytes the transport still has to send."""
        return self._transport.get_write_buffer_size()

    def write(self, frame: Frame) -> None:
        """Send a frame; encoded by the first connection it goes to. Hot path."""
        if self.close_sent or self._transport.is_closing():
            return
        wire = frame.wire
        if wire is None:
            if frame.size > COPIED_BYTES:
                self._write_large(frame)
                return
            wire = frame.wire = b"".join(map(server_frame, frame.payloads))
        self._transport.write(wire)

    def _write_large(self, frame: Frame) -> None:
        """Without a copy: a hundred people who join a large document wait for the same bytes."""
        for payload in frame.payloads:
            self._transport.writelines((frame_head(len(payload)), payload))

    def close(self, code: CloseCode) -> None:
        """Send the close frame, wait a little for the answer, then cut off."""
        if self.close_sent or self._transport.is_closing():
            return
        self.closed_with = code
        self._rested()
        self.resume_reading()
        self._rest(0.0)  # then look at what was read already: the client's own goodbye may be in it
        self._say_goodbye(server_frame(Close(code.code, code.reason).serialize(), CLOSE))

    def _say_goodbye(self, frame: bytes) -> None:
        if not self.close_sent:
            self.close_sent = True
            self._transport.write(frame)
        # Not transport.close() alone: that waits for a peer that does not read, for ever.
        self._later(CLOSE_TIMEOUT, self._transport.abort)

    def pause_reading(self) -> None:
        """Take nothing more from the socket."""
        if not self._held and not self._transport.is_closing():
            self._held = True
            if self._resting is None:
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._held and not self._transport.is_closing():
            self._held = False
            if self._resting is None:
                self._transport.resume_reading()

    def rest(self, seconds: float) -> None:
        """Take nothing more from the socket for so long, nor from what was read of it already."""
        if not self.close_sent:
            self._rest(seconds)

    def _rest(self, seconds: float) -> None:
        if self._resting is None and not self._transport.is_closing():
            self._rests = self._rests or seconds > 0
            self._resting = self._loop.call_later(seconds, self._read_on)
            if not self._held:
                self._transport.pause_reading()

    def _read_on(self) -> None:
        self._rested()
        if self._listener is not None and self._tail:
            self._read(b"")

    def _rested(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
            if not self._held and not self._transport.is_closing():
                self._transport.resume_reading()

    async def serve(self, listener: Listener) -> None:
        """Hand every message to ``listener`` as it comes, then the end. Returns at once: nothing here needs a task."""
        if self._ended:
            listener.on_ended()
            return
        self._listener = listener
        most = self._terms.outbox_bytes
        self._transport.set_write_buffer_limits(high=most, low=most // 8)
        self.resume_reading()
        tail, self._tail = bytes(self._tail), bytearray()
        if tail:
            self._read(tail)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._listener is not None:
            self._read(data)
            if self.close_sent:
                self._rest(GOODBYE_REST)
        else:
            self._tail += data
            if len(self._tail) > self._terms.bytes_before_served:
                self.pause_reading()

    def pause_writing(self) -> None:
        """More than ``outbox_bytes`` wait."""
        if self._listener is not None:
            self._listener.on_over_bound()

    def resume_writing(self) -> None:
        """An eighth of that is left."""
        if self._listener is not None:
            self._listener.on_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone. Lets go of whoever listens: that is a cycle, and the collector comes rarely."""
        self._ended = True
        _connections(self._state).discard(self)
        for timer in (self._timer, self._resting):
            if timer is not None:
                timer.cancel()
        self._timer = self._resting = None
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.on_ended()

    def shutdown(self) -> None:
        """Called by uvicorn when the server goes and the node has said its own goodbyes."""
        if not self._transport.is_closing():
            self._say_goodbye(SERVER_GOES)
            self._transport.close()

    # reading

    def _read(self, data: bytes) -> None:
        """Take ``data`` apart into whole frames; what is left of the last waits for the rest."""
        if self._tail:
            self._tail += data
            if len(self._tail) < self._needed:
                return
            data = bytes(self._tail)
            self._tail.clear()
        listener = self._listener
        assert listener is not None  # noqa: S101 - only called while served
        most = self._terms.max_frame_bytes
        position, end = 0, len(data)
        turn = 16 * TURN_BYTES if self.close_sent else TURN_BYTES  # what is passed over costs little
        self._needed = 2
        while end - position >= 2 and self._resting is None:
            flags = data[position + 1]
            length = flags & 0x7F
            head = position + 6
            if length >= 126:
                head += 2 if length == 126 else 8
            if head > end and flags & MASKED:
                self._needed = head - position
                break
            if length >= 126:
                length = int.from_bytes(data[position + 2 : head - 4], "big")
            after = head + length
            if length > most or not flags & MASKED:
                self._read_rare(data[position:])  # a violation: no need to wait for the rest
                return
            if after > end:
                self._needed = after - position
                break
            if data[position] == BINARY and self._rare is None:
                if not self.close_sent:
                    listener.on_frame(apply_mask(data[head:after], data[head - 4 : head]))
            else:
                self._read_other(data[position:after])
                if self._transport.is_closing():
                    return
            position = after
            if turn < after < end:
                self._rest(GOODBYE_REST if self.close_sent else 0.0)
        self._tail += data[position:]

    def _read_other(self, frame: bytes) -> None:
        short = len(frame) <= SHORT_BYTES
        if short and self._listener is not None:
            self._listener.on_short()
        if frame[0] == PONG and short:
            if self._pong_due and not self.close_sent:
                self._ping_later()
        elif frame[0] == PING and short:
            # Who asks without reading the answers is not told for ever.
            if self.waiting_bytes <= self._terms.outbox_bytes:
                self._transport.write(server_frame(apply_mask(frame[6:], frame[2:6]), PONG))
        else:
            self._read_rare(frame)

    def _read_rare(self, data: bytes) -> None:
        rare = self._rare or RareFrames(self._terms.max_frame_bytes)
        found = rare.read(data)
        self._rare = rare if rare.outstanding else None
        if found.ends:
            self._say_goodbye(found.answer)
            self._transport.close()
        elif found.message is not None and self._listener is not None and not self.close_sent:
            if found.text:
                self._listener.on_text()
            else:
                self._listener.on_frame(found.message)

    # whether anybody is there

    def _ping_later(self) -> None:
        self._pong_due = False
        self._later(self._terms.ping_every, self._ping)

    def _ping(self) -> None:
        self._transport.write(OUR_PING)
        self._pong_due = True
        self._rests = self._resting is not None
        self._later(self._terms.pong_within, self._no_pong)

    def _no_pong(self) -> None:
        """Nobody is there who could read a goodbye, so do not wait to send one.

        While this side does not read, no pong can come and its absence says nothing: ask again later.
        """
        if self._held or self._rests:
            self._ping_later()
            return
        self._transport.write(NO_PONG)
        self._transport.abort()

    def _later(self, seconds: float, act: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, act)


def _connections(state: ServerState) -> set[Any]:
    return state.connections
