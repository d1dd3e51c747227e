"""Attacks on handshake and transport (A01 to A17): wrong HTTP, wrong WebSocket, by raw socket, one case per shape."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from collab.errors import CloseCode
from tests.attacks.conftest import APP, Ground
from tests.attacks.handshakes import HANDSHAKES, HOSTS, SMUGGLING, Shape
from tests.support import wire
from tests.support.door import TestDoors
from tests.support.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    RawSocket,
    client_frame,
    close_frame,
    upgrade_request,
)
from tests.support.tokens import token
from tests.unit.engine.histories import inserted

UNKNOWN = bytes([77]) + wire.prefixed(b"?")
INSIDES = (b"Traceback", b"uvicorn", b"/site-packages/", b"collab.", b'File "')
"""Of which no answer says anything."""


@pytest.mark.parametrize("shape", [*SMUGGLING, *HOSTS, *HANDSHAKES], ids=lambda shape: shape.name)
def test_a04_a05_a06_a_wrong_request_is_refused_and_the_connection_ends(ground: Ground, shape: Shape) -> None:
    with RawSocket(ground.port) as raw:
        raw.send(shape.make(ground.port, ground.path))
        status, headers, body = raw.response()
        assert status in shape.statuses, body
        assert not any(inside in body for inside in INSIDES)
        if headers.get("connection") == "close":
            assert raw.rest() == b"", "what followed was taken for a request"
        else:
            assert status == 404


def test_a05_what_follows_a_refused_request_is_not_a_request(ground: Ground) -> None:
    smuggled = upgrade_request(ground.port, ground.path)
    with RawSocket(ground.port) as raw:
        raw.send(
            f"POST /v1/documents HTTP/1.1\r\nHost: 127.0.0.1:{ground.port}\r\nContent-Length: 9,0\r\n\r\n".encode()
        )
        raw.send(smuggled)
        assert raw.response()[0] == 400
        assert b"101" not in raw.rest()


def test_a06_a_head_without_an_end_is_not_read_for_ever(ground: Ground) -> None:
    """Of 64 MB of header, what is read before the answer is bounded, whether in one header or in many."""
    for line in (b"y" * 1024, b"x: " + b"y" * 1000 + b"\r\n"):
        with RawSocket(ground.port) as raw:
            raw.send(f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:{ground.port}\r\nX: ".encode())
            for _ in range(64):
                raw.send(line * 1024)
            assert raw.head()[0] in {431, 0}
            raw.rest()


ORIGINS = {
    "https://evil.example": False,
    "null": False,
    f"{APP}.evil.example": False,
    "https://evil-app.example": False,
    "http://app.example": False,
    f"{APP}.": False,
    f"{APP}:8443": False,
    f"{APP}/": False,
    f"{APP}, https://evil.example": False,
    "HTTPS://EVIL.EXAMPLE": False,
    "": False,
    "file://": False,
    APP: True,
    "HTTPS://APP.EXAMPLE": True,  # the same origin (RFC 6454 section 4), though no browser writes it so
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_a01_a_page_of_another_origin_is_refused_before_the_upgrade(ground: Ground, origin: str) -> None:
    refused = ground.counted('denials_total{status="403"}')
    with RawSocket(ground.port) as raw:
        status, _ = raw.upgrade(ground.port, ground.path, f"Origin: {origin}")
        assert status == (101 if ORIGINS[origin] else 403)
    assert ground.counted('denials_total{status="403"}') - refused == (not ORIGINS[origin])


def test_a01_two_origins_are_none(ground: Ground) -> None:
    with RawSocket(ground.port) as raw:
        assert raw.upgrade(ground.port, ground.path, f"Origin: {APP}", "Origin: https://evil.example")[0] == 403


def test_a01_a_right_token_does_not_help_a_foreign_page(guarded: Ground) -> None:
    with RawSocket(guarded.port) as raw:
        good = f"{guarded.path}?token={token(access='write')}"
        assert raw.upgrade(guarded.port, good, "Origin: https://evil.example")[0] == 403


def test_a02_without_an_origin_a_token_counts_and_a_cookie_never(guarded: Ground) -> None:
    """There are no cookies: whatever a browser sends along by itself opens nothing."""
    good = token(access="write")
    for headers, query, enters in (
        ((f"Authorization: Bearer {good}",), "", True),
        ((f"Sec-WebSocket-Protocol: yjs.v1, collab.token.{good}",), "", True),
        ((), f"?token={good}", True),
        ((f"Cookie: token={good}; session={good}; __Host-sid={good}",), "", False),
        ((), "", False),
    ):
        with RawSocket(guarded.port) as raw:
            status, answer = raw.upgrade(guarded.port, guarded.path + query, *headers)
            assert status == 101
            assert good not in str(answer)
            if enters:
                assert raw.next(FIN | BINARY)
            else:
                assert raw.closing() == (CloseCode.UNAUTHENTICATED.code, CloseCode.UNAUTHENTICATED.reason)


@dataclass(frozen=True, slots=True)
class Frames:
    """Bytes after a good handshake, and the close code they deserve."""

    name: str
    sent: bytes
    code: int


PING_126 = client_frame(b"x" * 126, FIN | PING)
VIOLATIONS = [
    Frames("unmasked", client_frame(wire.step1(), mask=False), 1002),
    Frames("unmasked-ping", client_frame(b"", FIN | PING, mask=False), 1002),
    *(
        Frames(f"reserved-bit-{bit:#x}", client_frame(wire.step1(), FIN | bit | BINARY), 1002)
        for bit in (0x40, 0x20, 0x10)
    ),
    *(Frames(f"opcode-{code:#x}", client_frame(b"", FIN | code), 1002) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    Frames("ping-in-pieces", client_frame(b"", PING), 1002),
    Frames("close-in-pieces", client_frame(b"", CLOSE), 1002),
    Frames("ping-of-126", PING_126, 1002),
    Frames("pong-of-64-KiB", client_frame(b"x" * 65_536, FIN | PONG), 1002),
    Frames("continuation-of-nothing", client_frame(b"x", FIN | CONTINUATION), 1002),
    Frames("new-message-among-pieces", client_frame(b"x", BINARY) + client_frame(b"y", FIN | BINARY), 1002),
    Frames("close-of-one-byte", client_frame(b"\x03", FIN | CLOSE), 1002),
    *(Frames(f"close-code-{code}", close_frame(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)),
    Frames("close-reason-not-utf-8", close_frame(1000, b"\xff\xfe"), 1007),
    Frames("close-reason-cut-utf-8", close_frame(1000, b"\xe2\x82"), 1007),
    Frames("length-of-64-bits", b"\x82\xff" + b"\xff" * 8 + b"\x00" * 4, 1009),
    Frames("length-one-over", b"\x82\xff" + (16 * 1024 * 1024 + 1).to_bytes(8, "big") + b"\x00" * 4, 1009),
    Frames("compressed-though-not-agreed", client_frame(b"\xaa\x00", FIN | 0x40 | BINARY), 1002),
    Frames("text-of-json", client_frame(b'{"type":"update"}', FIN | TEXT), 1003),
    Frames("text-in-pieces", client_frame(b"{", TEXT) + client_frame(b"}", FIN | CONTINUATION), 1003),
    Frames("empty-text", client_frame(b"", FIN | TEXT), 1003),
    Frames("empty-frame", client_frame(b""), 4400),
    *(Frames(f"one-byte-{byte}", client_frame(bytes([byte])), 4400) for byte in (0, 1, 102, 0x80, 0xFF)),
]


@pytest.mark.parametrize("frames", VIOLATIONS, ids=lambda frames: frames.name)
def test_a10_a11_a15_a17_a_violation_closes_with_the_code_for_it(ground: Ground, frames: Frames) -> None:
    with RawSocket(ground.port) as raw:
        assert raw.upgrade(ground.port, ground.path)[0] == 101
        raw.send(frames.sent)
        code, reason = raw.closing()
        assert code == frames.code
        assert not any(inside in reason.encode() for inside in INSIDES)
        raw.send(close_frame(code))
        assert raw.rest() == b""


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4400, None])
def test_a10_an_honest_goodbye_is_answered_in_kind(ground: Ground, code: int | None) -> None:
    with RawSocket(ground.port) as raw:
        raw.upgrade(ground.port, ground.path)
        raw.send(close_frame(code, b"" if code is None else "tschüß".encode()))
        assert raw.closing()[0] == (code or 1005)
        assert raw.rest() == b""


def test_a10_control_frames_between_pieces_are_answered_and_the_message_counts(ground: Ground) -> None:
    update = wire.update(inserted("pieces"))
    with RawSocket(ground.port) as raw:
        raw.upgrade(ground.port, ground.path)
        raw.send(client_frame(update[:4], BINARY) + client_frame(b"are you there", FIN | PING))
        raw.send(client_frame(update[4:9], CONTINUATION) + client_frame(update[9:], FIN | CONTINUATION))
        assert raw.next(FIN | PONG) == b"are you there"
        while inserted("pieces") not in raw.next(FIN | BINARY):
            pass


async def test_a11_one_byte_over_the_limit_is_too_big_and_the_limit_is_not(doors: TestDoors) -> None:
    most = 100_000
    door = await doors.shared(COLLAB_MAX_FRAME_BYTES=str(most))
    for size, closes in ((most, False), (most + 1, True)):
        with RawSocket(door.server.port) as raw:
            raw.upgrade(door.server.port, f"/yjs/{door.document}")
            raw.send(client_frame(UNKNOWN.ljust(size, b"\x00")) + client_frame(wire.step1()))
            if closes:
                assert raw.closing()[0] == CloseCode.TOO_BIG.code
            else:
                while not raw.next(FIN | BINARY).startswith(bytes([wire.SYNC, wire.STEP2])):
                    pass


async def test_a11_pieces_count_together(doors: TestDoors) -> None:
    door = await doors.shared(COLLAB_MAX_FRAME_BYTES="100000")
    with RawSocket(door.server.port) as raw:
        raw.upgrade(door.server.port, f"/yjs/{door.document}")
        raw.send(client_frame(b"\x4d" * 60_000, BINARY) + client_frame(b"\x00" * 60_000, FIN | CONTINUATION))
        assert raw.closing()[0] == 1009


@pytest.mark.parametrize(
    "offer",
    ["permessage-deflate", "permessage-deflate; client_max_window_bits", "x-webkit-deflate-frame", ";;==", ""],
)
def test_a13_compression_is_never_agreed_to(ground: Ground, offer: str) -> None:
    with RawSocket(ground.port) as raw:
        status, headers = raw.upgrade(ground.port, ground.path, f"Sec-WebSocket-Extensions: {offer}")
        assert status in {101, 400}
        assert "sec-websocket-extensions" not in headers


def test_a13_many_messages_in_one_segment_are_many_messages(ground: Ground) -> None:
    """As many questions in one write as the rate lets pass at once cost one answer or a few, and hold nobody up."""
    with RawSocket(ground.port) as raw:
        raw.upgrade(ground.port, ground.path)
        raw.send(client_frame(wire.step1()) * 900 + close_frame(1000))
        answers = 0
        while frame := raw.frame():
            if frame[0] == FIN | CLOSE:
                break
            answers += sum(message[:2] == (wire.SYNC, wire.STEP2) for message in wire.messages(frame[1]))
        assert answers < 100


def test_a16_two_messages_in_one_frame_both_count(ground: Ground) -> None:
    first, second = inserted("first", client=7), inserted("second", client=8)
    with RawSocket(ground.port) as raw, RawSocket(ground.port) as other:
        for one in (raw, other):
            one.upgrade(ground.port, ground.path)
            one.send(client_frame(wire.step1()))
        raw.send(client_frame(wire.update(first) + wire.update(second)))
        seen = b""
        while b"first" not in seen or b"second" not in seen:
            seen += other.next(FIN | BINARY)


def test_a16_of_a_frame_whose_second_message_is_malformed_nothing_counts(ground: Ground) -> None:
    with RawSocket(ground.port) as raw:
        raw.upgrade(ground.port, ground.path)
        raw.send(client_frame(wire.update(inserted("half a frame")) + b"\x00\x02\x7f"))
        assert raw.closing()[0] == CloseCode.MALFORMED.code
    with RawSocket(ground.port) as raw:
        raw.upgrade(ground.port, ground.path)
        raw.send(client_frame(wire.step1()))
        while not (answer := raw.next(FIN | BINARY)).startswith(bytes([wire.SYNC, wire.STEP2])):
            pass
        assert b"half a frame" not in answer


def test_a17_ten_unknown_messages_are_ignored_and_counted_and_the_eleventh_closes(ground: Ground) -> None:
    counted = ground.counted('messages_in_total{type="Unknown"}')
    with RawSocket(ground.port) as raw:
        raw.upgrade(ground.port, ground.path)
        raw.send(client_frame(UNKNOWN) * 10 + client_frame(wire.step1()))
        while not raw.next(FIN | BINARY).startswith(bytes([wire.SYNC, wire.STEP2])):
            pass
        raw.send(client_frame(UNKNOWN))
        assert raw.closing() == (CloseCode.MALFORMED.code, CloseCode.MALFORMED.reason)
    assert ground.counted('messages_in_total{type="Unknown"}') - counted == 11
