"""Which measurements a scenario is, whom it measures, and what every load has to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.load import Cores, Load, Sample
from benchmarks.report import measures
from benchmarks.scenarios import (
    LOADS,
    PARTS,
    QUICK,
    SCENARIOS,
    TITLES,
    Bench,
    Ramp,
    Step,
    measurements,
    takes_part,
)
from benchmarks.servers import WITH_STORAGE, Server

SERVER = Server("it", "1", "yws", "/", ("it",), "PORT")


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("scenario", LOADS)
def test_every_load_is_one_the_generator_takes(scenario: str, *, quick: bool) -> None:
    load = Bench(Path(), Cores(0, 1), quick=quick).load(scenario)
    assert load.writers + load.late + load.stalled <= load.clients
    assert (load.update_rate > 0) == (load.writers > 0) or scenario == "overload"
    assert not load.until_joined or load.late


def test_a_letter_stands_for_all_its_measurements() -> None:
    assert measurements(["E", "A1", "E"]) == ["E0", "E1", "A1"]
    assert set(measurements(SCENARIOS)) == set(TITLES) == set(LOADS) | {"A-max"}
    assert set(QUICK) <= set(TITLES)
    assert all(measures(scenario) for scenario in TITLES)
    assert set(WITH_STORAGE) <= set(LOADS)


def test_overload_needs_the_highest_rate_first() -> None:
    assert measurements(["overload"]) == ["A-max", "overload"]
    assert measurements(["A-max", "B", "overload"]) == ["A-max", "B", "overload"]


def test_only_who_acknowledges_or_keeps_is_asked_to() -> None:
    assert not takes_part(SERVER, "GA2")
    assert takes_part(replace(SERVER, acknowledges=True), "GA2")
    assert not takes_part(SERVER, "K")
    assert takes_part(replace(SERVER, keeps=True), "K")
    assert takes_part(SERVER, "J")
    assert not takes_part(replace(SERVER, only=frozenset({"K"})), "J")


def test_rates_are_lifted_only_where_the_load_exceeds_them() -> None:
    server = replace(SERVER, environment={"KEPT": "1"}, without_rates={"RATE": "0"})
    assert server.for_scenario("A1h").environment == {"KEPT": "1", "RATE": "0"}
    assert server.for_scenario("B").environment == {"KEPT": "1"}


def test_overload_without_a_rate_that_held_is_said() -> None:
    bench = Bench(Path(), Cores(0, 1), quick=True)
    found = bench.measure_overload(SERVER, Ramp((Step(40.0, held=False, sample=Sample()),)))
    assert found.trouble == "no rate held in A-max"


def test_a_shorter_load_is_never_longer() -> None:
    short = Load(rooms=1, clients=2, seconds=0.1, warmup_s=0.0)
    assert short.shortened(4.0) == replace(short, drain_s=1.5, join_timeout_s=10.0)
    assert all(PARTS.values())
