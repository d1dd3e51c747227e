"""A database that goes away and comes back, a server asked to stop, a reader that does not read."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import pytest

from collab.errors import CloseCode
from tests.faults.campaign import Campaign, committed, until
from tests.support import wire
from tests.support.checker import lost
from tests.support.postgres import PostgresServer, postgres_server, postgres_url
from tests.support.server import NO_RATES, RunningServer

if TYPE_CHECKING:
    from tests.support.clients import StockClients
    from tests.support.door import TestDoors

__all__ = ["postgres_server", "postgres_url"]
TURNS, TURN_BYTES = 40, 500_000


async def test_f04_a_drained_server_exits_clean_and_loses_nothing_written(
    doors: TestDoors, stock: StockClients
) -> None:
    door = await doors.open()
    load = Campaign(door.server, stock, Random(4), rooms=3, writers=4)
    await load.begin()
    await load.running()
    load.gate.connecting.clear()
    assert await door.terminate() == 0
    await until(lambda: all(writer.offline for writer in load.everybody), "a client was left connected")
    assert {writer.closes[-1] for writer in load.everybody} == {CloseCode.RESTART.code}
    await door.start()
    for document, history in load.histories.items():
        assert lost(await committed(door.server, document), history.acknowledged) == []
    assert await load.end() == []


@pytest.mark.postgres
async def test_f14_no_acknowledgement_while_the_database_is_away_and_all_saved_after(
    postgres_server: PostgresServer, postgres_url: str, stock: StockClients
) -> None:
    with RunningServer.start("--migrate", database=postgres_url, env=NO_RATES) as server:
        load = Campaign(server, stock, Random(14), rooms=3, writers=4)
        await load.begin()
        await load.running()
        await asyncio.to_thread(postgres_server.stop, "immediate")
        try:
            # What the database answered before it died may still be on its way: drain it, then nothing may come.
            await until(
                lambda: all(writer.stuck for writer in load.everybody), "writers are confirmed without a database"
            )
            saved = load.counted()[1]
            everybody = load.everybody
            readers = [await stock.open(server.ws_url, document) for document in load.histories]
            for reader, document in zip(readers, load.histories, strict=True):
                author = load.writers[document][0]
                await author.write_unasked()
                await reader.until("doc.getText('t').toString().includes(arg)", author.newest)
            assert load.counted()[1] == saved
        finally:
            await asyncio.to_thread(postgres_server.start)
        assert await load.end() == []
        assert [writer.closes for writer in everybody] == [[]] * len(everybody)


async def test_f36_a_reader_that_stops_reading_costs_others_nothing_and_catches_up(
    doors: TestDoors, stock: StockClients
) -> None:
    door = await doors.open(COLLAB_OUTBOX_BYTES=str(64 * 1024), **NO_RATES)
    slow = await stock.open(door.ws, door.document)
    await slow.synced()
    await slow.run("log.socket._socket.pause()")
    author, reader = [await stock.open(door.ws, door.document) for _ in range(2)]
    await author.synced()
    await reader.synced()
    # Far more than the outbox and every socket buffer between hold.
    for turn in range(TURNS):
        await author.run("doc.getText('t').insert(0, 'x'.repeat(arg)); doc.getText('t').delete(0, arg)", TURN_BYTES)
        await author.insert(f"turn {turn};")
        await reader.until("doc.getText('t').toString().endsWith(arg)", f"turn {turn};")
    async with door.socket() as socket:
        await socket.send(wire.step1())
        assert await door.receive(socket, wire.SYNC, wire.STEP2)
    await slow.run("log.socket._socket.resume()")
    await slow.until_text(await author.text())
    assert await slow.canonical() == await author.canonical()
    assert await slow.get("log.closes") == []
    # One diff stands for the backlog: deleted text that it never saw does not come at all.
    received = await slow.get("log.received.reduce((total, frame) => total + frame.length, 0)")
    assert received < TURNS * TURN_BYTES / 2
