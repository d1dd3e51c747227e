"""Hostile frames at the door of a real server: each closes its own session with the table's code, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed

from collab.errors import CloseCode
from tests.attacks.control import ControlRoom
from tests.attacks.harm import ATTACKS, Attack, nested_value, valid_update
from tests.attacks.mutate import Tally, mutate
from tests.support import wire

if TYPE_CHECKING:
    from tests.support.clients import StockClients
    from tests.support.door import Door, TestDoors

PATIENCE_SECONDS = 30.0


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_c1_a_hostile_frame_closes_its_own_session_with_the_tables_code(door: Door, attack: Attack) -> None:
    gateway = door.server.pid
    async with ControlRoom(door.ws, f"{door.document}:beside") as beside, ControlRoom(door.ws, door.document) as inside:
        async with door.socket() as socket:
            await socket.send(attack.frame)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await socket.wait_closed()
            assert (socket.close_code, socket.close_reason) == (attack.code.code, attack.code.reason)
        await inside.still_syncs()
        await beside.still_syncs()
    assert door.server.pid == gateway


async def test_a_frame_over_the_limit_is_too_big(doors: TestDoors) -> None:
    door = await doors.shared(COLLAB_MAX_FRAME_BYTES="100000")
    async with ControlRoom(door.ws, f"{door.document}:beside") as beside:
        async with door.socket() as socket:
            await socket.send(wire.update(b"\x00" * 100_001))
            await socket.wait_closed()
            assert socket.close_code == CloseCode.TOO_BIG.code
        await beside.still_syncs()


async def test_nothing_large_is_read_from_strangers(doors: TestDoors) -> None:
    """Before a token is believed no frame is read: the answer to the upgrade, or the first close, is the refusal."""
    door = await doors.shared(COLLAB_AUTH="jwt", COLLAB_JWT_SECRET="0123456789abcdef" * 4)
    async with door.socket() as socket:
        with contextlib.suppress(ConnectionClosed):  # the close may be here already
            await socket.send(wire.update(b"\x00" * 200_000))
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == CloseCode.UNAUTHENTICATED.code


async def test_unknown_message_types_are_ignored_up_to_a_point(door: Door) -> None:
    unknown = bytes([77]) + wire.prefixed(b"?")
    async with door.socket() as socket:
        await socket.send(unknown)
        await socket.send(wire.step1())
        assert await door.receive(socket, wire.SYNC, wire.STEP2)
        for _ in range(20):
            await socket.send(unknown)
        await socket.wait_closed()
        assert socket.close_code == CloseCode.MALFORMED.code


async def test_k2_nothing_of_a_hostile_frame_is_stored(door: Door, stock: StockClients) -> None:
    author = await stock.open(door.ws, door.document)
    await author.synced()
    await author.insert("untouched")
    assert await door.until_committed("untouched")
    for update in (nested_value(30_000), valid_update() + b"\x00"):
        async with door.socket() as socket:
            await socket.send(wire.update(update))
            await socket.wait_closed()
    await author.insert("!")
    assert await door.until_committed("untouched!")
    newcomer = await stock.open(door.ws, door.document)
    await newcomer.until_text("untouched!")
    assert await newcomer.get("[...doc.share.keys()].join()") == "t"


async def test_b11_e1_mutated_updates_harm_nobody_else(doors: TestDoors) -> None:
    """The default run's share of `python -m tests.attacks --updates 1000000` (B11)."""
    door = await doors.open()
    tally = await mutate(door.server, count=400, rooms=3, sockets=4, rng=Random(11))
    assert isinstance(tally, Tally)
    assert tally.problems == []
    assert sum(tally.closes.values()) > 0
    assert set(tally.closes) <= {code.code for code in CloseCode}
