"""Documents that somebody else holds locked in the database wait by themselves (faults matrix F17)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from collab.errors import CloseCode, DocumentsBusy, StoreUnavailable
from collab.node import Hub
from collab.node.recorder import RECENT_COMMITS
from collab.protocol.messages import SyncStatus, SyncStep2, Update
from collab.store import MemoryStore
from collab.store.port import ROW_WAIT_S, Appended, LogEntry
from tests.unit.node.conftest import Build, Client
from tests.unit.node.support import Writer, text_of

NOTHING = b"\x00\x00"


class LockedLog:
    """The memory store's log, some documents of which somebody else holds locked."""

    def __init__(self, store: MemoryStore) -> None:
        self.inner = store.log
        self.locked: set[str] = set()
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.appends: list[frozenset[str]] = []
        """The documents of every attempt."""
        self.waits: list[float] = []
        """How long every attempt was ready to wait for a row."""

    async def append(self, entries: Sequence[LogEntry], *, row_wait_s: float = ROW_WAIT_S) -> Appended:
        names = frozenset(entry.document for entry in entries)
        self.appends.append(names)
        self.waits.append(row_wait_s)
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable("told to be away")
        if busy := names & self.locked:
            raise DocumentsBusy("told to be busy", busy)
        return await self.inner.append(entries, row_wait_s=row_wait_s)

    def attempts(self, document: str) -> int:
        return sum(document in names for names in self.appends)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class LockedStore(MemoryStore):
    """A memory store with a `LockedLog`."""

    def __init__(self) -> None:
        super().__init__()
        self.locks = LockedLog(self)
        self.log = self.locks  # type: ignore[assignment]

    async def history(self, document: str) -> list[str]:
        """The text after every row of the log."""
        updates = (await self.log.load(document)).all_updates
        return [text_of(*updates[: count + 1]) for count in range(len(updates))]


class Typist(Client):
    """A client that asks to be told what is saved."""

    def __init__(self, hub: Hub, document: str, name: str = "ann") -> None:
        super().__init__(hub, name)
        self.document = document
        self.writer = Writer()
        self.typed = 0

    async def begin(self) -> Typist:
        await self.enter(self.document)
        self.send(SyncStep2(NOTHING))
        return self

    def type(self, text: str) -> None:
        self.typed += 1
        self.send(Update(self.writer.type(text)), SyncStatus(bytes((self.typed,))))

    async def queue(self, text: str) -> None:
        """Type, and return when it waits in the recorder; call only while no commit can end."""
        unsaved = self.hub.counters.unsaved_bytes
        self.type(text)
        await until(lambda: self.hub.counters.unsaved_bytes > unsaved)

    @property
    def saved(self) -> int:
        """How much of what was typed is acknowledged."""
        return max(self.acknowledged, default=0)

    @property
    def acknowledged(self) -> list[int]:
        return [message.version[0] for message in self.connection.messages if isinstance(message, SyncStatus)]

    async def until_saved(self) -> None:
        await self.connection.until(lambda: self.saved == self.typed)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def shows(client: Client, text: str) -> None:
    await client.connection.until(lambda: text in text_of(NOTHING, *client.connection.updates()))


async def share_a_batch(store: LockedStore, busy: Typist, free: Typist, text: str) -> list[frozenset[str]]:
    """Both type, and one transaction is to hold it; gives the attempts up to when ``free`` is told that it is saved."""
    before = len(store.locks.appends)
    store.locks.gate.clear()
    await free.queue(text[0])  # what comes during this commit shares the next
    await until(lambda: len(store.locks.appends) > before)
    await busy.queue(text)
    await free.queue(text[1:])
    store.locks.gate.set()
    await free.until_saved()
    return store.locks.appends[before:]


async def set_aside(build: Build) -> tuple[LockedStore, Hub, Typist, Typist]:
    """Somebody has typed "01" in a document that is locked, and somebody in one that is not."""
    store = LockedStore()
    hub = build(store=store)
    busy, free = await Typist(hub, "busy").begin(), await Typist(hub, "free", "ben").begin()
    await hub.recorder.flush()
    store.locks.locked = {"busy"}
    attempts = await share_a_batch(store, busy, free, "01")
    assert attempts[:3] == [{"free"}, {"busy", "free"}, {"free"}], "the rest of the batch goes at once"
    return store, hub, busy, free


async def test_f17_a_locked_document_delays_no_other_and_is_saved_in_order(build: Build) -> None:
    store, hub, busy, free = await set_aside(build)
    found = len(store.locks.appends)
    for number in range(2, 6):
        busy.type(str(number))
        free.type(str(number))
        await free.until_saved()
    await until(lambda: store.locks.attempts("busy") >= 4)
    assert {"busy"} in store.locks.appends
    assert {"busy", "free"} not in store.locks.appends[found:], "it is tried by itself"
    assert (busy.saved, hub.recorder.failing) == (0, False)
    assert hub.counters.store_failures == 0, "nobody need look at the database"
    assert hub.counters.unsaved_bytes > 0
    store.locks.locked = set()
    await busy.until_saved()
    assert busy.acknowledged == sorted(set(busy.acknowledged))
    assert await store.history("busy") == ["01", "012", "0123", "01234", "012345"]
    assert hub.counters.unsaved_bytes == 0


async def test_f17_what_was_queued_behind_a_locked_document_keeps_its_order(build: Build) -> None:
    store = LockedStore()
    hub = build(store=store)
    busy, free = await Typist(hub, "busy").begin(), await Typist(hub, "free", "ben").begin()
    await hub.recorder.flush()
    store.locks.locked = {"busy"}
    store.locks.gate.clear()
    await busy.queue("0")
    await until(lambda: store.locks.appends)
    for number in range(1, 4):  # behind an attempt that does not know yet
        await busy.queue(str(number))
        await free.queue(str(number))
    store.locks.gate.set()
    await free.until_saved()
    busy.type("4")
    assert store.locks.appends[:2] == [{"busy"}, {"free"}]
    store.locks.locked = set()
    await busy.until_saved()
    assert await store.history("busy") == ["0", "01", "012", "0123", "01234"]


async def test_f17_a_document_that_is_free_again_shares_batches_again(build: Build) -> None:
    store, hub, busy, free = await set_aside(build)
    store.locks.locked = set()
    await busy.until_saved()
    await hub.recorder.flush()
    assert await share_a_batch(store, busy, free, "23") == [{"free"}, {"busy", "free"}]
    await busy.until_saved()


async def test_f17_one_of_many_locked_documents_is_saved_when_it_is_free(build: Build) -> None:
    store = LockedStore()
    hub = build(store=store)
    typists = [await Typist(hub, f"d{number}").begin() for number in range(6)]
    await hub.recorder.flush()
    store.locks.locked = {typist.document for typist in typists}
    for typist in typists:
        typist.type("text")
    await until(lambda: all(store.locks.attempts(typist.document) > 1 for typist in typists))
    store.locks.locked.remove("d3")
    await typists[3].until_saved()
    assert [typist.saved for typist in typists] == [0, 0, 0, 1, 0, 0]
    store.locks.locked = set()
    for typist in typists:
        await typist.until_saved()


async def test_f16_what_another_node_is_slowly_writing_is_waited_for_together_and_longer(build: Build) -> None:
    store = LockedStore()
    hub = build(store=store)
    typists = [await Typist(hub, f"d{number}").begin() for number in range(6)]
    await hub.recorder.flush()
    documents = frozenset(typist.document for typist in typists)
    store.locks.locked = set(documents)
    store.locks.gate.clear()
    await typists[0].queue("1")
    await until(lambda: store.locks.appends)
    for typist in typists:
        await typist.queue("2")
    store.locks.gate.set()
    await until(lambda: store.locks.appends.count(documents - {"d0"}) >= 4)
    together = [wait for names, wait in zip(store.locks.appends, store.locks.waits, strict=True) if len(names) > 1]
    assert together[:4] == [ROW_WAIT_S, ROW_WAIT_S, 2 * ROW_WAIT_S, 4 * ROW_WAIT_S]
    store.locks.locked = {"d3"}
    for typist in typists:
        if typist.document != "d3":
            await typist.until_saved()
    await until(lambda: {"d3"} in store.locks.appends)
    store.locks.locked = set()
    await typists[3].until_saved()


async def test_f16_where_commits_are_slow_rows_are_waited_for_longer(build: Build) -> None:
    store = LockedStore()
    hub = build(store=store)
    typist = await Typist(hub, "d").begin()
    await hub.recorder.flush()
    for number in range(RECENT_COMMITS):
        store.locks.gate.clear()
        await typist.queue("1")
        await until(lambda number=number: len(store.locks.appends) > number)
        await asyncio.sleep(0.3)
        store.locks.gate.set()
        await typist.until_saved()
    for text in "23":
        typist.type(text)
        await typist.until_saved()
    *before, after, later = store.locks.waits
    assert set(before) == {ROW_WAIT_S}, "one that is slow may have waited itself"
    assert after >= 3 * 0.3
    assert later == ROW_WAIT_S, "as soon as one was quick again, they are not"


async def test_f17_flushing_and_draining_wait_for_a_locked_document(build: Build) -> None:
    store, hub, busy, _ = await set_aside(build)
    flushing = asyncio.create_task(hub.recorder.flush())
    await until(lambda: store.locks.attempts("busy") >= 3)
    assert not flushing.done()
    assert busy.room is not None
    assert not busy.room.saved
    store.locks.locked = set()
    async with asyncio.timeout(20):
        await flushing
    assert await store.history("busy") == ["01"]


async def test_n7_a_drain_that_ends_before_the_lock_does_says_so(build: Build) -> None:
    _, hub, _, _ = await set_aside(build)
    assert not await hub.drain(0.1)
    await hub.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("set aside")]


async def test_l5_a_document_deleted_while_it_is_set_aside_is_given_up(build: Build) -> None:
    store, hub, busy, free = await set_aside(build)
    await store.documents.create("busy")
    await store.documents.delete("busy")
    busy.type("2")
    store.locks.locked = set()
    await busy.connection.until(lambda: busy.connection.closed_with is not None)
    assert busy.connection.closed_with is CloseCode.DELETED
    async with asyncio.timeout(20):
        await hub.recorder.flush()
    assert (busy.saved, hub.counters.unsaved_bytes) == (0, 0)
    free.type("2")
    await free.until_saved()


async def test_l5_a_deletion_that_is_heard_of_while_the_document_is_set_aside_ends_the_room_at_once(
    build: Build,
) -> None:
    store, hub, busy, _ = await set_aside(build)
    await store.documents.create("busy")
    await store.documents.delete("busy")
    assert busy.room is not None
    busy.room.deleted()
    assert busy.connection.closed_with is CloseCode.DELETED
    await until(lambda: not hub.holds("busy"))
    store.locks.locked = set()
    async with asyncio.timeout(20):
        await hub.recorder.flush()
    assert hub.counters.unsaved_bytes == 0


async def test_r8_people_in_a_locked_document_see_each_other_s_edits(build: Build) -> None:
    store = LockedStore()
    hub = build(store=store)
    ann, ben = await Client(hub, "ann").enter("busy"), await Client(hub, "ben").enter("busy")
    writers = {ann: Writer(), ben: Writer()}

    async def both_type(text: str) -> None:
        unsaved = hub.counters.unsaved_bytes
        for client, writer in writers.items():  # in one turn: both are authors of one receipt
            client.send(Update(writer.type(text)))
        await until(lambda: hub.counters.unsaved_bytes > unsaved)

    store.locks.locked = {"busy"}
    store.locks.gate.clear()
    for text in ("tried ", "queued "):
        await both_type(text)
        await until(lambda: store.locks.appends)
    store.locks.gate.set()
    await shows(ann, "tried ")
    await both_type("late ")
    for text in ("queued ", "late "):
        await shows(ann, text)
        await shows(ben, text)
    assert await store.log.last_seq("busy") == 0


async def test_l3_an_outage_while_a_document_is_set_aside_loses_nothing(build: Build) -> None:
    store, hub, busy, free = await set_aside(build)
    store.locks.away = True
    busy.type("2")
    free.type("2")
    await until(lambda: hub.recorder.failing)
    free.type("3")
    attempts = store.locks.attempts("busy")
    await until(lambda: store.locks.attempts("busy") > attempts)
    store.locks.locked = set()
    store.locks.away = False
    await busy.until_saved()
    await free.until_saved()
    assert not hub.recorder.failing
    assert await store.history("busy") == ["01", "012"]
    assert (await store.history("free"))[-1] == "0123"
    assert hub.counters.unsaved_bytes == 0
