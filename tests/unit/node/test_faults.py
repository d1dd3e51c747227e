"""What a room does when the engine dies, the database fails, a reader is slow or too much is unsaved."""

from __future__ import annotations

import asyncio

import pytest

from collab.engine.port import Diff
from collab.errors import CloseCode, DocumentQuarantined, MalformedMessage
from collab.node import HubLimits, RoomLimits
from collab.node.outbox import MAX_SMALL_BYTES, Flow
from collab.protocol.messages import Awareness, AwarenessEntry, SyncStatus, SyncStep1, SyncStep2, Update
from collab.store import MemoryStore
from collab.store.port import Compaction, LogEntry
from tests.unit.node.conftest import Build, Client
from tests.unit.node.support import DeadlyEngine, FlakyStore, Writer, text_of


async def content(client: Client) -> str:
    """What the server answers to a client that has nothing."""
    client.connection.messages.clear()
    client.send(SyncStep1(b"\x00"))
    answer = await client.connection.receives(SyncStep2)
    assert isinstance(answer, SyncStep2)
    return text_of(answer.update)


def told(client: Client) -> list[AwarenessEntry]:
    """Everything a client was told about anybody's presence."""
    return [e for message in client.connection.messages if isinstance(message, Awareness) for e in message.entries]


async def test_e1_an_engine_that_dies_in_a_batch_loses_nothing_and_closes_nobody(build: Build) -> None:
    engine = DeadlyEngine()
    hub = build(engine=engine)
    ann, ben = await Client(hub, "ann").enter(), await Client(hub, "ben").enter()
    writer = Writer()
    ann.send(Update(writer.type("one ")))
    await ben.connection.receives(Update)
    engine.deaths = 2
    ann.send(Update(writer.type("two ")), Update(writer.type("three")))
    await ben.connection.until(lambda: text_of(*ben.connection.updates()) == "one two three")
    assert ann.connection.closed_with is None
    assert await content(ben) == "one two three"


async def test_e1_edits_not_yet_saved_survive_the_engine(build: Build) -> None:
    engine, store = DeadlyEngine(), FlakyStore()
    hub = build(engine=engine, store=store)
    ann = await Client(hub, "ann").enter()
    writer = Writer()
    store.flaky.gate.clear()
    ann.send(Update(writer.type("unsaved ")))
    while not store.flaky.attempts:
        await asyncio.sleep(0)
    engine.deaths = 1
    ann.send(Update(writer.type("text")))
    assert await content(ann) == "unsaved text"
    store.flaky.gate.set()


async def test_e2_the_update_that_kills_is_refused_and_its_neighbours_are_not(build: Build) -> None:
    hub = build(engine=DeadlyEngine())
    ann, eve = await Client(hub, "ann").enter(), await Client(hub, "eve").enter()
    ann.send(Update(Writer().type("before ")))
    eve.send(Update(Writer().type("POISON")))
    ann.send(Update(Writer().type("after")))
    await eve.connection.until(lambda: eve.connection.closed_with is not None)
    assert eve.connection.closed_with is CloseCode.MALFORMED
    assert ann.connection.closed_with is None
    await ann.connection.until(lambda: len(ann.connection.updates()) >= 2)
    assert "".join(sorted(await content(ann))) == "".join(sorted("before after"))


async def test_e2_submitting_a_deadly_update_is_refused(build: Build) -> None:
    hub = build(engine=DeadlyEngine())
    with pytest.raises(MalformedMessage):
        await hub.submit("d", Writer().type("POISON"), author=None)
    await hub.submit("d", Writer().type("fine"), author=None)


async def test_e3_a_document_that_kills_on_loading_is_quarantined_and_others_are_not(build: Build) -> None:
    engine = DeadlyEngine()
    hub = build(engine=engine)
    engine.deadly_loads = True
    for _ in range(2):
        with pytest.raises(DocumentQuarantined):
            await Client(hub, "ann").enter("bad")
    engine.deadly_loads = False
    with pytest.raises(DocumentQuarantined):
        await Client(hub, "ann").enter("bad")
    await Client(hub, "ben").enter("good")
    assert hub.counters.quarantines == 1


async def test_e11_rows_that_kill_on_loading_are_left_out_and_the_rest_is_served(build: Build) -> None:
    store = FlakyStore()
    rows = [Writer().type("good "), Writer().type("POISON 1"), Writer().type("POISON 2"), Writer().type("row")]
    await store.log.append([LogEntry("d", update, "old", number) for number, update in enumerate(rows)])
    hub = build(store=store, engine=DeadlyEngine())
    ann = await Client(hub, "ann").enter()
    assert sorted(await content(ann)) == sorted("good row")
    assert hub.counters.damage == 2
    assert len((await store.log.load("d")).updates) == 4


async def test_e11_a_document_whose_snapshot_is_refused_is_not_served_without_it(build: Build) -> None:
    store = MemoryStore()
    entry = b"\x01\x01\x05\x00\x24\x01\x01m\x01k\x01x\x00"  # text in a map entry (E22)
    hub = build(store=store)
    await store.log.append([hub.next_entry("d", entry, None)])
    assert await store.log.compact("d", Compaction(None, entry, b"\x00", frozenset({1})))
    with pytest.raises(DocumentQuarantined):
        await Client(hub, "ann").enter()


async def test_l3_a_failed_commit_is_repeated_in_order_until_it_succeeds(build: Build) -> None:
    store = FlakyStore()
    hub = build(store=store)
    ann = await Client(hub, "ann").enter()
    writer = Writer()
    store.flaky.failures = 2
    ann.send(SyncStep2(b"\x00\x00"))
    for number in range(5):
        ann.send(Update(writer.type(str(number))), SyncStatus(bytes((number,))))
    await ann.connection.until(lambda: SyncStatus(b"\x04") in ann.connection.messages)
    assert hub.counters.store_failures == 2
    stored = await store.log.load("d")
    assert [row.seq for row in stored.updates] == [1, 2, 3, 4, 5]
    assert text_of(*stored.all_updates) == "01234"


async def test_r8_while_the_database_is_away_editing_goes_on_and_nothing_is_acknowledged(build: Build) -> None:
    store = FlakyStore()
    hub = build(store=store)
    ann, ben = await Client(hub, "ann").enter(), await Client(hub, "ben").enter()
    store.flaky.failures = 1_000_000
    ann_types, ben_types = Writer(), Writer()
    ann.send(Update(ann_types.type("ann")))
    ben.send(Update(ben_types.type("ben")))  # same turn: both are authors of one batch
    await ann.connection.receives(Update)
    await ben.connection.receives(Update)
    assert text_of(*ann.connection.updates()) == "ben"
    assert text_of(*ben.connection.updates()) == "ann"
    store.flaky.failures = 0
    await hub.recorder.flush()
    assert len((await store.log.load("d")).updates) == 2


async def test_n5_a_slow_reader_gets_one_diff_and_equals_the_others(build: Build) -> None:
    hub = build()
    ann, slow = await Client(hub, "ann").enter(), await Client(hub, "slow").enter()
    writer = Writer()
    ann.send(Update(writer.type("seen ")))
    await slow.connection.receives(Update)
    slow.outbox.over_bound()
    assert slow.outbox.flow is Flow.FALLING
    while slow.outbox.flow is not Flow.BEHIND:
        await asyncio.sleep(0)
    written = len(slow.connection.messages)
    for _ in range(50):
        ann.send(Update(writer.type("x")))
        await asyncio.sleep(0)
    await hub.recorder.flush()
    assert len(slow.connection.messages) == written, "nothing is written to a reader that is behind"
    slow.outbox.drained()
    await slow.connection.until(lambda: text_of(*slow.connection.updates()) == "seen " + "x" * 50)
    assert sum(isinstance(message, Update) for message in slow.connection.messages[written:]) == 1
    ann.send(Update(writer.type("!")))
    await slow.connection.until(lambda: text_of(*slow.connection.updates()).endswith("!"))


async def test_n5_a_slow_reader_learns_who_left_while_it_was_behind(build: Build) -> None:
    hub = build()
    ann, ben = await Client(hub, "ann").enter(), await Client(hub, "ben").enter()
    slow = await Client(hub, "slow").enter()
    ann.send(Awareness((AwarenessEntry(7, 4, b"{}"),)))
    ben.send(Awareness((AwarenessEntry(8, 1, b"{}"),)))
    await slow.connection.until(lambda: {7, 8} <= {entry.client for entry in told(slow)})
    slow.outbox.over_bound()
    while slow.outbox.flow is not Flow.BEHIND:
        await asyncio.sleep(0)
    ann.leave()
    await ben.connection.until(lambda: AwarenessEntry(7, 4, None) in told(ben))
    assert AwarenessEntry(7, 4, None) not in told(slow)
    slow.outbox.drained()
    await slow.connection.until(lambda: AwarenessEntry(7, 4, None) in told(slow))
    assert told(slow)[-1] == AwarenessEntry(8, 1, b"{}")


async def test_n5_an_echo_left_out_while_the_diff_is_made_is_in_it(build: Build) -> None:
    store = FlakyStore()
    hub = build(store=store)
    slow = await Client(hub, "slow").enter()
    store.flaky.gate.clear()
    slow.send(Update(Writer().type("mine")))
    while not hub.counters.unsaved_bytes:
        await asyncio.sleep(0)
    slow.outbox.over_bound()
    while slow.outbox.flow is not Flow.BEHIND:
        await asyncio.sleep(0)
    asked, room = hub.engine.diff, slow.room
    assert room is not None

    async def diff(document: str, state_vector: bytes) -> Diff:
        answer = await asked(document, state_vector)
        room._audience.confirm_now()  # what confirms waits a moment for company, and this is its end
        return answer

    hub.engine.diff = diff  # type: ignore[method-assign]
    slow.outbox.drained()
    store.flaky.gate.set()
    await slow.connection.until(lambda: text_of(*slow.connection.updates()) == "mine")


async def test_n5_a_reader_that_drains_before_the_room_noticed_misses_nothing(build: Build) -> None:
    hub = build()
    ann, slow = await Client(hub, "ann").enter(), await Client(hub, "slow").enter()
    slow.outbox.over_bound()
    slow.outbox.drained()
    ann.send(Update(Writer().type("all")))
    await slow.connection.until(lambda: text_of(*slow.connection.updates()) == "all")


async def test_n5_who_asks_again_and_again_without_reading_is_answered_once(build: Build) -> None:
    hub = build()
    ann, slow = await Client(hub, "ann").enter(), await Client(hub, "slow").enter()
    ann.send(Update(Writer().type("text")))
    await slow.connection.receives(Update)
    slow.outbox.over_bound()
    while slow.outbox.flow is not Flow.BEHIND:
        await asyncio.sleep(0)
    for _ in range(20):
        slow.send(SyncStep1(b"\x00"))
        await asyncio.sleep(0.001)
    assert not any(isinstance(message, SyncStep2) for message in slow.connection.messages)
    slow.outbox.drained()
    await slow.connection.receives(SyncStep2)
    await hub.recorder.flush()
    assert sum(isinstance(message, SyncStep2) for message in slow.connection.messages) == 1


async def test_n5_who_asks_for_acknowledgements_without_reading_is_closed(build: Build) -> None:
    hub = build()
    slow = await Client(hub, "slow").enter()
    slow.send(SyncStep2(b"\x00\x00"))
    slow.outbox.over_bound()
    while slow.outbox.flow is not Flow.BEHIND:
        await asyncio.sleep(0)
    await hub.recorder.flush()
    for number in range(MAX_SMALL_BYTES // 100):
        slow.send(SyncStatus(bytes((number % 128,)) * 100))
    assert slow.connection.closed_with is CloseCode.OVERLOADED


async def test_n6_a_writer_is_read_more_slowly_while_too_much_is_unsaved(build: Build) -> None:
    store = FlakyStore()
    hub = build(store=store, limits=HubLimits(room=RoomLimits(unsaved_bytes=1000)))
    ann = await Client(hub, "ann").enter()
    store.flaky.gate.clear()
    writer = Writer()
    for _ in range(20):
        ann.send(Update(writer.type("y" * 100)))
    assert not ann.connection.reading
    store.flaky.gate.set()
    await ann.connection.until(lambda: ann.connection.reading)
    await hub.recorder.flush()
    assert text_of(*(await store.log.load("d")).all_updates) == "y" * 2000


async def test_l2_a_long_log_is_compacted_and_the_document_stays_the_same(build: Build) -> None:
    store = FlakyStore()
    hub = build(store=store, limits=HubLimits(compact_after_updates=50))
    ann = await Client(hub, "ann").enter()
    writer = Writer()
    for number in range(200):
        ann.send(Update(writer.type(chr(97 + number % 26))))
        if number % 20 == 19:
            await hub.recorder.flush()
    async with asyncio.timeout(10):
        while not hub.counters.compactions:
            await asyncio.sleep(0.01)
    stored = await store.log.load("d")
    assert stored.snapshot is not None
    assert text_of(*stored.all_updates) == str(writer.text)


async def test_a_few_large_updates_are_folded_too_and_again_at_once(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collab.node.compactor.TOO_LARGE", 20_000)
    hub = build()
    ann, writer = await Client(hub, "ann").enter(), Writer()
    for folds in (1, 2):
        for _ in range(3):
            ann.send(Update(writer.type("x" * 10_000 * folds)))
            await hub.recorder.flush()
        async with asyncio.timeout(20):
            while hub.counters.compactions < folds:
                await asyncio.sleep(0.01)
    assert text_of(*(await hub.store.log.load("d")).all_updates) == str(writer.text)


async def test_l2_compacting_keeps_an_update_that_waits(build: Build) -> None:
    hub = build()
    ann = await Client(hub, "ann").enter()
    writer, other = Writer(), Writer()
    first, second = writer.type("first "), writer.type("second")
    ann.send(Update(other.type("x")), Update(second))
    while hub.counters.rows < 2:
        await asyncio.sleep(0)
    assert await hub.compactor.compact("d")
    stored = await hub.store.log.load("d")
    assert second in [row.update for row in stored.updates]
    ann.send(Update(first))
    await hub.recorder.flush()
    while not ann.room or not ann.room.saved:
        await asyncio.sleep(0)
    await hub.compactor.compact("d")
    stored = await hub.store.log.load("d")
    assert "first second" in text_of(*stored.all_updates)
