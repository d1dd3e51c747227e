"""Rows of the matrix about PostgreSQL: gone, restarted, slow, locked, read-only, full, its replies lost, kept busy."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from pycrdt import Doc, Text

from tests.faults.load import Load, quantile
from tests.faults.matrix import NotRun, Run, fault
from tests.faults.pulse import Beat, Pulse
from tests.support.cluster import Cluster, Node, until
from tests.support.postgres import PostgresServer
from tests.support.proxy import Connection, Way

LIVENESS_S = 0.1
REST_PATIENCE_S = 2.0
UNSAVED_BYTES = 64 << 20
"""The default bound of a node."""
DISK_MIB = {"data": 160, "data/pg_wal": 80}
"""Little more than a fresh database takes."""


@contextlib.asynccontextmanager
async def nothing_saved(run: Run, load: Load) -> AsyncIterator[None]:
    """Inside, the database takes no writes: no acknowledgement comes, no connection ends, memory stays bounded."""
    since = time.monotonic()
    await asyncio.sleep(1.0)  # what was committed before may still be on its way
    quiet = time.monotonic()
    yield
    ended = time.monotonic()
    early = load.acknowledged(quiet, ended)
    run.require(not early, f"C9: {early} updates were called saved while nothing could be")
    run.require(not load.losses(since), f"the server ended connections: {load.losses(since)}")
    unsaved = [await node.metric("collab_unsaved_bytes") for node in load.cluster.up]
    run.require(max(unsaved) <= UNSAVED_BYTES, f"a node keeps {max(unsaved)} unsaved bytes")
    crossings = load.crossings(quiet, ended - 2.0)
    run.require(crossings, "nobody sees what others type while the database is away")
    run.measure(unsaved=f"{max(unsaved) / 1024:.0f} KiB", crossing_meanwhile=crossings)


@fault("F14", "PostgreSQL killed, started again after 30 s", "no ack meanwhile; disconnects 0; all saved after")
async def postgres_away(run: Run) -> None:
    async with run.loaded() as (cluster, load):
        await asyncio.to_thread(cluster.postgres.stop, "immediate")
        try:
            async with nothing_saved(run, load):
                await asyncio.sleep(run.seconds(30.0, 6.0))
        finally:
            await asyncio.to_thread(cluster.postgres.start)
        back = time.monotonic()
        await load.settled_since(back)
        run.measure(everything_saved_after=time.monotonic() - back)
        run.done += 1


@fault(
    "F15", "PostgreSQL restarted (fast) under pooled connections", "5xx of REST for at most 2 s; nothing lost", rounds=3
)
async def postgres_restarted(run: Run) -> None:
    bursts: list[float] = []
    async with run.loaded() as (cluster, load):
        rest = [f"{node.url}/v1/documents/{load.rooms[0].document}" for node in cluster.nodes]
        async with Pulse(*rest) as calls:
            for _ in range(run.rounds):
                since = time.monotonic()
                await asyncio.to_thread(cluster.postgres.stop, "fast")
                await asyncio.to_thread(cluster.postgres.start)
                up = time.monotonic()
                await load.editing_again()
                failed = [beat.at for beat in calls.beats(since) if beat.status != 200]
                bursts.append(max(0.0, max((at - up for at in failed), default=0.0)))
                run.done += 1
            run.require(not load.losses(), f"the server ended connections: {load.losses()}")
    run.measure(errors_after_its_return=bursts)
    run.within(max(bursts), 2.0, "errors after its return")


@fault(
    "F16", "every commit takes 2 s longer", "liveness p99 <= 100 ms (or as before); throughput >= 50 %; livez stays 200"
)
async def postgres_slow(run: Run) -> None:
    async with run.loaded() as (cluster, load):
        async with Pulse(*(f"{node.url}/livez" for node in cluster.nodes)) as pulse:
            began = time.monotonic()
            await asyncio.sleep(run.seconds(10.0, 4.0))
            since = time.monotonic()
            async with slow_commits(cluster, 2.0):
                await asyncio.sleep(run.seconds(30.0, 10.0))
                ended = time.monotonic()
            usual, slow = pulse.seconds(began, since), pulse.beats(since, ended)
        rates = [load.acknowledged(start, end) / (end - start) for start, end in ((began, since), (since + 6.0, ended))]
        lag = [beat.seconds for beat in slow]
        run.measure(saved_per_s_usually=f"{rates[0]:.0f}", saved_per_s_slow=f"{rates[1]:.0f}")
        run.measure(edit_to_saved_slow=load.latencies(since, ended), liveness_usually=usual, liveness_slow=lag)
        run.within(quantile(lag, 0.99), max(LIVENESS_S, 2 * quantile(usual, 0.99)), "liveness, p99")
        run.require(all(beat.status == 200 for beat in slow), "/livez failed")
        run.require(rates[1] >= rates[0] / 2, f"{rates[1]:.0f} saved per second, {rates[0]:.0f} before")
        run.require(not load.losses(), f"the server ended connections: {load.losses()}")
        run.done += 1


@contextlib.asynccontextmanager
async def slow_commits(cluster: Cluster, seconds: float) -> AsyncIterator[None]:
    """Every transaction that writes to the log takes this much longer."""
    async with cluster.sql() as connection:
        await connection.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$"
        )
        await connection.execute(
            "CREATE TRIGGER dawdle AFTER INSERT ON updates FOR EACH STATEMENT EXECUTE FUNCTION dawdle()"
        )
        try:
            yield
        finally:
            await connection.execute("DROP TRIGGER dawdle ON updates")


@fault(
    "F17",
    "somebody holds the log table locked for 60 s",
    "no ack meanwhile; disconnects 0; REST answers or refuses <= 8 s",
)
async def postgres_locked(run: Run) -> None:
    async with run.loaded() as (cluster, load):
        async with Pulse(*(f"{node.url}/v1/documents?limit=1" for node in cluster.nodes)) as calls:
            async with cluster.sql() as holder, holder.transaction():
                await holder.execute("LOCK TABLE updates IN ACCESS EXCLUSIVE MODE")
                since = time.monotonic()
                async with nothing_saved(run, load):
                    await asyncio.sleep(run.seconds(60.0, 14.0))
            answers = calls.beats(since)
        back = time.monotonic()
        await load.settled_since(back)
        run.measure(
            everything_saved_after=time.monotonic() - back,
            REST_list=[beat.seconds for beat in answers],
            REST_refused=f"{sum(beat.status != 200 for beat in answers)} of {len(answers)}",
        )
        run.within(max(beat.seconds for beat in answers), 8.0, "REST while the table is locked")
        run.done += 1


@fault("F17b", "somebody holds one document's row locked for 30 s", "other documents are saved as before (p99 <= 2 s)")
async def one_document_locked(run: Run) -> None:
    async with run.loaded() as (cluster, load):
        locked, others = load.rooms[0], load.rooms[1:]
        async with cluster.sql() as holder, holder.transaction():
            await holder.execute("SELECT 1 FROM documents WHERE name = $1 FOR UPDATE", locked.document)
            since = time.monotonic()
            await asyncio.sleep(run.seconds(30.0, 12.0))
            ended = time.monotonic()
        await load.settled_since(ended)
        waits = [
            (entry.acknowledged_at or ended) - entry.sent_at
            for room in others
            for typist in room.typists
            for entry in typist.typed
            if since < entry.sent_at < ended
        ]
        run.measure(others_edit_to_saved=waits)
        run.within(quantile(waits, 0.99), 2.0, "other documents, edit to saved, p99")
        run.done += 1


@fault("F18", "PostgreSQL turns read-only for 30 s", "no ack meanwhile; cold loads work; all saved after, no restart")
async def postgres_read_only(run: Run) -> None:
    async with run.loaded() as (cluster, load):
        cold = f"cold:{run.rng.getrandbits(40):x}"
        await cluster.nodes[0].create(cold, reading("before"))
        await until(lambda: _unloaded(cluster, len(load.rooms)), "the cold document stays in memory")
        await _read_only(cluster, "on")
        try:
            async with nothing_saved(run, load):
                copy: Doc[Text] = Doc()
                copy.apply_update(await cluster.nodes[1].replica(cold))
                run.require(str(copy.get("t", type=Text)) == "before", "a cold load reads something else")
                await asyncio.sleep(run.seconds(30.0, 6.0))
        finally:
            await _read_only(cluster, "off")
        back = time.monotonic()
        await load.settled_since(back)
        run.measure(everything_saved_after=time.monotonic() - back)
        run.done += 1


async def _read_only(cluster: Cluster, value: str) -> None:
    await cluster.postgres.run(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    await cluster.postgres.run("SELECT pg_reload_conf()")


async def _unloaded(cluster: Cluster, rooms: int) -> bool:
    return all([await node.metric("collab_rooms") <= rooms for node in cluster.nodes])


def reading(text: str) -> bytes:
    """An update that makes a document whose text "t" is ``text``."""
    made: Doc[Text] = Doc()
    made.get("t", type=Text).insert(0, text)
    return made.get_update()


@fault(
    "F19",
    "disk full under the data, then under the write-ahead log",
    "ready <= 30 s after space is freed; C1, C9",
    rounds=2,
)
async def disk_full(run: Run) -> None:
    for where in ("data", "data/pg_wal")[: run.rounds]:
        with small_disk(where) as (server, disk):
            async with run.loaded(cluster={"postgres": server}) as (cluster, load):
                filler = disk / "filler"
                fill(filler)
                await until(lambda: _failing(cluster), "a full disk stops nothing", seconds=120.0)
                since = time.monotonic()
                await asyncio.sleep(run.seconds(20.0, 5.0))
                run.require(not load.losses(since), f"the server ended connections: {load.losses(since)}")
                filler.unlink()
                freed = time.monotonic()
                await until(lambda: _answers(server), "the database does not come back", seconds=60.0)
                for node in cluster.nodes:
                    await until(node.ready, "a node does not become ready", seconds=60.0)
                ready = time.monotonic() - freed
                await load.settled_since(freed)
                run.measure(**{f"{where}_ready_after": ready, f"{where}_saved_after": time.monotonic() - freed})
                run.within(ready, 30.0, f"{where}: ready after space was freed")
                run.done += 1


def fill(file: Path) -> None:
    """Let ``file`` take all the room there is, to the last page."""
    with file.open("wb", buffering=0) as open_file, contextlib.suppress(OSError):
        while open_file.write(bytes(4096)):
            pass


async def _failing(cluster: Cluster) -> bool:
    return sum([await node.metric("collab_store_failures_total") for node in cluster.nodes]) > 0


async def _answers(server: PostgresServer) -> bool:
    """Whether it answers; a server that gave up is started again, as its operator would."""
    with contextlib.suppress(OSError, Exception):
        await server.run("SELECT 1")
        return True
    with contextlib.suppress(RuntimeError, OSError):
        await asyncio.to_thread(server.start)
    return False


@contextlib.contextmanager
def small_disk(where: str) -> Iterator[tuple[PostgresServer, Path]]:
    """A PostgreSQL with its data, or its write-ahead log, on a disk of its own that is soon full. Raises `NotRun`."""
    server = PostgresServer()
    try:
        disk = server.folder / where
        if where == "data":
            log = disk / "pg_wal"
            log.rename(server.folder / "pg_wal")
            log.symlink_to(server.folder / "pg_wal")
        with mounted(disk, DISK_MIB[where]):
            yield server, disk
            with contextlib.suppress(RuntimeError, OSError):
                server.stop("immediate")
    finally:
        server.close()


@contextlib.contextmanager
def mounted(folder: Path, size_mib: int) -> Iterator[None]:
    """``folder`` on a file system of its own, with what it held. Raises `NotRun` where that is not allowed."""
    kept, owner = folder.with_name("kept"), folder.stat()
    folder.rename(kept)
    folder.mkdir()
    options = f"size={size_mib}m,mode=700,uid={owner.st_uid},gid={owner.st_gid}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotRun(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        subprocess.run(["cp", "-a", f"{kept}/.", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


@fault(
    "F20", "the reply to a commit is lost", "acked lost 0; each update once in the log, or harmlessly twice", rounds=20
)
async def reply_lost(run: Run) -> None:
    async with run.loaded() as (cluster, load):
        cuts = [CutReply() for _ in cluster.nodes]
        for node, cut in zip(cluster.nodes, cuts, strict=True):
            node.database.tap = cut
            node.database.reset()  # so that it sees connections from their beginning, where the statement is named
        await load.editing_again()
        for number in range(run.rounds):
            node, cut = cluster.nodes[number % len(cluster.nodes)], cuts[number % len(cuts)]
            cut.armed = True
            await until(cut.is_done, "no commit to be cut off")
            await load.editing_again(load.at(node))
            run.done += 1
        run.require(not load.losses(), f"the server ended connections: {load.losses()}")
        logs = {room.document: await cluster.rows(room.document) for room in load.rooms}
        twice = sum(len(rows) - len({(row.update, row.node) for row in rows}) for rows in logs.values())
        adopted = sum(len(rows) - len({row.update for row in rows}) for rows in logs.values()) - twice
        run.require(not twice, f"L4: {twice} rows are in the log twice, by the same node")
        run.measure(rows=sum(map(len, logs.values())), stored_by_two_nodes=adopted)


class CutReply:
    """A tap that, when armed, drops the answer to the next append and resets its connection.

    PostgreSQL sends the answer in one piece after the commit, so what is dropped was committed.
    """

    def __init__(self) -> None:
        self.armed = False

    def is_done(self) -> bool:
        """Whether it has cut one off since it was armed."""
        return not self.armed

    def __call__(self, connection: Connection, way: Way, data: bytes) -> bool:
        """See `tests.support.proxy.Tap`."""
        if b"INSERT INTO updates" in data:
            connection.notes.add("appends")
        answers = b"C\x00\x00\x00" in data and b"SELECT" in data  # CommandComplete
        if not (self.armed and answers and "appends" in connection.notes):
            return True
        self.armed = False
        return False


@fault(
    "F21", "50 exports of a large document at a time", "edit to saved p99 <= 2x that while an idle node does the same"
)
async def exports(run: Run) -> None:
    # Fifty answers of 2 MB each are under way at once, and an allocator gives back little of what it once had.
    run.memory_slack_bytes = 200 << 20
    async with run.loaded(nodes=3, doors=2, stock=0) as (cluster, load):
        large = f"large:{run.rng.getrandbits(40):x}"
        await cluster.nodes[0].create(large, reading("All work and no play makes Jack a dull boy. " * 40_000))
        began = time.monotonic()
        await asyncio.sleep(run.seconds(15.0, 5.0))
        since = time.monotonic()
        run.measure(edit_to_saved_usually=load.latencies(began, since))
        # First from a node that nobody types at: what that costs is the machine's doing, not the exporting node's.
        spared, _ = await _exporting(run, load, cluster.nodes[2], large)
        burdened, answers = await _exporting(run, load, cluster.nodes[0], large)
        run.measure(edit_to_saved_beside=spared, edit_to_saved_at_the_node=burdened, exports=len(answers))
        run.require(answers, "no export was answered")
        run.require(all(beat.status in (200, 429, 503) for beat in answers), "exports failed")
        run.within(quantile(burdened, 0.99), max(0.2, 2 * quantile(spared, 0.99)), "edit to saved, p99")
        taken = [cluster.nodes[0].rss_bytes()]
        await _exporting(run, load, cluster.nodes[0], large)
        taken.append(cluster.nodes[0].rss_bytes())
        run.measure(memory=", ".join(f"{rss >> 20} MiB" for rss in taken))
        run.require(taken[1] <= taken[0] * 1.1, f"memory grows with every burst: {taken}")
        run.done += 1


async def _exporting(run: Run, load: Load, node: Node, document: str) -> tuple[list[float], list[Beat]]:
    """Fifty callers at a time; edit to saved of those who type at the first node meanwhile, and the answers."""
    url = f"{node.url}/v1/documents/{document}/content?format=text&type=text&root=t"
    since = time.monotonic()
    async with Pulse(*[url] * 50, every_s=0.0) as calls:
        await asyncio.sleep(run.seconds(15.0, 5.0))
        ended = time.monotonic()
        answers = calls.beats()
    await asyncio.sleep(2.0)
    saved = [
        entry.acknowledged_at - entry.sent_at
        for entry in load.typed
        if since <= entry.sent_at < ended and entry.node == 0 and entry.acknowledged_at is not None
    ]
    return saved, answers
