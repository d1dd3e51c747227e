"""HTTP and WebSocket spelled out byte by byte over a blocking socket, for clients no library would be.

`RawSocket` sends what it is told and reads what comes; `upgrade_request` and `client_frame` make the bytes, right by
default and wrong where asked. Nothing here knows documents.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Self

TIMEOUT_S = 20.0
"""A wait for something that must come; generous, since the machine may be busy."""
FIN, CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x80, 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def client_frame(payload: bytes, first: int = FIN | BINARY, *, mask: bool = True) -> bytes:
    """A frame as a client sends it (RFC 6455 section 5.2)."""
    length = len(payload)
    bit = 0x80 if mask else 0
    if length < 126:
        head = bytes((first, bit | length))
    elif length < 1 << 16:
        head = bytes((first, bit | 126)) + struct.pack("!H", length)
    else:
        head = bytes((first, bit | 127)) + struct.pack("!Q", length)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + masked(payload, key)


def masked(payload: bytes, key: bytes) -> bytes:
    """``payload`` under a four-byte ``key``, or back."""
    whole = int.from_bytes((key * (len(payload) // 4 + 1))[: len(payload)], "big")
    return (int.from_bytes(payload, "big") ^ whole).to_bytes(len(payload), "big")


def close_frame(code: int | None, reason: bytes = b"") -> bytes:
    """A client's goodbye; without a code an empty one."""
    return client_frame(b"" if code is None else code.to_bytes(2, "big") + reason, FIN | CLOSE)


def upgrade_request(
    port: int,
    path: str,
    *more: str,
    method: str = "GET",
    version: str = "HTTP/1.1",
    without: str = "",
    host: str | None = None,
) -> bytes:
    """An upgrade request, headers ``more`` at its end; ``without`` leaves out the header of that name."""
    headers = (
        f"Host: {host or f'127.0.0.1:{port}'}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
    )
    kept = (line for line in headers if not without or not line.startswith(f"{without}:"))
    return "\r\n".join((f"{method} {path} {version}", *kept, *more, "", "")).encode("latin-1")


class RawSocket:
    """One TCP connection to a server on loopback; a context manager that cuts it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """All of it. What a server that has closed does not take is nobody's mistake here."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def end(self) -> None:
        """Say that nothing more comes, and go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers (names in lower case) of the next response; status 0 when the server hung up instead."""
        while b"\r\n\r\n" not in self._read:
            if not self._more():
                return 0, {}
        head, _, rest = bytes(self._read).partition(b"\r\n\r\n")
        self._read[:] = rest
        status, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(status.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """The next response with its body, which must have a length; nothing of it when the server hung up instead."""
        status, headers = self.head()
        size = int(headers.get("content-length", "0"))
        return status, headers, self._exactly(size)

    def rest(self) -> bytes:
        """Everything until the server hangs up."""
        while self._more():
            pass
        rest = bytes(self._read)
        self._read.clear()
        return rest

    def upgrade(self, port: int, path: str, *more: str) -> tuple[int, dict[str, str]]:
        """Ask for a WebSocket properly."""
        self.send(upgrade_request(port, path, *more))
        return self.head()

    def frame(self) -> tuple[int, bytes] | None:
        """First byte and payload of the next frame; None when the server hung up instead."""
        first, second = self._exactly(2) or (0, 0)
        if not first:
            return None
        if second & 0x80:
            raise AssertionError("a server's frame is masked")
        length = second
        if second == 126:
            length = int.from_bytes(self._exactly(2), "big")
        elif second == 127:
            length = int.from_bytes(self._exactly(8), "big")
        return first, self._exactly(length)

    def closing(self) -> tuple[int | None, str]:
        """Code and reason of the server's goodbye, whatever comes before it; None when it hung up without one."""
        while frame := self.frame():
            first, payload = frame
            if first == FIN | CLOSE:
                return int.from_bytes(payload[:2], "big") if payload else 1005, payload[2:].decode()
        return None, ""

    def next(self, first: int) -> bytes:
        """Payload of the next frame that begins with ``first``. Raises `AssertionError` when none comes."""
        while frame := self.frame():
            if frame[0] == first:
                return frame[1]
        raise AssertionError(f"no frame {first:#x} before the end")

    def _exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            if not self._more():
                return b""
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken

    def _more(self) -> bool:
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        self._read += data
        return bool(data)
