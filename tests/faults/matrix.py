"""The fault matrix: what a row is, how rows are run one after another, and the table that comes of it.

A row is an async function marked with `fault`. It is given a `Run`, starts its cluster with `Run.loaded` (which ends
with the common checks C1 to C9), makes its fault, and says what it measured and what was wrong. A row whose fault
cannot be made on this machine raises `NotRun` with the reason; it never passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

from tests.faults import verdict
from tests.faults.load import Load, shown, spread
from tests.support.clients import StockClients
from tests.support.cluster import Cluster

CONVERGES_WITHIN_S = 5.0
"""Promise P3; 10 s after an outage of Redis."""
NODE_ENV = {"COLLAB_UNLOAD_AFTER_S": "2"}
"""So that what is left behind shows soon."""
State = Literal["passed", "FAILED", "not run"]


class NotRun(Exception):
    """This fault cannot be made here; the text says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the matrix."""

    id: str
    what: str
    passes: str
    """The criterion, in words."""
    rounds: int
    """How often it is made, unless asked otherwise."""
    act: Callable[[Run], Awaitable[None]]


@dataclass(slots=True)
class Outcome:
    """What came of a row."""

    fault: Fault
    state: State
    n: int
    seconds: float
    measured: dict[str, str]
    problems: list[str]


ROWS: dict[str, Fault] = {}


def fault(
    name: str, what: str, passes: str, *, rounds: int = 1
) -> Callable[[Callable[[Run], Awaitable[None]]], Callable[[Run], Awaitable[None]]]:
    """Make the function a row of the matrix."""

    def add(act: Callable[[Run], Awaitable[None]]) -> Callable[[Run], Awaitable[None]]:
        assert name not in ROWS, name
        ROWS[name] = Fault(name, what, passes, rounds, act)
        return act

    return add


@dataclass(slots=True)
class Run:
    """One run of one row."""

    oracle: StockClients
    rng: Random
    rounds: int
    short: bool
    """Whether outages are shortened, so that ten rows fit into a few minutes."""
    patience: float = 1.0
    """Bounds of time are this much wider; above 1 where the machine is shared with other work."""
    measured: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    done: int = 0
    """Faults made so far."""
    kept_logs: Path | None = None
    memory_slack_bytes: int = verdict.MEMORY_SLACK_BYTES
    """What a node may keep beyond ten percent; a row that moves large documents says more, and why."""

    def seconds(self, long: float, short: float) -> float:
        """How long an outage is to be."""
        return short if self.short else long

    def measure(self, **figures: object) -> None:
        """Note figures; floats are seconds, lists of floats are given as p50 / p99 / largest."""
        for name, value in figures.items():
            if isinstance(value, list):
                said = spread(value)
            else:
                said = shown(value) if isinstance(value, float) else str(value)
            self.measured[name.replace("_", " ")] = said

    def require(self, holds: object, otherwise: str) -> None:
        """Note a problem unless ``holds``."""
        if not holds:
            self.problems.append(otherwise)

    def within(self, seconds: float, bound: float, what: str) -> None:
        """Require ``seconds`` not to be above ``bound``."""
        self.require(seconds <= bound * self.patience, f"{what}: {shown(seconds)}, at most {shown(bound)} is allowed")

    @contextlib.asynccontextmanager
    async def cluster(self, *, env: Mapping[str, str] | None = None, **options: Any) -> AsyncIterator[Cluster]:
        """A fresh cluster; its logs are kept when something is wrong, and may hold no traceback."""
        async with Cluster.running(env={**NODE_ENV, **(env or {})}, **options) as cluster:
            try:
                yield cluster
                self.problems += verdict.tracebacks(cluster.nodes)
            except BaseException:
                self._keep_logs(cluster)
                raise
            if self.problems:
                self._keep_logs(cluster)

    @contextlib.asynccontextmanager
    async def loaded(
        self,
        *,
        nodes: int = 2,
        env: Mapping[str, str] | None = None,
        within_s: float = CONVERGES_WITHIN_S,
        cluster: Mapping[str, Any] | None = None,
        **load: Any,
    ) -> AsyncIterator[tuple[Cluster, Load]]:
        """A fresh cluster under the common load; at the end of the block the load stops and everything is checked.

        The block ends when its last fault is over: from then on ``within_s`` counts. ``cluster`` has further options
        of `Cluster.running`, ``load`` of `Load`.
        """
        async with self.cluster(nodes=nodes, env=env, **(cluster or {})) as running:
            idle = verdict.Resources.of(running)
            async with contextlib.AsyncExitStack() as stack:
                everybody = Load(running, self.oracle, self.rng, **load)
                stack.push_async_callback(everybody.close)
                await everybody.begin()
                await asyncio.sleep(1.0)
                under_load = verdict.Resources.of(running)
                yield running, everybody
                await self._finish(everybody, within_s)
            problems, took = await verdict.resources_back(
                running, idle, under_load, memory_slack_bytes=self.memory_slack_bytes
            )
            self.problems += problems
            self.measure(idle_after=took)

    async def _finish(self, load: Load, within_s: float) -> None:
        healed = time.monotonic()
        await load.stop()
        await load.settled()
        await load.converged()
        converged = time.monotonic() - healed
        self.measure(converged=converged, presence_right_after=await load.present())
        self.within(converged, within_s, "C2: all clients equal")
        self.problems += await verdict.documents_right(load)
        honesty = await verdict.honest(load)
        self.problems += honesty.problems
        self.require(honesty.seen, "C9: no commit could be compared with its acknowledgement")
        if honesty.early_echoes:
            self.measure(early_echoes_after_a_reconnect=honesty.early_echoes)
        self.measure(acknowledged=load.acknowledged(), lost=sum("C1" in problem for problem in self.problems))
        self.measure(edit_to_saved=load.latencies())

    def _keep_logs(self, cluster: Cluster) -> None:
        self.kept_logs = Path(tempfile.mkdtemp(prefix="collab-fault-logs-"))
        for node in cluster.nodes:
            with contextlib.suppress(OSError, AssertionError):
                shutil.copy(node.server.log, self.kept_logs / f"node-{node.number}.log")


async def run_row(row: Fault, oracle: StockClients, *, seed: int, rounds: int, short: bool, patience: float) -> Outcome:
    """Run one row, whatever happens in it."""
    started = time.monotonic()
    run = Run(oracle, Random(f"{seed}:{row.id}"), rounds, short, patience)
    state: State = "passed"
    try:
        await row.act(run)
    except NotRun as reason:
        return Outcome(row, "not run", 0, time.monotonic() - started, {}, [str(reason)])
    except Exception as error:
        run.problems.append(f"{type(error).__name__}: {error}")
        traceback.print_exc()
    if run.problems:
        state = "FAILED"
        if run.kept_logs is not None:
            run.problems.append(f"the nodes' logs are in {run.kept_logs}")
    return Outcome(row, state, max(1, run.done), time.monotonic() - started, run.measured, run.problems)


def not_run(name: str, reason: str) -> Outcome:
    """What stands in the table for a row that nobody made."""

    async def never(_: Run) -> None:
        raise NotRun(reason)

    return Outcome(Fault(name, "", "", 0, never), "not run", 0, 0.0, {}, [reason])


def table(outcomes: list[Outcome]) -> str:
    """The summary, as Markdown."""
    lines = ["| id | fault | n | result | measured |", "|---|---|---|---|---|"]
    for one in outcomes:
        measured = "; ".join(f"{name} {value}" for name, value in one.measured.items())
        said = one.problems[0] if one.state == "not run" else measured
        if one.state == "FAILED":
            said = f"{len(one.problems)} problems: {_line(one.problems[0])}. {measured}"
        lines.append(f"| {one.fault.id} | {one.fault.what} | {one.n} | {one.state} | {said.replace('|', '/')} |")
    return "\n".join(lines)


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
