"""The arithmetic of the benchmark report, and the search for the highest rate that holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks import bounds, report
from benchmarks.load import Sample
from benchmarks.scenarios import Ramp, Search, climb, climb_together

if TYPE_CHECKING:
    from collections.abc import Callable


THOROUGH = Search()


def _sample(*, cpu_ms: float = 100.0, deliveries: int = 10_000, p99_ms: float = 1.0, share: float = 0.2) -> Sample:
    latency = {"p50": p99_ms / 2, "p99": p99_ms}
    result = {"latency_ms": latency, "behind_ms": {"p99": 0.1}, "entries_skipped": 0}
    return Sample(window_s=10.0, deliveries=deliveries, server_cpu_ms=cpu_ms, generator_share=share, result=result)


def _climb(attempt: Callable[[float], Sample], search: Search = THOROUGH) -> Ramp:
    climbing = climb(40.0, search)
    return climb_together({"it": climbing}, lambda _, rate: attempt(rate))["it"]


def _server_up_to(limit: float, *, stalls: int = 0) -> Ramp:
    left = stalls

    def attempt(rate: float) -> Sample:
        nonlocal left
        stalled, left = left > 0 and rate <= limit, max(0, left - 1)
        return _sample(p99_ms=500.0 if rate > limit or stalled else 1.0, deliveries=int(rate * 100))

    return _climb(attempt)


@pytest.mark.parametrize("limit", [5.0, 39.0, 40.0, 88.0, 450.0, 1_118.0])
def test_the_climb_ends_within_a_tenth_below_the_limit(limit: float) -> None:
    best = _server_up_to(limit).best
    assert best is not None
    assert limit / 1.1 < best.rate <= limit


def test_one_stall_does_not_end_the_climb() -> None:
    best = _server_up_to(450.0, stalls=1).best
    assert best is not None
    assert best.rate > 400


def test_failures_while_others_kept_the_machine_busy_are_tried_again() -> None:
    shown = iter([replace(_sample(p99_ms=500.0), foreign_server_share=0.9)] * 3)
    best = _climb(lambda rate: next(shown, _sample(p99_ms=500.0 if rate > 90.0 else 1.0))).best
    assert best is not None
    assert best.rate > 80.0


def test_a_climb_without_a_rate_that_holds_has_no_best() -> None:
    assert _server_up_to(0.5).best is None


def test_climbs_take_their_steps_in_turn() -> None:
    tried: list[str] = []

    def attempt(name: str, rate: float) -> Sample:
        tried.append(name)
        return _sample(p99_ms=500.0 if rate > {"slow": 50.0, "fast": 300.0}[name] else 1.0)

    climbs = {name: climb(40.0, Search(halvings=1, attempts=1)) for name in ("slow", "fast")}
    ramps = climb_together(climbs, attempt)
    assert tried == ["slow", "fast", "slow", "fast", "slow", "fast", "fast", "fast"]
    assert [step.rate for step in ramps["slow"].steps][:2] == [40.0, 80.0]


def test_a_disturbed_measurement_is_said_above_the_table_and_beside_the_promise() -> None:
    quiet, noisy = _sample(), replace(_sample(), foreign_server_share=0.5)
    assert report.disturbance({"B": {"collab": [quiet], "hocuspocus": [quiet]}}) is None
    samples = {"B": {"collab": [quiet], "hocuspocus": [noisy]}}
    warning = report.disturbance(samples)
    assert warning is not None
    assert warning.startswith("**1 of 2 measurements were disturbed**")
    assert "on a disturbed machine" in bounds.judge(samples, "collab")[0].remarks


def test_a_ratio_above_one_is_good_news_whichever_way_the_figure_points() -> None:
    assert report.times_better(report.CPU, 5.0, 10.0) == 2.0
    assert report.times_better(report.SUSTAINED, 10.0, 5.0) == 2.0
    assert report.times_better(report.CPU, None, 10.0) is None
    assert report.times_better(report.CPU, 5.0, 0.0) is None


def test_a_figure_is_the_median_of_the_rounds_that_brought_one() -> None:
    rounds = [_sample(cpu_ms=cpu) for cpu in (90.0, 10.0, 50.0)] + [Sample(failure="it did not start")]
    assert report.value(report.CPU, rounds) == 5.0
    assert report.value(report.CPU, [Sample(failure="it did not start")]) is None


def test_a_lost_delivery_a_closed_connection_or_a_wrong_frame_is_trouble() -> None:
    assert _sample().trouble is None
    assert Sample(result={"updates_missing": 2, "entries_missing": 1}).trouble == "3 deliveries missing"
    assert Sample(result={"connections_lost": 4}).trouble == "4 connections lost"
    assert Sample(result={"protocol_errors": 1, "first_error": "a frame too many"}).trouble == "a frame too many"


def test_the_table_shows_figures_ratios_and_the_best_peer() -> None:
    samples = {"A2": {"collab": [_sample(cpu_ms=50)], "yws": [_sample()], "hocuspocus": [_sample(cpu_ms=80)]}}
    first_row = report.results_table(samples, {}, "collab", ["yws", "hocuspocus"]).splitlines()[2]
    assert first_row.endswith("| CPU ms per 1,000 deliveries | 5.00 | 10.00 | 8.00 | 2.00 | 1.60 | 1.60 |")


def test_a_busy_generator_is_said_in_its_row_and_makes_a_maximum_a_lower_bound() -> None:
    busy = _climb(lambda rate: _sample(p99_ms=rate, share=0.95), Search(halvings=0, attempts=1))
    samples = report.with_sustained({}, {"collab": [busy]})
    assert ">= 1,000" in report.results_table(samples, {"collab": [busy]}, "collab", [])
    assert "95% (may limit the row)" in report.trust_table(samples, {"collab": [busy]}, ["collab"])


def _nodes_sample(*, between_ms: float = 0.9, within_ms: float = 0.6, cpu_ms: float = 100.0) -> Sample:
    result = {"other_node_ms": {"p50": between_ms, "p99": 4.0}, "same_node_ms": {"p50": within_ms, "p99": 3.0}}
    services = {"redis": 10.0, "postgres": 40.0}
    return Sample(
        window_s=10.0, deliveries=10_000, server_cpu_ms=cpu_ms, service_cpu_ms=services, result=result, connections=50
    )


def test_two_nodes_are_reported_by_reach_and_the_database_beside_the_cost() -> None:
    samples = {"F": {"collab": [_nodes_sample()], "hocuspocus": [_nodes_sample(between_ms=1.8, cpu_ms=250.0)]}}
    rows = report.results_table(samples, {}, "collab", ["hocuspocus"]).splitlines()[2:]
    cells = {row.split(" | ")[1]: row.removesuffix(" |").split(" | ")[2:] for row in rows}
    assert cells == {
        "p50 ms to clients of the other node": ["0.90", "1.80", "2.00"],
        "p99 ms to clients of the other node": ["4.00", "4.00", "1.00"],
        "p50 ms to clients of the same node": ["0.60", "0.60", "1.00"],
        "p99 ms to clients of the same node": ["3.00", "3.00", "1.00"],
        "p50 to the other node / p50 to the same": ["1.50", "3.00", "2.00"],
        "CPU ms per 1,000 deliveries, nodes and Redis": ["10.00", "25.00", "2.50"],
        "of that Redis": ["1.00", "1.00", "1.00"],
        "beside that PostgreSQL, CPU ms per 1,000": ["4.00", "4.00", "1.00"],
    }


def test_the_added_latency_is_judged_by_the_median_of_each_runs_own_ratio() -> None:
    rounds = [_nodes_sample(between_ms=between, within_ms=within) for between, within in [(1, 1), (9, 3), (10, 9)]]
    assert report.value(report.BETWEEN_TIMES, rounds) == pytest.approx(10 / 9)


def test_a_row_with_trouble_is_marked_and_compared_with_nobody() -> None:
    lossy = replace(_sample(cpu_ms=10), result={"updates_missing": 3})
    samples = {"A2": {"collab": [_sample(cpu_ms=50)], "yws": [_sample()], "pycrdt-websocket": [lossy]}}
    row = report.results_table(samples, {}, "collab", ["yws", "pycrdt-websocket"]).splitlines()[2]
    assert row.endswith("| CPU ms per 1,000 deliveries | 5.00 | 10.00 | 1.00 (!) | 2.00 | 0.20 | 2.00 |")


def test_each_of_ours_has_a_table_with_the_same_peers() -> None:
    samples = {"A2": {"collab": [_sample()], "collab-postgres": [_sample(cpu_ms=50)], "yws": [_sample()]}}
    text = report.markdown(samples, {}, ["collab", "collab-postgres", "yws"], {})
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert heads[:2] == ["## collab beside its peers", "## collab-postgres beside its peers"]
    assert text.count("| x better than yws |") == 2


def test_a_sample_within_one_node_has_no_ratio_between_nodes() -> None:
    assert _sample().times_same_node == 0.0
    assert "times_same_node" not in _sample().as_json()
    assert _nodes_sample().as_json()["times_same_node"] == 1.5
