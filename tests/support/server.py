"""A real `collab serve` in processes of its own, for tests that kill, stop and restart it.

`RunningServer.start` listens on a free loopback port and returns when `/readyz` answers 200; its `/livez` answers
from then on until `kill` (SIGKILL to the whole group, no goodbye) or `terminate` (SIGTERM, drains). A restart keeps
port, database and arguments, so clients come back to the same place. What the server said is in `log`.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support import issued
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NO_RATES = {"COLLAB_MESSAGES_PER_S": "0", "COLLAB_BYTES_PER_S": "0"}
"""Settings of a server whose clients are driven harder than people drive theirs, to find out something else."""
START_WITHIN_S = 60.0
"""A guess with room: a cold start on a busy machine took a few seconds."""
STOP_WITHIN_S = 40.0
"""Longer than the server's own drain timeout."""
POLL_S = 0.05


class RunningServer:
    """One node, started by `start`; a context manager that kills it at the end."""

    def __init__(self, args: Sequence[str], env: Mapping[str, str], port: int, log: Path) -> None:
        self._args = tuple(args)
        self._env = dict(env)
        self.port = port
        self.log = log
        issued.log(log)
        issued.settings(self._env)
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        *args: str,
        database: str | None = None,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        log: Path | None = None,
    ) -> Self:
        """Start `collab serve` with further ``args`` and wait until it is ready.

        ``database`` is the value of `--database`; without it, and without one in ``args`` or ``env``, a new SQLite file
        in a temporary folder is used. ``env`` is laid over this process's environment, from which every `COLLAB_`
        variable is removed first. Raises `RuntimeError` with the server's own words when it does not become ready.
        """
        clean = {key: value for key, value in os.environ.items() if not key.startswith("COLLAB_")}
        given = dict(env or {})
        if database is None and "--database" not in args and "COLLAB_DATABASE" not in given:
            database = f"sqlite:///{Path(tempfile.mkdtemp(prefix='collab-test-')) / 'collab.db'}"
        if database is not None:
            args = (*args, "--database", database)
            issued.settings({"COLLAB_DATABASE": database})
        if log is None:
            descriptor, path = tempfile.mkstemp(prefix="collab-test-", suffix=".log")
            os.close(descriptor)
            log = Path(path)
        server = cls(args, {**clean, **given}, port or free_port(), log)
        server.launch()
        return server

    @property
    def url(self) -> str:
        """Where REST and the page are, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """What a y-websocket provider takes as its server, without a slash at the end."""
        return f"ws://127.0.0.1:{self.port}/yjs"

    @property
    def pid(self) -> int:
        """The gateway's process id; it is also the id of the group its engines are in."""
        return self._running().pid

    @property
    def output(self) -> str:
        """Everything the server wrote so far, over all its starts."""
        return self.log.read_text(errors="replace")

    def launch(self) -> None:
        """Start the process and wait for `/readyz`. Only after `kill`, `terminate` or `wait`."""
        if self._process is not None:
            raise RuntimeError("this server is running")
        command = [*_collab(), "serve", "--host", "127.0.0.1", "--port", str(self.port), *self._args]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._wait_ready()

    def kill(self) -> None:
        """SIGKILL to the gateway and its engines at once; returns when the gateway is gone."""
        process, self._process = self._running(), None
        _kill_group(process.pid)
        process.wait()

    def kill_gateway(self) -> None:
        """SIGKILL to the gateway alone; its engines must find out by themselves."""
        process, self._process = self._running(), None
        process.kill()
        process.wait()

    def terminate(self) -> int:
        """SIGTERM, wait for the drain, return the exit status. One that hangs is killed and `TimeoutExpired` raised."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_WITHIN_S)
        finally:
            self._process = None
            _kill_group(process.pid)

    def restart(self) -> None:
        """Kill when running, then start again on the same port with the same arguments."""
        if self._process is not None:
            self.kill()
        self.launch()

    def stop(self) -> None:
        """Kill whatever is left; may be called at any time."""
        if self._process is not None:
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this server is not running")
        return self._process

    def _wait_ready(self) -> None:
        process, until = self._running(), time.monotonic() + START_WITHIN_S
        while not _answers(f"{self.url}/readyz"):
            if (status := process.poll()) is not None or time.monotonic() > until:
                self.stop()
                why = "did not become ready" if status is None else f"exited with {status}"
                raise RuntimeError(f"collab serve {why}:\n{self.output[-4000:]}")
            time.sleep(POLL_S)


def _collab() -> list[str]:
    """The command of this checkout, started the way its users start it when it is installed."""
    installed = Path(sys.executable).parent / "collab"
    return [str(installed)] if installed.exists() else [sys.executable, "-c", "from collab.cli import main; main()"]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (OSError, http.client.HTTPException, urllib.error.URLError):
        return False


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
