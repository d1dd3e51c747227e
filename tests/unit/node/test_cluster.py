"""Several hubs on one bus and one store: what reaches the other node, also when the bus loses it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import pytest

from collab.bus import Envelope, Kind, MemoryBus
from collab.errors import CloseCode
from collab.node import Hub, HubLimits, RoomLimits, exchange
from collab.node.cluster import ClusterTimes
from collab.protocol.messages import Awareness, AwarenessEntry, SyncStatus, SyncStep2, Update
from collab.store import MemoryStore

from .conftest import Build, Client
from .support import FlakyLog, Writer, text_of

QUICK = ClusterTimes(
    alive_every=0.05, dead_after=0.5, digest_every=0.1, follow_every=0.05, follow_every_when_cut=0.05, answer_within=5.0
)
BUS_ONLY = dataclasses.replace(QUICK, follow_every=3600.0, follow_every_when_cut=3600.0)
LOG_ONLY = dataclasses.replace(QUICK, digest_every=3600.0)
NO_ADOPTION = dataclasses.replace(BUS_ONLY, adopt_after=3600.0, dead_after=3600.0)


class LossyBus(MemoryBus):
    """Loses what ``loses`` says; ``cut`` nodes neither hear nor are heard."""

    def __init__(self) -> None:
        super().__init__()
        self.loses: Callable[[Envelope], bool] = lambda _: False
        self.cut: set[str] = set()
        self.carried: list[Envelope] = []

    def deliver(self, envelope: Envelope, to: str | None) -> None:
        if envelope.node in self.cut or self.loses(envelope):
            return
        self.carried.append(envelope)
        for ear in tuple(self.ears.get(envelope.document, ())):
            if ear.node != envelope.node and ear.node not in self.cut and to in (None, ear.node):
                ear.receive(envelope)


class World:
    """Two nodes."""

    def __init__(
        self,
        build: Build,
        times: ClusterTimes = QUICK,
        room: RoomLimits = RoomLimits(),  # noqa: B008
        unload_after: float = 3600.0,
    ) -> None:
        self.bus = LossyBus()
        self.store = MemoryStore()
        self.logs: list[FlakyLog] = []
        self.nodes: list[Hub] = []
        for _ in range(2):
            log = FlakyLog(self.store)
            store = MemoryStore()
            store.documents, store.snapshots, store.log = self.store.documents, self.store.snapshots, log  # type: ignore[assignment]
            self.logs.append(log)
            limits = HubLimits(cluster=times, room=room, unload_after=unload_after)
            self.nodes.append(build(store=store, bus=self.bus, limits=limits))

    async def enter(self, node: int, name: str, document: str = "d") -> Client:
        return await Client(self.nodes[node], name).enter(document)

    async def know_each_other(self) -> None:
        await until(lambda: all(hub.cluster.nodes for hub in self.nodes))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def saw(client: Client, text: str) -> bool:
    return text_of(*client.connection.updates()) == text


def saved(client: Client) -> list[bytes]:
    return [message.version for message in client.connection.messages if isinstance(message, SyncStatus)]


def present(client: Client) -> dict[int, bytes | None]:
    seen: dict[int, AwarenessEntry] = {}
    for message in client.connection.messages:
        for entry in message.entries if isinstance(message, Awareness) else ():
            known = seen.get(entry.client)
            if known is None or entry.clock > known.clock or (entry.clock == known.clock and entry.state is None):
                seen[entry.client] = entry
    return {client: entry.state for client, entry in seen.items() if entry.state is not None}


async def test_n8_a_node_that_opens_a_document_learns_what_others_have_not_committed(build: Build) -> None:
    world = World(build, NO_ADOPTION)
    world.logs[0].gate.clear()
    ann = await world.enter(0, "ann")
    ann.send(Update(Writer().type("hello")), Awareness((AwarenessEntry(7, 1, b"{}"),)))
    await asyncio.sleep(0.05)
    ben = await world.enter(1, "ben")
    await until(lambda: saw(ben, "hello") and present(ben) == {7: b"{}"})
    await world.nodes[1].recorder.flush()
    assert len((await world.store.log.load("d")).updates) == 1, "a resync's news is recorded where it arrives"
    world.logs[0].gate.set()


async def test_n9_alone_a_node_says_nothing(build: Build) -> None:
    world = World(build, BUS_ONLY)
    ann = await world.enter(0, "ann")
    ann.send(Update(Writer().type("hello")), Awareness((AwarenessEntry(7, 1, b"{}"),)))
    await ann.connection.receives(Update)
    await asyncio.sleep(0.3)
    assert [envelope.kind for envelope in world.bus.carried if envelope.document == "d"] == [Kind.ASK]


async def test_n10_a_hole_is_filled_by_asking(build: Build) -> None:
    world = World(build, dataclasses.replace(BUS_ONLY, digest_every=3600.0))
    ann, ben = await world.enter(0, "ann"), await world.enter(1, "ben")
    writer = Writer()
    lost: list[Envelope] = []
    world.bus.loses = lambda envelope: envelope.kind == Kind.UPDATE and not lost and not lost.append(envelope)
    ann.send(Update(writer.type("one ")))
    await until(lambda: bool(lost))
    ann.send(Update(writer.type("two")))
    await until(lambda: saw(ben, "one two"))
    assert world.nodes[1].counters.resyncs["hole"] >= 1


async def test_n10_digests_find_what_no_number_shows(build: Build) -> None:
    world = World(build, BUS_ONLY)
    ann, ben = await world.enter(0, "ann"), await world.enter(1, "ben")
    writer = Writer()
    world.bus.loses = lambda envelope: envelope.kind in (Kind.UPDATE, Kind.COMMITTED, Kind.AWARENESS)
    ann.send(Update(writer.type("hello")), Awareness((AwarenessEntry(7, 1, b"{}"),)))
    await until(lambda: saw(ben, "hello") and present(ben) == {7: b"{}"})
    ann.send(Update(writer.delete(0, 1)))
    await until(lambda: saw(ben, "ello"))


async def test_r13_a_crowd_that_nodes_share_gets_what_gathers_in_one_write(build: Build) -> None:
    world = World(build, BUS_ONLY, RoomLimits(crowd=1, pace_shared=0.2))
    ann, ben, cat = await world.enter(0, "ann"), await world.enter(1, "ben"), await world.enter(1, "cat")
    await until(lambda: all(one.room is not None and one.room._exchange.has_peers for one in (ann, ben)))
    hers, his = Writer(), Writer()
    ben.send(Update(his.type("x")))  # the next turn of that room keeps its pace
    await until(lambda: saw(cat, "x"))
    before = len(cat.connection.writes)
    for letter in "abc":
        ann.send(Update(hers.type(letter)))
        ben.send(Update(his.type("x")))
        await asyncio.sleep(0.01)
    await until(lambda: sorted(text_of(*cat.connection.updates())) == sorted("abcxxxx"))
    shown = [write for write in cat.connection.writes[before:] if any(isinstance(one, Update) for one in write)]
    assert len(shown) <= 3, "six updates, of two nodes"
    assert any(len(write) > 1 for write in shown)
    await until(lambda: sorted(text_of(*ann.connection.updates())) == sorted("abcxxxx"))


async def test_n10_of_a_row_of_questions_the_newest_is_answered(build: Build) -> None:
    world = World(build, dataclasses.replace(BUS_ONLY, digest_every=3600.0))
    ann = await world.enter(0, "ann")
    ann.send(Update(Writer().type("hello")))
    ben = await world.enter(1, "ben")
    await until(lambda: saw(ben, "hello"))
    (asked,) = [one for one in world.bus.carried if one.document == "d" and one.kind == Kind.ASK and one.sequence == 1][
        1:
    ]
    answered = sum(envelope.kind == Kind.ANSWER for envelope in world.bus.carried)
    for _ in range(20):
        world.bus.deliver(dataclasses.replace(asked, sequence=0), None)
    await until(lambda: sum(envelope.kind == Kind.ANSWER for envelope in world.bus.carried) > answered)
    await asyncio.sleep(0.1)
    assert sum(envelope.kind == Kind.ANSWER for envelope in world.bus.carried) == answered + 1


async def test_n11_a_document_crosses_by_the_log_while_the_bus_is_away(build: Build) -> None:
    world = World(build, LOG_ONLY)
    world.bus.cut = {hub.node for hub in world.nodes}
    ann, ben = await world.enter(0, "ann"), await world.enter(1, "ben")
    writer = Writer()
    for word in ("one ", "two ", "three"):
        ann.send(Update(writer.type(word)))
    await until(lambda: saw(ben, "one two three"))
    ben.send(Update(Writer().type("!")))
    await until(lambda: saw(ann, "one two three!") or saw(ann, "!one two three"))
    assert world.nodes[1].counters.followed >= 1


async def test_n11_what_was_compacted_meanwhile_is_read_whole(build: Build) -> None:
    world = World(build, LOG_ONLY)
    ben = await world.enter(1, "ben")
    world.bus.cut = {hub.node for hub in world.nodes}
    world.logs[1].load_gate.clear()  # it opened before; only what it misses is read from here on
    world.logs[1].load_gate.set()
    ann = await world.enter(0, "ann")
    writer = Writer()
    for word in "abc":
        ann.send(Update(writer.type(word)))
        await world.nodes[0].recorder.flush()
        await world.nodes[0].compactor.compact("d")
    await until(lambda: saw(ben, "abc"))


async def test_k5_nothing_is_saved_before_what_it_depends_on(build: Build) -> None:
    world = World(build, NO_ADOPTION)
    ann, ben = await world.enter(0, "ann"), await world.enter(1, "ben")
    ben.send(SyncStep2(b"\x00\x00"))
    world.logs[0].gate.clear()
    writer = Writer()
    ann.send(Update(writer.type("hello")))
    await until(lambda: saw(ben, "hello"))
    other = Writer()
    other.doc.apply_update(writer.doc.get_update())
    ben.send(Update(other.type(" world")), SyncStatus(b"\x01"))
    await world.nodes[1].recorder.flush()
    await asyncio.sleep(0.2)
    assert saved(ben) == [], "its commit is done, ann's is not"
    world.logs[0].gate.set()
    await until(lambda: saved(ben) == [b"\x01"])
    assert len((await world.store.log.load("d")).updates) == 2


async def test_k5_an_update_whose_node_is_slow_is_adopted_and_stored_once_whoever_adopts_it(build: Build) -> None:
    world = World(build, dataclasses.replace(NO_ADOPTION, adopt_after=0.05))
    ann, ben = await world.enter(0, "ann"), await world.enter(1, "ben")
    ben.send(SyncStep2(b"\x00\x00"))
    world.logs[0].gate.clear()
    writer = Writer()
    ann.send(Update(writer.type("hello")))
    await until(lambda: saw(ben, "hello"))
    ben.send(Update(Writer().type("!")), SyncStatus(b"\x01"))
    await until(lambda: saved(ben) == [b"\x01"])
    rows = (await world.store.log.load("d")).all_updates
    assert sorted(text_of(*rows)) == sorted("hello!")
    assert world.nodes[1].counters.adopted == 1
    world.logs[0].gate.set()


async def test_n12_a_node_that_falls_silent_takes_its_presence_and_leaves_its_updates(build: Build) -> None:
    world = World(build, dataclasses.replace(QUICK, follow_every=3600.0))
    ann, ben = await world.enter(0, "ann"), await world.enter(1, "ben")
    await world.know_each_other()
    world.logs[0].gate.clear()
    ann.send(Update(Writer().type("hello")), Awareness((AwarenessEntry(7, 1, b"{}"),)))
    await until(lambda: saw(ben, "hello") and 7 in present(ben))
    world.bus.cut = {world.nodes[0].node}
    await until(lambda: present(ben) == {})
    await until(lambda: world.nodes[1].counters.adopted == 1 and world.nodes[1].cluster.nodes == ())
    await world.nodes[1].recorder.flush()
    assert text_of(*(await world.store.log.load("d")).all_updates) == "hello"
    world.bus.cut = set()
    await until(lambda: 7 in present(ben))
    world.logs[0].gate.set()


async def test_n12_a_room_that_closed_unheard_while_the_bus_was_away_takes_its_presence(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "ANSWERED_WITHIN", 0.5)
    world = World(build, NO_ADOPTION, unload_after=0.0)
    ann, ben = await world.enter(0, "ann"), await world.enter(1, "ben")
    ann.send(Awareness((AwarenessEntry(7, 1, b"{}"),)))
    ben.send(Awareness((AwarenessEntry(8, 1, b"{}"),)))
    await until(lambda: present(ben) == {7: b"{}", 8: b"{}"})
    world.bus.loses = lambda envelope: envelope.document == "d"
    ann.leave()
    await until(lambda: not world.nodes[0].holds("d"))
    world.bus.loses = lambda _: False
    assert ben.room is not None
    ben.room.resync("lost")
    await until(lambda: present(ben) == {8: b"{}"})


async def test_n12_a_node_that_leaves_says_so(build: Build) -> None:
    world = World(build, dataclasses.replace(QUICK, dead_after=3600.0))
    await world.know_each_other()
    assert await world.nodes[0].drain(5)
    await until(lambda: world.nodes[1].cluster.nodes == ())
    world.nodes[1].cluster.heard_of(world.nodes[0].node)  # by what it said before, which comes late
    assert world.nodes[1].cluster.nodes == ()


async def test_n13_a_node_that_has_just_started_does_not_know_all(build: Build) -> None:
    world = World(build, dataclasses.replace(QUICK, alive_every=3600.0))
    await until(lambda: bool(world.bus.carried))
    assert not (await world.nodes[1].present_everywhere("d"))[1]


async def test_n13_who_is_present_everywhere(build: Build) -> None:
    world = World(build)
    await world.enter(0, "ann")
    await world.enter(1, "ben")
    await world.enter(1, "cat", document="other")
    await world.know_each_other()
    here, complete = await world.nodes[0].present_everywhere("d")
    while not complete:  # until every node has had the time to say that it is there
        here, complete = await world.nodes[0].present_everywhere("d")
    assert [presence.identity.subject for presence in here] == ["ann", "ben"]
    world.bus.loses = lambda envelope: envelope.kind == Kind.PRESENT
    world.nodes[0].cluster._times = dataclasses.replace(QUICK, answer_within=0.1)
    here, complete = await world.nodes[0].present_everywhere("d")
    assert [presence.identity.subject for presence in here] == ["ann"]
    assert not complete


async def test_n14_a_user_is_sent_away_everywhere(build: Build) -> None:
    world = World(build)
    ann, ben, again = await world.enter(0, "ann"), await world.enter(1, "ben"), await world.enter(1, "ann")
    await world.know_each_other()
    world.nodes[0].close_user("ann", CloseCode.RESTART)
    world.nodes[0].close_user("ann", CloseCode.RESTART)
    await until(lambda: CloseCode.RESTART == ann.connection.closed_with == again.connection.closed_with)
    assert ben.connection.closed_with is None


async def test_n14_a_document_ends_everywhere(build: Build) -> None:
    world = World(build, dataclasses.replace(QUICK, follow_every=3600.0))
    ann, ben = await world.enter(0, "ann"), await world.enter(1, "ben")
    await world.know_each_other()
    await world.nodes[0].close_document("d", CloseCode.DELETED)
    await until(lambda: CloseCode.DELETED == ann.connection.closed_with == ben.connection.closed_with)


async def test_n14_a_deletion_nobody_told_of_is_found_in_the_log(build: Build) -> None:
    world = World(build)
    ann = await world.enter(0, "ann")
    ann.send(Update(Writer().type("hello")))
    await ann.connection.receives(Update)
    world.bus.cut = {hub.node for hub in world.nodes}
    await world.store.documents.delete("d")
    await until(lambda: ann.connection.closed_with is CloseCode.DELETED)


async def test_n10_two_nodes_that_open_at_once_find_each_other(build: Build) -> None:
    world = World(build, BUS_ONLY)
    ann, ben = await asyncio.gather(world.enter(0, "ann"), world.enter(1, "ben"))
    ann.send(Update(Writer().type("a")))
    ben.send(Update(Writer().type("b")))
    await until(lambda: all(len(text_of(*client.connection.updates())) == 2 for client in (ann, ben)))


async def test_n11_an_update_too_large_for_the_bus_crosses_by_the_log(build: Build) -> None:
    world = World(build, QUICK)
    ann, ben = await world.enter(0, "ann"), await world.enter(1, "ben")
    writer = Writer()
    large = "x" * (5 * 1024 * 1024)
    ann.send(Update(writer.type("small ")))
    await until(lambda: saw(ben, "small "))
    ann.send(Update(writer.type(large)))
    await until(lambda: len(text_of(*ben.connection.updates())) == len(large) + 6)
    assert not any(len(envelope.payload) > len(large) for envelope in world.bus.carried)
    assert world.nodes[1].counters.followed >= 1
