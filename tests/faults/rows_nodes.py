"""Rows of the matrix about nodes: killed, drained, restarted in turn, paused, their engines killed, stormed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from functools import partial

import httpx

from tests.faults.load import Load, quantile
from tests.faults.matrix import Run, fault
from tests.faults.pulse import Pulse
from tests.faults.storm import Storm
from tests.faults.typist import Typist
from tests.support.checker import lost
from tests.support.cluster import Cluster, Node, until

EDITING_AGAIN_S = 5.0
"""Promise P4."""
NOTICEABLE_GAP_S = 2.0
STORMS_ADD_BYTES = 8 << 20
"""What two thousand sessions may leave behind. When they left themselves, in reference cycles, it was 24 MiB."""


def busiest(cluster: Cluster, load: Load) -> Node:
    """The node with the most typists."""
    return max(cluster.nodes, key=lambda node: len(load.at(node)))


def offline(typists: list[Typist]) -> bool:
    """Whether none of them has a connection."""
    return all(typist.offline for typist in typists)


async def start_again(node: Node, load: Load) -> None:
    """Start a stopped node and let its typists come home to it."""
    await asyncio.to_thread(node.start)
    await load.go_home()
    await load.editing_again()


@fault("F01", "`kill -9` of one of two nodes mid-burst", "acked lost 0; editing again p99 <= 5 s", rounds=10)
async def node_killed(run: Run) -> None:
    again: list[float] = []
    async with run.loaded() as (cluster, load):
        for _ in range(run.rounds):
            victim = cluster.nodes[run.rng.randrange(len(cluster.nodes))]
            await asyncio.sleep(run.rng.uniform(0.0, 1.0))
            hit, since = load.at(victim), time.monotonic()
            await asyncio.to_thread(victim.kill)
            again += await load.editing_again(hit, since=since)
            run.done += 1
            await start_again(victim, load)
    run.measure(editing_again=again)
    run.within(quantile(again, 0.99), EDITING_AGAIN_S, "editing again, p99")


@fault("F02", "`kill -9` of both nodes and Redis at once", "acked lost 0; ready again <= 10 s", rounds=3)
async def everything_killed(run: Run) -> None:
    ready: list[float] = []
    async with run.loaded() as (cluster, load):
        for _ in range(run.rounds):
            await asyncio.sleep(run.rng.uniform(0.0, 1.0))
            load.gate.connecting.clear()
            kills = [cluster.redis.kill, *(node.kill for node in cluster.nodes)]
            await asyncio.gather(*(asyncio.to_thread(kill) for kill in kills))
            await until(partial(offline, load.everybody), "a socket outlived its server")
            started = time.monotonic()
            await asyncio.to_thread(cluster.redis.start)
            await asyncio.gather(*(asyncio.to_thread(node.start) for node in cluster.nodes))
            ready.append(time.monotonic() - started)
            # Before any client comes back: what the database alone has kept.
            run.problems += await nothing_acknowledged_lost(cluster, load)
            load.gate.connecting.set()
            await load.editing_again()
            run.done += 1
    run.measure(ready_again=ready)
    run.within(max(ready), 10.0, "ready again")


async def nothing_acknowledged_lost(cluster: Cluster, load: Load) -> list[str]:
    """C1 against the database, right now."""
    problems: list[str] = []
    for room in load.rooms:
        saved = room.history.acknowledged  # before the question: others go on typing
        try:
            kept = await cluster.up[0].committed(room.document)
        except httpx.HTTPStatusError as error:
            problems.append(f"{room.document}: REST cannot read it: {error.response.text[:200]}")
            continue
        problems += [f"{room.document}: {one}" for one in lost(kept, saved)]
    return problems


@fault("F03", "`kill -9` at random moments: between apply, publish, commit and ack", "acked lost 0", rounds=20)
async def node_killed_anywhere(run: Run) -> None:
    async with run.loaded(rate=15.0, rooms=4) as (cluster, load):
        for _ in range(run.rounds):
            victim = cluster.nodes[run.rng.randrange(len(cluster.nodes))]
            await asyncio.sleep(run.rng.uniform(0.0, 0.3))
            load.gate.connecting.clear()
            hit = load.at(victim)
            await asyncio.to_thread(victim.kill)
            await until(partial(offline, hit), "a socket outlived its server")
            await asyncio.to_thread(victim.start)
            run.problems += await nothing_acknowledged_lost(cluster, load)
            load.gate.connecting.set()
            await load.editing_again()
            run.done += 1


@fault("F04", "SIGTERM under load", "exit 0 <= 15 s; nothing lost; < 1 % of clients away > 2 s", rounds=3)
async def node_drained(run: Run) -> None:
    took: list[float] = []
    gaps: list[float] = []
    async with run.loaded() as (cluster, load):
        for _ in range(run.rounds):
            victim, since = busiest(cluster, load), time.monotonic()
            status = await asyncio.to_thread(victim.terminate)
            took.append(time.monotonic() - since)
            run.require(status == 0, f"exit status {status}")
            await load.editing_again()
            gaps += load.gaps(since)
            run.require(set(load.losses(since)) <= {1012}, f"closed with {sorted(set(load.losses(since)))}")
            run.done += 1
            await start_again(victim, load)
    run.within(max(took), 15.0, "drain")
    _noticed(run, gaps)
    run.measure(drained_in=took)


def _noticed(run: Run, gaps: list[float]) -> None:
    noticed = sum(gap > NOTICEABLE_GAP_S * run.patience for gap in gaps)
    run.measure(away=[gap for gap in gaps if gap], away_over_2_s=f"{noticed} of {len(gaps)}")
    run.require(noticed < max(1, len(gaps) / 100), f"{noticed} of {len(gaps)} clients were away for more than 2 s")


@fault("F05", "SIGTERM, then SIGKILL after 2 s, before it could save", "as F01", rounds=3)
async def node_killed_while_draining(run: Run) -> None:
    again: list[float] = []
    async with run.loaded() as (cluster, load):
        for _ in range(run.rounds):
            victim = busiest(cluster, load)
            hit, since = load.at(victim), time.monotonic()
            victim.database.stall()  # else it is gone in no time
            os.kill(victim.server.pid, signal.SIGTERM)
            await asyncio.sleep(2.0)
            await asyncio.to_thread(victim.kill)
            victim.database.reset()
            victim.database.resume()
            again += await load.editing_again(hit, since=since)
            run.done += 1
            await start_again(victim, load)
    run.measure(editing_again=again)
    run.within(quantile(again, 0.99), EDITING_AGAIN_S + 2.0, "editing again, p99, from SIGTERM")


@fault(
    "F06",
    "rolling restart of three nodes under load (same version)",
    "nothing lost; REST calls failed after retry 0; < 1 % of clients away > 2 s",
    rounds=2,
)
async def rolling_restart(run: Run) -> None:
    gaps: list[float] = []
    async with run.loaded(nodes=3) as (cluster, load):
        rest = f"http://127.0.0.1:{cluster.front.port}/v1/documents/{load.rooms[0].document}"
        async with Pulse(rest) as calls:
            began = time.monotonic()
            for _ in range(run.rounds):
                for node in cluster.nodes:
                    since = time.monotonic()
                    status = await asyncio.to_thread(node.terminate)
                    run.require(status == 0, f"exit status {status}")
                    await asyncio.to_thread(node.start)
                    await until(node.ready, "a restarted node is not ready")
                    await load.editing_again()
                    gaps += load.gaps(since)
                    run.done += 1
                await load.go_home()
                await load.editing_again()
            beats = calls.beats(began)
    failed = [beat for beat in beats if beat.status != 200]
    # A caller that tries again after 200 ms, twice.
    hopeless = [
        one for one in failed if not any(b.status == 200 and one.at < b.at < one.at + one.seconds + 0.5 for b in beats)
    ]
    run.measure(REST_calls=len(beats), failed_at_first=len(failed), failed_after_retry=len(hopeless))
    run.require(not hopeless, f"{len(hopeless)} REST calls failed after two retries")
    _noticed(run, gaps)


@fault("F30", "SIGSEGV in engine processes", "no connection dropped; recovery <= 3 s; nothing lost", rounds=6)
async def engine_killed(run: Run) -> None:
    back: list[float] = []
    async with run.loaded() as (cluster, load):
        began = time.monotonic()
        for number in range(run.rounds):
            node = cluster.nodes[number % len(cluster.nodes)]
            engines = node.engines()
            run.require(engines, "a node without an engine")
            await asyncio.sleep(run.rng.uniform(0.0, 0.5))
            since = time.monotonic()
            for pid in engines if number % 2 else engines[:1]:
                os.kill(pid, signal.SIGSEGV)
            back += await load.editing_again(load.at(node), since=since)
            run.done += 1
        run.require(not load.losses(began), f"E1: connections ended: {load.losses(began)}")
        restarts = [await node.metric("collab_engine_restarts_total") for node in cluster.nodes]
        run.require(sum(restarts) > 0, "no engine was started again: nothing was killed")
    run.measure(confirmed_again=back, engine_restarts=int(sum(restarts)))
    run.within(max(back), 3.0, "confirmed again")


@fault(
    "F35",
    "reconnect storm: 1,000 idle clients of a killed node",
    "all back <= 15 s; liveness p99 <= 250 ms; two more storms add <= 8 MiB",
)
async def storm(run: Run) -> None:
    count = 200 if run.short else 1000
    async with run.loaded(rooms=4) as (cluster, load):
        first, second = cluster.nodes
        crowd = Storm([f"{node.server.ws_url}/storm" for node in (first, second)])
        async with crowd, Pulse(f"{second.url}/livez") as pulse:
            await crowd.enter(count)
            await load.editing_again()
            since = time.monotonic()
            await asyncio.to_thread(first.kill)
            back = await crowd.all_back(since)
            beats = pulse.seconds(since)
            await load.editing_again()
            run.done += 1
            run.measure(clients=count, all_back=back, liveness=beats, memory=f"{second.rss_bytes() >> 20} MiB")
            run.within(back, 15.0, "all back")
            run.within(quantile(beats, 0.99), 0.25, "liveness during the storm, p99")
            guests = await second.metric("collab_sessions") - count
        added = await _two_more_storms(second, count, guests=guests)
        run.measure(two_more_storms_add=f"{added / 2**20:.1f} MiB")
        run.require(added <= STORMS_ADD_BYTES, f"C7: two more storms add {added / 2**20:.1f} MiB to the node")
        await start_again(first, load)


async def _two_more_storms(node: Node, count: int, *, guests: float) -> int:
    """Bytes that two crowds, which come and go, add to a node that has seen one go. Its ``guests`` stay."""

    async def alone() -> bool:
        return await node.metric("collab_sessions") <= guests

    await until(alone, "the crowd does not leave")
    before = node.rss_bytes()
    for _ in range(2):
        async with Storm([f"{node.server.ws_url}/storm"]) as crowd:
            await crowd.enter(count)
        await until(alone, "the crowd does not leave")
    return node.rss_bytes() - before


@fault("PAUSE", "one of two nodes stopped for 30 s (SIGSTOP)", "acked lost 0; equal <= 5 s after; no ghosts after")
async def node_paused(run: Run) -> None:
    async with run.loaded() as (cluster, load):
        node = cluster.nodes[0]
        others = [typist for typist in load.everybody if typist.node != node.number]
        since = time.monotonic()
        node.freeze()
        try:
            await asyncio.sleep(run.seconds(30.0, 12.0))
            again = await load.editing_again(others, since=since)
        finally:
            node.thaw()
        run.done += 1
    run.measure(others_confirmed_meanwhile_after=again)


@fault("GHOST", "a node is killed and its clients never return", "their presence is gone from the other node <= 10 s")
async def ghosts(run: Run) -> None:
    gone: list[float] = []
    for _ in range(run.rounds):
        async with run.loaded() as (cluster, load):
            victim = busiest(cluster, load)
            await load.present()
            doomed = load.at(victim)
            load.doom(doomed)
            run.require(any(typist.sees != room.clients for room in load.rooms for typist in room.typists), "no ghosts")
            await asyncio.to_thread(victim.kill)
            since = time.monotonic()
            # Clients that fled see each other again when they renew; ghosts are another matter.
            await until(partial(_unseen, doomed, load), "ghosts stay")
            gone.append(time.monotonic() - since)
            run.done += 1
    run.measure(ghosts_gone_after=gone)
    run.within(max(gone), 10.0, "ghosts gone")


def _unseen(gone: list[Typist], load: Load) -> bool:
    """Whether nobody sees one of them in its room. Numbers are given once per room."""
    return not any(one.number in typist.sees for one in gone for typist in _roommates(one, load))


def _roommates(gone: Typist, load: Load) -> list[Typist]:
    return next(room.typists for room in load.rooms if gone in room.gone)
