"""Rows of the matrix about documents: loaded by two nodes at once, let go, folded, killed while folding, damaged."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from functools import partial

import asyncpg

from tests.faults.flapper import Flapper
from tests.faults.load import Load, quantile
from tests.faults.matrix import Run, fault
from tests.faults.raw import dependent, first_answer, message, raw, saved
from tests.faults.rows_database import reading
from tests.faults.rows_nodes import nothing_acknowledged_lost, offline
from tests.faults.verdict import POISON
from tests.support import wire
from tests.support.checker import check, lost, text_of, unequal
from tests.support.cluster import Cluster, Node, until

OFTEN = {"COLLAB_COMPACT_AFTER_UPDATES": "2"}
"""A document is folded whenever its log has grown by forty updates."""
COMPACTING = 0x636F6C6C
"""The high half of the advisory lock that a compaction holds (`collab.store.postgres`)."""
DEEP = 27_000
"""Levels of nesting: in 54 kB enough to overflow a stack of 8 MB."""


@fault(
    "F22",
    "200 first clients of a cold document on two nodes at once",
    "one room per node; C2; seed there once",
    rounds=5,
)
async def cold_load(run: Run) -> None:
    count = 40 if run.short else 200
    loaded: list[float] = []
    async with run.cluster() as cluster:
        for number in range(run.rounds):
            document = f"cold:{run.rng.getrandbits(40):x}"
            seed = reading(f"seed {number};")
            await cluster.nodes[number % 2].create(document, seed)
            await until(lambda: _rooms(cluster, 0), "the seeded document stays in memory")
            started = time.monotonic()
            urls = [cluster.nodes[one % 2].server.ws_url for one in range(count)]
            async with contextlib.AsyncExitStack() as stay:
                answers = await asyncio.gather(*(first_answer(url, document, stay) for url in urls))
                loaded.append(time.monotonic() - started)
                run.require(await _rooms(cluster, 1), "not exactly one room on each node")
                texts = {text_of(answer) for answer in answers}
                run.require(texts == {f"seed {number};"}, f"clients read {sorted(texts)}")
                late = f"late {number};"
                made = await _write(cluster.nodes[0], document, late)
                await until(partial(_reads, cluster, document, late), "a node lacks what another was sent")
            rows = [row.update for row in await cluster.rows(document)]
            run.require(rows.count(seed) == 1, "the seed is not exactly once in the log")
            run.require(made in rows, "the late update is not in the log")
            run.done += 1
    run.measure(clients=count, all_loaded=loaded)


async def _rooms(cluster: Cluster, count: int) -> bool:
    return all([await node.metric("collab_rooms") == count for node in cluster.nodes])


async def _reads(cluster: Cluster, document: str, text: str) -> bool:
    copies = {str(node.number): await node.replica(document) for node in cluster.nodes}
    return all(text in text_of(copy) for copy in copies.values()) and not unequal(copies)


async def _write(node: Node, document: str, text: str) -> bytes:
    update = reading(text)
    async with raw(node.server.ws_url, document) as socket:
        await socket.send(wire.update(update) + wire.status(1))
        await saved(socket)
    return update


@fault("F23", "the last client leaves, the next comes while the room is let go", "C1, C5 over 1,000 cycles", rounds=200)
async def flapping(run: Run) -> None:
    env = {"COLLAB_UNLOAD_AFTER_S": "0"}
    documents = 5
    cycles = max(10, run.rounds // (20 if run.short else 1))
    async with run.cluster(env=env) as cluster:
        for node in cluster.nodes:
            node.database.up.latency_s = node.database.down.latency_s = 0.01
        urls = [node.ws_url for node in cluster.nodes]
        flappers = [Flapper(urls, f"flap:{run.rng.getrandbits(40):x}", run.rng) for _ in range(documents)]
        await asyncio.gather(*(flapper.flap(cycles) for flapper in flappers))
        run.done = documents * cycles
        names = [flapper.document for flapper in flappers]
        cold = await cluster.cold(names)
        for flapper in flappers:
            kept = await cluster.nodes[0].committed(flapper.document)
            run.problems += check(flapper.history, kept)
            run.problems += unequal({"database": kept, "cold": cold[flapper.document], "client": flapper.replica})
        run.measure(documents=documents, acknowledged=sum(len(flapper.history.acknowledged) for flapper in flappers))


@fault("F24", "two nodes fold documents that are typed in, for 5 min", "C1, C5; both nodes fold")
async def folding(run: Run) -> None:
    async with run.loaded(rooms=2, typists=4, rate=15.0, env=OFTEN) as (cluster, load):
        await asyncio.sleep(run.seconds(300.0, 15.0))
        folds = [await node.metric("collab_compactions_total") for node in cluster.nodes]
        run.require(all(folds), f"not every node folded: {folds}")
        run.measure(folds=" and ".join(f"{count:.0f}" for count in folds))
        run.require(not load.losses(), f"the server ended connections: {load.losses()}")
        run.done += 1


@fault(
    "F25", "a document is folded while an update in it waits for another", "whole when the other comes; C5", rounds=3
)
async def folded_while_waiting(run: Run) -> None:
    async with run.cluster(env=OFTEN) as cluster:
        for number in range(run.rounds):
            document = f"waits:{run.rng.getrandbits(40):x}"
            first, second = dependent(run.rng)
            node, other = cluster.nodes[number % 2], cluster.nodes[(number + 1) % 2]
            folds = await node.metric("collab_compactions_total")
            async with raw(node.server.ws_url, document) as socket:
                await socket.send(wire.update(second))
                await message(socket, wire.SYNC, wire.STEP1)  # it is asked for what is missing
                for count in range(100):
                    await socket.send(wire.update(reading(f"{count};")))
                    await asyncio.sleep(0.01)
                await until(partial(_folded, node, folds), "nothing is folded")
            async with raw(other.server.ws_url, document) as socket:
                await socket.send(wire.update(first) + wire.status(1))
                await saved(socket)
            await until(partial(_reads, cluster, document, "first second"), "it does not come together")
            cold = await cluster.cold([document])
            run.require("first second" in text_of(cold[document]), "a cold process reads something else")
            run.done += 1


async def _folded(node: Node, folds: float) -> bool:
    return await node.metric("collab_compactions_total") > folds


@fault("F26", "`kill -9` while a document is being folded", "C1, C5: old snapshot and log complete", rounds=20)
async def killed_while_folding(run: Run) -> None:
    async with run.loaded(nodes=1, rooms=3, rate=15.0, env=OFTEN) as (cluster, load):
        node = cluster.nodes[0]
        # Every round trip takes longer, so that there is a middle to be hit.
        node.database.up.latency_s = node.database.down.latency_s = 0.01
        async with cluster.sql() as observer:
            for _ in range(run.rounds):
                await until(lambda: _folding(observer), "nothing is folded")
                await asyncio.sleep(run.rng.uniform(0.0, 0.1))
                load.gate.connecting.clear()
                await asyncio.to_thread(node.kill)
                await until(partial(offline, load.everybody), "a socket outlived its server")
                await asyncio.to_thread(node.start)
                run.problems += await nothing_acknowledged_lost(cluster, load)
                load.gate.connecting.set()
                await load.editing_again()
                run.done += 1


async def _folding(observer: asyncpg.Connection) -> bool:
    found = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = $1"
    return bool(await observer.fetchval(found, COMPACTING))


DAMAGE = {
    "a flipped bit": "SET bytes = set_byte(bytes, length(bytes) / 2, get_byte(bytes, length(bytes) / 2) # 1)",
    "half of it": "SET bytes = substring(bytes FROM 1 FOR length(bytes) / 2)",
    "another document's": "SET bytes = other.bytes, sha256 = other.sha256 FROM snapshots other "
    "WHERE other.document_id <> snapshots.document_id AND",
}


@fault(
    "F27",
    "the newest snapshot is damaged: bit, length, another document's",
    "nothing lost; the one before serves",
    rounds=3,
)
async def damaged_snapshot(run: Run) -> None:
    async with run.loaded(rooms=3, rate=15.0, env=OFTEN) as (cluster, load):
        for what, how in list(DAMAGE.items())[: run.rounds]:
            await until(lambda: _folded_twice(cluster, load), "documents are not folded twice")
            load.gate.connecting.clear()
            for node in cluster.nodes:
                await asyncio.to_thread(node.kill)
            async with cluster.sql() as connection:
                newest = "SELECT max(id) FROM snapshots WHERE kind = 'compaction' GROUP BY document_id"
                joint = "" if how.endswith("AND") else " WHERE"
                await connection.execute(f"UPDATE snapshots {how}{joint} snapshots.id IN ({newest})")
            await until(partial(offline, load.everybody), "a socket outlived its server")
            await asyncio.gather(*(asyncio.to_thread(node.start) for node in cluster.nodes))
            run.problems += [f"{what}: {one}" for one in await nothing_acknowledged_lost(cluster, load)]
            load.gate.connecting.set()
            await load.editing_again()
            damage = sum([await node.metric("collab_damage_total") for node in cluster.nodes])
            run.require(damage, f"{what}: nobody was told of the damage")
            run.done += 1


async def _folded_twice(cluster: Cluster, load: Load) -> bool:
    async with cluster.sql() as connection:
        found = await connection.fetch(
            "SELECT count(*) AS folds FROM snapshots JOIN documents ON documents.id = document_id "
            "WHERE kind = 'compaction' AND name = ANY($1) GROUP BY name",
            [room.document for room in load.rooms],
        )
    return len(found) == len(load.rooms) and all(row["folds"] >= 2 for row in found)


async def insert_row(cluster: Cluster, document: str, update: bytes, *, checksum: bytes | None = None) -> None:
    """Put a row into the log behind everybody's back; with a right checksum unless given another."""
    digest = checksum or hashlib.sha256(document.encode() + b"\0" + update).digest()
    async with cluster.sql() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO documents (name, meta, created_at, updated_at, last_seq) VALUES ($1, '{}', now(), now(), 0) "
            "ON CONFLICT DO NOTHING",
            document,
        )
        await connection.execute(
            "WITH grown AS (UPDATE documents SET last_seq = last_seq + 1 WHERE name = $1 RETURNING id, last_seq) "
            "INSERT INTO updates (document_id, seq, bytes, sha256, node, number, created_at) "
            f"SELECT id, last_seq, $2, $3, '{POISON}', extract(epoch FROM clock_timestamp()) * 1e6, now() FROM grown",
            document,
            update,
            digest,
        )


@fault(
    "F28",
    "rows in the log that are no updates, or fail their checksum",
    "the rest is served <= 10 s; others go on",
    rounds=2,
)
async def poison_rows(run: Run) -> None:
    served: list[float] = []
    async with run.loaded() as (cluster, load):
        for number in range(run.rounds):
            document = load.rooms[0].document
            await insert_row(cluster, document, b"\xff" * 40)
            await insert_row(cluster, document, reading("never seen"), checksum=b"\0" * 32)
            await asyncio.sleep(5.0)  # live rooms come across them too
            run.require(not load.losses(), f"the server ended connections: {load.losses()}")
            if number == 0:
                load.gate.connecting.clear()
                for node in cluster.nodes:
                    await asyncio.to_thread(node.kill)
                await until(partial(offline, load.everybody), "a socket outlived its server")
                await asyncio.gather(*(asyncio.to_thread(node.start) for node in cluster.nodes))
                started = time.monotonic()
                copy, saved_before = await cluster.nodes[0].replica(document), load.rooms[0].history.acknowledged
                served.append(time.monotonic() - started)
                run.problems += lost(copy, saved_before)
                run.problems += await nothing_acknowledged_lost(cluster, load)
                for typist in load.everybody:
                    typist.losses.clear()
                load.gate.connecting.set()
                await load.editing_again()
            run.done += 1
        damage = sum([await node.metric("collab_damage_total") for node in cluster.nodes])
        run.require(damage, "nobody was told of the damage")
    run.measure(served_after=served, damage=int(damage))
    run.within(max(served), 10.0, "documents served")


@fault(
    "F29",
    "a document that may crash the engine on load",
    "node stays up; its room quarantined or served; others p99 <= 2x",
)
async def poison_document(run: Run) -> None:
    async with run.loaded() as (cluster, load):
        document = f"deep:{run.rng.getrandbits(40):x}"
        for client in (7, 8):
            await insert_row(cluster, document, nested(client, DEEP))
        began = time.monotonic()
        await asyncio.sleep(run.seconds(10.0, 4.0))
        since = time.monotonic()
        codes = [await _open_once(node, document) for node in cluster.nodes for _ in range(4)]
        await asyncio.sleep(run.seconds(10.0, 4.0))
        usual, meanwhile = load.latencies(began, since), load.latencies(since)
        restarts = sum([await node.metric("collab_engine_restarts_total") for node in cluster.nodes])
        run.measure(answers=", ".join(sorted(set(codes))), engine_deaths=int(restarts))
        run.measure(others_usually=usual, others_meanwhile=meanwhile)
        run.within(quantile(meanwhile, 0.99), max(0.2, 2 * quantile(usual, 0.99)), "others' edit to saved, p99")
        run.require(not load.losses(), f"the server ended connections: {load.losses()}")
        run.done += 1


async def _open_once(node: Node, document: str) -> str:
    try:
        await asyncio.wait_for(node.replica(document), 30.0)
    except TimeoutError:
        return "no answer"
    except Exception as error:
        return str(error).split(";")[0][:60]
    return "served"


def nested(client: int, levels: int) -> bytes:
    """An update that sets a key of a map to a list in a list in a list, written by hand since yrs would overflow."""
    value = b"\x75\x01" * levels + b"\x7e"
    name = wire.prefixed(b"m")
    struct = b"\x28\x01" + name + wire.prefixed(b"k") + b"\x01" + value
    return b"\x01\x01" + wire.varuint(client) + b"\x00" + struct + b"\x00"
