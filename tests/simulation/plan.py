"""What one seed makes of itself: how many of everything, which faults, how bad. Drawn before anything happens.

Each history enables only some kinds of fault (swarm testing: what hides behind one fault shows without it), and one
seed in two is given a scenario of its own besides, so that no rare branch is left to luck.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Literal, get_args

from collab.node.cluster import ClusterTimes
from tests.simulation.weather import Weather

Confirm = Literal["status", "echo"]
"""How a client learns that something is saved: by message 102, or by seeing what it wrote come back."""

Fault = Literal[
    "crash", "pause", "drain", "cut bus", "bus outage", "store outage", "engine death", "cut", "freeze", "offline",
    "storm", "slow reader", "unload", "cut store", "send away",
]  # fmt: skip
FAULTS: tuple[Fault, ...] = get_args(Fault)


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """One client."""

    document: str
    confirm: Confirm
    forgets: bool
    deletes: float
    reads_only: bool


@dataclass(slots=True)
class Plan:
    """One history."""

    seed: int
    nodes: int
    documents: tuple[str, ...]
    clients: tuple[ClientPlan, ...]
    lasts: float
    """Seconds of editing and faults; after them everything is mended and must settle."""
    edits: int
    bursts: bool
    faults: tuple[Fault, ...]
    scenario: str | None
    weather: Weather
    engine_delay: tuple[float, float] | None
    unload_after: float
    compact_after: int
    shares_tabs: bool
    """Whether some clients hand their edits to others past the server (faults matrix F45)."""
    programs: int
    """How many updates are written over REST."""
    crowd: int
    """From how many sessions on a room keeps a pace."""
    fast: bool
    """Whether plain updates are shown before the engine has them."""
    times: ClusterTimes = field(default_factory=ClusterTimes)


def draw(seed: int, scenarios: tuple[str, ...], *, anti_entropy: bool = True) -> Plan:
    """The plan of ``seed``."""
    rng = Random(f"plan {seed}")
    documents = ("alpha", "beta")[: rng.choice((1, 1, 2))]
    number = rng.randint(2, 6)
    scenario = scenarios[(seed // 2) % len(scenarios)] if seed % 2 == 0 else None
    most = 2 if scenario else 5
    return Plan(
        seed=seed,
        nodes=rng.choice((2, 2, 3)),
        documents=documents,
        clients=tuple(
            ClientPlan(
                document=documents[index % len(documents)],
                confirm=rng.choice(("status", "echo")),
                forgets=rng.random() < 0.5,
                deletes=rng.choice((0.0, 0.15, 0.4)),
                reads_only=index >= 2 and rng.random() < 0.1,
            )
            for index in range(number)
        ),
        lasts=rng.uniform(5.0, 12.0),
        edits=rng.randint(20, 80),
        bursts=rng.random() < 0.5,
        faults=tuple(rng.sample(FAULTS, rng.randint(0, most))),
        scenario=scenario,
        weather=_weather(rng),
        engine_delay=rng.choice((None, (0.0, 0.002), (0.0, 0.02))),
        unload_after=rng.choice((0.5, 2.0, 30.0)),
        compact_after=rng.choice((4, 10, 40)),
        shares_tabs=rng.random() < 0.1,
        programs=rng.choice((0, 0, 0, 4)),
        crowd=Random(f"crowd {seed}").choice((0, 1, 8)),
        fast=Random(f"fast {seed}").random() < 0.8,
        times=ClusterTimes() if anti_entropy else ClusterTimes(digest_every=inf, follow_every=inf),
    )


def _weather(rng: Random) -> Weather:
    """Each kind of bad weather in one history of four or so."""

    def rate(most: float, share: float = 0.25) -> float:
        return rng.random() * most if rng.random() < share else 0.0

    return Weather(
        network_delay=rng.choice(((0.0005, 0.005), (0.001, 0.02), (0.01, 0.3))),
        bus_loss=rate(0.3),
        bus_repeat=rate(0.3),
        bus_damage=rate(0.2),
        bus_delay=rng.choice(((0.0002, 0.002), (0.001, 0.02), (0.0, 0.5))),
        store_delay=rng.choice(((0.0005, 0.003), (0.001, 0.02), (0.01, 0.2))),
        store_slow=rate(0.1),
        store_refuses=rate(0.2, 0.15),
        store_loses_reply=rate(0.2, 0.15),
        store_commits_late=rate(0.1, 0.15),
        slow_loads=rate(1.0),
        engine_dies=rate(0.02, 0.15),
    )
