"""The topology of docker-compose.yml as plain processes on this machine: `python3 deploy/local.py`.

PostgreSQL and Redis of its own (or those you name), nodes, and nginx with the very deploy/nginx.conf that ships. What
they say is shown with their names before it. One that ends is started again, as an orchestrator would; SIGHUP restarts
the nodes one after another; Ctrl-C or SIGTERM lets the nodes save everything and say goodbye before the rest goes.

This is a script of the checkout and not `collab cluster`: it looks for programs that are not Python's and borrows the
tests' PostgreSQL, and a package that is installed to run one node should do neither. Production has an orchestrator.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
COLLAB = (sys.executable, "-c", "from collab.cli import main; main()")
READY_WITHIN_S = 60.0
POLL_S = 0.05
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Before a process that ended is started again; doubled each time it does not become ready."""
NODE_GRACE_S = 40.0
"""As in docker-compose.yml."""
GRACE_S = 10.0
PR_SET_PDEATHSIG = 1
"""prctl(2): which signal a process gets when the one that started it dies."""
_LIBC = ctypes.CDLL(None)


class Service:
    """A process that is kept running from `start` to `stop`; ``ready`` is asked, in a thread, until it says yes."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        ready: Callable[[], bool],
        settings: Mapping[str, str] | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self.name = name
        self.ready = asyncio.Event()
        self.on_ready: Callable[[], None] = lambda: None
        self._command = tuple(command)
        self._settings = dict(settings or {})
        self._is_ready = ready
        self._grace_s = grace_s
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = self._worked = False
        self._pause_s = FIRST_PAUSE_S

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Return when it is ready. Raises `RuntimeError` when it ends before, or takes longer than a minute."""
        self._keeper = asyncio.create_task(self._keep(), name=self.name)
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait((self._keeper, ready), timeout=READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not self.ready.is_set():
            raise RuntimeError(f"{self.name} did not become ready; what it said stands above")

    async def restart(self) -> None:
        """Ask it to end, and return when it is ready again."""
        if self._process is not None and self.ready.is_set():
            self.ready.clear()
            self._process.terminate()
        await self.ready.wait()

    async def stop(self) -> None:
        """Ask it to end and wait; kill it when it takes longer than its grace."""
        self._stopping = True
        if self._keeper is None:
            return
        if self._process is not None:
            self._process.terminate()
        else:
            self._keeper.cancel()
        if not (await asyncio.wait((self._keeper,), timeout=self._grace_s))[0] and self._process is not None:
            say(self.name, f"did not end within {self._grace_s:g} s and is killed")
            self._process.kill()
            await asyncio.wait((self._keeper,))

    async def _keep(self) -> None:
        while True:
            status = await self._run()
            self.ready.clear()
            if self._stopping or not self._worked:  # what never worked will not work the second time
                say(self.name, f"ended with status {status}")
                return
            pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, LONGEST_PAUSE_S)
            say(self.name, f"ended with status {status}; starting it again in {pause_s:g} s")
            await asyncio.sleep(pause_s)

    async def _run(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env={**os.environ, **self._settings},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this script; it tells the others, in order
            preexec_fn=lambda: _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
        )
        self._process = process
        watch = asyncio.create_task(self._watch(), name=f"{self.name}: ready?")
        try:
            await self._show(process)
            return await process.wait()
        finally:
            self._process = None
            watch.cancel()

    async def _watch(self) -> None:
        while not await asyncio.to_thread(self._is_ready):  # noqa: ASYNC110 - another process sets no events
            await asyncio.sleep(POLL_S)
        self._worked, self._pause_s = True, FIRST_PAUSE_S
        self.ready.set()
        self.on_ready()

    async def _show(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for above
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than a log line should be
                continue
            if not line:
                return
            say(self.name, line.decode(errors="replace").rstrip())


class Cluster:
    """Everything that was asked for, from `up` to `down`."""

    def __init__(self, wanted: argparse.Namespace) -> None:
        self._wanted = wanted
        self._folder = Path(tempfile.mkdtemp(prefix="collab-local-"))
        self._folder.chmod(0o755)  # nginx's workers give up root
        self._stack = contextlib.AsyncExitStack()
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self.address = f"http://127.0.0.1:{wanted.port or free_port()}"
        self.nodes: dict[str, Service] = {}
        """By address."""

    async def up(self) -> None:
        """Start all of it, and say where it is. Raises `RuntimeError` with a sentence."""
        database = self._wanted.database or await self._own_postgres()
        redis = self._wanted.redis or await self._own_redis()
        settings = {"COLLAB_DATABASE": database, "COLLAB_REDIS": redis, "COLLAB_MIGRATE": "false"}
        await self._migrate(settings)
        ports = [self._wanted.port + n if self._wanted.port else free_port() for n in range(1, self._wanted.nodes + 1)]
        await self._add(self._nginx(ports))
        for number, port in enumerate(ports, start=1):
            address = f"http://127.0.0.1:{port}"
            command = (*COLLAB, "serve", "--host", "127.0.0.1", "--port", str(port))
            self.nodes[address] = Service(
                f"node{number}",
                command,
                ready=lambda url=f"{address}/readyz": answers(url),  # type: ignore[misc]
                settings=settings,
                grace_s=NODE_GRACE_S,
            )
        self._stack.push_async_callback(self._stop_nodes)
        await asyncio.gather(*(node.start() for node in self.nodes.values()))
        for address, node in self.nodes.items():
            node.on_ready = self._write_state
            say(node.name, f"is at {address}")
        self._write_state()
        say("local", f"open {self.address}/ - Ctrl-C stops everything")

    async def down(self) -> None:
        """Let the nodes go first, all at once, then nginx, Redis, PostgreSQL."""
        await self._stack.aclose()

    async def roll(self) -> None:
        """Restart the nodes one after another, each when the one before is ready."""
        for node in self.nodes.values():
            await node.restart()
        say("local", "every node has been restarted")

    async def _stop_nodes(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))

    async def _add(self, service: Service) -> None:
        self._stack.push_async_callback(service.stop)
        await service.start()

    async def _own_postgres(self) -> str:
        from tests.support.postgres import PostgresServer

        server = await asyncio.to_thread(PostgresServer)
        self._stack.push_async_callback(asyncio.to_thread, server.close)
        await asyncio.to_thread(server.start)
        say("postgres", f"is at 127.0.0.1:{server.port}; what is in it goes with it")
        return server.url()

    async def _own_redis(self) -> str:
        port = free_port()
        command = [found("redis-server"), *f"--port {port} --bind 127.0.0.1 --appendonly no".split(), "--save", ""]
        await self._add(Service("redis", [*command, "--dir", str(self._folder)], ready=lambda: listens(port)))
        return f"redis://127.0.0.1:{port}/0"

    async def _migrate(self, settings: Mapping[str, str]) -> None:
        process = await asyncio.create_subprocess_exec(*COLLAB, "migrate", env={**os.environ, **settings})
        if await process.wait():
            raise RuntimeError("the database could not be migrated; what was said stands above")

    def _nginx(self, ports: Sequence[int]) -> Service:
        nodes = [f"127.0.0.1:{port}" for port in ports]
        command = nginx_command(self._folder / "nginx", listen=self.address.removeprefix("http://"), nodes=nodes)
        return Service("nginx", command, ready=lambda: answers(f"{self.address}/-/healthy"))

    def _write_state(self) -> None:
        if self._wanted.state is None:
            return
        nodes = [{"name": node.name, "address": url, "pid": node.pid} for url, node in self.nodes.items()]
        partial = self._wanted.state.with_suffix(".partial")
        partial.write_text(json.dumps({"address": self.address, "nodes": nodes}))
        partial.replace(self._wanted.state)


def nginx_command(folder: Path, *, listen: str, nodes: Sequence[str], fail_timeout_s: float = 5) -> list[str]:
    """Put the shipped configuration into ``folder``, with these addresses, and say how nginx is run with it."""
    prefix, included = folder / "prefix", folder / "collab"
    prefix.mkdir(parents=True)
    included.mkdir()
    shutil.copy(ROOT / "deploy" / "nginx.conf", folder)
    for name in ("names.conf", "proxies.conf"):
        shutil.copy(ROOT / "deploy" / "nginx" / name, included)
    (included / "listen.conf").write_text(f"listen {listen};\n")
    for group, failing in {
        "sockets": "max_fails=0",
        "requests": f"max_fails=1 fail_timeout={fail_timeout_s:g}s",
    }.items():
        servers = "".join(f"server {node} {failing};\n" for node in nodes)
        (included / f"{group}.conf").write_text(servers)
    program = [found("nginx"), "-e", "stderr", "-p", str(prefix), "-c", str(folder / "nginx.conf")]
    return [*program, "-g", "daemon off;"]


def say(name: str, line: str) -> None:
    """One line on standard output, with the name of whoever says it."""
    sys.stdout.write(f"{name:<8} | {line}\n")
    sys.stdout.flush()


def answers(url: str) -> bool:
    """Whether it answers with a status below 300."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - our own address
            return bool(reply.status < 300)
    except (OSError, http.client.HTTPException, urllib.error.URLError):
        return False


def listens(port: int) -> bool:
    """Whether somebody accepts connections on this port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def found(program: str) -> str:
    """Where a program is. Raises `RuntimeError` with a sentence when it is nowhere."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise RuntimeError(f"there is no {program} on this machine; install it")
    return path


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="how many nodes (default 2)")
    parser.add_argument(
        "--port", type=int, default=8000, help="nginx's port; nodes take those after it; 0: any (default 8000)"
    )
    parser.add_argument("--database", metavar="URL", help="use this PostgreSQL instead of a private one")
    parser.add_argument("--redis", metavar="URL", help="use this Redis instead of a private one")
    parser.add_argument("--state", type=Path, metavar="FILE", help="keep addresses and process ids here, as JSON")
    return parser


async def run(wanted: argparse.Namespace) -> int:
    """Up, until told to stop, down; the exit status."""
    cluster = Cluster(wanted)
    stopped = asyncio.Event()
    rolls: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: rolls.append(asyncio.create_task(cluster.roll(), name="roll")))
    try:
        up = asyncio.create_task(cluster.up(), name="up")
        stop = asyncio.create_task(stopped.wait(), name="stop")
        await asyncio.wait((up, stop), return_when=asyncio.FIRST_COMPLETED)
        if up.done():
            up.result()
        else:
            up.cancel()
        await stop
    except RuntimeError as error:
        say("local", f"{error}.")
        return 1
    finally:
        for task in rolls:
            task.cancel()
        await cluster.down()
    return 0


def main() -> int:
    """Run in the checkout's environment, which `python3 tests` makes, when this Python has not what it takes."""
    if any(importlib.util.find_spec(name) is None for name in ("collab", "pytest")):
        python = ROOT / ".venv" / "bin" / "python"
        if not python.exists() or Path(sys.prefix) == ROOT / ".venv":
            sys.exit("Run `python3 tests --only lint` once: it makes .venv with all this needs.")
        os.execv(python, [str(python), __file__, *sys.argv[1:]])  # noqa: S606
    sys.path.insert(0, str(ROOT))
    wanted = options().parse_args()
    if wanted.nodes < 1:
        sys.exit("One node is the least.")
    return asyncio.run(run(wanted))


if __name__ == "__main__":
    sys.exit(main())
