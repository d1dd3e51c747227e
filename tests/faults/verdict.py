"""What must be true when a fault is over and everybody has stopped typing: checks C1 to C9 of the checker.

Each function says what is wrong as sentences; none when all is well. C2 among clients and C8 are waited for by `Load`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from collab.protocol.yjs import scan_update
from tests.faults.load import Load, Room
from tests.faults.typist import Typed
from tests.support.checker import check, lost, merged, unequal
from tests.support.clients import StockClient, StockClients
from tests.support.cluster import Cluster, Node, Row, until

MEMORY_SLACK_BYTES = 24 << 20
"""Small processes: what ten percent of a large one would be."""
DESCRIPTOR_SLACK = 10
CONNECTIONS_PER_NODE = 12
"""The store's pools: five and five more, and two that append."""
IDLE_SECONDS = 60.0
POISON = "poison"
"""The node of rows that a row of the matrix put into the log behind everybody's back."""
GAUGES = ("connections", "sessions", "rooms", "queue_bytes", "unsaved_bytes")
COMMIT_SLACK_S = 0.001


async def documents_right(load: Load) -> list[str]:
    """C1 to C6 of every room, on clients, nodes, the database, and a process that loads it cold."""
    await load.collect()
    names = [room.document for room in load.rooms]
    cold = await load.cluster.cold(names)
    problems: list[str] = []
    for room in load.rooms:
        found = await _room_right(load, room, cold[room.document])
        problems += [f"{room.document}: {problem}" for problem in found]
    return problems + [problem for typist in load.everybody for problem in typist.problems]


async def _room_right(load: Load, room: Room, cold: bytes) -> list[str]:
    nodes = load.cluster.up
    problems: list[str] = []
    try:
        kept = await nodes[0].committed(room.document)
    except httpx.HTTPStatusError as error:
        problems.append(f"REST cannot read it: {error.response.text[:200]}")
        kept = cold
    copies = {f"node {node.number}": await node.replica(room.document) for node in nodes}
    replicas = {"database": kept, "cold process": cold, **copies, **await room.replicas()}
    owed = room.owed
    problems += [*check(room.history, kept), *unequal(replicas)]
    problems += [f"submitted, never saved: {problem}" for problem in lost(kept, owed)]
    complete = len(owed) == len(room.history.submitted)
    return problems + await _yjs_agrees(load.oracle, load.cluster, room, kept, complete=complete)


async def _yjs_agrees(oracle: StockClients, cluster: Cluster, room: Room, kept: bytes, *, complete: bool) -> list[str]:
    """C6: what Yjs makes of the rows, and, when it is all there, of what was submitted, is what was stored."""
    rows = await cluster.rows(room.document)
    fed = {"the rows": [row.update for row in rows if row.node != POISON]}
    if complete:
        fed["the submitted updates"] = [entry.update for entry in room.history.submitted]
    stored = await oracle.replica(kept)
    problems: list[str] = []
    for what, updates in fed.items():
        replica = await oracle.replica(*updates)
        if not await _same(stored, replica):
            problems.append(f"C6: Yjs fed with {what} reads something else than what was stored")
        if await replica.get("pending(doc)"):
            problems.append(f"C4: Yjs fed with {what} waits for something that was never stored")
        await replica.close()
    await stored.close()
    return problems


async def _same(one: StockClient, other: StockClient) -> bool:
    return await one.canonical() == await other.canonical() and await one.text() == await other.text()


@dataclass(slots=True)
class Honesty:
    """What C9 came to."""

    problems: list[str] = field(default_factory=list)
    seen: int = 0
    """Updates whose commit could be compared with their acknowledgement."""
    early_echoes: int = 0
    """Echoes before the commit, on a later connection than the update was sent on.

    There the server cannot tell: another client brought the update again, and its author is shown it like anybody. A
    known limit of confirmation by echo (`DESIGN.md`); clients that ask by status are never told too early.
    """


async def honest(load: Load) -> Honesty:
    """C9: nothing was called saved before its commit."""
    found = Honesty()
    for room in load.rooms:
        log = _Commits(await load.cluster.rows(room.document))
        for entry in room.history.submitted:
            if not isinstance(entry, Typed) or entry.acknowledged_wall is None:
                continue
            committed = log.committed_at(entry.update)
            if committed is None:
                continue  # a deletion that was stored inside something larger
            found.seen += 1
            early = committed - entry.acknowledged_wall
            if early > COMMIT_SLACK_S and entry.acknowledged == "echo" and entry.acknowledged_on > entry.connection:
                found.early_echoes += 1
            elif early > COMMIT_SLACK_S:
                what = entry.inserted or entry.deleted
                how = f"called saved by {entry.acknowledged} {early:.3f} s before its commit"
                found.problems.append(f"C9: {room.document}: {what} was {how}")
    return found


class _Commits:
    """When each update was first in the log: as sent, or inside a row that holds it."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._exact: dict[bytes, float] = {}
        self._parts: dict[int, list[tuple[int, int, float]]] = {}
        for row in rows:
            self._exact[row.update] = min(row.committed_at, self._exact.get(row.update, row.committed_at))
            if row.node == POISON:
                continue
            for client, parts in scan_update(row.update).ranges.items():
                self._parts.setdefault(client, []).extend((start, end, row.committed_at) for start, end in parts)

    def committed_at(self, update: bytes) -> float | None:
        found = [self._exact[update]] if update in self._exact else []
        ranges = scan_update(update).ranges
        if ranges:
            whole = [self._covered(client, start, end) for client, parts in ranges.items() for start, end in parts]
            known = [one for one in whole if one is not None]
            if len(known) == len(whole):
                found.append(max(known))
        return min(found, default=None)

    def _covered(self, client: int, start: int, end: int) -> float | None:
        """When the clocks from ``start`` to ``end`` were all in the log."""
        parts = sorted((at, low, high) for low, high, at in self._parts.get(client, ()) if low < end and start < high)
        missing = [(start, end)]
        for at, low, high in parts:
            missing = [
                piece for left, right in missing for piece in ((left, min(right, low)), (max(left, high), right))
            ]
            missing = [(left, right) for left, right in missing if left < right]
            if not missing:
                return at
        return None


@dataclass(frozen=True, slots=True)
class Resources:
    """What a cluster holds."""

    pids: tuple[int, ...]
    rss_bytes: tuple[int, ...]
    descriptors: tuple[int, ...]
    channels: frozenset[str]
    redis_clients: int

    @classmethod
    def of(cls, cluster: Cluster) -> Resources:
        """Now."""
        nodes = cluster.up
        return cls(
            tuple(node.server.pid for node in nodes),
            tuple(node.rss_bytes() for node in nodes),
            tuple(node.descriptors() for node in nodes),
            *_on_redis(cluster),
        )


def _on_redis(cluster: Cluster) -> tuple[frozenset[str], int]:
    if not cluster.has_redis:
        return frozenset(), 0
    channels, clients = cluster.redis.run("PUBSUB", "CHANNELS"), cluster.redis.run("CLIENT", "LIST", "TYPE", "pubsub")
    assert isinstance(channels, list)
    assert isinstance(clients, str | bytes)
    return frozenset(map(str, channels)), len(clients.strip().splitlines())


async def resources_back(
    cluster: Cluster, idle: Resources, loaded: Resources, *, memory_slack_bytes: int
) -> tuple[list[str], float]:
    """C7, after all clients are gone: back to what was held ``idle`` before them, in memory not far above ``loaded``.

    Also tells how long that took. A node that was started anew since has no memory to be compared with.
    """
    started = time.monotonic()
    wrong: list[str] = ["never looked"]

    async def back() -> bool:
        nonlocal wrong
        wrong = await _held(cluster, idle)
        return not wrong

    try:
        await until(back, "", seconds=IDLE_SECONDS)
    except AssertionError:
        return [f"C7: after {IDLE_SECONDS:.0f} s idle {one}" for one in wrong], time.monotonic() - started
    before = dict(zip(loaded.pids, loaded.rss_bytes, strict=True))
    problems = [
        f"C7: node {node.number} takes {rss >> 20} MiB, {base >> 20} MiB under load before the fault"
        for node in cluster.up
        if (base := before.get(node.server.pid)) is not None
        and (rss := node.rss_bytes()) > max(base * 1.1, base + memory_slack_bytes)
    ]
    return problems, time.monotonic() - started


async def _held(cluster: Cluster, idle: Resources) -> list[str]:
    wrong: list[str] = []
    most = max(idle.descriptors) + DESCRIPTOR_SLACK
    for node in cluster.up:
        metrics = await node.metrics()
        left = {gauge: metrics[f"collab_{gauge}"] for gauge in GAUGES}
        wrong += [f"node {node.number} has {value:.0f} {gauge}" for gauge, value in left.items() if value]
        if node.descriptors() > most:
            wrong.append(
                f"node {node.number} has {node.descriptors()} descriptors open, {max(idle.descriptors)} before"
            )
    channels, clients = await asyncio.to_thread(_on_redis, cluster)
    if len(channels) > len(idle.channels):
        wrong.append(f"Redis has {len(channels)} channels, {len(idle.channels)} before: {sorted(channels)[:5]}")
    if clients > idle.redis_clients:
        wrong.append(f"Redis has {clients} subscribers, {idle.redis_clients} before")
    if (connections := await cluster.database_connections()) > CONNECTIONS_PER_NODE * len(cluster.up):
        wrong.append(f"the database has {connections} connections")
    return wrong


def tracebacks(nodes: Sequence[Node]) -> list[str]:
    """Python tracebacks in the nodes' logs: nothing that is expected to happen may end in one."""
    found: list[str] = []
    for node in nodes:
        output = node.server.output
        if (count := output.count("Traceback (most recent call last)")) > 0:
            at = output.index("Traceback (most recent call last)")
            found.append(f"node {node.number} wrote {count} tracebacks, the first: {output[at - 200 : at + 4000]}")
    return found


def compared(replicas: Mapping[str, bytes], updates: Sequence[bytes]) -> list[str]:
    """Replicas that differ from each other or lack one of ``updates``; for rows without typists."""
    return [
        *unequal(dict(replicas)),
        *(f"{who} lacks something" for who, one in replicas.items() if _lacks(one, updates)),
    ]


def _lacks(replica: bytes, updates: Sequence[bytes]) -> bool:
    return bool(unequal({"replica": replica, "all": merged([replica, *updates])}))
