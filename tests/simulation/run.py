"""Runs one history from its seed to its verdict."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from logging import WARNING
from math import isfinite
from typing import TYPE_CHECKING, Any

import structlog

from collab.bus.port import EVERYWHERE
from collab.node import compactor
from tests.simulation.faults import Faults
from tests.simulation.loop import Deadlock, VirtualLoop
from tests.simulation.plan import Plan, draw
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.client import Client
    from tests.simulation.history import History

SETTLES_WITHIN = 7.0
"""Seconds after the last fault in which everything must be equal, saved and seen. P3 says five; measured over 4,500
seeds: two took longer (5.75 at most), where only the log follower's second look could help."""
SETTLES_AFTER_LOSS_WITHIN = 10.0
"""The same when the bus was away, or when a node died that the others have yet to give up."""
QUIET_AFTER = 4.0
"""Seconds in which what was still under way when everything was settled has ended."""
STAYS_FOR = 1.0
"""Seconds it must stay so to count: the end of a fault may take a moment to be felt."""
LOOK_EVERY = 0.25
MOST_PROBLEMS = 6
"""Told of a history that does not settle; more would hide its events."""
EXPECTED_ERRORS = {"commit_failed", "drain_timed_out"}
"""Events at ERROR level that the faults of a history are meant to cause."""


@dataclass(slots=True)
class Outcome:
    """What became of one seed."""

    seed: int
    problems: list[str]
    settled_after: float
    """Seconds from the end of the faults until everything was as it must be."""
    bus_was_out: bool
    lasted: float
    digest: str
    counts: Mapping[str, int]
    lines: list[str] = field(default_factory=list)
    """The last events; only of a history that failed, or when asked for."""


def run_seed(seed: int, *, anti_entropy: bool = True, verbose: bool = False) -> Outcome:
    """Run the history of ``seed``."""
    return run(draw(seed, tuple(SCENARIOS), anti_entropy=anti_entropy), verbose=verbose)


def run(plan: Plan, *, verbose: bool = False) -> Outcome:
    """Run the history of ``plan``."""
    if plan.scenario is not None:
        SCENARIOS[plan.scenario].prepare(plan)
    loop = VirtualLoop()
    gc.disable()  # when the collector runs depends on what ran before; no history may
    try:
        world = World(plan, loop)
        with _logs_into(world.history), _patience():
            settled_after = _drive(world, loop)
    finally:
        gc.enable()
    history = world.history
    lines = list(history.lines(None if verbose else 400)) if history.problems or verbose else []
    return Outcome(
        plan.seed,
        history.problems,
        settled_after,
        world.bus_was_out,
        loop.time(),
        history.digest(),
        _counts(world),
        lines,
    )


def _drive(world: World, loop: VirtualLoop) -> float:
    history = world.history
    settled_after = SETTLES_WITHIN
    try:
        settled_after = loop.run_until_complete(_live(world))
    except Deadlock as error:
        history.wrong(f"the loop: {error}")
    finally:
        for problem in (*loop.dispose(), *loop.reported):
            history.wrong(f"escaped: {problem}")
    return settled_after


async def _live(world: World) -> float:
    """Edit and suffer, then mend and wait."""
    for node in world.nodes:
        node.start()
    for client in world.clients:
        client.start()
    _schedule_edits(world)
    faults = Faults(world)
    faults.begin()
    rest = world.loop.create_task(world.pass_time(world.plan.lasts), name="edits")
    if world.plan.scenario is not None:
        await SCENARIOS[world.plan.scenario].play(world, world.rng("scenario"))
    await rest
    faults.end()
    world.mend()
    settled_after = await _settle(world)
    if not world.history.problems and world.plan.seed % 3 == 0:
        await _wind_down(world)
    return settled_after


def _schedule_edits(world: World) -> None:
    plan, rng = world.plan, world.rng("traffic")
    moments = [rng.uniform(0.0, plan.lasts) for _ in range(max(1, plan.edits // (4 if plan.bursts else 1)))]
    for moment in moments:
        for step in range(4 if plan.bursts else 1):
            client = rng.choice(world.clients)
            world.later(moment + step * rng.uniform(0.0, 0.03), _edit, world, client)
            if rng.random() < 0.3:
                world.later(moment, client.move)
    for program in world.programs:
        world.later(rng.uniform(0.0, plan.lasts), program.write)


def _edit(world: World, client: Client) -> None:
    written = client.write()
    if written is not None and world.plan.shares_tabs and world.chance(0.5):
        others = [one for one in world.clients if one.document == client.document and one is not client]
        if others:
            world.later(world.delay(0.0, 0.1), others[world.roll(len(others))].overhear, written.update)


async def _settle(world: World) -> float:
    """Wait until everything is as it must be and stays so; how long it took."""
    mended = world.now
    lost = world.bus_was_out or mended - world.node_lost_at <= SETTLES_AFTER_LOSS_WITHIN
    within = SETTLES_AFTER_LOSS_WITHIN if lost else SETTLES_WITHIN
    moving = world.loop.create_task(_move_cursors(world), name="cursors")
    settled_at: float | None = None
    while settled_at is None or world.now - settled_at < STAYS_FOR:
        problem = next(world.checker.unsettled(), None)
        settled_at = (settled_at or world.now) if problem is None else None
        if problem is not None and world.now - mended >= within:
            for problem in islice(world.checker.unsettled(), MOST_PROBLEMS):
                world.history.wrong(problem)
            break
        await world.pass_time(LOOK_EVERY)
    if moving.done():
        moving.result()
    moving.cancel()
    return within if settled_at is None else settled_at - mended


async def _wind_down(world: World) -> None:
    """When nothing happens nodes have nothing to say; when everybody leaves nothing is kept; a drain leaves nothing."""
    history = world.history
    await world.pass_time(QUIET_AFTER)
    said = len(history.events)
    await world.pass_time(2 * world.plan.times.digest_every if isfinite(world.plan.times.digest_every) else 6.0)
    # A room that knows of no other asks everybody now and then, and one may find a hole in the numbers of before late.
    # Who speaks for a client that moved may differ until the client is heard again, within 15 s: a question a digest.
    asked = Counter((actor, event) for _, actor, event in history.events[said:] if "says ASK" in event)
    for (actor, event), times in asked.items():
        if times > 2 and "to None" not in event:
            history.wrong(f"nothing differs, and {actor} {event} {times} times")
    for client in world.clients:
        client.leave()
    await world.pass_time(world.plan.unload_after + 5.0)
    lives = [node.life for node in world.nodes if node.life is not None]
    for life in lives:
        if life.engine.held or life.bus.heard != [EVERYWHERE] or life.links:
            history.wrong(f"C7: {life.name} keeps {[*life.engine.held]} and hears {life.bus.heard}, with nobody there")
    world.mended = False
    for node in world.nodes:
        node.drain()
    if not await world.until(lambda: all(node.life is None for node in world.nodes), within=10.0):
        history.wrong("N7: a node with nothing to do did not drain")
    for life in lives:
        if left := world.loop.unfinished(life):
            history.wrong(f"C7: {life.name} has ended and left {left}")
    for document in world.plan.documents:
        for problem in world.checker.cold(document):
            history.wrong(problem)


async def _move_cursors(world: World) -> None:
    """Stock clients that reconnected show others only when these move: so some of them do, as people do."""
    while True:
        await world.pass_time(3.0)
        for client in world.clients:
            if not (client.gone or all(one.forgets for one in world.clients)):
                client.move()


@contextmanager
def _logs_into(history: History) -> Iterator[None]:
    """Keep warnings with the history; an error nobody expected is a problem."""

    def keep(_logger: Any, level: str, event: MutableMapping[str, Any]) -> Any:
        shown = {key: value for key, value in event.items() if key not in ("event", "exc_info")}
        history.note("log", f"{level} {event['event']} {shown}")
        if level in ("error", "critical") and event["event"] not in EXPECTED_ERRORS:
            history.wrong(f"logged at {level}: {event['event']} {shown}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], wrapper_class=structlog.make_filtering_bound_logger(WARNING))
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def _patience() -> Iterator[None]:
    """Fold documents every few seconds: at once a minute no history would see two compactions."""
    usual, compactor.COMPACT_EVERY = compactor.COMPACT_EVERY, 2.0
    try:
        yield
    finally:
        compactor.COMPACT_EVERY = usual


def _counts(world: World) -> Mapping[str, int]:
    counts: Counter[str] = Counter(edits=len(world.checker.written), events=len(world.history.events))
    counts["early echoes"] = world.checker.early_echoes
    counts["saved"] = sum(one.saved for one in world.checker.written)
    for _, actor, event in world.history.events:
        if actor == "log":
            counts[event.split(" {")[0]] += 1
        elif "CRASHED" in event or event in ("paused", "engine died", "drains"):
            counts[event] += 1
        elif actor == "store" and event.endswith("True"):
            counts["compactions"] += 1
    return counts
