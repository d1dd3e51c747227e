"""The uvicorn WebSocket protocol of collab: frames straight from and to the transport, no task or queue per message.

It parses whole masked binary frames itself and leaves everything else (control frames, fragments, violations) to the
library underneath. A frame going to a thousand clients has one header and one bytes object: server frames are not
masked, so without compression they are the same for everybody. Under another ASGI server the endpoint uses
`collab.server.asgi` instead.

Leans on uvicorn's ``WebSocketsSansIOProtocol``; `tests/unit/server/test_direct.py` fails loudly when its insides move.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame as LibraryFrame
from websockets.frames import Opcode
from websockets.speedups import apply_mask

from collab.node.outbox import Frame

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent

    from collab.errors import CloseCode
    from collab.server.connection import Listener

EXTENSION = "collab.direct"
"""Key in ``scope["extensions"]`` under which the endpoint finds this connection."""

MAX_BYTES_BEFORE_SERVED = 64 * 1024
"""What a client may send before its session is let in; then it is not read until it is."""

COPIED_BYTES = 64 * 1024
"""A frame up to this is one bytes object with its head; a larger one is not copied."""

CLOSE_TIMEOUT = 5.0
"""Seconds a client may take to answer a close frame before it is cut off."""

BINARY_FINAL = 0x82
MASKED = 0x80


def frame_head(length: int) -> bytes:
    """What precedes ``length`` bytes in an unmasked binary WebSocket frame (RFC 6455 section 5.2)."""
    if length < 126:
        return bytes((BINARY_FINAL, length))
    if length < 1 << 16:
        return b"\x82\x7e" + length.to_bytes(2, "big")
    return b"\x82\x7f" + length.to_bytes(8, "big")


def server_frame(payload: bytes) -> bytes:
    """``payload`` as one such frame."""
    return frame_head(len(payload)) + payload


class DirectProtocol(WebSocketsSansIOProtocol):
    """One WebSocket. Until `serve` is called bytes are kept; an app that calls ``receive`` gets plain ASGI."""

    max_frame_bytes = 16 * 1024 * 1024
    outbox_bytes = 1024 * 1024

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._listener: Listener | None = None
        self._plain = False
        """Whether the library reads everything (another app's socket, or a violation it is to answer)."""
        self._fragmented = False
        self._tail = bytearray()
        self._needed = 0
        self._held = False
        self._ended: asyncio.Future[None] | None = None
        self.closed_with: CloseCode | None = None

    # the connection, as the node sees it

    @property
    def waiting_bytes(self) -> int:
        """Bytes the transport still has to send."""
        return self.transport.get_write_buffer_size()

    def write(self, frame: Frame) -> None:
        """Send a frame; encoded by the first connection it goes to. Hot path."""
        if self.close_sent or self.transport.is_closing():
            return
        wire = frame.wire
        if wire is None:
            if frame.size > COPIED_BYTES:
                self._write_large(frame)
                return
            wire = frame.wire = b"".join(map(server_frame, frame.payloads))
        self.transport.write(wire)

    def _write_large(self, frame: Frame) -> None:
        """Without a copy: a hundred people who join a large document wait for the same bytes."""
        for payload in frame.payloads:
            self.transport.writelines((frame_head(len(payload)), payload))

    def close(self, code: CloseCode) -> None:
        """Send the close frame, wait a little for the answer, then cut off."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.conn.send_close(code.code, code.reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.closed_with = code
        self.resume_reading()
        # Not transport.close(): that waits for a peer that does not read, for ever.
        self.close_timer = self.loop.call_later(CLOSE_TIMEOUT, self.transport.abort)

    def pause_reading(self) -> None:
        """Take nothing more from the socket."""
        if not self._held and not self.transport.is_closing():
            self._held = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._held and not self.transport.is_closing():
            self._held = False
            self.transport.resume_reading()

    async def serve(self, listener: Listener) -> None:
        """Hand every message to ``listener`` as it comes; return when the connection has ended."""
        if self.disconnected:
            return
        self._listener = listener
        self._ended = self.loop.create_future()
        self.conn.max_message_size = self.max_frame_bytes
        self.transport.set_write_buffer_limits(high=self.outbox_bytes, low=self.outbox_bytes // 8)
        self.resume_reading()
        tail, self._tail = bytes(self._tail), bytearray()
        if tail:
            self._read(tail)
        await self._ended

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._listener is not None and not self._plain:
            self._read(data)
        elif self._plain or not self.handshake_initiated:
            super().data_received(data)
        else:
            self._tail += data
            if len(self._tail) > MAX_BYTES_BEFORE_SERVED:
                self.pause_reading()

    def pause_writing(self) -> None:
        """More than ``outbox_bytes`` wait."""
        super().pause_writing()
        if self._listener is not None:
            self._listener.on_over_bound()

    def resume_writing(self) -> None:
        """An eighth of that is left."""
        super().resume_writing()
        if self._listener is not None:
            self._listener.on_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        super().connection_lost(exc)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

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
        position, end = 0, len(data)
        self._needed = 2
        while end - position >= 2:
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
            if length > self.max_frame_bytes or not flags & MASKED:
                self._leave_to_library(data[position:])
                return
            if after > end:
                self._needed = after - position
                break
            if data[position] == BINARY_FINAL and not self._fragmented:
                if not self.close_sent:
                    listener.on_frame(apply_mask(data[head:after], data[head - 4 : head]))
            else:
                super().data_received(data[position:after])
                if self.transport.is_closing():
                    return
            position = after
        self._tail += data[position:]

    def _leave_to_library(self, data: bytes) -> None:
        """A violation or a fragmented message of it: the library knows which close code it deserves."""
        self._plain = True
        self._tail.clear()
        super().data_received(data)

    def handle_events(self) -> None:
        """Take what the library read; note whether it is in the middle of a fragmented message."""
        if self._listener is None:
            super().handle_events()
            return
        for event in self.conn.events_received():
            if not isinstance(event, LibraryFrame):
                continue
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._fragmented = not event.fin
            match event.opcode:
                case Opcode.TEXT:
                    self.handle_text(event)
                case Opcode.BINARY:
                    self.handle_bytes(event)
                case Opcode.CONT:
                    self.handle_cont(event)
                case Opcode.PING:
                    self.handle_ping()
                case Opcode.PONG:
                    self.handle_pong(event)
                case Opcode.CLOSE:
                    self.handle_close(event)

    def send_receive_event_to_app(self) -> None:
        """A message the library put together."""
        if self._listener is None:
            super().send_receive_event_to_app()
            return
        data = b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "text":
            self._listener.on_text()
        else:
            self._listener.on_frame(data)

    # ASGI

    def handle_connect(self, event: Any) -> None:
        """The upgrade request: offer this connection to the app."""
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][EXTENSION] = self

    async def receive(self) -> ASGIReceiveEvent:
        """The next event for an app that speaks plain ASGI."""
        if self.handshake_complete and self._listener is None and not self._plain:
            self._plain = True
            self.resume_reading()
            tail, self._tail = bytes(self._tail), bytearray()
            if tail:
                super().data_received(tail)
        return await super().receive()

    def keepalive_timeout(self) -> None:
        """No pong came: nobody is there who could read a goodbye, so do not wait to send one.

        While this side does not read, no pong can come and its absence says nothing: ask again later.
        """
        if self._held:
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
            return
        super().keepalive_timeout()
        self.transport.abort()

    def handle_parser_exception(self) -> None:
        """The client broke the protocol: say so, but do not wait for it to read that."""
        super().handle_parser_exception()
        self.loop.call_later(CLOSE_TIMEOUT, self.transport.abort)


def protocol_class(*, max_frame_bytes: int, outbox_bytes: int) -> type[DirectProtocol]:
    """`DirectProtocol` with these bounds, for ``uvicorn.Config(ws=...)``."""
    return type(
        "BoundDirectProtocol", (DirectProtocol,), {"max_frame_bytes": max_frame_bytes, "outbox_bytes": outbox_bytes}
    )
