"""What is wrong with the head of an HTTP request that uvicorn and its parser take: said before anybody reads its body.

Pure; `front.FrontProtocol` asks as soon as a head is complete. What RFC 9112 lets a server do leniently, this one does
not: a proxy in front that reads the same bytes differently is how requests are smuggled.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of a head that has not ended yet."""
MAX_HEADERS: Final = 128
MAX_LINE_BYTES: Final = 8192 - 32
"""Of the address and of each header, with room for what else is in their line: this and the number are a little less
than what the `websockets` library takes, which uvicorn leaves without an answer when it refuses a request for them."""

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
"""RFC 3986 section 3.2.2 with a port, and the underscores of some private networks. May be empty."""


class Objection(NamedTuple):
    """Why a request is not looked at, for a response."""

    status: int
    sentence: str


TOO_LARGE: Final = Objection(431, "The head of the request is too large.")


def objection(
    http_version: str, url: bytes, headers: Sequence[tuple[bytes, bytes]], *, upgrade: bool
) -> Objection | None:
    """Return what is wrong, or None; names in ``headers`` are lower case. ``upgrade``: it asks for a WebSocket."""
    if http_version not in {"1.0", "1.1"}:
        return Objection(505, "Only HTTP/1.1 is spoken here.")
    if len(url) > MAX_LINE_BYTES:
        return Objection(414, "The address is too long.")
    if len(headers) > MAX_HEADERS or any(len(name) + len(value) > MAX_LINE_BYTES for name, value in headers):
        return TOO_LARGE
    hosts = [value for name, value in headers if name == b"host"]
    # RFC 9112 section 3.2: none, or more than one, is a bad request. HTTP/1.0 knew no hosts.
    if len(hosts) > 1 or (not hosts and http_version == "1.1") or not all(map(_HOST.fullmatch, hosts)):
        return Objection(400, "A request names exactly one host.")
    if upgrade and http_version != "1.1":
        return Objection(400, "A WebSocket begins with HTTP/1.1.")
    if upgrade and any(name in {b"transfer-encoding", b"content-length"} and value != b"0" for name, value in headers):
        return Objection(400, "The upgrade to a WebSocket has no body.")
    return None
