"""What the direct connection does not read itself: fragments, text, goodbyes and violations, read by `websockets`.

A connection makes one of these when such a frame comes and drops it when no fragment is outstanding, so that the
thousands that never see one carry none of the library's objects.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

_silent = logging.getLogger("websockets.server")


@dataclass(frozen=True, slots=True)
class Rare:
    """What came of some bytes."""

    answer: bytes = b""
    """To be sent at once; a close frame when ``ends``."""
    message: bytes | None = None
    """A whole message, put together."""
    text: bool = False
    """Whether that is text."""
    ends: bool = False
    """Whether the client said goodbye or broke the protocol: nothing more is read from it."""


class RareFrames:
    """Reads for one connection, as a server whose handshake is done."""

    def __init__(self, max_bytes: int) -> None:
        """A message of more than ``max_bytes``, in however many pieces, is a violation."""
        self._library = Protocol(Side.SERVER, max_size=max_bytes, logger=_silent)
        self._pieces: list[bytes] = []
        self._text = False

    @property
    def outstanding(self) -> bool:
        """Whether a message has begun and not ended: what follows belongs here."""
        return self._library.current_size is not None

    def read(self, data: bytes) -> Rare:
        """Take one whole frame, or the beginning of one that is a violation as far as it has come."""
        self._library.receive_data(data)
        answer = b"".join(self._library.data_to_send())
        if self._library.parser_exc is not None:
            return Rare(answer, ends=True)
        message = None
        for event in self._library.events_received():
            assert isinstance(event, Frame)  # noqa: S101 - requests come before the handshake
            if event.opcode is Opcode.CLOSE:
                return Rare(answer, ends=True)
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                message = self._put_together(event)
        return Rare(answer, message, self._text)

    def _put_together(self, frame: Frame) -> bytes | None:
        if frame.opcode is not Opcode.CONT:
            self._text = frame.opcode is Opcode.TEXT
        self._pieces.append(bytes(frame.data))
        if not frame.fin:
            return None
        whole = b"".join(self._pieces)
        self._pieces.clear()
        return whole
