"""An asyncio event loop on virtual time, which knows whose handle it runs.

Nothing here reads a clock, a socket or a thread: when nothing is ready, time jumps to the next timer. A simulated
process is an `Owner`; whatever it schedules carries its name in a context variable, so that a crash is simply that
none of its handles runs any more (not even a ``finally``), and a pause that they wait.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

MAX_EVENTS = 400_000
"""Handles one history may run: a livelock ends as a failing seed, not as a test that hangs."""

T = TypeVar("T")


class Owner:
    """One life of a simulated process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.paused = False
        self.context = copy_context()
        self.context.run(_OWNER.set, self)
        self._deferred: list[asyncio.Handle] = []

    def defer(self, handle: asyncio.Handle) -> None:
        """Keep ``handle`` until the process goes on."""
        self._deferred.append(handle)

    def take_deferred(self) -> list[asyncio.Handle]:
        """What was kept, in the order in which it would have run."""
        deferred, self._deferred = self._deferred, []
        return deferred


_OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


class _OwnedHandle(asyncio.Handle):
    def _run(self) -> None:
        if _may_run(self):
            super()._run()


class _OwnedTimer(asyncio.TimerHandle):
    def _run(self) -> None:
        if _may_run(self):
            super()._run()


def _may_run(handle: Any) -> bool:
    owner = handle._context.get(_OWNER)
    if owner is None:
        return True
    if owner.paused and not owner.dead:
        owner.defer(handle)
        return False
    return not owner.dead


class Deadlock(Exception):
    """Nothing is left that could ever happen, or far too much happens."""


class _Selector:
    """Stands where asyncio waits for sockets: waiting is moving the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock("nothing is scheduled and nobody will wake anybody")
        self._loop.advance(timeout)
        return []


class VirtualLoop(asyncio.base_events.BaseEventLoop):
    """The loop of one history; close it with `dispose`."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual_now = 0.0
        self._selector = _Selector(self)
        self.events = 0
        """Turns of the loop so far."""
        self._tasks: list[tuple[asyncio.Task[Any], Owner | None]] = []
        """Every task ever made: one that a crash cut off must not be collected, which would run its ``finally``."""
        self.reported: list[str] = []
        """What reached the exception handler."""
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._report)

    def time(self) -> float:
        """Virtual seconds since the beginning."""
        return self._virtual_now

    def advance(self, seconds: float) -> None:
        """Let time pass, and count a turn."""
        self._virtual_now += seconds
        self.events += 1
        if self.events > MAX_EVENTS:
            raise Deadlock(f"more than {MAX_EVENTS} turns of the event loop")

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """See `asyncio.AbstractEventLoop.call_soon`."""
        handle = _OwnedHandle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See `asyncio.AbstractEventLoop.call_at`."""
        timer = _OwnedTimer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def resume(self, owner: Owner) -> None:
        """Run what waited while ``owner`` was paused, before anything newer."""
        owner.paused = False
        for handle in owner.take_deferred():
            if not handle.cancelled():
                self._ready.append(handle)  # type: ignore[attr-defined]

    def unfinished(self, owner: Owner) -> list[str]:
        """Names of the tasks ``owner`` began and has not ended."""
        return [task.get_name() for task, began in self._tasks if began is owner and not task.done()]

    def dispose(self) -> list[str]:
        """Close; return what tasks of the living failed with and nobody looked at."""
        self.set_exception_handler(lambda _loop, _context: None)
        failed = []
        for task, owner in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with suppress(BaseException):
                    task.get_coro().close()
            elif not task.cancelled() and task._log_traceback and not (owner and owner.dead):
                failed.append(f"task {task.get_name()} failed and nobody looked: {task.exception()!r}")
        self._tasks.clear()
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        self.close()
        return failed

    def _make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        context: Context | None = options.get("context")
        self._tasks.append((task, _OWNER.get() if context is None else context.get(_OWNER)))
        return task

    def _report(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.reported.append(f"{context.get('message')}: {error!r}")

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never really waits, such as a method of the memory store."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waited")
