"""Every close of the server means to a stock client what the table in `collab.errors` says: come back, or stay away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.server import ServerConnection, serve

from collab.errors import CloseCode

if TYPE_CHECKING:
    from tests.support.clients import StockClients
    from tests.support.door import Door, TestDoors


@pytest.mark.parametrize("close", list(CloseCode), ids=lambda close: close.name.lower())
async def test_c2_the_code_alone_tells_a_stock_client_whether_to_retry(stock: StockClients, close: CloseCode) -> None:
    visits = 0

    async def turn_away(socket: ServerConnection) -> None:
        nonlocal visits
        visits += 1
        await socket.close(close.code, close.reason)

    async with serve(turn_away, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        client = await stock.open(f"ws://127.0.0.1:{port}/yjs", "any")
        if close.retry:
            await client.until("log.sockets.length >= 2")
            assert await client.get("log.closed === null && provider.shouldConnect")
        else:
            stopped = await client.until("log.closed")
            assert stopped == {"code": close.code, "reason": close.reason}
            assert await client.get("provider.shouldConnect") is False
            assert visits == 1


async def test_c1_a_malformed_message_ends_the_session_for_good(stock: StockClients, door: Door) -> None:
    hostile, bystander = [await stock.open(door.ws, door.document) for _ in range(2)]
    await hostile.synced()
    await bystander.synced()
    await hostile.run("provider.ws.send(new Uint8Array([0, 2, 5, 1, 1]))")
    assert (await hostile.until("log.closed"))["code"] == CloseCode.MALFORMED.code
    await bystander.insert("still here")
    assert await door.until_committed("still here")
    assert await bystander.get("log.closes") == []


async def test_c2_clients_return_after_a_restart_and_lose_nothing(stock: StockClients, doors: TestDoors) -> None:
    door = await doors.open()
    clients = [await stock.open(door.ws, door.document), await stock.open(door.ws, door.document, kind="y-sweet")]
    for client in clients:
        await client.synced()
    await clients[0].insert("before ")
    await clients[1].until_text("before ")
    assert await door.terminate() == 0
    for client in clients:
        await client.until("log.closes.length >= 1")
        assert (await client.get("log.closes[0].code")) == CloseCode.RESTART.code
    await clients[0].insert("during ")
    await door.start()
    await clients[1].until_text("before during ")
    await clients[1].insert("after")
    await clients[0].until_text("before during after")
    assert await door.until_committed("before during after")


async def test_l5_a_deleted_document_closes_its_sessions_and_stays_deleted(stock: StockClients, door: Door) -> None:
    live = await stock.open(door.ws, door.document)
    away = await stock.open(door.ws, door.document)
    await live.insert("doomed")
    await away.until_text("doomed")
    await away.run("provider.disconnect()")
    await away.insert(" and unsent")
    await door.until_committed("doomed")
    assert (await door.request("DELETE", "")).status_code == 204
    assert (await live.until("log.closed"))["code"] == CloseCode.DELETED.code
    await away.run("provider.connect()")
    assert (await away.until("log.closed"))["code"] == CloseCode.DELETED.code
    assert (await door.request("GET", "/content?format=text")).status_code == 410
    newcomer = await stock.open(door.ws, door.document)
    assert (await newcomer.until("log.closed"))["code"] == CloseCode.DELETED.code
    assert await newcomer.text() == ""


async def test_an_impossible_name_is_final(stock: StockClients, door: Door) -> None:
    client = await stock.open(door.ws, ".hidden")
    await client.until("log.closed !== null || log.errors.length > 0")
    assert await client.get("provider.synced") is False
    await asyncio.gather(client.close())
