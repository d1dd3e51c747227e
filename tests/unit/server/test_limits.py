"""Limits over real sockets, on both kinds of connection: rates, refusals, sessions of a user, deadlines.

Each test has the id of the attack it proves (`A08`: handshake slow-loris, ...) or of the SPEC rule.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from starlette.requests import HTTPConnection

from collab.errors import Unauthenticated
from collab.protocol.dialects.y_websocket import encode
from collab.protocol.messages import Awareness, AwarenessEntry, SyncStep1, Update
from collab.room import Identity, Role
from collab.server.auth import Access
from collab.settings import Settings
from tests.unit.node.support import Writer
from tests.unit.server.test_direct import CLOSE, PING, PONG, RawClient, Server, client_frame, running, until

both = pytest.mark.parametrize("direct", [True, False], ids=["direct", "asgi"])


async def by_query(request: HTTPConnection, _: str | None) -> Access:
    """Everybody is who `?user=` says."""
    user = request.query_params.get("user")
    if user is None:
        raise Unauthenticated("Say who you are.")
    return Access(Identity(user), {"*": Role.WRITE})


class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def __call__(self, request: HTTPConnection, document: str | None) -> Access:
        self.asked.set()
        await self.answer.wait()
        return await by_query(request, document)


@asynccontextmanager
async def limited(*, direct: bool = True, patience: float = 60.0, **settings: object) -> AsyncIterator[Server]:
    """A server that sends away after ``patience`` seconds."""
    async with running(Settings(serve_page=False, **settings), direct=direct) as server:  # type: ignore[arg-type]
        endpoint = server.node.endpoint
        endpoint._limits = replace(endpoint._limits, rates=replace(endpoint._limits.rates, patience=patience))
        yield server


async def sent_away(client: RawClient) -> int:
    """The code, answered as clients answer it."""
    code = await client.close_code()
    client.send(client_frame(struct.pack("!H", code), CLOSE))
    return code


async def read_all(client: RawClient, seen: Callable[[int, bytes], bool]) -> None:
    while True:
        first, payload = await client.frame()
        if seen(first, payload):
            return


# rates (N17)


@both
async def test_n17_a_flood_is_read_more_slowly_and_nothing_of_it_is_lost(direct: bool) -> None:
    async with limited(direct=direct, messages_per_s=200, burst_messages=10) as server:
        ann, ben = await server.client(), await server.client()
        counters, writer = server.node.hub.counters, Writer()
        ann.send(b"".join(client_frame(encode(Update(writer.type(letter)))) for letter in "x" * 60))
        await ben.message(Update)
        assert counters.rows < 60
        await until(lambda: counters.rows == 60)
        assert counters.limits["messages"] >= 3
        assert counters.limits["persistent"] == 0
        assert counters.sessions == 2


@both
async def test_n17_every_message_of_a_frame_counts(direct: bool) -> None:
    async with limited(direct=direct, messages_per_s=200, burst_messages=10) as server:
        ann, ben = await server.client(), await server.client()
        counters, writer = server.node.hub.counters, Writer()
        frames = [b"".join(encode(Update(writer.type(letter))) for letter in "x" * 20) for _ in range(3)]
        ann.send(b"".join(map(client_frame, frames)))
        await ben.message(Update)
        assert counters.rows < 60
        await until(lambda: counters.rows == 60)
        assert counters.limits["messages"] >= 2
        assert counters.sessions == 2


@both
async def test_n17_many_bytes_are_read_more_slowly_too(direct: bool) -> None:
    async with limited(direct=direct, bytes_per_s=1_000_000, burst_bytes=50_000) as server:
        ann, writer = await server.client(), Writer()
        for _ in range(4):
            ann.send(client_frame(encode(Update(writer.type("x" * 60_000)))))
        await until(lambda: server.node.hub.counters.rows == 4)
        assert server.node.hub.counters.limits["bytes"] >= 2
        assert server.node.hub.counters.sessions == 1


@both
async def test_n17_who_does_not_stop_is_told_to_come_back_later(direct: bool) -> None:
    async with limited(direct=direct, patience=0.3, messages_per_s=50, burst_messages=5) as server:
        ann, ben, writer = await server.client(), await server.client(), Writer()
        ann.send(b"".join(client_frame(encode(Update(writer.type("x")))) for _ in range(500)))
        assert await sent_away(ann) == 4529
        assert server.node.hub.counters.limits["persistent"] == 1
        ben.send(client_frame(encode(SyncStep1(b"\x00"))))
        await until(lambda: server.node.hub.counters.sessions == 1)


@both
async def test_c06_presence_without_end_is_a_flood(direct: bool) -> None:
    async with limited(direct=direct, patience=0.3, messages_per_s=100, burst_messages=20) as server:
        ann, ben = await server.client(), await server.client()
        states = [Awareness((AwarenessEntry(1, clock, b"{}"),)) for clock in range(1, 1_000)]
        ann.send(b"".join(client_frame(encode(state)) for state in states))
        assert await sent_away(ann) == 4529
        shown = 0

        def counted(first: int, payload: bytes) -> bool:
            nonlocal shown
            shown += 1
            return b"null" in payload  # ann has left

        await read_all(ben, counted)
        assert shown < 100


@both
async def test_n17_0_is_no_limit(direct: bool) -> None:
    async with limited(direct=direct, messages_per_s=0, bytes_per_s=0, burst_messages=1, burst_bytes=1024) as server:
        ann, writer = await server.client(), Writer()
        ann.send(b"".join(client_frame(encode(Update(writer.type("xyz" * 30)))) for _ in range(100)))
        await until(lambda: server.node.hub.counters.rows == 100)
        assert not server.node.hub.counters.limits


@pytest.mark.parametrize("first", [PING, PONG, 0x02], ids=["ping", "pong", "empty piece"])
async def test_a14_pings_pongs_and_empty_pieces_count_as_messages(first: int) -> None:
    async with limited(patience=0.5, messages_per_s=100, burst_messages=50) as server:
        client, pongs, code = await server.client(), 0, None
        client.send(client_frame(b"", first) + client_frame(b"", 0x00 if first == 0x02 else first) * 10_000)
        while code is None:
            kind, payload = await client.frame()
            pongs += kind == PONG
            code = struct.unpack("!H", payload[:2])[0] if kind == CLOSE else None
        assert code == 4529
        assert pongs < 1_000


async def test_n17_who_is_held_back_is_not_taken_for_dead() -> None:
    settings = Settings(serve_page=False, bytes_per_s=20_000, burst_bytes=10_000)
    async with running(settings, direct=True, ping_every=0.2) as server:
        client = await server.client()
        client.send(client_frame(encode(Update(Writer().type("x" * 30_000)))))  # a second's worth
        for _ in range(2):  # the answer to the first is due before the second
            while (await client.frame())[0] != PING:
                pass
        assert server.node.hub.counters.sessions == 1
        assert await client.close_code() == 1011  # when it is read again, and has answered none


async def test_n17_both_reasons_not_to_read_must_be_over() -> None:
    async with limited() as server:
        client, writer = await server.client(), Writer()
        connection = next(iter(server.node.hub.connections.in_room("d").values())).connection
        loop, transport = asyncio.get_running_loop(), connection._transport  # type: ignore[attr-defined]
        connection.pause_reading()
        connection.rest(0.01)  # type: ignore[attr-defined]
        connection.rest(60)  # type: ignore[attr-defined]
        resumed = loop.create_future()
        loop.call_later(0.05, resumed.set_result, None)
        await resumed
        assert not transport.is_reading()
        connection.rest(0.01)  # type: ignore[attr-defined]
        connection.resume_reading()
        assert not transport.is_reading()
        client.send(client_frame(encode(Update(writer.type("x")))))
        await until(lambda: server.node.hub.counters.rows == 1)


async def test_n17_what_was_read_already_waits_as_well_and_a_goodbye_behind_it() -> None:
    async with limited(messages_per_s=100, burst_messages=1) as server:
        client, writer = await server.client(), Writer()
        updates = b"".join(client_frame(encode(Update(writer.type("x")))) for _ in range(30))
        client.send(updates + client_frame(struct.pack("!H", 1000), CLOSE))
        assert await client.close_code() == 1000
        await until(lambda: server.node.hub.counters.rows == 30)


# who and how many


@both
async def test_n18_a_user_has_so_many_sessions_and_others_are_not_concerned(direct: bool) -> None:
    settings = Settings(serve_page=False, max_sessions_per_user=2)
    async with running(settings, direct=direct, authenticate=by_query) as server:
        first = [(await server.upgrade(f"/yjs/{document}?user=ann"))[1] for document in "de"]
        for client in first:
            await client.message(SyncStep1)
        _, surplus = await server.upgrade("/yjs/f?user=ann")
        assert await surplus.close_code() == 4529
        _, ben = await server.upgrade("/yjs/d?user=ben")
        await ben.message(SyncStep1)
        assert server.node.hub.counters.limits["sessions_per_user"] == 1
        first[0].writer.close()
        await until(lambda: server.node.hub.counters.sessions == 2)
        _, again = await server.upgrade("/yjs/f?user=ann")
        await again.message(SyncStep1)


@both
async def test_n18_where_nobody_is_asked_who_they_are_nobody_is_a_user(direct: bool) -> None:
    async with limited(direct=direct, max_sessions_per_user=1) as server:
        for _ in range(3):
            await server.client()


@both
async def test_c3_the_node_counts_whom_it_is_about_to_let_in(direct: bool) -> None:
    settings, slow = Settings(serve_page=False, max_sessions=2), Slow()
    async with running(settings, direct=direct, authenticate=slow) as server:
        waiting = [asyncio.create_task(server.upgrade("/yjs/d?user=ann")) for _ in range(2)]
        await until(lambda: server.node.endpoint._newcomers == 2)
        status, _ = await server.upgrade("/yjs/d")
        assert status == 503
        assert server.node.hub.counters.limits["sessions"] == 1
        slow.answer.set()
        assert [status for status, _ in await asyncio.gather(*waiting)] == [101, 101]


@both
async def test_a18_an_address_that_is_refused_too_often_is_answered_429(direct: bool) -> None:
    settings = Settings(serve_page=False, max_refusals_per_address=3, trusted_proxies=())
    async with running(settings, direct=direct, authenticate=by_query) as server:
        _, inside = await server.upgrade("/yjs/d?user=ann")
        for _ in range(3):
            _, client = await server.upgrade("/yjs/d")
            assert await client.close_code() == 4401
        status, refused = await server.upgrade("/yjs/d?user=ann")
        assert status == 429
        assert b"too_many_refusals" in await refused.reader.read()
        assert server.node.hub.counters.limits["refusals"] == 1
        assert server.node.hub.counters.denials["429"] == 1
        await inside.message(SyncStep1)


@both
async def test_a18_a_node_that_is_too_slow_to_say_who_somebody_is_has_not_refused_them(direct: bool) -> None:
    settings = Settings(serve_page=False, max_refusals_per_address=1, trusted_proxies=(), authentication_s=0.01)
    slow = Slow()
    async with running(settings, direct=direct, authenticate=slow) as server:
        for _ in range(3):
            status, client = await server.upgrade("/yjs/d?user=ann")
            assert (status, await client.close_code()) == (101, 4508)
        assert "refusals" not in server.node.hub.counters.limits


async def test_a18_it_is_told_when_to_come_back() -> None:
    settings = Settings(serve_page=False, max_refusals_per_address=1, trusted_proxies=())
    async with running(settings, direct=True, authenticate=by_query) as server:
        await (await server.upgrade("/yjs/d"))[1].close_code()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"GET /yjs/d HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        answer = await reader.read()
        writer.close()
        assert b"\r\nretry-after: 60\r\n" in answer.lower()


async def test_a18_who_is_let_in_is_not_counted() -> None:
    settings = Settings(serve_page=False, max_refusals_per_address=2, trusted_proxies=())
    async with running(settings, direct=True, authenticate=by_query) as server:
        for number in range(20):
            _, client = await server.upgrade(f"/yjs/d?user={number}")
            await client.message(SyncStep1)


@both
async def test_a19_a_forwarded_address_is_believed_of_a_trusted_proxy(direct: bool) -> None:
    settings = Settings(serve_page=False, max_refusals_per_address=1, trusted_proxies=("127.0.0.1",))
    async with running(settings, direct=direct, authenticate=by_query) as server:
        for number in range(3):  # the proxy itself, and each address it names, is another
            _, client = await server.upgrade("/yjs/d", *([f"X-Forwarded-For: 192.0.2.{number}"] if number else []))
            assert await client.close_code() == 4401
        status, _ = await server.upgrade("/yjs/d", "X-Forwarded-For: 192.0.2.1")
        assert status == 429
        # The client wrote the first address itself; the proxy added where it saw the request come from.
        status, _ = await server.upgrade("/yjs/d", "X-Forwarded-For: 192.0.2.77, 192.0.2.1")
        assert status == 429
        for _ in range(3):
            _, client = await server.upgrade("/yjs/d")
            assert await client.close_code() == 4401


@both
async def test_a19_a_forwarded_address_of_anybody_else_changes_nothing(direct: bool) -> None:
    settings = Settings(serve_page=False, max_refusals_per_address=3, trusted_proxies=("192.0.2.200",))
    async with running(settings, direct=direct, authenticate=by_query) as server:
        for number in range(3):
            _, client = await server.upgrade("/yjs/d", f"X-Forwarded-For: 192.0.2.{number}")
            assert await client.close_code() == 4401
        status, _ = await server.upgrade("/yjs/d", "X-Forwarded-For: 192.0.2.99")
        assert status == 429
        addresses = server.node.endpoint._refusals._addresses
        now = asyncio.get_running_loop().time()
        assert [addresses.wait(f"192.0.2.{number}", now) for number in range(3)] == [0, 0, 0]


# deadlines


@both
async def test_a09_authentication_has_a_deadline_that_traffic_does_not_move(direct: bool) -> None:
    settings = Settings(serve_page=False, authentication_s=0.3)
    async with running(settings, direct=direct, authenticate=Slow()) as server:
        upgrading = asyncio.create_task(server.upgrade("/yjs/d"))
        await until(lambda: len(server.clients) == 1)
        if direct:  # under another server nobody reads what comes before the answer
            for _ in range(5):
                server.clients[0].send(client_frame(b"", PING))
        status, client = await upgrading
        assert status == 101
        assert await sent_away(client) == 4508
        assert server.node.hub.counters.limits["authentication"] == 1
        await until(lambda: server.node.hub.counters.connections == 0)


async def test_a09_a_timeout_of_the_callables_own_is_its_own_mistake() -> None:
    async def fails(_: HTTPConnection, __: str | None) -> Access:
        raise TimeoutError("of its database")

    async with running(Settings(serve_page=False), direct=True, authenticate=fails) as server:
        _, client = await server.upgrade("/yjs/d")
        assert await sent_away(client) == 4500
        assert server.node.hub.counters.limits["authentication"] == 0


HEAD = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "
POST = (
    b"POST /v1/documents HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
)


class Told(asyncio.Protocol):
    """Keeps what the server says, also when the server cuts the connection off."""

    def __init__(self) -> None:
        self.answer = b""
        self.over = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.answer += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set_result(None)


async def trickle(server: Server, whole: bytes, drops: bytes) -> bytes:
    """Send ``whole``, then ``drops`` byte by byte until the server has enough of it: what it said."""
    transport, told = await asyncio.get_running_loop().create_connection(Told, "127.0.0.1", server.port)
    transport.write(whole)
    async with asyncio.timeout(10):
        for drop in drops:
            done, _ = await asyncio.wait((told.over,), timeout=0.05)
            if done:
                break
            transport.write(bytes((drop,)))
        await told.over
    return told.answer


@pytest.mark.parametrize(
    ("whole", "drops"),
    [
        pytest.param(b"", HEAD + b"x" * 200, id="from the first byte"),
        pytest.param(HEAD, b"x" * 200, id="in a header"),
        pytest.param(b"", b"\r\n" * 100, id="empty lines"),
        pytest.param(b"", b"", id="nothing at all"),
    ],
)
async def test_a08_a_head_that_trickles_in_is_cut_off(whole: bytes, drops: bytes) -> None:
    async with running(Settings(serve_page=False, request_head_s=0.5), direct=True) as server:
        assert (await trickle(server, whole, drops)).startswith(b"HTTP/1.1 408 ")
        assert server.node.hub.counters.limits["request"] == 1


@pytest.mark.parametrize("drops", [HEAD + b"x" * 200, b"\r\n" * 100], ids=["head", "empty lines"])
async def test_a08_nor_may_the_next_request_of_a_connection_trickle_in(drops: bytes) -> None:
    async with running(Settings(serve_page=False, request_head_s=0.5), direct=True) as server:
        answer = await trickle(server, HEAD + b"x\r\n\r\n", drops)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"Connection: close\r\n\r\n")
        assert b"408" in answer


async def test_a08_a_body_that_trickles_in_is_cut_off() -> None:
    async with running(Settings(serve_page=False, request_body_s=0.5), direct=True) as server:
        assert (await trickle(server, POST, b" " * 999)).startswith(b"HTTP/1.1 408 ")
        assert server.node.hub.counters.limits["request"] == 1


async def test_a08_a_body_that_nobody_waits_for_is_cut_off_without_a_second_answer() -> None:
    async with running(Settings(serve_page=False, request_body_s=0.5), direct=True) as server:
        answer = await trickle(server, POST.replace(b"/v1/documents", b"/v1/nothing"), b" " * 999)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"408" not in answer


async def test_a08_a_server_that_takes_long_to_answer_cuts_nobody_off() -> None:
    slow = Slow()
    async with running(Settings(serve_page=False, request_head_s=0.2), direct=True, authenticate=slow) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /v1/documents?user=ann HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n\r\n")  # a stray empty line
        await slow.asked.wait()
        asyncio.get_running_loop().call_later(0.7, slow.answer.set)
        assert b" 200 " in await reader.readline()
        writer.close()


async def test_a08_a_thousand_who_trickle_harm_nobody() -> None:
    async with running(Settings(serve_page=False, request_head_s=3), direct=True) as server:
        loop = asyncio.get_running_loop()
        trickling = [await loop.create_connection(Told, "127.0.0.1", server.port) for _ in range(1_000)]
        for transport, _ in trickling:
            transport.write(HEAD)
        ann, ben, writer = await server.client(), await server.client(), Writer()
        typed, over = 0, asyncio.gather(*(told.over for _, told in trickling))
        while not over.done():
            ann.send(client_frame(encode(Update(writer.type("x")))))
            await ben.message(Update)
            typed += 1
            await asyncio.wait((over,), timeout=0.05)
            for transport, _ in trickling:
                transport.write(b"x")
        assert typed > 1
        assert all(told.answer.startswith(b"HTTP/1.1 408 ") for _, told in trickling)
