"""The scenarios: which load each is, and how A-max looks for the highest rate that holds.

Every measurement gets a server of its own, freshly started, and rooms nobody used before. A scenario is one or more
measurements: what people ask for by its letter, E say, is a room with a slow reader and the same room without one.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from benchmarks.documents import Edited, Pasted
from benchmarks.load import BUSY_SHARE, Cores, Load, Sample, apply
from benchmarks.servers import SETTLE_QUICK_S, SETTLE_S, Server, place
from benchmarks.services import ServerFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

EDITED = Edited(250_000)
LARGE = Edited(245_000, chars=80, deletions=0.02, burst=2)
"""20 MB in some eighty thousand structs; a collab document may have 20 MiB."""
FILED = Edited(25_000)
PASTES = Pasted(10, 2_800)
"""Each about 1 MB in 27,000 structs."""
AT_ONCE = Load(rooms=1, clients=2, late=1, warmup_s=0, seconds=0.1, until_joined=True, document=EDITED)

LOADS = {
    "A1": Load(rooms=1, clients=101, writers=1, update_rate=50),
    "A1h": Load(rooms=1, clients=101, writers=1, update_rate=500),
    "A2": Load(rooms=1, clients=50, writers=50, update_rate=10),
    "B": Load(rooms=200, clients=3, writers=3, update_rate=2, cursor_rate=2),
    "C": Load(rooms=1000, clients=5, warmup_s=3.0),
    "D1": AT_ONCE,
    "D50": replace(AT_ONCE, clients=51, late=50),
    "DM": Load(rooms=10, clients=1, warmup_s=0, seconds=0.1, document=EDITED),
    "E0": Load(rooms=1, clients=12, writers=10, update_rate=50, update_chars=1000, seconds=25, drain_s=20, look=True),
    "F": Load(rooms=1, clients=50, writers=50, update_rate=10),
    "F1": Load(rooms=1, clients=101, writers=1, update_rate=50),
    "H0": Load(rooms=1, clients=500, writers=1, update_rate=5, seconds=20),
    "J": Load(
        rooms=1,
        clients=152,
        late=150,
        writers=1,
        update_rate=20,
        seconds=1,
        until_joined=True,
        join_timeout_s=120,
        watch_memory=True,
        document=LARGE,
    ),
    "K": Load(rooms=200, clients=1, late=1, warmup_s=0, seconds=0.1, until_joined=True, document=FILED, use="expect"),
    "L": Load(rooms=21, clients=2, writers=1, update_rate=10, document=PASTES, use="paste"),
    "overload": Load(rooms=1, clients=100, writers=50, warmup_s=0, seconds=5, drain_s=60, late=50, late_at_s=5),
}
LOADS |= {
    "E1": replace(LOADS["E0"], stalled=1),
    "GA2": replace(LOADS["A2"], acknowledged=True),
    "GB": replace(LOADS["B"], acknowledged=True),
    "H1": replace(LOADS["H0"], cursor_rate=1),
    "H10": replace(LOADS["H0"], cursor_rate=10),
    "M": LOADS["B"],
}
PARTS = {"D": ("D1", "D50", "DM"), "E": ("E0", "E1"), "G": ("GA2", "GB"), "H": ("H0", "H1", "H10")}
"""Scenarios that are several measurements."""
SCENARIOS = ("A1", "A1h", "A2", "A-max", "B", "C", "D", "E", "F", "F1", "G", "H", "J", "K", "L", "M", "overload")
TWO_NODES = frozenset({"F", "F1", "M"})
"""Each room's clients connect to two nodes in turn; servers without such a form are left out."""
WITH_ACKNOWLEDGEMENTS = frozenset(PARTS["G"])
"""Servers that acknowledge nothing are left out."""
AFTER_A_RESTART = frozenset({"K"})
"""Servers that keep nothing are left out."""
TITLES = {
    "A1": "one writer at 50 updates/s, 100 readers",
    "A1h": "one writer at 500 updates/s, 100 readers",
    "A2": "50 writers at 10 updates/s in one room of 50",
    "A-max": "A2 with the rate raised until p99 >= 200 ms or loss",
    "B": "200 rooms of 3, each client 2 updates/s and 2 cursor moves/s",
    "C": "5,000 idle connections in 1,000 rooms",
    "D1": "one client opens a document of 250,000 edits that others have open",
    "D50": "50 clients open it at once",
    "DM": "ten such documents are open",
    "E0": "12 clients, 500 updates/s of 1 kB, all of them read",
    "E1": "the same, and one of them stops reading for 25 s",
    "F": "A2 split over two nodes and Redis: 25 of the 50 writers on each",
    "F1": "A1 split over two nodes and Redis: the writer and 50 readers on one, 50 readers on the other",
    "GA2": "A2 with acknowledgements",
    "GB": "B with acknowledgements",
    "H0": "one writer at 5 updates/s, 499 readers, no cursor moves",
    "H1": "the same, all 500 move their cursors once a second",
    "H10": "the same, ten times a second",
    "J": "150 clients open a document of 20 MB at once while one person types",
    "K": "200 documents of 25,000 edits are opened at once after a restart",
    "L": "1 MB of structured content pasted each second in one room, 20 people typing in 20 others",
    "M": "B split over two nodes and Redis",
    "overload": "three times A-max for 5 s, then 50 more clients join",
}

QUICK_S, QUICK_MAX_S = 1.0, 1.0
QUICK: dict[str, dict[str, Any]] = {
    **{part: {"rooms": 60} for part in ("B", "GB", "M")},
    "C": {"rooms": 100},
    "DM": {"rooms": 4},
    "E0": {"seconds": 1.5},
    "E1": {"seconds": 1.5},
    **{part: {"clients": 150} for part in PARTS["H"]},
    "J": {"clients": 42, "late": 40, "document": replace(LARGE, edits=26_000), "seconds": 0.5},
    "K": {"rooms": 50},
    "overload": {"seconds": 1.0, "late_at_s": 1.0, "drain_s": 10.0},
}
"""What a quick look makes smaller, beside the times."""
KEPT_S = 3.0
"""Between the last client's going and the server's end. Hocuspocus writes within two seconds, and when a document is
left at once."""
OVERLOAD_TIMES = 3.0

MAX_STEP = replace(LOADS["A2"], warmup_s=2.0, seconds=3.0, drain_s=3.0)
MAX_P99_MS = 200.0
MAX_FIRST_RATE, MAX_FIRST_RATE_QUICK = 40.0, 80.0
MAX_LAST_RATE = 20_000.0


@dataclass(frozen=True, slots=True)
class Search:
    """How thoroughly the highest rate is looked for."""

    halvings: int = 3
    """Of the gap between the last rate that held and the first that did not: the answer is right within 9 %."""
    attempts: int = 2
    """A rate fails when it fails this often: one stall of 200 ms happens on the best machine."""
    disturbed_attempts: int = 4
    """Or this often when others kept the cores busy meanwhile."""


QUICK_SEARCH = Search(halvings=0, attempts=1, disturbed_attempts=1)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs."""

    generator: Path
    cores: Cores
    quick: bool

    def load(self, scenario: str) -> Load:
        """A measurement's load."""
        load = LOADS[scenario]
        if not self.quick:
            return load
        return replace(load.shortened(QUICK_S), **QUICK.get(scenario, {}))

    def measure(self, server: Server, scenario: str) -> Sample:
        """One ordinary measurement on a fresh server."""
        load = self.load(scenario)
        server = server.for_scenario(scenario)
        if scenario in AFTER_A_RESTART:
            return self._open_after_restart(server, load, scenario)
        return self._apply(server, load, scenario)

    def measure_max(self, servers: Sequence[Server], first_rates: Mapping[str, float]) -> dict[str, Ramp]:
        """A-max of all servers, by name: the highest rate found to hold, and every step on the way."""
        load = MAX_STEP.shortened(QUICK_MAX_S) if self.quick else MAX_STEP
        first, search = (MAX_FIRST_RATE_QUICK, QUICK_SEARCH) if self.quick else (MAX_FIRST_RATE, Search())
        by_name = {server.name: server.for_scenario("A-max") for server in servers}
        climbs = {name: climb(first_rates.get(name, first), search) for name in by_name}
        return climb_together(
            climbs,
            lambda name, rate: self._apply(by_name[name], replace(load, update_rate=rate), f"max{rate:.0f}"),
        )

    def measure_overload(self, server: Server, ramp: Ramp) -> Sample:
        """Three times the rate that A-max found, and people who join then."""
        if ramp.best is None:
            return Sample(failure="no rate held in A-max")
        load = replace(self.load("overload"), update_rate=OVERLOAD_TIMES * ramp.best.rate)
        return self._apply(server.for_scenario("overload"), load, "overload")

    def _apply(self, server: Server, load: Load, run: str) -> Sample:
        try:
            with place(server, self.cores) as found, found.running(settle_s=self._settle_s) as started:
                return apply(load, started, self.generator, self.cores, run=_room(run))
        except ServerFailed as error:
            return Sample(failure=str(error), connections=load.connections)

    def _open_after_restart(self, server: Server, load: Load, run: str) -> Sample:
        """Fills the rooms, starts the server again, and lets everybody in at once."""
        filling = replace(load, late=0, until_joined=False, use="upload")
        try:
            with place(server, self.cores) as found:
                with found.running(settle_s=self._settle_s) as started:
                    filled = apply(filling, started, self.generator, self.cores, run=_room(run))
                    time.sleep(KEPT_S)
                if filled.trouble:
                    return replace(filled, failure=f"before the restart: {filled.trouble}")
                with found.running(settle_s=self._settle_s) as started:
                    return apply(load, started, self.generator, self.cores, run=_room(run))
        except ServerFailed as error:
            return Sample(failure=str(error), connections=load.connections)

    @property
    def _settle_s(self) -> float:
        return SETTLE_QUICK_S if self.quick else SETTLE_S


def measurements(scenarios: Sequence[str]) -> list[str]:
    """What has to be measured for these scenarios, in order; overload needs A-max first."""
    found: list[str] = []
    for scenario in scenarios:
        needed = ("A-max", "overload") if scenario == "overload" else PARTS.get(scenario, (scenario,))
        found += [part for part in needed if part not in found]
    return found


def takes_part(server: Server, scenario: str) -> bool:
    """Whether a scenario measures this server."""
    if server.only is not None and scenario not in server.only:
        return False
    if scenario in WITH_ACKNOWLEDGEMENTS:
        return server.acknowledges
    return server.keeps if scenario in AFTER_A_RESTART else True


def _room(run: str) -> str:
    return f"bench-{run}".lower()


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


def climb(first_rate: float, search: Search) -> Climb:
    """Doubles the rate until it does not hold (or halves it until it does), then narrows the gap geometrically."""
    steps: list[Step] = []

    def holds_at(rate: float) -> Generator[float, Sample, bool]:
        failed = 0
        for _ in range(search.disturbed_attempts):
            sample = yield rate
            steps.append(Step(rate, holds(sample), sample))
            if steps[-1].held:
                return True
            failed += not sample.disturbed
            if failed >= search.attempts:
                break
        return False

    low, high, rate = 0.0, 0.0, first_rate
    while not (low and high) and 1 <= rate <= MAX_LAST_RATE:
        if (yield from holds_at(rate)):
            low = rate
        else:
            high = rate
        rate = low * 2 if low else high / 2
    for _ in range(search.halvings if low and high else 0):
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
