"""Wishes between nodes: carried out by whoever was there, once, however often a stranger says them again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.asyncio import Redis

from collab.bus import EVERYWHERE, Envelope, Kind, RedisBus
from collab.engine.inline import InlineEngine
from collab.errors import CloseCode
from collab.node import Hub
from collab.store import MemoryStore
from tests.support.redis import RedisServer, redis_server

from .conftest import Build, Client
from .test_cluster import QUICK, World, until

__all__ = ["redis_server"]

SECRET = b"k3Zp0s9QwX7vB2nM5cR8tY1uI4oL6aD_"


def wishes(world: World) -> list[Envelope]:
    """Every wish that went over the bus so far."""
    return [envelope for envelope in world.bus.carried if envelope.kind == Kind.CONTROL]


async def is_sent_away(client: Client, code: CloseCode = CloseCode.FORBIDDEN) -> None:
    await until(lambda: client.connection.closed_with is code)


async def test_g03_n14_a_wish_that_is_said_again_is_not_carried_out_again(build: Build) -> None:
    world = World(build)
    ann = await world.enter(1, "ann")
    await world.know_each_other()
    world.nodes[0].close_user("ann", CloseCode.FORBIDDEN)
    await is_sent_away(ann)
    again = await world.enter(1, "ann")
    for envelope in wishes(world) * 3:
        world.bus.deliver(envelope, None)
    assert again.connection.closed_with is None
    world.nodes[0].close_user("ann", CloseCode.FORBIDDEN)
    await is_sent_away(again)


async def test_g03_n14_a_wish_that_was_held_back_is_not_carried_out_after_a_newer_one(build: Build) -> None:
    world = World(build)
    ann, ben = await world.enter(1, "ann"), await world.enter(1, "ben")
    await world.know_each_other()
    held: list[Envelope] = []
    world.bus.loses = lambda envelope: envelope.kind == Kind.CONTROL and not held.append(envelope)
    world.nodes[0].close_user("ann", CloseCode.FORBIDDEN)
    world.bus.loses = lambda _: False
    world.nodes[0].close_user("ben", CloseCode.FORBIDDEN)
    await is_sent_away(ben)
    (envelope,) = held
    world.bus.deliver(envelope, None)
    assert ann.connection.closed_with is None


async def test_g03_n14_a_wish_that_was_kept_is_nothing_to_a_node_that_starts_later(build: Build) -> None:
    world = World(build)
    ann = await world.enter(1, "ann")
    await world.know_each_other()
    world.nodes[0].close_user("ann", CloseCode.FORBIDDEN)
    await is_sent_away(ann)
    for hub in world.nodes:
        assert await hub.drain(5)
        await hub.close()
    kept = [envelope for envelope in world.bus.carried if envelope.document == EVERYWHERE]
    world.nodes.append(build(store=world.store, bus=world.bus))
    again = await world.enter(2, "ann")
    await until(lambda: EVERYWHERE in world.bus.ears)
    for envelope in kept:
        world.bus.deliver(envelope, None)
    assert again.connection.closed_with is None


async def test_n14_a_node_that_was_not_heard_of_yet_is_told_when_it_is_and_once(build: Build) -> None:
    world = World(build)
    world.bus.loses = lambda envelope: envelope.node == world.nodes[1].node
    ann = await world.enter(1, "ann")
    world.nodes[0].close_user("ann", CloseCode.FORBIDDEN)
    await world.nodes[0].close_document("other", CloseCode.DELETED)
    world.bus.loses = lambda _: False
    await is_sent_away(ann)
    await world.know_each_other()
    again = await world.enter(1, "ann")
    world.bus.cut = {world.nodes[1].node}
    await until(lambda: world.nodes[0].cluster.nodes == ())
    world.bus.cut = set()
    await world.know_each_other()
    world.nodes[0].close_user("ben", CloseCode.FORBIDDEN)
    assert again.connection.closed_with is None
    assert len(wishes(world)) == 5, "two said to nobody, the same two to the node that was heard of, and the last"


async def test_n14_what_was_wished_long_ago_is_told_nobody(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collab.node.cluster.TOLD_ANEW_WITHIN", 0.0)
    world = World(build)
    world.bus.loses = lambda envelope: envelope.node == world.nodes[1].node
    ann, ben = await world.enter(1, "ann"), await world.enter(1, "ben")
    world.nodes[0].close_user("ann", CloseCode.FORBIDDEN)
    world.bus.loses = lambda _: False
    await world.know_each_other()
    world.nodes[0].close_user("ben", CloseCode.FORBIDDEN)
    await is_sent_away(ben)
    assert ann.connection.closed_with is None


@pytest.mark.parametrize("names", [b"", b',"for":[]', b',"for":["node0"]', b',"for":"node1"'])
async def test_g03_a_wish_that_does_not_name_this_node_is_not_carried_out(build: Build, names: bytes) -> None:
    world = World(build)
    ann = await world.enter(1, "ann")
    await world.know_each_other()
    payload = b'{"do":"close_user","subject":"ann","document":null,"code":"FORBIDDEN"%s}' % names
    world.bus.deliver(Envelope(EVERYWHERE, "node0", 1, 1_000_000, Kind.CONTROL, payload), None)
    assert ann.connection.closed_with is None
    world.nodes[0].close_user("ann", CloseCode.FORBIDDEN)
    await is_sent_away(ann)


@asynccontextmanager
async def on_redis(server: RedisServer, prefix: str, *names: str) -> AsyncIterator[list[Hub]]:
    """Nodes on one real Redis, which sign what they say."""
    store = MemoryStore()
    async with AsyncExitStack() as stack:
        hubs = []
        for name in names:
            bus = RedisBus(server.url, node=name, rng=random.Random(), prefix=prefix, secret=SECRET)
            engine = InlineEngine()
            hub = Hub(node=name, epoch=1, engine=engine, store=store, bus=bus)
            await bus.start()
            hub.start()
            for close in (engine.close, bus.close, hub.close):
                stack.push_async_callback(close)
            hubs.append(hub)
        await until(lambda: all(len(hub.cluster.nodes) == len(names) - 1 for hub in hubs))
        yield hubs


async def test_g03_who_holds_redis_sends_nobody_away_by_saying_again_what_nodes_said(redis_server: RedisServer) -> None:
    prefix = f"replay-{random.randbytes(6).hex()}"
    async with (
        Redis.from_url(redis_server.url) as stranger,
        stranger.pubsub() as ear,
        on_redis(redis_server, prefix, "a", "b") as (a, b),
    ):
        await ear.psubscribe(f"{prefix}:*")
        assert (await ear.get_message(timeout=QUICK.answer_within))["type"] == "psubscribe"
        ann, ben = await Client(b, "ann").enter(), await Client(b, "ben").enter()
        a.close_user("ann", CloseCode.FORBIDDEN)
        await is_sent_away(ann)
        again = await Client(b, "ann").enter()
        caught: list[tuple[bytes, bytes]] = []
        async with asyncio.timeout(20):
            while not any(b"close_user" in data for _, data in caught):
                message = await ear.get_message(ignore_subscribe_messages=True, timeout=1.0)
                if message is not None:
                    caught.append((message["channel"], message["data"]))
        for channel, data in caught * 3:
            await stranger.publish(channel, data)
        a.close_user("ben", CloseCode.FORBIDDEN)  # behind all that on b's connection
        await is_sent_away(ben)
        assert again.connection.closed_with is None
