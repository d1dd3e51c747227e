"""Requests no honest client sends, spelled out: wrong HTTP, wrong handshakes, paths that try to get out.

Each has the statuses it may be answered with; 0 means that the server hangs up without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.support.raw import KEY, upgrade_request

BAD, NOT_FOUND, TOO_LARGE = (400,), (404,), (431,)
Make = Callable[[int, str], bytes]


@dataclass(frozen=True, slots=True)
class Shape:
    """One request: its bytes for a port and the path of a document's WebSocket, and how it may be answered."""

    name: str
    make: Make
    statuses: tuple[int, ...]


def post(*headers: str, body: str = "", version: str = "HTTP/1.1") -> Make:
    """Create a document, with ``headers`` that say how long ``body`` is; more may follow it on the wire."""

    def make(port: int, _: str) -> bytes:
        kind = "Content-Type: application/json"
        head = "\r\n".join((f"POST /v1/documents {version}", f"Host: 127.0.0.1:{port}", kind, *headers))
        return f"{head}\r\n\r\n{body}".encode("latin-1")

    return make


def get(*lines: str, request: str = "GET /livez HTTP/1.1", host: bool = True) -> Make:
    """A request without a body, ``lines`` among its headers."""

    def make(port: int, _: str) -> bytes:
        hosts = (f"Host: 127.0.0.1:{port}",) if host else ()
        return "\r\n".join((request, *hosts, *lines, "", "")).encode("latin-1")

    return make


def upgrade(*more: str, then: bytes = b"", **how: str) -> Make:
    """An upgrade request to the document, changed as `upgrade_request` can change it."""
    return lambda port, path: upgrade_request(port, path, *more, **how) + then


SMUGGLED = "0\r\n\r\nGET /v1/documents HTTP/1.1\r\nHost: x\r\n\r\n"
SMUGGLING = [
    Shape("length-and-chunks", post("Content-Length: 6", "Transfer-Encoding: chunked", body=SMUGGLED), BAD),
    Shape("chunks-and-length", post("Transfer-Encoding: chunked", "Content-Length: 6", body=SMUGGLED), BAD),
    Shape("two-lengths", post("Content-Length: 0", "Content-Length: 44", body=SMUGGLED), BAD),
    Shape("list-of-lengths", post("Content-Length: 5, 5", body="hello"), BAD),
    Shape("length-with-sign", post("Content-Length: +5", body="hello"), BAD),
    Shape("negative-length", post("Content-Length: -1", body="hello"), BAD),
    Shape("hexadecimal-length", post("Content-Length: 0x5", body="hello"), BAD),
    Shape("length-past-64-bits", post("Content-Length: 99999999999999999999999", body="hello"), BAD),
    Shape("unknown-coding", post("Transfer-Encoding: xchunked", body=SMUGGLED), BAD),
    Shape("coding-before-a-blank", post("Transfer-Encoding : chunked", body=SMUGGLED), BAD),
    Shape("chunked-not-last", post("Transfer-Encoding: chunked, identity", body=SMUGGLED), BAD),
    Shape("two-codings", post("Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=SMUGGLED), BAD),
    Shape("folded-coding", post("Transfer-Encoding:\r\n chunked", body=SMUGGLED), BAD),
    Shape("chunks-in-http-1.0", post("Transfer-Encoding: chunked", body=SMUGGLED, version="HTTP/1.0"), (400, 422)),
    Shape("chunk-size-of-letters", post("Transfer-Encoding: chunked", body="ZZ\r\nhello\r\n0\r\n\r\n"), BAD),
    Shape("chunk-past-64-bits", post("Transfer-Encoding: chunked", body="f" * 18 + "\r\nhello"), BAD),
    Shape("chunk-longer-than-said", post("Transfer-Encoding: chunked", body="5\r\nhelloX\r\n0\r\n\r\n"), BAD),
    Shape("bare-line-feeds", lambda port, _: f"GET /livez HTTP/1.1\nHost: 127.0.0.1:{port}\n\n".encode(), BAD),
    Shape("folded-header", get("X: a\r\n b"), BAD),
    Shape("nul-in-a-header", get("X: a\x00b"), BAD),
    Shape("carriage-return-in-a-header", get("X: a\rb: c"), BAD),
    Shape("nul-in-the-method", get(request="G\x00T /livez HTTP/1.1"), BAD),
    Shape("http-9.9", get(request="GET /livez HTTP/9.9"), (400, 505)),
    Shape("http-0.9", lambda *_: b"GET /livez\r\n\r\n", (400, 505)),
    Shape("http-2-preface", lambda *_: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    Shape("upgrade-by-post", upgrade(method="POST"), (405,)),
    Shape("upgrade-by-post-with-body", upgrade("Content-Length: 5", method="POST", then=b"hello"), (400, 405)),
    Shape("upgrade-with-body", upgrade("Content-Length: 5", then=b"hello"), BAD),
    Shape("upgrade-with-chunks", upgrade("Transfer-Encoding: chunked", then=SMUGGLED.encode()), BAD),
    Shape("upgrade-in-http-1.0", upgrade(version="HTTP/1.0"), (400, 426)),
]

HOSTS = [
    Shape("no-host", get(host=False), BAD),
    Shape("two-hosts", get("Host: evil.example"), BAD),
    Shape("host-with-path", get("Host: a/b?c#d", host=False), BAD),
    Shape("host-with-blank", get("Host: a b", host=False), BAD),
    Shape("host-with-user", get("Host: user@127.0.0.1", host=False), BAD),
    Shape("upgrade-without-host", upgrade(without="Host"), BAD),
    Shape("upgrade-with-two-hosts", upgrade("Host: evil.example"), BAD),
    Shape("upgrade-with-path-in-host", upgrade(host="127.0.0.1/yjs"), BAD),
]

VERSION, ITS_KEY = "Sec-WebSocket-Version", "Sec-WebSocket-Key"
HANDSHAKES = [
    Shape("no-upgrade", upgrade(without="Upgrade"), NOT_FOUND),
    Shape("no-connection", upgrade(without="Connection"), NOT_FOUND),
    Shape("no-version", upgrade(without=VERSION), (400, 426)),
    Shape("version-8", upgrade(f"{VERSION}: 8", without=VERSION), (400, 426)),
    Shape("versions-8-13", upgrade(f"{VERSION}: 8, 13", without=VERSION), (400, 426)),
    Shape("version-13-then-8", upgrade(f"{VERSION}: 8"), (400, 426)),
    Shape("no-key", upgrade(without=ITS_KEY), BAD),
    Shape("two-keys", upgrade(f"{ITS_KEY}: {KEY}"), BAD),
    Shape("short-key", upgrade(f"{ITS_KEY}: c2hvcnQ=", without=ITS_KEY), BAD),
    Shape("key-of-junk", upgrade(f"{ITS_KEY}: !!", without=ITS_KEY), BAD),
    Shape("extensions-with-controls", upgrade('Sec-WebSocket-Extensions: ;;=="\x01'), BAD),
    Shape("subprotocols-with-controls", upgrade("Sec-WebSocket-Protocol: ,,;\x01"), BAD),
    Shape("header-of-10-KB", upgrade("X: " + "y" * 10_240), TOO_LARGE),
    Shape("header-of-70-KB", upgrade("X: " + "y" * 70_000), TOO_LARGE),
    Shape("header-of-1-MB", upgrade("X: " + "y" * 1_000_000), TOO_LARGE),
    Shape("200-headers", upgrade(*(f"X-{number}: y" for number in range(200))), TOO_LARGE),
    Shape("path-of-9-KB", lambda port, _: upgrade_request(port, "/yjs/" + "d" * 9_000), (400, 414)),
    Shape("request-with-header-of-10-KB", get("X: " + "y" * 10_240), TOO_LARGE),
    Shape("request-with-header-of-1-MB", get("X: " + "y" * 1_000_000), TOO_LARGE),
    Shape("request-with-200-headers", get(*(f"X-{number}: y" for number in range(200))), TOO_LARGE),
    Shape("elsewhere", lambda port, _: upgrade_request(port, "/livez"), (403,)),
    Shape("dots-and-slashes", lambda port, _: upgrade_request(port, "/yjs/a%2F..%2Fb"), (403,)),
    Shape("raw-latin-1", lambda port, _: upgrade_request(port, "/yjs/\xe9"), BAD),
]
