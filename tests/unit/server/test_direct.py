"""The WebSocket endpoint over a real socket: our uvicorn protocol class and the plain ASGI fallback, byte by byte.

When uvicorn's or websockets' insides move, this is what fails.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext

import pytest
import uvicorn

from collab.engine.inline import InlineEngine
from collab.errors import CloseCode
from collab.node import Frame
from collab.protocol.dialects.y_websocket import decode, encode
from collab.protocol.messages import Awareness, AwarenessEntry, Message, SyncStep1, Update
from collab.protocol.yjs import scan_update
from collab.server.app import Collab
from collab.server.auth import Authenticate
from collab.server.direct import DirectProtocol, Terms
from collab.server.frames import server_frame
from collab.server.front import Deadlines, FrontProtocol, front
from collab.settings import Settings
from collab.store import MemoryStore
from tests.support.raw import client_frame
from tests.unit.node.support import Writer, text_of

FIN_BINARY, FIN_TEXT, CLOSE, PING, PONG = 0x82, 0x81, 0x88, 0x89, 0x8A
MAX_FRAME = 200_000


class RawClient:
    """A WebSocket client that says exactly what it is told, whole or in pieces."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(10):
            first, second = await self.reader.readexactly(2)
            assert not second & 0x80, "server frames are not masked"
            length = second
            if length == 126:
                (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first, await self.reader.readexactly(length)

    async def message(self, kind: type[Message]) -> Message:
        while True:
            first, payload = await self.frame()
            assert first == FIN_BINARY, f"frame {first:#x} {payload!r}"
            for message in decode(payload):
                if isinstance(message, kind) and message != Awareness(()):
                    return message

    async def close_code(self) -> int:
        while True:
            first, payload = await self.frame()
            if first == CLOSE:
                return int.from_bytes(payload[:2], "big")


class Server:
    """One node in this process."""

    def __init__(self, node: Collab, port: int) -> None:
        self.node = node
        self.port = port
        self.clients: list[RawClient] = []

    async def upgrade(self, path: str, *headers: str) -> tuple[int, RawClient]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=4096)
        lines = (
            f"GET {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *headers,
        )
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        client = RawClient(reader, writer)
        self.clients.append(client)
        head = await reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1]), client

    async def client(self, document: str = "d") -> RawClient:
        status, client = await self.upgrade(f"/yjs/{document}")
        assert status == 101
        await client.message(SyncStep1)
        return client


@asynccontextmanager
async def running(
    settings: Settings, *, direct: bool, ping_every: float = 20.0, authenticate: Authenticate | None = None
) -> AsyncIterator[Server]:
    node = Collab(settings, store=MemoryStore(), engine=InlineEngine(), authenticate=authenticate)
    config = uvicorn.Config(
        node.app,
        port=0,
        ws="websockets-sansio",
        ws_max_size=settings.max_frame_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=ping_every,
        ws_ping_timeout=ping_every,
        forwarded_allow_ips=list(settings.trusted_proxies),
        log_config=None,
        lifespan="on",
    )
    if direct:
        terms = Terms(settings.max_frame_bytes, settings.outbox_bytes, ping_every=ping_every, pong_within=ping_every)
        config.http = front(
            node.endpoint,
            somebody_came=node.hub.door.somebody_came,
            timed_out=lambda: node.hub.counters.limits.add("request"),
            terms=terms,
            deadlines=Deadlines(settings.request_head_s, settings.request_body_s),
            trusted=list(settings.trusted_proxies),
        )
    uvicorn_server = uvicorn.Server(config)
    uvicorn_server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    task = asyncio.create_task(uvicorn_server.serve())
    while not uvicorn_server.started:
        await asyncio.sleep(0.01)
    server = Server(node, uvicorn_server.servers[0].sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        for client in server.clients:
            client.writer.close()
        await asyncio.gather(*(client.writer.wait_closed() for client in server.clients), return_exceptions=True)
        uvicorn_server.should_exit = True
        await task


@pytest.fixture(params=["direct", "asgi"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    settings = Settings(max_frame_bytes=MAX_FRAME, outbox_bytes=64 * 1024, serve_page=False)
    async with running(settings, direct=request.param == "direct") as server:
        yield server


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_an_edit_reaches_the_other_client(server: Server) -> None:
    ann, ben = await server.client(), await server.client()
    ann.send(client_frame(encode(Update(Writer().type("hello")))))
    update = await ben.message(Update)
    assert isinstance(update, Update)
    assert text_of(update.update) == "hello"


async def test_frames_may_come_byte_by_byte_or_many_at_once(server: Server) -> None:
    ann, ben = await server.client(), await server.client()
    writer = Writer()
    for byte in client_frame(encode(Update(writer.type("slow ")))):
        ann.send(bytes((byte,)))
        await ann.writer.drain()
        await asyncio.sleep(0)
    await ben.message(Update)
    ann.send(b"".join(client_frame(encode(Update(writer.type(letter)))) for letter in "many at once"))
    received: list[bytes] = []
    while len(received) == 0 or text_length(*received) < len("many at once"):
        update = await ben.message(Update)
        assert isinstance(update, Update)
        received.append(update.update)


def text_length(*updates: bytes) -> int:
    ranges = [ranges for update in updates for ranges in scan_update(update).ranges.values()]
    return sum(end - start for client in ranges for start, end in client)


@pytest.mark.parametrize("size", [100, 125, 126, 127, 65_535, 65_536, 150_000])
async def test_frames_of_every_length_encoding_arrive(server: Server, size: int) -> None:
    ann, ben = await server.client(), await server.client()
    ann.send(client_frame(encode(Update(Writer().type("z" * size)))))
    update = await ben.message(Update)
    assert isinstance(update, Update)
    assert text_of(update.update) == "z" * size


async def test_r13_several_messages_in_one_write_arrive_as_messages_in_order(server: Server) -> None:
    ann = await server.client()
    outbox = next(iter(server.node.hub.connections.in_room("d").values()))
    writer = Writer()
    sent = [Update(writer.type(text)) for text in ("short", "x" * 300, "y" * 70_000)]
    outbox.connection.write(Frame(*map(encode, sent)))
    assert [await ann.message(Update) for _ in sent] == sent


async def test_fragmented_messages_and_control_frames_between_them(server: Server) -> None:
    ann, ben = await server.client(), await server.client()
    whole = encode(Update(Writer().type("in three pieces")))
    ann.send(client_frame(whole[:5], 0x02))
    ann.send(client_frame(b"are you there", PING))
    ann.send(client_frame(whole[5:9], 0x00))
    ann.send(client_frame(whole[9:], 0x80))
    update = await ben.message(Update)
    assert isinstance(update, Update)
    assert text_of(update.update) == "in three pieces"
    while True:
        first, payload = await ann.frame()
        if first == PONG:
            assert payload == b"are you there"
            break


async def test_c1_a_text_frame_closes_with_1003(server: Server) -> None:
    client = await server.client()
    client.send(client_frame(b'{"hello":1}', FIN_TEXT))
    assert await client.close_code() == 1003


async def test_c1_a_frame_over_the_limit_closes_with_1009_before_it_has_arrived(server: Server) -> None:
    client = await server.client()
    client.send(client_frame(b"x" * (MAX_FRAME + 1))[:100])
    assert await client.close_code() == 1009


async def test_c1_fragments_over_the_limit_close_with_1009(server: Server) -> None:
    client = await server.client()
    client.send(client_frame(b"x" * 150_000, 0x02) + client_frame(b"x" * 150_000, 0x80))
    assert await client.close_code() == 1009


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(client_frame(b"hello", mask=False), id="unmasked"),
        pytest.param(client_frame(b"hello", 0xC2), id="reserved bit"),
        pytest.param(client_frame(b"hello", 0x83), id="reserved opcode"),
        pytest.param(client_frame(b"x" * 126, PING), id="long ping"),
        pytest.param(client_frame(b"hello", 0x09), id="fragmented ping"),
        pytest.param(client_frame(b"hello", 0x80), id="continuation of nothing"),
        pytest.param(client_frame(b"a", 0x02) + client_frame(b"b"), id="message inside a message"),
        pytest.param(client_frame(b"\x03", CLOSE), id="short close"),
    ],
)
async def test_c1_violations_of_websocket_framing_close_with_1002(server: Server, frame: bytes) -> None:
    client = await server.client()
    client.send(frame)
    assert await client.close_code() == 1002


async def test_a_clients_close_is_answered_and_its_session_leaves(server: Server) -> None:
    ann, ben = await server.client(), await server.client()
    ann.send(client_frame(encode(Awareness((AwarenessEntry(1, 1, b"{}"),)))))
    await ben.message(Awareness)
    ann.send(client_frame(struct.pack("!H", 1000), CLOSE))
    assert await ann.close_code() == 1000
    assert await ben.message(Awareness) == Awareness((AwarenessEntry(1, 1, None),))


async def test_a_client_that_vanishes_leaves(server: Server) -> None:
    ann = await server.client()
    ann.writer.transport.abort()
    await until(lambda: server.node.hub.counters.sessions == 0)


async def test_c1_malformed_messages_close_with_4400(server: Server) -> None:
    client = await server.client()
    client.send(client_frame(b"\x00\x02\xff"))
    assert await client.close_code() == 4400


async def test_c3_a_page_of_another_origin_is_refused_before_the_upgrade(server: Server) -> None:
    status, _ = await server.upgrade("/yjs/d", "Origin: https://evil.example")
    assert status == 403


@pytest.mark.parametrize("path", ["/yjs/.hidden", "/yjs/a%00b", "/yjs/" + "x" * 201])
async def test_c1_a_name_that_is_none_closes_with_4404(server: Server, path: str) -> None:
    status, client = await server.upgrade(path)
    assert status == 101
    assert await client.close_code() == 4404


async def test_c3_while_draining_nobody_is_let_in(server: Server) -> None:
    server.node.hub.draining = True
    status, _ = await server.upgrade("/yjs/d")
    assert status == 503


async def test_what_is_sent_before_the_document_is_loaded_is_not_lost(server: Server) -> None:
    status, ann = await server.upgrade("/yjs/early")
    assert status == 101
    ann.send(client_frame(encode(Update(Writer().type("early bird")))))
    ben = await server.client("early")
    ben.send(client_frame(encode(SyncStep1(b"\x00"))))
    await until(lambda: server.node.hub.counters.rows == 1)


async def test_n5_a_reader_that_stops_reading_costs_a_bounded_amount_and_catches_up(server: Server) -> None:
    ann, slow = await server.client(), await server.client()
    hub = server.node.hub
    writer, chunk = Writer(), 50_000
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    sent = 0
    while not any(outbox.state_vector for outbox in hub.connections.in_room("d").values()) or sent < 60 * chunk:
        ann.send(client_frame(encode(Update(writer.type("x" * chunk)))))
        await ann.writer.drain()
        sent += chunk
        await until(lambda: hub.counters.rows == sent // chunk)  # noqa: B023 - awaited at once
        assert sent < 30_000_000, "the reader is never found to be slow"
    assert hub.connections.waiting_bytes() < 1_000_000
    slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
    copy = Writer()
    async with asyncio.timeout(30):
        while len(copy.text) < sent:
            update = await slow.message(Update)
            assert isinstance(update, Update)
            copy.doc.apply_update(update.update)
    assert str(copy.text) == str(writer.text)
    assert hub.counters.slow_reader_diffs >= 1


async def test_n6_who_is_not_read_from_is_not_taken_for_dead() -> None:
    async with running(Settings(serve_page=False), direct=True, ping_every=0.2) as server:
        held, silent = await server.client(), await server.client()
        outbox = next(iter(server.node.hub.connections.in_room("d").values()))
        outbox.connection.pause_reading()
        code = await silent.close_code()  # it answers no ping either, and is read from
        assert code == 1011
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await held.close_code()
        outbox.connection.resume_reading()
        assert await held.close_code() == 1011


async def test_who_is_sent_away_and_sends_on_is_seldom_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    read = DirectProtocol._read

    def counted(protocol: DirectProtocol, data: bytes) -> None:
        nonlocal reads
        reads += 1
        read(protocol, data)

    async with running(Settings(serve_page=False), direct=True) as server:
        client = await server.client()
        client.send(client_frame(b"\x00\x02\xff"))
        assert await client.close_code() == 4400
        monkeypatch.setattr(DirectProtocol, "_read", counted)
        for _ in range(300):
            client.send(client_frame(b"more") * 600)
            await asyncio.sleep(0.002)
        assert reads < 100
        client.send(client_frame(b"", CLOSE))
        async with asyncio.timeout(4):
            assert await client.reader.read() == b""


async def test_a_goodbye_behind_what_was_not_read_yet_is_heard_when_the_session_is_sent_away() -> None:
    async with running(Settings(serve_page=False, burst_messages=5, messages_per_s=1), direct=True) as server:
        client = await server.client()
        client.send(client_frame(encode(Awareness(()))) * 50 + client_frame(b"\x03\xe8", CLOSE))
        await until(lambda: server.node.hub.counters.limits["messages"] > 0)
        server.node.hub.connections.close_all(CloseCode.RESTART)
        async with asyncio.timeout(4):  # whoever does not answer is cut off after five seconds
            while await client.reader.read(1024):
                pass


def test_a_frame_is_encoded_once_for_everybody() -> None:
    assert server_frame(b"ab") == b"\x82\x02ab"
    assert server_frame(b"x" * 300)[:4] == b"\x82\x7e\x01\x2c"
    assert server_frame(b"x" * 70_000)[:10] == b"\x82\x7f\x00\x00\x00\x00\x00\x01\x11\x70"
    assert Frame(b"ab").wire is None


def test_the_insides_of_uvicorn_that_the_front_leans_on_are_there() -> None:
    for name in (
        "handle_websocket_upgrade",
        "connection_made",
        "connection_lost",
        "data_received",
        "on_headers_complete",
        "on_message_complete",
    ):
        assert callable(getattr(FrontProtocol.__mro__[1], name))
