"""One engine process as its parent sees it: started bare, talked to over a socket pair, killed without regret.

What it is given: two descriptors, limits, and an environment without secrets. What it tells besides its answers: a
mark in shared memory that names the call and the update it is working on, readable after its death. `lane` uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from collab.engine.integrator import MAX_DOCUMENT_BYTES
from collab.engine.wire import MARK, MAX_ANSWER_BYTES, BrokenAnswer, FrameCutter, unframe
from collab.errors import EngineDied

START_TIMEOUT_S = 30.0
"""A process that has not said it is ready by then never will. Measured: 0.15 s on an idle machine."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "LANG", "LC_ALL")
"""All a child may know of our environment: what Python needs to start. Secrets live in the rest."""


@dataclass(slots=True)
class Counters:
    """What the isolated engine has done so far; metrics read it."""

    restarts: int = 0
    deadline_kills: int = 0
    batches: int = 0
    calls: int = 0
    bytes_out: int = 0
    """Written to engine processes."""
    bytes_in: int = 0
    """Read from them."""


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """How engine processes are started."""

    memory_bytes: int = 2 * 1024 * 1024 * 1024
    """Limit of address space (Linux), of which the working stack takes 512 MiB, a quarter at most."""
    max_document_bytes: int = MAX_DOCUMENT_BYTES
    command: tuple[str, ...] = ("-P", "-m", "collab.engine.child")
    """What Python is asked to run; tests put a child with a failpoint here."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a child was working on."""

    call: int
    """`wire.NO_CALL`: nothing."""
    update: int | None = None
    """Index of the update in the call."""


@dataclass(eq=False, slots=True)
class EngineProcess(asyncio.Protocol):
    """A running child. Its owner sets ``on_answers`` and ``on_lost``, and awaits `reap` once it is lost."""

    counters: Counters
    on_answers: Callable[[list[Any]], None] | None = None
    on_lost: Callable[[], None] | None = None
    lost: bool = False
    _popen: subprocess.Popen[bytes] = field(init=False)
    _memory: mmap.mmap = field(init=False)
    _transport: asyncio.Transport = field(init=False)
    _frames: FrameCutter = field(default_factory=lambda: FrameCutter(MAX_ANSWER_BYTES))
    _ready: asyncio.Future[None] = field(init=False)
    _gone: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def start(cls, options: ProcessOptions, counters: Counters) -> EngineProcess:
        """Start a child and wait until it is ready. Raises `EngineDied`."""
        process = cls(counters)
        loop = asyncio.get_running_loop()
        process._ready = loop.create_future()
        try:
            ours = process._open(options)
        except OSError as error:
            raise EngineDied(f"engine process does not start: {error.strerror}") from error
        try:
            await loop.create_unix_connection(lambda: process, sock=ours)
            async with asyncio.timeout(START_TIMEOUT_S):
                await process._ready
        except BaseException as error:
            await process.close()
            if isinstance(error, TimeoutError):
                raise EngineDied("engine process does not start") from error
            raise
        return process

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._popen.pid

    def write(self, data: bytes) -> None:
        """Send one frame."""
        self.counters.bytes_out += len(data)
        self._transport.write(data)

    def mark(self) -> Mark:
        """Say what the child works on, or worked on when it died."""
        call, update = MARK.unpack_from(self._memory)
        return Mark(call, update - 1 if update else None)

    def cpu_s(self) -> float:
        """Seconds of CPU the child has used so far; 0 where the system does not tell."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_bytes()
        except OSError:
            return 0.0
        user, system = stat.rpartition(b")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICKS_PER_S

    def kill(self) -> None:
        """End the child now; ``on_lost`` is called when its end of the socket is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._popen.kill()

    async def reap(self) -> None:
        """Wait for the end of a child that was killed or lost, and give back what it held."""
        await self._gone.wait()
        await asyncio.to_thread(self._popen.wait)
        self._memory.close()

    async def close(self) -> None:
        """Kill and reap; nobody is told."""
        self.on_answers = self.on_lost = None
        self.kill()
        await self.reap()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. Every complete frame goes to ``on_answers``; the first only says: ready."""
        self.counters.bytes_in += len(data)
        try:
            for body in self._frames.cut(data):
                answers = unframe(body)
                if not self._ready.done():
                    self._ready.set_result(None)
                elif self.on_answers is not None:
                    self.on_answers(answers)
        except BrokenAnswer:
            self.kill()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.lost = True
        self.kill()
        if not self._ready.done():
            self._ready.set_exception(EngineDied("engine process died while it started"))
        if self.on_lost is not None:
            self.on_lost()
        self._gone.set()

    def _open(self, options: ProcessOptions) -> socket.socket:
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs, tempfile.TemporaryFile() as shared:
                shared.truncate(MARK.size)
                self._memory = mmap.mmap(shared.fileno(), MARK.size)
                undo.callback(self._memory.close)
                self._popen = _start_child(options, theirs.fileno(), shared.fileno())
            ours.setblocking(False)
            undo.pop_all()
        return ours


def _start_child(options: ProcessOptions, socket_fd: int, mark_fd: int) -> subprocess.Popen[bytes]:
    arguments = {
        "socket": socket_fd,
        "mark": mark_fd,
        "parent": os.getpid(),
        "memory-bytes": options.memory_bytes,
        "max-document-bytes": options.max_document_bytes,
    }
    return subprocess.Popen(  # noqa: S603 - our own interpreter, numbers only
        [sys.executable, *options.command, *(f"--{name}={value}" for name, value in arguments.items())],
        stdin=subprocess.DEVNULL,
        pass_fds=(socket_fd, mark_fd),
        env=_bare_environment(),
        start_new_session=True,
    )


def _bare_environment() -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    importable = os.pathsep.join(path for path in sys.path if path)
    return {**passed, "PYTHONPATH": importable, "RUST_BACKTRACE": "0", "MALLOC_ARENA_MAX": "1"}


class Nursery:
    """Starts engine processes and keeps one warm, so that a lost one is replaced at once."""

    def __init__(self, options: ProcessOptions, counters: Counters, *, keep_warm: bool = True) -> None:
        self._options = options
        self._counters = counters
        self._keep_warm = keep_warm
        self._warm: asyncio.Task[EngineProcess] | None = None

    async def take(self) -> EngineProcess:
        """Hand over a ready process; its owner is the caller now. Raises `EngineDied`."""
        while True:
            warm, self._warm = self._warm, None
            process = await (warm or EngineProcess.start(self._options, self._counters))
            if self._keep_warm and self._warm is None:
                self._warm = asyncio.create_task(
                    EngineProcess.start(self._options, self._counters), name="engine spare"
                )
            if not process.lost:
                return process
            await process.reap()

    async def warm_pid(self) -> int:
        """Process id of the warm process, started if need be."""
        if self._warm is None:
            self._warm = asyncio.create_task(EngineProcess.start(self._options, self._counters), name="engine spare")
        return (await asyncio.shield(self._warm)).pid

    async def close(self) -> None:
        """End the warm process."""
        warm, self._warm = self._warm, None
        if warm is not None:
            warm.cancel()
            with contextlib.suppress(EngineDied, asyncio.CancelledError):
                await (await warm).close()
