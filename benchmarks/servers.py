"""The servers that are measured, each started as its own documentation says, on a core of its own.

A server is a command and its dialect. It gets an empty working directory, one port on loopback and one core; what it
starts itself inherits the core. A server of several nodes is the same command several times, all on that one core, with
what they share beside them.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import install, services
from benchmarks.services import ServerFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.install import Node
    from benchmarks.load import Cores
    from benchmarks.services import Service

COLLAB_POSTGRES = "collab-postgres"
COLLAB_INLINE = "collab-inline"
NO_RATES = {"COLLAB_MESSAGES_PER_S": "0", "COLLAB_BYTES_PER_S": "0"}
"""collab reads who sends more than people do more slowly; its peers do not."""
FASTER_THAN_PEOPLE = frozenset({"A1h", "A-max", "overload"})
"""Where one client sends more than collab's default rates, and collab is measured without them."""
WITH_STORAGE = frozenset({"A2", "B", "GA2", "GB", "K"})
"""Where a peer that keeps documents is measured beside the same peer that does not."""
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 3.0
"""A peer that is behind does not hear that it should end; what it has to keep it has been given time for before."""
SETTLE_S, SETTLE_QUICK_S = 1.0, 0.1
"""Between being ready and being measured: what a server does once at its start is not its cost."""


@dataclass(frozen=True, slots=True)
class Server:
    """How one server is started and reached. `port_variable` names the environment variable of its port.

    Each node finds its number, from 1 on, in `BENCHMARK_NODE`.
    """

    name: str
    version: str
    dialect: str
    path: str
    command: tuple[str, ...]
    port_variable: str
    ready_path: str | None = "/"
    """What answers when it is ready; None: nothing does, and listening is enough."""
    environment: Mapping[str, str] = field(default_factory=dict)
    acknowledges: bool = False
    """Whether it tells a writer which of its updates it has: committed (collab), or applied (Hocuspocus)."""
    keeps: bool = False
    """Whether documents are there again after a restart."""
    first_alone: bool = False
    """Whether the first client of each room has to be there before the others come."""
    only: frozenset[str] | None = None
    """The scenarios that measure it, when not all do."""
    nodes: int = 1
    services: Mapping[str, str] = field(default_factory=dict)
    """What the nodes share (see `services`), and the environment variable that gets its URL."""
    without_rates: Mapping[str, str] = field(default_factory=dict)
    """What lets one client send as much as it likes."""

    def for_scenario(self, scenario: str) -> Server:
        """The same, without rates where the load exceeds them."""
        if scenario not in FASTER_THAN_PEOPLE:
            return self
        return replace(self, environment={**self.environment, **self.without_rates})


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers: the process and the port of each node, and what they share."""

    server: Server
    pids: tuple[int, ...]
    ports: tuple[int, ...]
    services: tuple[Service, ...] = ()


def collab(database: str | None) -> Server:
    """This checkout's collab with its defaults: isolated engine, SQLite, each acknowledged update on disk."""
    binary = Path(sys.executable).parent / "collab"
    if not binary.exists():
        raise ServerFailed(
            f"There is no {binary}: install this checkout into the environment that runs the benchmarks."
        )
    chosen = {"COLLAB_DATABASE": database, "COLLAB_MIGRATE": "true"} if database else {}
    kept = "PostgreSQL" if database else "SQLite"
    command = (str(binary), "serve")
    started = Server("collab", f"this checkout, {kept}", "yws", "/yjs/", command, "COLLAB_PORT", "/readyz", chosen)
    return replace(started, acknowledges=True, keeps=True, without_rates=NO_RATES)


def collab_inline() -> Server:
    """The same with the engine in the server's own process: what isolation is there for."""
    chosen = {"COLLAB_ENGINE": "inline"}
    version = "this checkout, SQLite, engine inline"
    return replace(collab(None), name=COLLAB_INLINE, version=version, environment=chosen, only=frozenset({"L"}))


def collab_postgres() -> Server:
    """The same on a private PostgreSQL, which stands on the generator's core."""
    version = "this checkout, PostgreSQL"
    shared = {"postgres": "COLLAB_DATABASE"}
    chosen = {"COLLAB_MIGRATE": "true"}
    return replace(collab(None), name=COLLAB_POSTGRES, version=version, environment=chosen, services=shared)


def yws(node: Node, peers: Path) -> Server:
    """The reference server of y-websocket, in memory, as its package's `y-websocket` command starts it."""
    script = peers / "node_modules/@y/websocket-server/src/server.js"
    chosen = {"HOST": "127.0.0.1"}
    version = install.peer_version("@y/websocket-server")
    return Server("yws", version, "yws", "/", (str(node.binary), str(script)), "PORT", "/", chosen)


def hocuspocus(node: Node, peers: Path) -> Server:
    """Hocuspocus without extensions, in memory."""
    command = (str(node.binary), str(peers / "hocuspocus.mjs"))
    version = install.peer_version("@hocuspocus/server")
    return Server("hocuspocus", version, "hocuspocus", "/", command, "PORT", acknowledges=True)


def hocuspocus_sqlite(node: Node, peers: Path) -> Server:
    """Hocuspocus with its SQLite extension: it writes a changed document some seconds later, as a whole."""
    return replace(
        hocuspocus(node, peers),
        name="hocuspocus-sqlite",
        version=f"{install.peer_version('@hocuspocus/server')}, {install.peer_version('@hocuspocus/extension-sqlite')}",
        command=(str(node.binary), str(peers / "hocuspocus-sqlite.mjs")),
        keeps=True,
        only=WITH_STORAGE,
    )


def pycrdt_websocket(python: Path, peers: Path) -> Server:
    """pycrdt-websocket on uvicorn, in memory. It drops clients that open a new room at once, so one comes before."""
    command = (str(python), str(peers / "pycrdt_websocket_server.py"))
    versions = install.python_peer_version("pycrdt-websocket"), install.python_peer_version("uvicorn")
    started = Server("pycrdt-websocket", ", ".join(versions), "yws", "/", command, "PORT", ready_path=None)
    return replace(started, first_alone=True)


def collab_nodes(name: str) -> Server:
    """Two nodes of this checkout with their defaults, on one PostgreSQL and one Redis."""
    shared = {"postgres": "COLLAB_DATABASE", "redis": "COLLAB_REDIS"}
    return replace(
        collab(None),
        name=name,
        version="this checkout, two nodes",
        environment={"COLLAB_MIGRATE": "true"},
        nodes=2,
        services=shared,
    )


def hocuspocus_nodes(node: Node, peers: Path) -> Server:
    """Two Hocuspocus servers with the Redis extension, in memory."""
    return replace(
        hocuspocus(node, peers),
        version=f"{install.peer_version('@hocuspocus/server')}, {install.peer_version('@hocuspocus/extension-redis')}",
        command=(str(node.binary), str(peers / "hocuspocus-redis.mjs")),
        nodes=2,
        services={"redis": "REDIS_URL"},
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server runs: the folder of each node and what they share, from one start of it to the next."""

    server: Server
    cores: Cores
    folders: tuple[Path, ...]
    services: tuple[Service, ...]

    @contextlib.contextmanager
    def running(self, *, settle_s: float = SETTLE_S) -> Iterator[Running]:
        """The server, every node on its core, and ended afterwards. Raises `ServerFailed`."""
        addresses = {self.server.services[service.name]: service.url for service in self.services}
        with contextlib.ExitStack() as stack:
            nodes = [
                stack.enter_context(_node(self.server, number, folder, self.cores.server, addresses))
                for number, folder in enumerate(self.folders, 1)
            ]
            time.sleep(settle_s)
            pids, ports = zip(*nodes, strict=True)
            yield Running(self.server, pids, ports, self.services)


@contextlib.contextmanager
def place(server: Server, cores: Cores) -> Iterator[Place]:
    """An empty folder for each node, and empty services; all of it is gone afterwards. Raises `ServerFailed`."""
    with contextlib.ExitStack() as stack:
        shared = tuple(stack.enter_context(services.started(name, cores)) for name in server.services)
        prefix = f"benchmark-{server.name}-"
        folders = tuple(
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)))
            for _ in range(server.nodes)
        )
        yield Place(server, cores, folders, shared)


@contextlib.contextmanager
def _node(
    server: Server, number: int, directory: Path, core: int, addresses: Mapping[str, str]
) -> Iterator[tuple[int, int]]:
    """One node of it: its process and its port."""
    port = services.free_port()
    chosen = {**server.environment, **addresses, "BENCHMARK_NODE": str(number)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COLLAB_")}
    environment = {**inherited, **chosen, server.port_variable: str(port)}
    with (directory / "output.log").open("wb") as log:
        process = subprocess.Popen(
            server.command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: _settle_in(core),
        )
    try:
        _wait_until_ready(server, process, port, directory)
        yield process.pid, port
    finally:
        _stop(process)


def _settle_in(core: int) -> None:
    os.sched_setaffinity(0, {core})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailed(f"{server.name} ended at its start and printed:\n{_last_lines(directory)}")
        try:
            if server.ready_path is None:
                socket.create_connection(("127.0.0.1", port), timeout=2).close()
            else:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{server.ready_path}", timeout=2).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
        else:
            return
    raise ServerFailed(f"{server.name} was not ready in {START_TIMEOUT_S:.0f} s and printed:\n{_last_lines(directory)}")


def _last_lines(directory: Path) -> str:
    return "\n".join((directory / "output.log").read_text(errors="replace").splitlines()[-20:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError):  # whatever the server left behind in its session
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
