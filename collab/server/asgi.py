"""A connection over plain ASGI sends, for servers other than `collab serve`: same behaviour, more work per frame.

Used when collab is mounted in somebody's own application under hypercorn, daphne or plain uvicorn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from collab.errors import CloseCode

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.websockets import WebSocket

    from collab.node.outbox import Frame
    from collab.server.connection import Listener

log = structlog.get_logger(__name__)


class AsgiConnection:
    """One WebSocket behind ``receive`` and ``send``; owns a task that sends what was written."""

    def __init__(self, websocket: WebSocket, *, outbox_bytes: int, max_frame_bytes: int) -> None:
        """``websocket`` is new: nothing was received from it yet."""
        self._websocket = websocket
        self._outbox_bytes = outbox_bytes
        self._max_frame_bytes = max_frame_bytes
        self._payloads: deque[bytes] = deque()
        self._waiting = 0
        self._over = False
        self.closed_with: CloseCode | None = None
        self._wake = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()
        self._held = False
        self._resting: asyncio.TimerHandle | None = None
        self._listener: Listener | None = None

    async def accept(self, subprotocol: str | None) -> None:
        """Switch protocols."""
        await self._websocket.receive()  # the upgrade request itself
        await self._websocket.accept(subprotocol=subprotocol)

    async def refuse(self, response: Response) -> None:
        """Answer with an HTTP response instead."""
        await self._websocket.receive()
        await self._websocket.send_denial_response(response)

    @property
    def waiting_bytes(self) -> int:
        """Bytes written here and not yet handed to the server."""
        return self._waiting

    def write(self, frame: Frame) -> None:
        """Send, in order."""
        if self.closed_with is not None:
            return
        self._payloads += frame.payloads
        self._waiting += frame.size
        self._wake.set()
        if not self._over and self._waiting > self._outbox_bytes and self._listener is not None:
            self._over = True
            self._listener.on_over_bound()

    def close(self, code: CloseCode) -> None:
        """Send what is written, then the close frame."""
        if self.closed_with is None:
            self.closed_with = code
            self._wake.set()
            self._readable.set()

    def pause_reading(self) -> None:
        """Receive nothing more."""
        self._held = True
        self._readable.clear()

    def resume_reading(self) -> None:
        """Receive on."""
        self._held = False
        if self._resting is None:
            self._readable.set()

    def rest(self, seconds: float) -> None:
        """Receive nothing for so long."""
        if self._resting is None and self.closed_with is None:
            self._resting = asyncio.get_running_loop().call_later(seconds, self._rested)
            self._readable.clear()

    def _rested(self) -> None:
        self._resting = None
        if not self._held:
            self._readable.set()

    async def serve(self, listener: Listener) -> None:
        """Pass messages on; returns when the client or `close` has ended it."""
        self._listener = listener
        reader = asyncio.create_task(self._read(listener), name="websocket reader")
        writer = asyncio.create_task(self._write(), name="websocket writer")
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reader, writer):
                task.cancel()
            for result in await asyncio.gather(reader, writer, return_exceptions=True):
                if isinstance(result, Exception):
                    log.debug("websocket_ended", error=str(result))
            if self._resting is not None:
                self._resting.cancel()
            listener.on_ended()

    async def _read(self, listener: Listener) -> None:
        while True:
            await self._readable.wait()
            event = await self._websocket.receive()
            if event["type"] == "websocket.disconnect":
                return
            data = event.get("bytes")
            if data is None:
                listener.on_text()
            elif len(data) > self._max_frame_bytes:
                self.close(CloseCode.TOO_BIG)
            elif self.closed_with is None:
                listener.on_frame(data)

    async def _write(self) -> None:
        while True:
            while self._payloads:
                payload = self._payloads.popleft()
                await self._websocket.send({"type": "websocket.send", "bytes": payload})
                self._waiting -= len(payload)
                if self._over and self._waiting <= self._outbox_bytes // 8 and self._listener is not None:
                    self._over = False
                    self._listener.on_drained()
            if self.closed_with is not None:
                await self._websocket.send(
                    {"type": "websocket.close", "code": self.closed_with.code, "reason": self.closed_with.reason}
                )
                return
            self._wake.clear()
            await self._wake.wait()
