"""The front: which upgrade requests go the short way, what the others are told, and rule N16 over real sockets."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from collab.node.door import PER_TURN
from collab.protocol.messages import SyncStep1
from collab.server.direct import DirectProtocol
from collab.server.front import UNREAD_BYTES, FrontProtocol, document_of, websocket_key
from collab.settings import Settings
from tests.unit.server.test_direct import RawClient, Server, running

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
GOOD = [(b"host", b"x"), (b"sec-websocket-version", b"13"), (b"sec-websocket-key", KEY)]


@pytest.mark.parametrize(
    ("url", "document"),
    [
        (b"/yjs/d", "d"),
        (b"/yjs/d?token=a/b", "d"),
        (b"/yjs/a%3Ab", "a:b"),
        (b"/yjs/%C3%A9", "é"),
        (b"/yjs/", None),
        (b"/yjs/a/b", None),
        (b"/yjs/a%2Fb", None),
        (b"/yjs", None),
        (b"/v1/documents", None),
        (b"http://host/yjs/d", None),
        (b"/yjs/" + b"x" * 9000, None),
        ("/yjs/é".encode(), None),
    ],
)
def test_only_the_address_of_one_document_goes_the_short_way(url: bytes, document: str | None) -> None:
    assert document_of(url) == document


def test_a_handshake_that_is_right_has_a_key() -> None:
    assert websocket_key(GOOD) == KEY.decode()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(GOOD[:2], id="no key"),
        pytest.param([*GOOD, GOOD[2]], id="two keys"),
        pytest.param([*GOOD[:2], (b"sec-websocket-key", b"c2hvcnQ=")], id="short key"),
        pytest.param([*GOOD[:2], (b"sec-websocket-key", b"not base64!")], id="no base64"),
        pytest.param([*GOOD[:2], (b"sec-websocket-key", b"\xff" * 24)], id="no text"),
        pytest.param([GOOD[0], GOOD[2]], id="no version"),
        pytest.param([GOOD[0], GOOD[2], (b"sec-websocket-version", b"8")], id="old version"),
        pytest.param([*GOOD, (b"x", b"y" * 9000)], id="long header"),
        pytest.param(GOOD + [(b"x", b"y")] * 200, id="many headers"),
    ],
)
def test_a_handshake_that_is_not_right_has_none(headers: list[tuple[bytes, bytes]]) -> None:
    assert websocket_key(headers) is None


async def answer(server: Server, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


def upgrade_request(server: Server, path: str = "/yjs/d", *, method: str = "GET", key: bytes = KEY) -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key.decode()}\r\n\r\n"
    ).encode()


async def test_c3_other_upgrade_requests_are_answered_with_an_http_status() -> None:
    async with running(Settings(serve_page=False), direct=True) as server:
        assert b" 400 " in await answer(server, upgrade_request(server, key=b"c2hvcnQ="))
        assert b" 403 " in await answer(server, upgrade_request(server, "/elsewhere"))
        assert b" 101 " not in await answer(server, upgrade_request(server, method="POST"))


async def test_the_handshake_is_that_of_rfc_6455() -> None:
    async with running(Settings(serve_page=False), direct=True) as server:
        request = upgrade_request(server)[:-2] + b"Sec-WebSocket-Protocol: other, yjs.v1\r\n\r\n"
        status, *lines = (await answer(server, request)).lower().split(b"\r\n")
        assert status == b"http/1.1 101 switching protocols"
        headers = dict(line.split(b": ") for line in lines if line)
        assert headers[b"upgrade"] == b"websocket"
        assert headers[b"connection"] == b"upgrade"
        assert headers[b"sec-websocket-accept"] == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".lower()
        assert headers[b"sec-websocket-protocol"] == b"yjs.v1"


async def test_c3_a_refusal_is_a_whole_http_response_and_the_end_of_the_connection() -> None:
    async with running(Settings(serve_page=False), direct=True) as server:
        server.node.hub.draining = True
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(upgrade_request(server))
        async with asyncio.timeout(10):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 2" in head.lower()
        assert f"content-length: {len(body)}".encode() in head.lower()
        assert b'"draining"' in body


async def test_the_proxy_in_front_says_how_the_page_reached_it() -> None:
    async with running(Settings(serve_page=False), direct=True) as server:
        behind_tls = ("Origin: http://127.0.0.1:{port}", "X-Forwarded-Proto: https")
        status, _ = await server.upgrade("/yjs/d", *(line.format(port=server.port) for line in behind_tls))
        assert status == 403
        status, _ = await server.upgrade("/yjs/d", behind_tls[0].format(port=server.port))
        assert status == 101


async def test_n16_a_liveness_request_does_not_wait_for_a_crowd_at_the_door() -> None:
    count = 20 * PER_TURN
    async with running(Settings(serve_page=False), direct=True) as server:
        crowd = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(count)]
        server.clients += [RawClient(*pair) for pair in crowd]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _, upgrading in crowd:
            upgrading.write(upgrade_request(server))
        writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        async with asyncio.timeout(10):
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        assert server.node.hub.counters.connections_opened < count
        writer.close()
        for client in server.clients:
            await client.reader.readuntil(b"\r\n\r\n")
            await client.message(SyncStep1)


async def test_a_session_keeps_nothing_of_its_handshake() -> None:
    async with running(Settings(serve_page=False), direct=True) as server:
        gc.collect()
        gc.disable()
        try:
            _ = [await server.client() for _ in range(3)]
            kept = [type(one) for one in gc.get_objects() if isinstance(one, FrontProtocol | DirectProtocol)]
            assert kept == [DirectProtocol] * 3
            assert not [task for task in asyncio.all_tasks() if "_introduce" in repr(task)]
        finally:
            gc.enable()


async def test_c5_who_does_not_read_its_answers_is_cut_off_and_who_reads_slowly_is_not() -> None:
    async with running(Settings(serve_page=False), direct=True) as server:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BYTES)
        narrow.setblocking(False)
        await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", server.port))
        reader, writer = await asyncio.open_connection(sock=narrow, limit=2 * UNREAD_BYTES)
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 1_000)
        here = writer.get_extra_info("sockname")
        await reader.readexactly(1)  # and no more: the reader takes its limit, then nothing
        (front,) = (one for one in gc.get_objects() if isinstance(one, FrontProtocol) and one.client == here)
        waiting = await settled(front)
        front._look_at_unread()
        while front._unread and front.transport.get_write_buffer_size() > waiting - UNREAD_BYTES:
            await reader.readexactly(UNREAD_BYTES)
        front._look_at_unread()
        assert not front.transport.is_closing()
        await settled(front)
        front._look_at_unread()
        front._look_at_unread()
        assert front.transport.is_closing()
        assert server.node.hub.counters.limits["request"] == 1
        writer.close()


async def settled(front: FrontProtocol) -> int:
    """How much of the answers nobody takes, once that stays as it is."""
    waiting = 0
    async with asyncio.timeout(10):
        while not waiting or waiting != front.transport.get_write_buffer_size():
            waiting = front.transport.get_write_buffer_size()
            await asyncio.sleep(0.1)
    return waiting
