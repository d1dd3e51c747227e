"""Counters and what Prometheus reads from them."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from collab.node.counters import LATENCY_BUCKETS_S, MAX_KINDS, Counters, Histogram, Kinds
from collab.server.metrics import Metrics


def samples(metrics: Metrics) -> dict[str, float]:
    text = metrics.exposition().decode()
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_counts_every_value_once_at_or_below_its_bound(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    assert histogram.count == len(values)
    assert histogram.sum == pytest.approx(sum(values))
    for bound, total in histogram.cumulative():
        assert total == sum(value <= float(bound) for value in values)


def test_a_quantile_is_the_bound_of_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0, 3.0))
    assert histogram.quantile(0.5) == 0.0
    for value in (0.5, 1.5, 1.5, 9.0):
        histogram.observe(value)
    assert [histogram.quantile(q) for q in (0.25, 0.5, 0.75, 1.0)] == [1.0, 2.0, 2.0, float("inf")]


def test_every_counter_is_exposed() -> None:
    counters = Counters()
    exposed = set(samples(Metrics(counters)))
    for field in fields(Counters):
        value = getattr(counters, field.name)
        if isinstance(value, Kinds):
            value.add("kind")
        elif not isinstance(value, Histogram):
            setattr(counters, field.name, 7)
    after = samples(Metrics(counters))
    for field in fields(Counters):
        name = field.name.removesuffix("_s")
        candidates = [
            f"collab_{name}",
            f"collab_{name}_total",
            f"collab_{name}_total[kind]",
            f"collab_{name}_seconds_sum",
        ]
        assert any(candidate in after for candidate in candidates), field.name
    assert exposed < set(after)


def test_a_scrape_reads_what_is_true_now() -> None:
    counters = Counters()
    metrics = Metrics(counters, refresh=lambda: setattr(counters, "rooms", counters.rooms + 1))
    counters.edit_to_acknowledgement_s.observe(0.004)
    counters.closes.add("4400")
    counters.closes.add("4400")
    first = samples(metrics)
    assert first["collab_rooms"] == 1
    assert first["collab_closes_total[4400]"] == 2
    assert first["collab_edit_to_acknowledgement_seconds_count"] == 1
    assert first["collab_edit_to_acknowledgement_seconds_bucket[0.005]"] == 1
    assert first["collab_edit_to_acknowledgement_seconds_bucket[0.0025]"] == 0
    counters.edit_to_acknowledgement_s.observe(LATENCY_BUCKETS_S[-1] + 1)
    second = samples(metrics)
    assert second["collab_rooms"] == 2
    assert second["collab_edit_to_acknowledgement_seconds_bucket[+Inf]"] == 2


def test_k03_the_number_of_series_is_bounded() -> None:
    counters = Counters()
    for number in range(10_000):
        counters.messages_in.add(f"kind-{number}")
    assert len(counters.messages_in) == MAX_KINDS + 1
    assert counters.messages_in["other"] == 10_000 - MAX_KINDS


def test_two_nodes_fit_into_one_process() -> None:
    one, two = Counters(), Counters()
    one.rows = 5
    assert (samples(Metrics(one))["collab_rows_total"], samples(Metrics(two))["collab_rows_total"]) == (5, 0)
