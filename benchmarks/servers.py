"""The servers that are measured, each started as its own documentation says, on a core of its own.

A server is a command and its dialect. It gets an empty working directory, one port on loopback and one core; what it
starts itself inherits the core. A server of several nodes is the same command several times, all on that one core, with
what they share beside them.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
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

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
SETTLE_S = 1.0
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
    ready_path: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)
    nodes: int = 1
    services: Mapping[str, str] = field(default_factory=dict)
    """What the nodes share (see `services`), and the environment variable that gets its URL."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers: the process and the port of each node, and what they share."""

    server: Server
    pids: tuple[int, ...]
    ports: tuple[int, ...]
    services: tuple[Service, ...] = ()


def collab(database: str | None) -> Server:
    """This checkout's collab with its defaults: isolated engine, SQLite, every acknowledged update on disk."""
    binary = Path(sys.executable).parent / "collab"
    if not binary.exists():
        raise ServerFailed(
            f"There is no {binary}: install this checkout into the environment that runs the benchmarks."
        )
    chosen = {"COLLAB_DATABASE": database, "COLLAB_MIGRATE": "true"} if database else {}
    kept = "PostgreSQL" if database else "SQLite"
    return Server(
        "collab", f"this checkout, {kept}", "yws", "/yjs/", (str(binary), "serve"), "COLLAB_PORT", "/readyz", chosen
    )


def yws(node: Node, peers: Path) -> Server:
    """The reference server of y-websocket, in memory, as its package's `y-websocket` command starts it."""
    script = peers / "node_modules/@y/websocket-server/src/server.js"
    chosen = {"HOST": "127.0.0.1"}
    version = install.peer_version("@y/websocket-server")
    return Server("yws", version, "yws", "/", (str(node.binary), str(script)), "PORT", "/", chosen)


def hocuspocus(node: Node, peers: Path) -> Server:
    """Hocuspocus without extensions, in memory."""
    command = (str(node.binary), str(peers / "hocuspocus.mjs"))
    return Server("hocuspocus", install.peer_version("@hocuspocus/server"), "hocuspocus", "/", command, "PORT")


def collab_nodes() -> Server:
    """Two nodes of this checkout with their defaults, on one PostgreSQL and one Redis."""
    shared = {"postgres": "COLLAB_DATABASE", "redis": "COLLAB_REDIS"}
    return replace(
        collab(None),
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


@contextlib.contextmanager
def running(server: Server, cores: Cores) -> Iterator[Running]:
    """The server, every node in an empty directory, on its core, and ended afterwards. Raises `ServerFailed`."""
    with contextlib.ExitStack() as stack:
        shared = {name: stack.enter_context(services.started(name, cores)) for name in server.services}
        addresses = {server.services[name]: service.url for name, service in shared.items()}
        nodes = [stack.enter_context(_node(server, number, cores.server, addresses)) for number in range(server.nodes)]
        pids, ports = zip(*nodes, strict=True)
        yield Running(server, pids, ports, tuple(shared.values()))


@contextlib.contextmanager
def _node(server: Server, number: int, core: int, addresses: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """One node of it: its process and its port."""
    directory = Path(tempfile.mkdtemp(prefix=f"benchmark-{server.name}-"))
    port = services.free_port()
    chosen = {**server.environment, **addresses, "BENCHMARK_NODE": str(number + 1)}
    environment = {**os.environ, **chosen, server.port_variable: str(port)}
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
        shutil.rmtree(directory, ignore_errors=True)


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
            urllib.request.urlopen(f"http://127.0.0.1:{port}{server.ready_path}", timeout=2).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
        else:
            time.sleep(SETTLE_S)
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
