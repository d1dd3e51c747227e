"""One engine process at a time, and the calls it owes an answer: batching, deadline, death and replacement.

All calls of one event-loop turn go out in one write. When the process dies its mark tells which call it was working
on; that one is blamed, the others are only lost. `isolated` owns the lanes and decides who runs where.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from collab.engine.process import Counters, EngineProcess, Mark, Nursery
from collab.engine.wire import NO_CALL, Answer, BrokenAnswer, Op, frame, read_answer, read_call_id
from collab.errors import CollabError, EngineDied

SECONDS_PER_MIB = 1.0
"""Added to a call's deadline for every MiB it carries. Guessed: loading text takes a tenth of it on an idle core."""

GATHER_S = 0.001
"""Seconds between two batches. A lone call goes at once; calls that follow on one another's heels share a trip, which
costs two processes a wake-up each: an eighth of a busy node's time (measured, benchmark B)."""

WATCHES_PER_DEADLINE = 8
"""How often the mark is looked at; a call is killed at most two eighths late."""

PATIENCE = 5
"""A deadline is in seconds of the child's own CPU, so that a busy machine kills no innocent; a child that does not
even run gets this many times as long on the clock."""

MAX_BACKOFF_S = 5.0
FIRST_BACKOFF_S = 0.1
"""Between attempts to start processes that die before they are ready."""


_CHANGING = (Op.LOAD, Op.INTEGRATE)
"""Done even when nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class _Glance:
    """What the watch saw of a child."""

    call: int
    answers: int
    cpu_s: float
    at: float


class LaneDied(EngineDied):
    """The process died with this call; ``blamed`` when it was the one being worked on."""

    def __init__(self, reason: str, *, culprit: int | None = None, blamed: bool = False) -> None:
        super().__init__(reason, culprit=culprit)
        self.blamed = blamed


@dataclass(eq=False, slots=True)
class Call:
    """Something asked of the engine."""

    op: Op
    document: str
    updates: Sequence[bytes]
    """What it carries; indexes in the answer count in it."""
    size: int
    """Bytes it carries."""
    fields: list[object]
    answer: asyncio.Future[Any] | None = None
    """Gets the answer, unless ``done`` is called with it."""
    done: Callable[[Any], None] | None = None


class Lane:
    """Keeps one engine process busy and alive. ``on_death`` is told of the call to blame, if one is."""

    def __init__(
        self,
        name: str,
        nursery: Nursery,
        counters: Counters,
        *,
        deadline_s: float,
        nice: bool = False,
        on_death: Callable[[Lane, Call | None], None],
    ) -> None:
        self.name = name
        self._nursery = nursery
        self._counters = counters
        self._deadline_s = deadline_s
        self._nice = nice
        self._on_death = on_death
        self._process: EngineProcess | None = None
        self._starting: asyncio.Task[None] | None = None
        self._endings: set[asyncio.Task[None]] = set()
        self._unsent: list[Call] = []
        self._under_way: dict[int, Call] = {}
        self._last_id = 0
        self._flush: asyncio.Handle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._answers = 0
        self._seen: _Glance | None = None
        self._expired: Mark | None = None
        self._failed_starts = 0
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sent_at = 0.0

    @property
    def pid(self) -> int | None:
        """Process id of the child in charge, if there is one."""
        return None if self._process is None else self._process.pid

    @property
    def idle(self) -> bool:
        """Whether no call waits for an answer."""
        return not self._unsent and not self._under_way

    async def start(self) -> None:
        """Have a process ready. Raises `EngineDied`."""
        if self._process is None:
            self._begin_start()
        if self._starting is not None:
            await asyncio.shield(self._starting)
        if self._process is None:
            raise EngineDied("engine process does not start")

    def submit(self, op: Op, document: str, updates: Sequence[bytes], *fields: object) -> asyncio.Future[Any]:
        """Queue a call for this turn's batch. The future gives its answer, or raises what the call raises."""
        if self._closed:
            raise EngineDied("engine is closed")
        answer: asyncio.Future[Any] = self._running_loop().create_future()
        self._queue(Call(op, document, updates, sum(map(len, updates)), [op, *fields], answer))
        return answer

    def submit_for(self, done: Callable[[Any], None], call: Call) -> None:
        """Queue a call that somebody is told the answer of, or the error, without a future in between."""
        call.done = done
        if self._closed:
            self._running_loop().call_soon(done, EngineDied("engine is closed"))
        else:
            self._queue(call)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # asked once: it costs a system call on Python 3.11
        return self._loop

    def _queue(self, call: Call) -> None:
        loop = self._running_loop()
        self._unsent.append(call)
        if self._flush is None and not self._under_way:
            rest = self._sent_at + GATHER_S - loop.time()
            self._flush = loop.call_later(rest, self._send) if rest > 0 else loop.call_soon(self._send)

    def retire(self) -> None:
        """End an idle process; the next call starts another."""
        process, self._process = self._process, None
        if process is not None:
            self._end(process.close())

    async def close(self) -> None:
        """End the process for good. Calls under way raise `EngineDied`."""
        self._closed = True
        starting = self._starting
        if starting is not None:
            starting.cancel()
            await asyncio.wait([starting])
        self.retire()
        self._fail_all("engine was closed", Mark(NO_CALL))
        if self._endings:
            await asyncio.wait(self._endings)

    def _end(self, ending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(ending, name=f"engine {self.name} end")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    def _send(self) -> None:
        self._flush = None
        if self._process is None:
            self._begin_start()
            return
        if self._under_way:
            return  # while the child works, calls gather: they go out together when its answers come
        calls, self._unsent = self._unsent, []
        batch = []
        for call in calls:
            if call.answer is not None and call.answer.cancelled() and call.op not in _CHANGING:
                continue
            self._last_id += 1
            self._under_way[self._last_id] = call
            batch.append([self._last_id, call.size, *call.fields])
        if batch:
            self._counters.batches += 1
            self._counters.calls += len(batch)
            self._process.write(frame(batch))
            if self._loop is not None:
                self._sent_at = self._loop.time()
            self._start_watch()

    def _receive(self, answers: list[Any]) -> None:
        for fields in answers:
            number = read_call_id(fields)
            if number == NO_CALL:
                continue
            call = self._under_way.get(number)
            if call is None:
                raise BrokenAnswer("answer to no call")
            answer = read_answer(call.op, call.updates, fields)
            del self._under_way[number]
            self._answers += 1
            _resolve(call, answer)
        if self._unsent and not self._under_way:
            self._send()

    # Life and death

    def _begin_start(self) -> None:
        if self._starting is None and not self._closed:
            self._starting = asyncio.create_task(self._take_process(), name=f"engine {self.name} start")

    async def _take_process(self) -> None:
        try:
            if self._failed_starts:
                await asyncio.sleep(min(FIRST_BACKOFF_S * 2.0**self._failed_starts, MAX_BACKOFF_S))
            process = await self._nursery.take()
        except EngineDied as error:
            self._failed_starts += 1
            self._fail_all(str(error), Mark(NO_CALL))
            return
        finally:
            self._starting = None
        self._failed_starts = 0
        process.on_answers, process.on_lost = self._receive, self._lost
        self._process = process
        if self._nice:
            process.write(frame([[NO_CALL, 0, Op.LOWER_PRIORITY]]))
        self._send()

    def _lost(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._counters.restarts += 1
        mark, self._expired = self._expired or process.mark(), None
        self._end(process.reap())
        self._begin_start()
        blamed = self._under_way.get(mark.call)
        self._on_death(self, blamed)
        self._fail_all("engine process died", mark)

    def _fail_all(self, reason: str, mark: Mark) -> None:
        under_way, self._under_way = self._under_way, {}
        unsent, self._unsent = self._unsent, []
        for number, call in under_way.items():
            blamed = number == mark.call
            culprit = mark.update if blamed and mark.update is not None and mark.update < len(call.updates) else None
            _resolve(call, LaneDied(reason, culprit=culprit, blamed=blamed))
        for call in unsent:
            _resolve(call, LaneDied(reason))

    # Deadline

    def _start_watch(self) -> None:
        if self._watch is None:
            self._seen = None
            self._watch_on()

    def _watch_on(self) -> None:
        self._watch = asyncio.get_running_loop().call_later(self._deadline_s / WATCHES_PER_DEADLINE, self._look)

    def _look(self) -> None:
        """Kill the child when neither its mark nor its answers have moved for too long."""
        self._watch = None
        process = self._process
        if process is None or not self._under_way:
            return
        mark = process.mark()
        seen = _Glance(mark.call, self._answers, process.cpu_s(), asyncio.get_running_loop().time())
        before = self._seen
        if before is None or (before.call, before.answers) != (seen.call, seen.answers):
            self._seen = seen
        else:
            limit_s = self._deadline_s + SECONDS_PER_MIB * self._size_of(mark) / (1 << 20)
            if seen.cpu_s - before.cpu_s > limit_s or seen.at - before.at > limit_s * PATIENCE:
                self._counters.deadline_kills += 1
                self._expired = mark
                process.kill()
                return
        self._watch_on()

    def _size_of(self, mark: Mark) -> int:
        """Bytes being worked on; while the child is between calls, all it was given (it may be reading them)."""
        call = self._under_way.get(mark.call)
        return call.size if call is not None else sum(call.size for call in self._under_way.values())


def _resolve(call: Call, answer: Answer | CollabError) -> None:
    if call.done is not None:
        call.done(answer)
        return
    if call.answer is None or call.answer.done():  # the caller was cancelled
        return
    if isinstance(answer, CollabError):
        call.answer.set_exception(answer)
        call.answer.exception()  # looked at, so that asyncio does not report a call nobody waits for any more
    else:
        call.answer.set_result(answer)
