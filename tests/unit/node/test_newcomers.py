"""What newcomers without anything of their own say first, and what it confirms (SPEC K3, K4)."""

from __future__ import annotations

import asyncio

import pytest

from collab.node import HubLimits, RoomLimits
from collab.protocol.messages import SyncStatus, SyncStep1, SyncStep2, Update
from collab.protocol.yjs import EMPTY_STATE_VECTOR, EMPTY_UPDATE

from .conftest import Build, Client
from .support import FlakyStore, Writer
from .test_plain import SlowEngine, begins

SAVED = SyncStatus(b"\x01")


async def test_an_empty_sync_step_2_is_answered_for_without_the_engine(build: Build) -> None:
    engine = SlowEngine()
    hub = build(engine=engine)
    ann = await Client(hub, "ann").enter()
    asked = engine.asked
    ann.send(SyncStep2(EMPTY_UPDATE))
    ann.send(SAVED)
    await ann.connection.receives(SyncStatus)
    assert engine.asked == asked


async def test_k4_who_comes_back_is_not_told_that_its_last_edit_is_saved_before_it_is(build: Build) -> None:
    store = FlakyStore()
    hub = build(store=store)
    ann = await Client(hub, "ann").enter()
    store.flaky.gate.clear()
    update = Writer().type("a")
    ann.send(Update(update))
    back = await Client(hub, "ann").enter()
    back.send(SyncStep1(EMPTY_STATE_VECTOR))
    await back.connection.until(lambda: update in back.connection.updates())
    ann.leave()
    back.send(SyncStep2(EMPTY_UPDATE))
    back.send(SAVED)
    await asyncio.sleep(0.05)
    assert SAVED not in back.connection.messages
    store.flaky.gate.set()
    await back.connection.receives(SyncStatus)


@pytest.mark.parametrize("fast", [True, False])
async def test_k4_nor_while_the_engine_still_has_it(build: Build, fast: bool) -> None:
    engine = SlowEngine()
    hub = build(engine=engine, limits=HubLimits(room=RoomLimits(show_plain_at_once=fast)))
    ann, back = await Client(hub, "ann").enter(), await Client(hub, "ann").enter()
    writer = Writer()
    await begins(ann, writer)
    engine.gate.clear()
    ann.send(Update(writer.type("c")))
    back.send(SyncStep2(EMPTY_UPDATE))
    back.send(SAVED)
    await asyncio.sleep(0.05)
    assert SAVED not in back.connection.messages
    engine.gate.set()
    await back.connection.receives(SyncStatus)
