"""Presence as stock clients see it: cursors come, move, go with their owner, and come back with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.support.clients import StockClients

if TYPE_CHECKING:
    from tests.support.door import Door, TestDoors

SEES = "awareness.getStates().get(arg.id)?.cursor === arg.at"
MISSES = "!awareness.getStates().has(arg)"
CUT = "provider.shouldConnect = arg.back; log.socket.terminate()"


async def test_cursors_are_seen_as_they_move(stock: StockClients, door: Door) -> None:
    one, other = [await stock.open(door.ws, door.document) for _ in range(2)]
    for at in (1, 2, 3):
        await one.run("awareness.setLocalStateField('cursor', arg)", at)
        await other.until(SEES, {"id": one.client_id, "at": at})


async def test_a_late_client_sees_who_is_here(stock: StockClients, door: Door) -> None:
    early = await stock.open(door.ws, door.document)
    await early.synced()
    await early.run("awareness.setLocalStateField('cursor', 5)")
    late = await stock.open(door.ws, door.document)
    await late.until(SEES, {"id": early.client_id, "at": 5})


async def test_a2_presence_goes_with_a_lost_connection(stock: StockClients, door: Door) -> None:
    lost, left = [await stock.open(door.ws, door.document) for _ in range(2)]
    await lost.run("awareness.setLocalStateField('cursor', 1)")
    await left.until(SEES, {"id": lost.client_id, "at": 1})
    await lost.run(CUT, {"back": False})
    await left.until(MISSES, lost.client_id)


async def test_a2_presence_goes_with_a_polite_goodbye(stock: StockClients, door: Door) -> None:
    leaving, left = [await stock.open(door.ws, door.document) for _ in range(2)]
    await leaving.run("awareness.setLocalStateField('cursor', 1)")
    await left.until(SEES, {"id": leaving.client_id, "at": 1})
    await leaving.close()
    await left.until(MISSES, leaving.client_id)


async def test_a_client_back_at_an_unchanged_clock_is_seen_again(stock: StockClients, door: Door) -> None:
    """Its peers removed it at the very clock it returns with, so they ignore that clock: y-websocket issue 122."""
    back, peer = [await stock.open(door.ws, door.document) for _ in range(2)]
    await back.run("awareness.setLocalStateField('cursor', 9)")
    await peer.until(SEES, {"id": back.client_id, "at": 9})
    clock = await back.get("awareness.meta.get(doc.clientID).clock")
    await back.run("const socket = log.socket; " + CUT, {"back": False})
    await peer.until(MISSES, back.client_id)
    await back.run("provider.connect()")
    await peer.until(SEES, {"id": back.client_id, "at": 9})
    assert await back.until("awareness.meta.get(doc.clientID).clock > arg", clock)


async def test_a4_ten_peers_that_echo_each_other_all_stay(stock: StockClients, door: Door) -> None:
    """y-websocket sends every entry it receives back to the server: an honest client speaks of others all the time."""
    clients = [await stock.open(door.ws, door.document) for _ in range(10)]
    for client in clients:
        await client.synced()
    for turn in range(5):
        for client in clients:
            await client.run("awareness.setLocalStateField('cursor', arg)", turn)
    for client in clients:
        await client.until("awareness.getStates().size === 10")
        for other in clients:
            await client.until(SEES, {"id": other.client_id, "at": 4})
    assert [await client.get("log.closes") for client in clients] == [[]] * 10


async def test_both_client_families_see_each_other(stock: StockClients, door: Door) -> None:
    websocket = await stock.open(door.ws, door.document)
    sweet = await stock.open(door.ws, door.document, kind="y-sweet")
    await sweet.synced()
    await websocket.run("awareness.setLocalStateField('cursor', 1)")
    await sweet.run("awareness.setLocalStateField('cursor', 2)")
    await sweet.until(SEES, {"id": websocket.client_id, "at": 1})
    await websocket.until(SEES, {"id": sweet.client_id, "at": 2})


async def test_a_lone_idle_client_stays_connected(doors: TestDoors) -> None:
    """y-websocket leaves after 30 s without a message, pings not counted. Here its clock runs at five times the rate
    and the server keeps alive five times as often; four signs of life are 40 of the client's seconds."""
    async with StockClients(clock_rate=5) as clients:
        door = await doors.open(COLLAB_KEEP_ALIVE_S="2")
        idle = await clients.open(door.ws, door.document)
        await idle.synced()
        await idle.until("log.awareness.filter(frame => frame[2] === 0).length >= 4", seconds=60)
        assert await idle.get("log.closes") == []
        assert await idle.get("log.sockets.length") == 1


async def test_no_message_puzzles_a_stock_client(stock: StockClients, door: Door) -> None:
    one, other = [await stock.open(door.ws, door.document) for _ in range(2)]
    await asyncio.gather(one.synced(), other.synced())
    await one.insert("x")
    await one.run("awareness.setLocalStateField('cursor', 1)")
    await other.until(SEES, {"id": one.client_id, "at": 1})
    await other.until_text("x")
    assert stock.console == []
