"""WebSocket frames as a server writes them, unmasked, and what a reader must know to tell frames apart (RFC 6455
section 5.2).
"""

from __future__ import annotations

from websockets.frames import Close

BINARY, PING, PONG, CLOSE = 0x82, 0x89, 0x8A, 0x88
"""First bytes of frames that are whole messages."""
MASKED = 0x80
SHORT_BYTES = 2 + 4 + 125
"""The longest a masked control frame may be."""
STAMP = b"collab"
"""What our pings say."""


def frame_head(length: int, first: int = BINARY) -> bytes:
    """What precedes ``length`` bytes in an unmasked WebSocket frame (RFC 6455 section 5.2)."""
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")


def server_frame(payload: bytes, first: int = BINARY) -> bytes:
    """``payload`` as one such frame."""
    return frame_head(len(payload), first) + payload


OUR_PING = server_frame(STAMP, PING)
NO_PONG = server_frame(Close(1011, "keepalive ping timeout").serialize(), CLOSE)
SERVER_GOES = server_frame(Close(1012, "").serialize(), CLOSE)
