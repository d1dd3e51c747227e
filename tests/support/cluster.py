"""Several real nodes on one private PostgreSQL and one private Redis, with a fault proxy on every path between them.

`Cluster.running` starts it all and ends it all. Each `Node` is a `collab serve` with processes of its own and reaches
the database and Redis through a proxy each; clients come in by its ``door``, a third one, or by the cluster's
``front``, a load balancer that asks every node's `/readyz` as real ones do. What tests ask the nodes about themselves
goes past the doors.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import asyncpg
import httpx
from pycrdt import merge_updates
from websockets.asyncio.client import connect

from tests.support import wire
from tests.support.plain import PLAIN
from tests.support.postgres import PostgresServer
from tests.support.proxy import Network, Proxy
from tests.support.redis import RedisServer
from tests.support.server import NO_RATES, RunningServer

PATIENCE_SECONDS = 60.0
HEALTH_EVERY_S = 0.25
HEALTH_TIMEOUT_S = 1.0
SAMPLE = re.compile(r"(?m)^([a-z_]+(?:\{[^}]*\})?) (\S+)$")
"""A line of Prometheus' text format."""


AUDIT = """
CREATE TABLE as_written (at bigserial PRIMARY KEY, document_id bigint, node text, bytes bytea);
CREATE FUNCTION note_written() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
  INSERT INTO as_written (document_id, node, bytes) VALUES (NEW.document_id, NEW.node, NEW.bytes);
  RETURN NULL;
END $$;
CREATE TRIGGER note_written AFTER INSERT ON updates FOR EACH ROW EXECUTE FUNCTION note_written();
"""
"""Compaction deletes rows; here every row that was ever in the log stays, with the transaction that brought it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row that was at some time in the update log."""

    update: bytes
    node: str
    committed_at: float
    """Wall-clock seconds, by the database."""


class Node:
    """One node and the proxies around it; made by `Cluster`."""

    def __init__(self, number: int, door: Proxy, database: Proxy, bus: Proxy | None, env: Mapping[str, str]) -> None:
        self.number = number
        self.door = door
        self.database = database
        self.bus = bus
        self.env = dict(env)
        self.running = False
        self._server: RunningServer | None = None

    @property
    def server(self) -> RunningServer:
        """The process behind it all."""
        assert self._server is not None, "this node was never started"
        return self._server

    @property
    def url(self) -> str:
        """REST, past the door."""
        return self.server.url

    @property
    def ws_url(self) -> str:
        """Where clients connect: through the door."""
        return f"ws://127.0.0.1:{self.door.port}/yjs"

    def start(self, *args: str) -> None:
        """Start, or start again on the same port, and wait until it is ready. Blocks."""
        if self._server is None:
            self._server = RunningServer.start(*args, env=self.env)
            self.door.targets[:] = [("127.0.0.1", self._server.port)]
        else:
            self._server.launch()
        self.running = True

    def kill(self) -> None:
        """SIGKILL to the gateway; its engines must end by themselves."""
        self.running = False
        self.server.kill_gateway()

    def terminate(self) -> int:
        """SIGTERM, wait, return the exit status. Blocks."""
        self.running = False
        return self.server.terminate()

    def stop(self) -> None:
        """Kill whatever is left; may be called at any time."""
        if self._server is not None:
            self._server.stop()

    def processes(self) -> list[int]:
        """The gateway, then its engines."""
        return [self.server.pid, *children(self.server.pid)]

    def engines(self) -> list[int]:
        """The engine processes."""
        return children(self.server.pid)

    def freeze(self) -> None:
        """Stop gateway and engines where they stand; their sockets stay open."""
        for pid in self.processes():
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        for pid in self.processes():
            _signal(pid, signal.SIGCONT)

    def rss_bytes(self) -> int:
        """Resident memory of the gateway."""
        pages = int(Path(f"/proc/{self.server.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """Open file descriptors of the gateway."""
        return len(list(Path(f"/proc/{self.server.pid}/fd").iterdir()))

    async def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics`: name with labels, as written there, to value."""
        response = await self.get("/metrics")
        return {name: float(value) for name, value in SAMPLE.findall(response.text)}

    async def metric(self, name: str) -> float:
        """One sample; 0 when it is not there."""
        return (await self.metrics()).get(name, 0.0)

    async def get(self, path: str, *, timeout_s: float = PATIENCE_SECONDS) -> httpx.Response:
        """One REST request, past the door."""
        async with httpx.AsyncClient(**PLAIN, timeout=timeout_s) as client:
            return await client.get(f"{self.url}{path}")

    async def ready(self) -> bool:
        """Whether `/readyz` says so, soon."""
        try:
            return (await self.get("/readyz", timeout_s=HEALTH_TIMEOUT_S)).status_code == 200
        except httpx.HTTPError:
            return False

    async def committed(self, document: str) -> bytes:
        """The document as this node reads it from the database, as one update."""
        response = await self.get(f"/v1/documents/{document}/content?format=update")
        return b"\x00\x00" if response.status_code == 404 else response.raise_for_status().content

    async def create(self, document: str, update: bytes) -> None:
        """Make a document that holds ``update``, by REST."""
        async with httpx.AsyncClient(**PLAIN, timeout=PATIENCE_SECONDS, base_url=self.url) as client:
            (await client.post("/v1/documents", json={"name": document})).raise_for_status()
            binary = {"Content-Type": "application/octet-stream"}
            response = await client.post(f"/v1/documents/{document}/updates", content=update, headers=binary)
            response.raise_for_status()

    async def replica(self, document: str) -> bytes:
        """The document as this node holds it in memory, as one update: what a new client has when it is synced."""
        told: list[bytes] = []
        url = f"{self.server.ws_url}/{document}"
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with connect(url, max_size=None, compression=None, proxy=None) as socket:
                await socket.send(wire.step1())
                while True:
                    for kind, sub, payload in wire.messages(await socket.recv(decode=False)):
                        if kind == wire.SYNC and sub in (wire.UPDATE, wire.STEP2):
                            told.append(payload)
                        if (kind, sub) == (wire.SYNC, wire.STEP2):
                            return merge_updates(*told)


class Cluster:
    """See the module."""

    def __init__(self, network: Network, postgres: PostgresServer, database: str, redis: RedisServer | None) -> None:
        self.network = network
        self.postgres = postgres
        self.database = database
        """Its name."""
        self._redis = redis
        self.nodes: list[Node] = []
        self.front = network.proxy()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls,
        *,
        nodes: int = 2,
        redis: bool = True,
        env: Mapping[str, str] | None = None,
        node_env: Mapping[int, Mapping[str, str]] | None = None,
        postgres: PostgresServer | None = None,
    ) -> AsyncIterator[Cluster]:
        """``nodes`` nodes, all ready. ``env`` are further settings of theirs, ``node_env`` of single ones.

        Without ``redis`` they have no bus. A ``postgres`` of the caller's is not started yet, and the caller closes it.
        """
        async with contextlib.AsyncExitStack() as stack:
            network = stack.enter_context(Network())
            if postgres is None:
                postgres = await asyncio.to_thread(PostgresServer)
                stack.callback(postgres.close)
            postgres.start()
            await postgres.run("ALTER SYSTEM SET track_commit_timestamp = on")
            postgres.restart()
            server = None
            if redis:
                server = RedisServer()
                stack.callback(server.close)
                server.start()
            cluster = cls(network, postgres, await postgres.create_database(), server)
            stack.callback(cluster._stop)
            for number in range(nodes):
                one = (node_env or {}).get(number, {})
                cluster.nodes.append(cluster.add_node(number, {**(env or {}), **one}))
            await cluster._start()
            watching = asyncio.create_task(cluster._watch_health(), name="load balancer")
            stack.push_async_callback(_cancelled, watching)
            yield cluster

    @property
    def has_redis(self) -> bool:
        """Whether there is one, running or not."""
        return self._redis is not None

    @property
    def redis(self) -> RedisServer:
        """The private Redis of a cluster that has one."""
        assert self._redis is not None
        return self._redis

    @property
    def up(self) -> list[Node]:
        """Nodes that have a process."""
        return [node for node in self.nodes if node.running]

    @property
    def front_url(self) -> str:
        """Where a browser connects: some ready node."""
        return f"ws://127.0.0.1:{self.front.port}/yjs"

    async def _start(self) -> None:
        # One migrates, then the rest start together.
        await asyncio.to_thread(self.nodes[0].start, "--migrate")
        async with self.sql() as connection:
            await connection.execute(AUDIT)
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in self.nodes[1:]))
        self.front.targets[:] = [("127.0.0.1", node.server.port) for node in self.nodes]

    def add_node(self, number: int, env: Mapping[str, str], *, redis: bool = True) -> Node:
        """A node that is not started yet, and not in `nodes`."""
        database = self.network.proxy(("127.0.0.1", self.postgres.port))
        settings = {"COLLAB_DATABASE": _through(self.postgres.url(self.database), self.postgres.port, database)}
        bus = None
        if self._redis is not None and redis:
            bus = self.network.proxy(("127.0.0.1", self._redis.port))
            settings["COLLAB_REDIS"] = _through(self._redis.url, self._redis.port, bus)
        return Node(number, self.network.proxy(), database, bus, {**NO_RATES, **settings, **env})

    def _stop(self) -> None:
        for node in self.nodes:
            node.stop()

    async def _watch_health(self) -> None:
        """Keep who is not ready out of the front's rotation; with nobody ready, leave it as it is."""
        while True:
            await asyncio.sleep(HEALTH_EVERY_S)
            nodes = self.up
            ready = await asyncio.gather(*(node.ready() for node in nodes))
            welcome = [("127.0.0.1", node.server.port) for node, yes in zip(nodes, ready, strict=True) if yes]
            if welcome:
                self.front.targets[:] = welcome

    async def cold(self, documents: list[str]) -> dict[str, bytes]:
        """What a fresh process, without a bus, loads from the database."""
        node = self.add_node(len(self.nodes), {}, redis=False)
        await asyncio.to_thread(node.start)
        try:
            return {document: await node.replica(document) for document in documents}
        finally:
            await asyncio.to_thread(node.server.stop)

    @contextlib.asynccontextmanager
    async def sql(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection to the database, past every proxy."""
        connection = await asyncpg.connect(self.postgres.url(self.database))
        try:
            yield connection
        finally:
            await connection.close()

    async def rows(self, document: str) -> list[Row]:
        """Everything that was ever in the document's log, with the moments of the commits."""
        async with self.sql() as connection:
            found = await connection.fetch(
                "SELECT bytes, node, pg_xact_commit_timestamp(as_written.xmin) AS at FROM as_written "
                "JOIN documents ON documents.id = document_id WHERE name = $1 ORDER BY as_written.at",
                document,
            )
        return [Row(row["bytes"], row["node"], _seconds(row["at"])) for row in found]

    async def database_connections(self) -> int:
        """How many the nodes have open, as the database sees it."""
        async with self.sql() as connection:
            return int(
                await connection.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'collab' AND datname = $1",
                    self.database,
                )
            )


def children(pid: int) -> list[int]:
    """The child processes of ``pid``, whichever thread started them."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += map(int, (task / "children").read_text().split())
    return sorted(found)


async def until(
    holds: Callable[[], bool | Awaitable[bool]],
    otherwise: str,
    *,
    seconds: float = PATIENCE_SECONDS,
    explain: Callable[[], str] = lambda: "",
) -> float:
    """Wait until ``holds`` says so; how long it took, in seconds.

    After ``seconds`` raises `AssertionError` with ``otherwise`` and what ``explain`` adds.
    """
    started = time.monotonic()
    while True:
        answer = holds()
        if answer if isinstance(answer, bool) else await answer:
            return time.monotonic() - started
        if time.monotonic() - started > seconds:
            raise AssertionError(f"after {seconds:.0f} s {otherwise} {explain()}".strip())
        await asyncio.sleep(0.02)


def _through(url: str, port: int, proxy: Proxy) -> str:
    return re.sub(rf":{port}(?=/|$)", f":{proxy.port}", url)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _seconds(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
