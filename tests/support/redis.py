"""A private Redis for tests: its own folder, port and password, never the machine's service.

The binary comes from PATH. A module that wants the fixtures imports them by name: `redis_server` (one per test run,
for who does it no harm) and `own_redis` (one per test, may be killed, paused and restarted).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import hiredis
import pytest

from tests.support.ports import free_port

PASSWORD = "p@ss:w%rd/" + secrets.token_hex(4)  # awkward on purpose: it has to survive URLs and stay out of logs
START_TIMEOUT_S = 30


class RedisServer:
    """One server process. ``start`` first, ``close`` last; everything between may fail on purpose."""

    def __init__(self) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise RuntimeError("no redis-server found")
        self._binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """A plain URL, as a user would write it."""
        return f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, empty, and return when it answers."""
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "requirepass": PASSWORD,
            "save": "",
            "appendonly": "no",
        }
        with (self.folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                [self._binary, *(word for name, value in options.items() for word in (f"--{name}", str(value)))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError):
                self.run("PING")
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"redis-server does not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def run(self, *words: str | bytes) -> object:
        """Run one command on a connection of its own and return what Redis answers. Raises `OSError`."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            reader = hiredis.Reader(replyError=RuntimeError)
            answers: list[object] = []
            connection.sendall(hiredis.pack_command(("AUTH", PASSWORD)) + hiredis.pack_command(words))  # type: ignore[arg-type]
            while len(answers) < 2:
                if not (data := connection.recv(65536)):
                    raise ConnectionError("Redis closed the connection")
                reader.feed(data)
                while (answer := reader.gets()) is not False:
                    answers.append(answer)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers[1]

    def close(self) -> None:
        """Stop for good and remove every file."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)


@functools.cache
def shared_server() -> RedisServer:
    """One server per test process, started at first use and ended with the process."""
    server = RedisServer()
    atexit.register(server.close)
    server.start()
    return server


def _need_redis() -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on this machine")


@pytest.fixture(scope="session")
def redis_server() -> RedisServer:
    """A running server shared by the test run; nobody stops it."""
    _need_redis()
    return shared_server()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A running server of this test's own."""
    _need_redis()
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.close()
