"""Rows of the matrix about what is between the nodes: Redis killed, emptied, paused, deaf, full, out of reach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from tests.faults.liar import Liar
from tests.faults.load import Load, quantile
from tests.faults.matrix import Run, fault
from tests.faults.pulse import Pulse
from tests.support.cluster import Cluster, Node, until
from tests.support.proxy import Proxy

AFTER_REDIS_S = 10.0
"""P3 after an outage of Redis."""
DETECTED_WITHIN_S = 15.0
LIVENESS_S = 0.1
FLOOD_BYTES = 500_000
OVERFLOW = "for overcoming of output buffer limits"
"""What Redis writes into its log when it cuts a client."""


async def cut_off(node: Node) -> bool:
    """Whether the node knows that it hears nobody."""
    return await node.metric("collab_bus_connected") == 0


async def on_the_bus(cluster: Cluster) -> None:
    """Wait until every node hears every other."""
    others = len(cluster.up) - 1

    async def all_hear() -> bool:
        found = [await node.metrics() for node in cluster.up]
        return all(one["collab_bus_connected"] == 1 and one["collab_nodes"] == others for one in found)

    await until(all_hear, "the nodes do not find each other")


@asynccontextmanager
async def outage(run: Run, load: Load) -> AsyncIterator[None]:
    """Measures what clients notice while the nodes do not hear each other: nothing but slower crossings."""
    before = await _followed(load.cluster)
    usual = load.crossings()
    since = time.monotonic()
    yield
    ended = time.monotonic()
    run.require(not load.losses(since), f"the server ended connections: {load.losses(since)}")
    crossings = load.crossings(since + 2.0, ended - 3.0)
    saved = load.latencies(since, ended - 1.0)
    run.require(saved, "nothing was saved meanwhile")
    run.require(crossings, "nothing crossed from node to node meanwhile")
    run.require(await _followed(load.cluster) > before, "nothing came by way of the database")
    run.measure(disconnects=len(load.losses(since)), crossing_usually=usual, crossing_meanwhile=crossings)
    run.measure(edit_to_saved_meanwhile=saved)


async def _followed(cluster: Cluster) -> float:
    return sum([await node.metric("collab_followed_total") for node in cluster.up])


@fault(
    "F07",
    "Redis killed, away for 60 s",
    "disconnects 0; saving goes on; edits cross through the database; equal <= 10 s after its return",
)
async def redis_killed(run: Run) -> None:
    async with run.loaded(within_s=AFTER_REDIS_S) as (cluster, load):
        await on_the_bus(cluster)
        async with outage(run, load):
            await asyncio.to_thread(cluster.redis.kill)
            for node in cluster.nodes:
                await until(partial(cut_off, node), "a node does not notice that Redis is gone")
            await asyncio.sleep(run.seconds(60.0, 10.0))
        await asyncio.to_thread(cluster.redis.start)
        run.done += 1


@fault("F08", "Redis restarted empty; FLUSHALL; SCRIPT FLUSH", "equal <= 10 s; presence right", rounds=3)
async def redis_emptied(run: Run) -> None:
    async with run.loaded(within_s=AFTER_REDIS_S) as (cluster, load):
        await on_the_bus(cluster)
        since = time.monotonic()
        for _ in range(run.rounds):
            await asyncio.to_thread(cluster.redis.kill)
            await asyncio.to_thread(cluster.redis.start)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(cluster.redis.run, "FLUSHALL")
            await asyncio.to_thread(cluster.redis.run, "SCRIPT", "FLUSH")
            run.done += 1
        run.require(not load.losses(since), f"the server ended connections: {load.losses(since)}")


@fault(
    "F09",
    "Redis paused for 30 s (SIGSTOP)",
    "disconnects 0; liveness p99 <= 100 ms (or as before); equal <= 10 s after",
)
async def redis_paused(run: Run) -> None:
    async with run.loaded(within_s=AFTER_REDIS_S) as (cluster, load):
        await on_the_bus(cluster)
        async with Pulse(*(f"{node.url}/livez" for node in cluster.nodes)) as pulse:
            await asyncio.sleep(run.seconds(10.0, 3.0))
            since = time.monotonic()
            async with outage(run, load):
                cluster.redis.pause()
                try:
                    await asyncio.sleep(run.seconds(30.0, 14.0))
                finally:
                    cluster.redis.resume()
            usual, paused = pulse.seconds(before=since), pulse.seconds(since)
        run.measure(liveness_usually=usual, liveness_paused=paused)
        run.within(quantile(paused, 0.99), max(LIVENESS_S, 2 * quantile(usual, 0.99)), "liveness while paused, p99")
        run.done += 1


@fault("F10", "one-way cut between a node and Redis, either way", "detected <= 15 s; equal <= 10 s after", rounds=2)
async def redis_one_way(run: Run) -> None:
    detected: list[float] = []
    async with run.loaded(within_s=AFTER_REDIS_S) as (cluster, load):
        await on_the_bus(cluster)
        since = time.monotonic()
        for number in range(run.rounds):
            node = cluster.nodes[number // 2 % len(cluster.nodes)]
            assert node.bus is not None
            way = node.bus.down if number % 2 == 0 else node.bus.up
            node.bus.stall(way)
            detected.append(await until(partial(cut_off, node), "a deaf node does not notice"))
            await asyncio.sleep(run.seconds(10.0, 2.0))
            node.bus.resume()
            run.done += 1
            if number + 1 < run.rounds:
                await on_the_bus(cluster)
        run.require(not load.losses(since), f"the server ended connections: {load.losses(since)}")
    run.measure(detected_after=detected)
    run.within(max(detected), DETECTED_WITHIN_S, "detected")


@fault("F11", "Redis cuts a subscriber whose output buffer overflows", "resubscribed and resynced; equal <= 10 s")
async def redis_overflow(run: Run) -> None:
    async with run.loaded(within_s=AFTER_REDIS_S) as (cluster, _):
        await on_the_bus(cluster)
        deaf = cluster.nodes[0]
        assert deaf.bus is not None
        before = await deaf.metric("collab_bus_reconnects_total")
        limits = ("client-output-buffer-limit", "pubsub 256kb 128kb 5")
        await asyncio.to_thread(cluster.redis.run, "CONFIG", "SET", *limits)
        # Only its ear is blocked, the node works on: what is proved is that it knows what a cut means.
        deaf.bus.stall(deaf.bus.down)
        flooded, took = await asyncio.to_thread(_flood, cluster)
        deaf.bus.resume()
        await until(lambda: _reconnected(deaf, before), "the deaf node does not come back")
        run.measure(flooded=f"{flooded >> 20} MiB", cut_by_redis_after=took, resyncs=await _resyncs(deaf))
        run.done += 1


def _flood(cluster: Cluster) -> tuple[int, float]:
    """Publish nonsense on a channel of the nodes until Redis cuts one off; how many bytes, how many seconds."""
    channels = cluster.redis.run("PUBSUB", "CHANNELS")
    assert isinstance(channels, list)
    started, sent, junk = time.monotonic(), 0, b"\xff" * FLOOD_BYTES
    while OVERFLOW not in (cluster.redis.folder / "log").read_text(errors="replace"):
        if time.monotonic() - started > DETECTED_WITHIN_S:
            raise AssertionError(f"Redis cut nobody off after {sent} bytes")
        for channel in channels:
            cluster.redis.run("PUBLISH", channel, junk)
            sent += len(junk)
    return sent, time.monotonic() - started


async def _reconnected(node: Node, before: float) -> bool:
    return await node.metric("collab_bus_reconnects_total") > before and not await cut_off(node)


async def _resyncs(node: Node) -> str:
    found = {name: value for name, value in (await node.metrics()).items() if name.startswith("collab_resyncs_total")}
    return ", ".join(f"{name.partition('{')[2].rstrip('}')} {value:.0f}" for name, value in found.items()) or "none"


@fault(
    "F12",
    "envelopes are repeated late, cut short, changed (beside the true ones)",
    "disconnects 0; C2; what is damaged is counted, nothing else",
)
async def lying_bus(run: Run) -> None:
    async with run.loaded(within_s=AFTER_REDIS_S) as (cluster, load):
        await on_the_bus(cluster)
        since = time.monotonic()
        async with Liar(cluster.redis.url, run.rng) as liar:
            await asyncio.sleep(run.seconds(60.0, 8.0))
        counted = sum([await node.metric("collab_bus_bad_envelopes_total") for node in cluster.nodes])
        run.measure(repeated=liar.repeated, damaged=liar.damaged, counted=int(counted))
        # Every channel is heard by one node or two, and a node passes over what begins like its own.
        run.require(0 < counted <= 2 * liar.damaged, f"{counted:.0f} counted of {liar.damaged} damaged envelopes")
        run.require(not load.losses(since), f"the server ended connections: {load.losses(since)}")
        run.done += 1


@fault("F13", "both nodes cut from Redis for 60 s, sharing PostgreSQL", "as F07")
async def split_brain(run: Run) -> None:
    async with run.loaded(within_s=AFTER_REDIS_S) as (cluster, load):
        await on_the_bus(cluster)
        buses = [node.bus for node in cluster.nodes if node.bus is not None]
        async with outage(run, load):
            for bus in buses:
                bus.cut()
            await asyncio.sleep(run.seconds(60.0, 10.0))
        for bus in buses:
            bus.heal()
        run.done += 1


@fault("F47", "swizzle-clog: links stopped one by one, restarted in random order", "equal <= 10 s after", rounds=3)
async def swizzle(run: Run) -> None:
    async with run.loaded(nodes=3, within_s=AFTER_REDIS_S) as (cluster, load):
        links: list[Proxy] = [
            proxy for node in cluster.nodes for proxy in (node.bus, node.database) if proxy is not None
        ]
        for number in range(run.rounds):
            for order, act in ((run.rng.sample(links, len(links)), "stall"), (run.rng.sample(links, len(links)), "go")):
                for link in order:
                    link.stall() if act == "stall" else link.resume()
                    await asyncio.sleep(run.rng.uniform(0.0, run.seconds(3.0, 1.0)))
            run.done += 1
            if number + 1 < run.rounds:
                await load.editing_again()
