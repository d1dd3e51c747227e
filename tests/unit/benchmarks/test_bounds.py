"""What was promised is judged by sound figures of one run, and said with what is doubtful about it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import bounds
from benchmarks.bounds import BOUNDS, judge
from benchmarks.load import Sample
from benchmarks.scenarios import LOADS, TITLES

if TYPE_CHECKING:
    from benchmarks.report import Samples


def _sample(*, cpu_ms: float = 100.0, p50_ms: float = 1.0, p99_ms: float = 2.0, **result: Any) -> Sample:
    latency = {"p50": p50_ms, "p99": p99_ms}
    said = {"latency_ms": latency, "update_ms": latency, **result}
    return Sample(window_s=10.0, deliveries=10_000, server_cpu_ms=cpu_ms, generator_share=0.2, result=said)


def _verdict(samples: Samples, promise: str, ours: str = "collab") -> bounds.Verdict:
    found = [verdict for verdict in judge(samples, ours) if promise in verdict.bound.promise]
    assert len(found) == 1
    return found[0]


def test_every_bound_is_about_a_scenario_that_exists() -> None:
    assert {scenario for bound in BOUNDS for scenario in bound.scenarios} <= set(TITLES)
    assert set(LOADS) | {"A-max"} == set(TITLES)


@pytest.mark.parametrize(("cpu_ms", "kept"), [(69.0, True), (70.0, True), (71.0, False)])
def test_a_bound_is_in_times_the_best_peer(cpu_ms: float, *, kept: bool) -> None:
    samples = {"A2": {"collab": [_sample(cpu_ms=cpu_ms)], "yws": [_sample()], "hocuspocus": [_sample(cpu_ms=150)]}}
    verdict = _verdict(samples, "CPU per delivery")
    assert verdict.figure == pytest.approx(cpu_ms / 100)
    assert verdict.kept is kept


def test_a_maximum_has_to_be_so_many_times_the_peers() -> None:
    def reached(deliveries: int) -> list[Sample]:
        return [replace(_sample(), deliveries=deliveries)]

    samples = {"A-max": {"collab": reached(50_000), "hocuspocus": reached(20_000), "yws": reached(4_000)}}
    assert _verdict(samples, "3x Hocuspocus").kept is False
    assert _verdict(samples, "12x y-websocket").kept is True


def test_a_peer_with_trouble_is_nobodys_measure() -> None:
    lossy = _sample(cpu_ms=10, updates_missing=1)
    samples = {"A2": {"collab": [_sample(cpu_ms=60)], "yws": [_sample()], "pycrdt-websocket": [lossy]}}
    assert _verdict(samples, "CPU per delivery").kept is True
    without = {"A2": {"collab": [_sample(cpu_ms=60)], "pycrdt-websocket": [lossy]}}
    verdict = _verdict(without, "CPU per delivery")
    assert verdict.kept is None
    assert "no peer to compare with" in verdict.remarks


def test_our_own_trouble_keeps_no_promise() -> None:
    samples = {"L": {"collab": [_sample(), _sample(documents_missing=2)]}}
    verdict = _verdict(samples, "others' p99 within")
    assert verdict.kept is False
    assert "2 clients without the whole document" in verdict.remarks


def test_what_a_slow_reader_costs_is_what_the_same_room_without_one_does_not() -> None:
    def grown(mib: float, p50_ms: float) -> list[Sample]:
        return [replace(_sample(p50_ms=p50_ms), started_kib=1024.0, sent_kib=1024.0 * (1 + mib))]

    samples = {"E0": {"collab": grown(12.5, 1.0)}, "E1": {"collab": grown(13.25, 1.3)}}
    assert _verdict(samples, "1 MiB").figure == pytest.approx(0.75)
    assert _verdict(samples, "1 MiB").kept is True
    assert _verdict(samples, "p50 unchanged").kept is False
    assert judge({"E1": samples["E1"]}, "collab")[0].bound.promise == "the slow reader recovers"


def test_acknowledgements_are_promised_on_postgres_alone() -> None:
    kept = _sample(acknowledged_ms={"p50": 9.0, "p99": 120.0})
    samples = {"GA2": {"collab": [kept], "collab-postgres": [kept]}}
    assert judge(samples, "collab") == []
    assert [verdict.kept for verdict in judge(samples, "collab-postgres")] == [True, False]


def test_peers_promise_nothing() -> None:
    assert judge({"L": {"yws": [_sample()], "collab": [_sample()]}}, "yws") == []


def test_clients_lost_under_overload_are_counted_though_they_are_trouble() -> None:
    samples = {"overload": {"collab": [_sample(connections_lost=2, join_ms={"max": 900.0})]}}
    verdict = _verdict(samples, "no client lost")
    assert (verdict.figure, verdict.kept) == (2.0, False)


def test_two_nodes_are_compared_with_one_node_of_the_same_run() -> None:
    samples = {"B": {"collab-postgres": [_sample(cpu_ms=100)]}, "M": {"collab-postgres": [_sample(cpu_ms=125)]}}
    verdict = _verdict(samples, "one node's", "collab-postgres")
    assert verdict.figure == pytest.approx(1.25)
    assert verdict.kept is True


def test_a_paste_is_judged_by_its_best_round_and_beside_the_engine_inline() -> None:
    def others(p99_ms: float) -> Sample:
        return _sample(p99_ms=p99_ms)

    ours, inline = [others(30.0), others(8.0), others(12.0)], [others(60.0), others(60.0), others(50.0)]
    samples = {"L": {"collab": ours, "collab-inline": inline, "yws": [others(1.0)]}}
    assert (_verdict(samples, "best round").figure, _verdict(samples, "best round").kept) == (8.0, True)
    assert _verdict(samples, "inline").figure == pytest.approx(0.2)
    assert judge(samples, "collab-inline") == []


def test_the_engine_inline_is_no_peer() -> None:
    samples = {"A2": {"collab": [_sample()], "collab-inline": [_sample(cpu_ms=1)], "yws": [_sample(cpu_ms=200)]}}
    assert _verdict(samples, "CPU per delivery").figure == pytest.approx(0.5)


def test_overload_is_over_when_everything_is_delivered() -> None:
    samples = {"overload": {"collab": [replace(_sample(join_ms={"max": 1.0}), window_s=11.0, planned_s=5.0)]}}
    verdict = _verdict(samples, "everything delivered")
    assert (verdict.figure, verdict.kept) == (6.0, False)


@pytest.mark.parametrize("rounds", [4, 5])
def test_few_rounds_are_said(rounds: int) -> None:
    samples = {"A2": {"collab": [_sample(cpu_ms=60)] * rounds, "yws": [_sample()] * rounds}}
    assert ("fewer than 5 rounds" in _verdict(samples, "CPU per delivery").remarks) is (rounds < 5)


def test_a_generator_that_was_the_limit_is_said_in_the_table() -> None:
    busy = replace(_sample(cpu_ms=60), generator_share=0.95)
    text = bounds.table(judge({"A2": {"collab": [busy] * 5, "yws": [_sample()] * 5}}, "collab"))
    assert "| A2 | CPU per delivery at most 0.7 of the best peer's | <= 0.7x | 0.60x | kept |" in text
    assert "the generator may have been the limit" in text
