"""Plain updates: shown before the engine has them, recorded and confirmed after (SPEC R15)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.bus import Kind
from collab.engine.inline import InlineEngine
from collab.engine.native import NativePanic
from collab.engine.port import Digest, Followed, Integration, Verdict
from collab.engine.replica import Replica
from collab.engine.replicas import ignore_progress
from collab.errors import CloseCode
from collab.node import HubLimits, RoomLimits
from collab.node.known_clocks import KnownClocks
from collab.protocol.messages import SyncStatus, SyncStep1, SyncStep2, Update
from collab.protocol.peers import read_digest
from collab.protocol.yjs_keystroke import read_erased
from tests.unit.engine.histories import deleted, history, mutated

from .conftest import Build, Client
from .support import DeadlyEngine, FlakyStore, Writer, text_of
from .test_cluster import NO_ADOPTION, World


class SlowEngine(InlineEngine):
    """Answers nothing about changes while ``gate`` is closed, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

    async def integrate(self, document: str, updates: Sequence[bytes], *, probe: bool = False) -> Integration:
        self.asked += 1
        await self.gate.wait()
        return await super().integrate(document, updates, probe=probe)

    def follow(self, document: str, updates: Sequence[bytes], done: Followed) -> None:
        async def later() -> None:
            await self.gate.wait()
            super(SlowEngine, self).follow(document, updates, done)

        self.asked += 1
        self.task = asyncio.create_task(later())


def sees(client: Client, update: bytes) -> bool:
    return Update(update) in client.connection.messages


async def begins(client: Client, writer: Writer) -> None:
    """The first string names its root and the second stands beside what nobody knows for text: neither is plain."""
    for letter in "ab":
        update = writer.type(letter)
        client.send(Update(update))
        await client.connection.until(lambda update=update: sees(client, update))  # type: ignore[misc]


async def two(build: Build, *, fast: bool = True) -> tuple[SlowEngine, Client, Client, Writer]:
    """Ann and Ben in a document that holds "ab" of Ann's, saved; the engine is stopped after that."""
    engine = SlowEngine()
    hub = build(engine=engine, limits=HubLimits(room=RoomLimits(show_plain_at_once=fast)))
    ann, ben = await Client(hub, "ann").enter(), await Client(hub, "ben").enter()
    writer = Writer()
    await begins(ann, writer)
    engine.gate.clear()
    return engine, ann, ben, writer


async def test_r15_a_typed_string_is_shown_before_the_engine_has_it_and_confirmed_after(build: Build) -> None:
    engine, ann, ben, writer = await two(build)
    update = writer.type("c")
    ann.send(Update(update))
    await ben.connection.until(lambda: sees(ben, update))
    await asyncio.sleep(0.05)
    assert not sees(ann, update), "confirmed before it was integrated"
    log = ann.hub.store.log
    assert update not in (await log.load("d")).all_updates
    engine.gate.set()
    await ann.connection.until(lambda: sees(ann, update))
    assert update in (await log.load("d")).all_updates
    assert ann.hub.counters.plain == 1


async def test_r15_an_erased_range_is_shown_at_once_too(build: Build) -> None:
    _, ann, ben, writer = await two(build)
    update = writer.delete(0, 1)
    ann.send(Update(update))
    await ben.connection.until(lambda: sees(ben, update))


async def test_r15_with_strict_isolation_nobody_sees_it_before_the_engine_has_it(build: Build) -> None:
    engine, ann, ben, writer = await two(build, fast=False)
    update = writer.type("c")
    ann.send(Update(update))
    await asyncio.sleep(0.05)
    assert not sees(ben, update)
    engine.gate.set()
    await ben.connection.until(lambda: sees(ben, update))
    assert ann.hub.counters.plain == 0


async def test_r15_what_is_not_plain_waits_for_the_engine_and_what_comes_behind_it_too(build: Build) -> None:
    engine, ann, ben, writer = await two(build)
    other = Writer()
    ben.send(Update(other.type("first of a client")))
    plain = writer.type("c")
    ann.send(Update(plain))
    await asyncio.sleep(0.05)
    assert not sees(ben, plain)
    engine.gate.set()
    await ben.connection.until(lambda: "abc" in text_of(*ben.connection.updates()))


async def test_r15_what_leans_on_what_is_unknown_here_is_not_plain(build: Build) -> None:
    engine, ann, ben, writer = await two(build)
    writer.type("lost")
    update = writer.type("c")
    ann.send(Update(update))
    await asyncio.sleep(0.05)
    assert not sees(ben, update)
    engine.gate.set()
    await ben.connection.until(lambda: sees(ben, update))


async def test_r15_who_joins_meanwhile_is_answered_with_it(build: Build) -> None:
    engine, ann, ben, writer = await two(build)
    update = writer.type("c")
    ann.send(Update(update))
    await ben.connection.until(lambda: sees(ben, update))
    late = Client(ann.hub, "late")
    entering = asyncio.create_task(late.enter())
    await asyncio.sleep(0.02)
    engine.gate.set()
    await entering
    late.send(SyncStep1(b"\x00"))
    answer = await late.connection.receives(SyncStep2)
    assert isinstance(answer, SyncStep2)
    assert text_of(answer.update) == "abc"


async def test_r15_an_erasure_that_others_made_already_is_shown_and_confirmed(build: Build) -> None:
    engine, ann, ben, writer = await two(build)
    update = writer.delete(0, 1)
    again = deleted(writer.doc.client_id, 0, 1)
    ann.send(Update(update))
    ben.send(SyncStep2(b"\x00\x00"), Update(again), SyncStatus(b"\x01"))
    await asyncio.sleep(0.02)
    assert not any(isinstance(message, SyncStatus) for message in ben.connection.messages)
    engine.gate.set()
    await ben.connection.receives(SyncStatus)
    assert list((await ann.hub.store.log.load("d")).all_updates).count(update) == 1


async def test_r15_e1_what_was_shown_survives_the_engine(build: Build) -> None:
    engine, store = DeadlyEngine(), FlakyStore()
    hub = build(engine=engine, store=store)
    ann, ben = await Client(hub, "ann").enter(), await Client(hub, "ben").enter()
    writer = Writer()
    await begins(ann, writer)
    engine.deaths = 1
    updates = [writer.type(letter) for letter in "cde"]
    for update in updates:
        ann.send(Update(update))
    await ann.connection.until(lambda: sees(ann, updates[-1]))
    assert text_of(*ben.connection.updates()) == "abcde"
    assert text_of(*(await store.log.load("d")).all_updates) == "abcde"
    assert ann.connection.closed_with is ben.connection.closed_with is None


async def test_r15_e2_one_that_kills_the_engine_is_refused_and_the_others_are_saved(build: Build) -> None:
    hub = build(engine=DeadlyEngine())
    ann, eve = await Client(hub, "ann").enter(), await Client(hub, "eve").enter()
    writer, deadly = Writer(), Writer()
    await begins(ann, writer)
    await begins(eve, deadly)
    eve.send(Update(deadly.type("POISON")))
    ann.send(Update(saved := writer.type("c")))
    await eve.connection.until(lambda: eve.connection.closed_with is not None)
    assert eve.connection.closed_with is CloseCode.MALFORMED
    await ann.connection.until(lambda: sees(ann, saved))
    assert ann.connection.closed_with is None
    rows = (await hub.store.log.load("d")).all_updates
    assert saved in rows
    assert not any(b"POISON" in row for row in rows)


async def test_r15_a_crowd_sees_what_comes_in_one_turn_in_one_write(build: Build) -> None:
    hub = build(limits=HubLimits(room=RoomLimits(crowd=1)))
    ann, ben, cat = [await Client(hub, name).enter() for name in ("ann", "ben", "cat")]
    writers = {ann: Writer(), ben: Writer()}
    for client, writer in writers.items():
        await begins(client, writer)
    await asyncio.sleep(0.02)
    updates = [Update(writer.type("y")) for writer in writers.values()]
    for client, update in zip(writers, updates, strict=True):
        client.send(update)
    await cat.connection.until(lambda: updates[1] in cat.connection.messages)
    assert updates in cat.connection.writes
    assert [updates[1]] in ann.connection.writes
    assert [updates[0]] in ben.connection.writes


async def test_r15_a_node_does_not_claim_the_commit_of_what_its_engine_has_not_taken(build: Build) -> None:
    world = World(build, NO_ADOPTION)
    slow = SlowEngine()
    ann = await Client(build(engine=slow, store=world.store, bus=world.bus), "ann").enter()
    ben = await Client(world.nodes[1], "ben").enter()
    writer = Writer()
    await begins(ann, writer)
    async with asyncio.timeout(10):
        while [envelope.kind for envelope in world.bus.carried].count(Kind.COMMITTED) < 2:
            await asyncio.sleep(0.001)
    slow.gate.clear()
    before = len(world.bus.carried)
    ann.send(Update(shown := writer.type("b")))
    await ben.connection.until(lambda: sees(ben, shown))
    await asyncio.sleep(0.05)
    assert Kind.COMMITTED not in [envelope.kind for envelope in world.bus.carried[before:]]
    slow.gate.set()
    await ann.connection.until(lambda: sees(ann, shown))
    async with asyncio.timeout(10):
        while Kind.COMMITTED not in [envelope.kind for envelope in world.bus.carried[before:]]:
            await asyncio.sleep(0.001)


@given(seed=st.integers(0, 10_000), strange=st.booleans())
def test_r15_what_is_plain_the_engine_takes(seed: int, strange: bool) -> None:
    """Whatever `KnownClocks` calls plain is integrated; only an erasure may have been there before."""
    rng = Random(seed)
    replica, clocks = Replica(), KnownClocks()
    clocks.loaded(replica.load([], ignore_progress).state_vector)
    plain = 0
    for update in history(seed):
        if strange and rng.random() < 0.3:
            update = mutated(update, rng)
        was_plain = clocks.take(update)
        try:
            answer = replica.integrate([update], ignore_progress)
        except NativePanic:
            assert not was_plain
            break  # an engine process would have died of it, and refused it (E2)
        verdict = answer.outcomes[0].verdict
        if was_plain:
            plain += 1
            assert verdict is Verdict.INTEGRATED or (verdict is Verdict.REDUNDANT and read_erased(update) is not None)
            clocks.followed(answer)
        else:
            clocks.integrated([update], answer)
    replica.close()


def test_r15_of_a_crowded_document_nothing_is_plain() -> None:
    writer = Writer()
    first, second = writer.type("a" * 300), writer.type("b" * 300)
    replica, clocks = Replica(max_bytes=1000), KnownClocks()
    clocks.loaded(replica.load([], ignore_progress).state_vector)
    for update in (first, second):
        clocks.integrated([update], replica.integrate([update], ignore_progress))
    assert not clocks.take(writer.type("c"))
    replica.close()


def test_r15_nothing_is_plain_before_the_document_is_loaded() -> None:
    writer = Writer()
    writer.type("a")
    assert not KnownClocks().take(writer.type("b"))


@pytest.mark.parametrize("text", ["b", "x" * 127])
def test_r15_a_string_is_plain_once_its_place_is_known(text: str) -> None:
    writer, clocks, replica = Writer(), KnownClocks(), Replica()
    clocks.loaded(replica.load([writer.type("a")], ignore_progress).state_vector)
    second = writer.type("b")
    assert not clocks.take(second)
    clocks.integrated([second], replica.integrate([second], ignore_progress))
    update = writer.type(text)
    assert clocks.take(update)
    assert not clocks.take(update)
    replica.close()


class SlowDigest(InlineEngine):
    """Looks at the document, and says what it saw when ``gate`` opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.looked = asyncio.Event()

    async def digest(self, document: str) -> Digest:
        seen = await super().digest(document)
        self.looked.set()
        await self.gate.wait()
        return seen


async def test_n10_a_digest_does_not_claim_what_was_said_while_the_engine_looked(build: Build) -> None:
    """Who lost it would take the hole in the numbers for filled (simulation, seed 80080882)."""
    world, engine = World(build, NO_ADOPTION), SlowDigest()
    ann = await Client(build(engine=engine, store=world.store, bus=world.bus), "ann").enter()
    ben = await Client(world.nodes[1], "ben").enter()
    writer = Writer()
    await begins(ann, writer)
    engine.gate.clear()
    engine.looked.clear()
    assert ann.room is not None
    ann.room._exchange._anti_entropy.tell_digest()
    await engine.looked.wait()
    before = len(world.bus.carried)
    ann.send(Update(shown := writer.type("c")))
    await ben.connection.until(lambda: sees(ben, shown))
    engine.gate.set()
    carried = world.bus.carried
    async with asyncio.timeout(10):
        while Kind.DIGEST not in [envelope.kind for envelope in carried[before:]]:
            await asyncio.sleep(0.001)
    update = next(envelope for envelope in carried[before:] if envelope.kind is Kind.UPDATE)
    digest = next(envelope for envelope in carried[before:] if envelope.kind is Kind.DIGEST)
    assert update.node == digest.node
    assert read_digest(digest.payload).sequence < update.sequence
