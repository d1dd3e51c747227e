"""The servers that are measured, each started as its own documentation says, on a core of its own.

A server is a command and its dialect. It gets an empty working directory, one port on loopback and one core; what it
starts itself inherits the core.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import install

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.install import Node

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
SETTLE_S = 1.0
"""Between being ready and being measured: what a server does once at its start is not its cost."""


class ServerFailed(Exception):
    """A server that did not start, or ended by itself; the message says which and what it printed last."""


@dataclass(frozen=True, slots=True)
class Server:
    """How one server is started and reached. `port_variable` names the environment variable of its port."""

    name: str
    version: str
    dialect: str
    path: str
    command: tuple[str, ...]
    port_variable: str
    ready_path: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    server: Server
    pid: int
    port: int


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


@contextlib.contextmanager
def running(server: Server, core: int) -> Iterator[Running]:
    """The server, started in an empty directory on that core, and ended afterwards. Raises `ServerFailed`."""
    directory = Path(tempfile.mkdtemp(prefix=f"benchmark-{server.name}-"))
    port = _free_port()
    environment = {**os.environ, **server.environment, server.port_variable: str(port)}
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
        yield Running(server, process.pid, port)
    finally:
        _stop(process)
        shutil.rmtree(directory, ignore_errors=True)


def _settle_in(core: int) -> None:
    os.sched_setaffinity(0, {core})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
