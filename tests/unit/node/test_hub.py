"""Opening, closing and draining rooms: rules N1 to N3, N7, L5, and sessions end to end in one process."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from collab.bus import MemoryBus
from collab.errors import CloseCode, DocumentDeleted, Draining, EngineDied, MalformedMessage, Overloaded
from collab.node import ConnectionLimits, Hub, HubLimits
from collab.node.door import PER_TURN
from collab.protocol.messages import Awareness, AwarenessEntry, SyncStatus, SyncStep1, SyncStep2, Update
from collab.room import Role
from collab.store import MemoryStore
from tests.unit.node.conftest import Build, Client
from tests.unit.node.support import FlakyStore, Writer, text_of


async def test_two_sessions_see_each_others_edits_and_presence(hub: Hub) -> None:
    ann, ben = await Client(hub, "ann").enter(), await Client(hub, "ben").enter()
    writer = Writer()
    ann.send(Update(writer.type("hello")))
    await ben.connection.receives(Update)
    assert text_of(*ben.connection.updates()) == "hello"
    ann.send(Awareness((AwarenessEntry(1, 1, b'{"x":1}'),)))
    assert await ben.connection.receives(Awareness) == Awareness((AwarenessEntry(1, 1, b'{"x":1}'),))
    assert [presence.identity.subject for presence in hub.present("d")] == ["ann", "ben"]
    assert set(hub.connections.of_user("ann").values()) == {"d"}


async def test_r2_a_sync_step_1_is_answered_with_what_is_missing(hub: Hub) -> None:
    ann, ben = await Client(hub, "ann").enter(), await Client(hub, "ben").enter()
    ann.send(Update(Writer().type("hello")))
    await ben.connection.receives(Update)
    late = await Client(hub, "late").enter()
    late.send(SyncStep1(b"\x00"))
    answer = await late.connection.receives(SyncStep2)
    assert isinstance(answer, SyncStep2)
    assert text_of(answer.update) == "hello"


async def test_k1_an_edit_is_acknowledged_after_its_commit_and_not_before(build: Build) -> None:
    store = FlakyStore()
    store.flaky.gate.clear()
    hub = build(store=store)
    ann = await Client(hub, "ann").enter()
    ben = await Client(hub, "ben").enter()
    ann.send(SyncStep2(b"\x00\x00"), Update(Writer().type("hello")), SyncStatus(b"\x01"))
    await ben.connection.receives(Update)
    assert not any(isinstance(message, SyncStatus) for message in ann.connection.messages)
    store.flaky.gate.set()
    assert await ann.connection.receives(SyncStatus) == SyncStatus(b"\x01")
    assert text_of(*(await store.log.load("d")).all_updates) == "hello"


async def test_n1_concurrent_opens_make_one_room(build: Build) -> None:
    store = FlakyStore()
    hub = build(store=store)
    clients = await asyncio.gather(*(Client(hub, f"c{n}").enter() for n in range(20)))
    assert store.flaky.loads == 1
    assert len({client.room for client in clients}) == 1


async def test_n1_who_gives_up_waiting_does_not_take_the_room_from_others(build: Build) -> None:
    store = FlakyStore()
    store.flaky.load_gate.clear()
    hub = build(store=store)
    gives_up = asyncio.create_task(Client(hub, "gives up").enter())
    stays = asyncio.create_task(Client(hub, "stays").enter())
    while not store.flaky.loads:
        await asyncio.sleep(0)
    gives_up.cancel()
    store.flaky.load_gate.set()
    assert (await stays).room is not None
    assert store.flaky.loads == 1


async def test_n16_who_waited_for_one_opening_join_a_few_in_each_turn_of_the_loop(build: Build) -> None:
    count = 4 * PER_TURN
    store = FlakyStore()
    store.flaky.load_gate.clear()
    hub = build(store=store)
    entering = [asyncio.create_task(Client(hub, f"c{n}").enter()) for n in range(count)]
    while not store.flaky.loads:
        await asyncio.sleep(0)
    store.flaky.load_gate.set()
    sessions = [0]
    while sessions[-1] < count:
        await asyncio.sleep(0)
        sessions.append(hub.counters.sessions)
    assert max(after - before for before, after in itertools.pairwise(sessions)) <= PER_TURN
    await asyncio.gather(*entering)


async def test_n2_subscribe_precedes_load(build: Build) -> None:
    store, bus = FlakyStore(), MemoryBus()
    store.flaky.load_gate.clear()
    hub = build(store=store, bus=bus)
    entering = asyncio.create_task(Client(hub, "ann").enter())
    while not store.flaky.loads:
        await asyncio.sleep(0)
    assert "d" in bus.ears
    store.flaky.load_gate.set()
    await entering


async def test_r5_two_nodes_on_one_bus_show_each_others_edits_and_record_them_once(build: Build) -> None:
    store, bus = MemoryStore(), MemoryBus()
    one, two = build(store=store, bus=bus), build(store=store, bus=bus)
    ann, ben = await Client(one, "ann").enter(), await Client(two, "ben").enter()
    ann.send(Update(Writer().type("hello")), Awareness((AwarenessEntry(7, 1, b"{}"),)))
    await ben.connection.receives(Update)
    await ben.connection.receives(Awareness)
    assert text_of(*ben.connection.updates()) == "hello"
    await one.recorder.flush()
    await two.recorder.flush()
    assert len((await store.log.load("d")).updates) == 1


async def test_n3_an_idle_room_unloads_only_when_saved_and_opens_again_with_everything(build: Build) -> None:
    store = FlakyStore()
    hub = build(store=store, limits=HubLimits(unload_after=0.0))
    ann = await Client(hub, "ann").enter()
    room = ann.room
    assert room is not None
    store.flaky.gate.clear()
    ann.send(Update(Writer().type("hello")))
    while not store.flaky.attempts:
        await asyncio.sleep(0)
    ann.leave()
    await asyncio.sleep(0)
    assert not room.saved
    store.flaky.gate.set()
    await room.wait_saved()
    async with asyncio.timeout(10):
        while hub.counters.rooms:
            await asyncio.sleep(0.02)
    again = await Client(hub, "ben").enter()
    assert again.room is not room
    again.send(SyncStep1(b"\x00"))
    answer = await again.connection.receives(SyncStep2)
    assert isinstance(answer, SyncStep2)
    assert text_of(answer.update) == "hello"


async def test_n3_nobody_opens_a_document_while_an_ended_room_still_holds_unsaved_edits(build: Build) -> None:
    store = FlakyStore()
    hub = build(store=store)
    ann = await Client(hub, "ann").enter()
    store.flaky.gate.clear()
    ann.send(Update(Writer().type("hello")))
    while not store.flaky.attempts:
        await asyncio.sleep(0)
    assert ann.room is not None
    ann.room.end(CloseCode.FAULT)
    assert ann.connection.closed_with is CloseCode.FAULT
    entering = asyncio.create_task(Client(hub, "ben").enter())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not entering.done()
    store.flaky.gate.set()
    ben = await entering
    ben.send(SyncStep1(b"\x00"))
    answer = await ben.connection.receives(SyncStep2)
    assert isinstance(answer, SyncStep2)
    assert text_of(answer.update) == "hello"


async def test_l5_a_deleted_document_ends_its_room_and_takes_nobody(build: Build) -> None:
    store = MemoryStore()
    hub = build(store=store)
    ann = await Client(hub, "ann").enter()
    writer = Writer()
    ann.send(Update(writer.type("hello")))
    await ann.connection.receives(Update)
    await store.documents.delete("d")
    ann.send(Update(writer.type(" again")))
    await ann.connection.until(lambda: ann.connection.closed_with is not None)
    assert ann.connection.closed_with is CloseCode.DELETED
    with pytest.raises(DocumentDeleted):
        await Client(hub, "late").enter()


async def test_evicting_tells_everybody_why(hub: Hub) -> None:
    ann = await Client(hub, "ann").enter()
    await hub.close_document("d", CloseCode.DELETED)
    assert ann.connection.closed_with is CloseCode.DELETED
    assert hub.counters.rooms == 0


async def test_h1_submit_returns_after_the_commit_and_live_editors_receive_it(hub: Hub) -> None:
    ann = await Client(hub, "ann").enter()
    writer = Writer()
    assert await hub.submit("d", writer.type("from a program"), author="bot") == 1
    await ann.connection.receives(Update)
    assert text_of(*ann.connection.updates()) == "from a program"
    assert await hub.submit("d", Writer().type("!"), author=None) == 2


async def test_h1_submit_refuses_what_is_malformed(hub: Hub) -> None:
    with pytest.raises(MalformedMessage):
        await hub.submit("d", b"\x01\x00\x05\x00\x00", author=None)


async def test_e1_submit_is_not_left_waiting_when_its_room_ends(build: Build) -> None:
    store = FlakyStore()
    store.flaky.gate.clear()
    hub = build(store=store)
    submitting = asyncio.create_task(hub.submit("d", Writer().type("x"), author=None))
    while not store.flaky.attempts:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    eviction = asyncio.create_task(hub.close_document("d", CloseCode.DELETED))
    with pytest.raises(DocumentDeleted):
        await submitting
    store.flaky.gate.set()
    await eviction


async def test_the_node_and_each_room_take_only_so_many(build: Build) -> None:
    hub = build(limits=HubLimits(connections=ConnectionLimits(per_node=3, per_room=2)))
    ann = await Client(hub, "ann").enter()
    await Client(hub, "ben").enter()
    with pytest.raises(Overloaded):
        await Client(hub, "cat").enter()
    await Client(hub, "dan").enter("other")
    with pytest.raises(Overloaded):
        await Client(hub, "eve").enter("third")
    ann.leave()
    ann.leave()
    await Client(hub, "cat").enter()


async def test_r3_a_reader_changes_nothing(hub: Hub) -> None:
    ann, reader = await Client(hub, "ann").enter(), await Client(hub, "reader", Role.READ).enter()
    writer = Writer()
    ann.send(Update(writer.type("hello")))
    await reader.connection.receives(Update)
    reader.send(SyncStep2(b"".join(reader.connection.updates()[:1])), SyncStatus(b"\x00"))
    assert await reader.connection.receives(SyncStatus) == SyncStatus(b"\x00")
    for _ in range(3):
        reader.send(Update(Writer().type("graffiti")))
    assert reader.connection.closed_with is CloseCode.FORBIDDEN
    await hub.recorder.flush()
    assert text_of(*(await hub.store.log.load("d")).all_updates) == "hello"


async def test_n7_drain_saves_everything_and_tells_everybody_to_come_back(build: Build) -> None:
    store = FlakyStore()
    hub = build(store=store)
    ann = await Client(hub, "ann").enter()
    store.flaky.failures = 1
    ann.send(Update(Writer().type("hello")))
    assert await hub.drain(10)
    assert ann.connection.closed_with is CloseCode.RESTART
    assert text_of(*(await store.log.load("d")).all_updates) == "hello"
    with pytest.raises(Draining):
        await Client(hub, "ben").enter()


async def test_n7_drain_says_so_when_not_everything_could_be_saved(build: Build) -> None:
    store = FlakyStore()
    hub = build(store=store)
    ann = await Client(hub, "ann").enter()
    store.flaky.gate.clear()
    ann.send(Update(Writer().type("hello")))
    assert not await hub.drain(0.05)
    assert ann.connection.closed_with is CloseCode.RESTART


async def test_a_document_the_engine_cannot_serve_refuses_and_forgets(build: Build) -> None:
    hub = build()
    await hub.engine.close()

    async def load(*_: object) -> None:
        raise EngineDied("never again")

    hub.engine.load = load  # type: ignore[assignment, method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collab.node.loaded_document.REVIVAL_AFTER", (0.0, 0.0))
        with pytest.raises(EngineDied):
            await Client(hub, "ann").enter()
    assert hub.counters.rooms == 0
