"""The scenarios: which load each is, and how A-max looks for the highest rate that holds.

Every measurement gets a server of its own, freshly started, and rooms nobody used before.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from benchmarks.load import BUSY_SHARE, Cores, Load, Sample, apply
from benchmarks.servers import Server, running
from benchmarks.services import ServerFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

LOADS = {
    "A1": Load(rooms=1, clients=101, writers=1, update_rate=50),
    "A1h": Load(rooms=1, clients=101, writers=1, update_rate=500),
    "A2": Load(rooms=1, clients=50, writers=50, update_rate=10),
    "B": Load(rooms=200, clients=3, writers=3, update_rate=2, cursor_rate=2),
    "C": Load(rooms=1000, clients=5, warmup_s=3.0),
    "F": Load(rooms=1, clients=50, writers=50, update_rate=10),
    "F1": Load(rooms=1, clients=101, writers=1, update_rate=50),
}
SCENARIOS = ("A1", "A1h", "A2", "A-max", "B", "C", "F", "F1")
TWO_NODES = frozenset({"F", "F1"})
"""Each room's clients connect to two nodes in turn; servers without such a form are left out."""
TITLES = {
    "A1": "one writer at 50 updates/s, 100 readers",
    "A1h": "one writer at 500 updates/s, 100 readers",
    "A2": "50 writers at 10 updates/s in one room of 50",
    "A-max": "A2 with the rate raised until p99 >= 200 ms or loss",
    "B": "200 rooms of 3, each client 2 updates/s and 2 cursor moves/s",
    "C": "5,000 idle connections in 1,000 rooms",
    "F": "A2 split over two nodes and Redis: 25 of the 50 writers on each",
    "F1": "A1 split over two nodes and Redis: the writer and 50 readers on one, 50 readers on the other",
}
QUICK_S = 4.0
QUICK_MAX_S = 2.0

MAX_STEP = replace(LOADS["A2"], warmup_s=2.0, seconds=3.0, drain_s=3.0)
MAX_P99_MS = 200.0
MAX_FIRST_RATE = 40.0
MAX_LAST_RATE = 20_000.0
MAX_HALVINGS = 3
"""Of the gap between the last rate that held and the first that did not: the answer is right within 9 %."""
MAX_ATTEMPTS = 2
"""A rate fails when it fails this often: one stall of 200 ms happens on the best machine."""
MAX_DISTURBED_ATTEMPTS = 4
"""Or this often when others kept the cores busy meanwhile."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs."""

    generator: Path
    cores: Cores
    quick: bool

    def measure(self, server: Server, scenario: str) -> Sample:
        """One ordinary scenario on a fresh server."""
        load = LOADS[scenario].shortened(QUICK_S) if self.quick else LOADS[scenario]
        return self._apply(server, load, scenario)

    def measure_max(self, servers: Sequence[Server], first_rates: Mapping[str, float]) -> dict[str, Ramp]:
        """A-max of all servers, by name: the highest rate found to hold, and every step on the way."""
        load = MAX_STEP.shortened(QUICK_MAX_S) if self.quick else MAX_STEP
        halvings, attempts = (1, 1) if self.quick else (MAX_HALVINGS, MAX_ATTEMPTS)
        by_name = {server.name: server for server in servers}
        climbs = {
            name: climb(first_rates.get(name, MAX_FIRST_RATE), halvings=halvings, attempts=attempts) for name in by_name
        }
        return climb_together(
            climbs,
            lambda name, rate: self._apply(by_name[name], replace(load, update_rate=rate), f"max{rate:.0f}"),
        )

    def _apply(self, server: Server, load: Load, run: str) -> Sample:
        try:
            with running(server, self.cores) as started:
                return apply(load, started, self.generator, self.cores, run=f"bench-{run}".lower())
        except ServerFailed as error:
            return Sample(failure=str(error), connections=load.connections)


@dataclass(frozen=True, slots=True)
class Step:
    """One rate that was tried, per writer and second."""

    rate: float
    held: bool
    sample: Sample


@dataclass(frozen=True, slots=True)
class Ramp:
    """Every step of an A-max, in order."""

    steps: tuple[Step, ...]

    @property
    def best(self) -> Step | None:
        """The highest rate that held, or None when none did."""
        return max((step for step in self.steps if step.held), key=lambda step: step.rate, default=None)

    @property
    def generator_limited(self) -> bool:
        """Whether the generator, not the server, may have ended the climb: then the figure is a lower bound."""
        best = self.best
        ceiling = best.rate if best else 0.0
        return any(step.sample.generator_share > BUSY_SHARE for step in self.steps if step.rate >= ceiling)

    def as_json(self) -> dict[str, Any]:
        """Everything, for the results file."""
        steps = [{"rate": step.rate, "held": step.held, **step.sample.as_json()} for step in self.steps]
        return {"generator_limited": self.generator_limited, "steps": steps}


def holds(sample: Sample) -> bool:
    """Whether a rate counts as sustained: nothing lost, and p99 below 200 ms."""
    return sample.trouble is None and sample.deliveries > 0 and sample.latency_ms("p99") < MAX_P99_MS


Climb = Generator[float, Sample, Ramp]
"""Yields the rate to try next, is sent what that showed, returns the ramp."""


def climb(first_rate: float, *, halvings: int, attempts: int) -> Climb:
    """Doubles the rate until it does not hold (or halves it until it does), then narrows the gap geometrically."""
    steps: list[Step] = []

    def holds_at(rate: float) -> Generator[float, Sample, bool]:
        failed = 0
        for _ in range(MAX_DISTURBED_ATTEMPTS):
            sample = yield rate
            steps.append(Step(rate, holds(sample), sample))
            if steps[-1].held:
                return True
            failed += not sample.disturbed
            if failed >= attempts:
                break
        return False

    low, high, rate = 0.0, 0.0, first_rate
    while not (low and high) and 1 <= rate <= MAX_LAST_RATE:
        if (yield from holds_at(rate)):
            low = rate
        else:
            high = rate
        rate = low * 2 if low else high / 2
    for _ in range(halvings if low and high else 0):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if (yield from holds_at(middle)) else (low, middle)
    return Ramp(tuple(steps))


def climb_together(climbs: Mapping[str, Climb], attempt: Callable[[str, float], Sample]) -> dict[str, Ramp]:
    """Runs the climbs step by step in turn, so that a busy minute of the machine hits all of them alike."""
    ramps: dict[str, Ramp] = {}
    rates = {name: next(climb) for name, climb in climbs.items()}
    while rates:
        for name, rate in list(rates.items()):
            try:
                rates[name] = climbs[name].send(attempt(name, rate))
            except StopIteration as end:
                ramps[name] = end.value
                del rates[name]
    return {name: ramps[name] for name in climbs}
