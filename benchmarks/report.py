"""Turns samples into the table people read: medians over the rounds, ratios against each peer of the same run.

Pure: values in, text and numbers out. A ratio says how many times better collab is, whichever way the figure points,
so above 1 is always good news.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.load import BUSY_SHARE, FOREIGN_SHARE, Sample
from benchmarks.scenarios import TITLES, TWO_NODES, Ramp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OURS = "collab"
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a scenario."""

    title: str
    of: Callable[[Sample], float]
    digits: int
    higher_is_better: bool = False


CPU = Measure("CPU ms per 1,000 deliveries", lambda sample: sample.cpu_ms_per_1000, 2)
P50 = Measure("p50 ms", lambda sample: sample.latency_ms("p50"), 2)
P99 = Measure("p99 ms", lambda sample: sample.latency_ms("p99"), 2)
IDLE = (
    Measure("KiB per connection", lambda sample: sample.kib_per_connection, 1),
    Measure("seconds until all synced", lambda sample: sample.synced_s, 2),
    Measure("CPU ms per second when idle", lambda sample: sample.cpu_ms_per_s, 1),
    Measure("MiB before anybody came", lambda sample: sample.base_kib / 1024, 0),
)
BETWEEN_P50 = Measure("p50 ms to clients of the other node", lambda sample: sample.other_node_ms("p50"), 2)
WITHIN_P50 = Measure("p50 ms to clients of the same node", lambda sample: sample.same_node_ms("p50"), 2)
BETWEEN_TIMES = Measure("p50 to the other node / p50 to the same", lambda sample: sample.times_same_node, 2)
NODES_CPU = Measure("CPU ms per 1,000 deliveries, nodes and Redis", lambda sample: sample.cpu_ms_per_1000, 2)
NODES = (
    BETWEEN_P50,
    Measure("p99 ms to clients of the other node", lambda sample: sample.other_node_ms("p99"), 2),
    WITHIN_P50,
    Measure("p99 ms to clients of the same node", lambda sample: sample.same_node_ms("p99"), 2),
    BETWEEN_TIMES,
    NODES_CPU,
    Measure("of that Redis", lambda sample: sample.service_cpu_ms_per_1000("redis"), 2),
    Measure("beside that PostgreSQL", lambda sample: sample.service_cpu_ms_per_1000("postgres"), 2),
)
SUSTAINED = Measure("deliveries/s sustained", lambda sample: sample.deliveries_per_s, 0, higher_is_better=True)


def measures(scenario: str) -> tuple[Measure, ...]:
    """What is reported of a scenario."""
    if scenario in TWO_NODES:
        return NODES
    return {"C": IDLE, "A-max": (SUSTAINED,)}.get(scenario, (CPU, P50, P99))


Samples = dict[str, dict[str, list[Sample]]]
"""By scenario, then by server: one sample a round."""
Ramps = dict[str, list[Ramp]]
"""By server: one climb a round."""


def value(measure: Measure, samples: Sequence[Sample]) -> float | None:
    """The median over the rounds that brought a figure; None when none did."""
    figures = [measure.of(sample) for sample in samples if sample.failure is None]
    return median(figures) if figures else None


def times_better(measure: Measure, ours: float | None, theirs: float | None) -> float | None:
    """How many times better ours is; None where one of them is missing or nothing."""
    if not ours or not theirs:
        return None
    return ours / theirs if measure.higher_is_better else theirs / ours


def sustained(ramps: Sequence[Ramp]) -> list[Sample]:
    """The best step of each round; a round in which nothing held counts as zero deliveries."""
    return [ramp.best.sample if ramp.best else Sample() for ramp in ramps]


def with_sustained(samples: Samples, ramps: Ramps) -> Samples:
    """The samples and, under A-max, each round's best step."""
    return {**samples, "A-max": {name: sustained(climbs) for name, climbs in ramps.items()}} if ramps else samples


def markdown(samples: Samples, ramps: Ramps, servers: Sequence[str], facts: Mapping[str, str]) -> str:
    """The whole report."""
    everything = with_sustained(samples, ramps)
    parts = ["# collab beside its peers", "\n".join(f"- {name}: {fact}" for name, fact in facts.items())]
    if warning := disturbance(everything):
        parts.append(warning)
    parts.append(results_table(everything, ramps, servers))
    parts.append("## Can the rows be trusted?\n\n" + trust_table(everything, ramps, servers))
    if ramps:
        parts.append("## A-max, every step\n\n" + steps_table(ramps))
    if claims := verdicts(everything):
        parts.append("## What was promised\n\n" + "\n".join(f"- {claim}" for claim in claims))
    return "\n\n".join(parts) + "\n"


def disturbance(samples: Samples) -> str | None:
    """A warning when the machine was not the benchmark's alone; None when it was."""
    found = [sample for by_server in samples.values() for runs in by_server.values() for sample in runs]
    disturbed = sum(sample.disturbed for sample in found)
    if not disturbed:
        return None
    return (
        f"**{disturbed} of {len(found)} measurements were disturbed**: others used more than {FOREIGN_SHARE:.0%} of a "
        "core. Latencies and A-max of such rows say little, CPU figures are too high for everybody."
    )


def results_table(samples: Samples, ramps: Ramps, servers: Sequence[str]) -> str:
    """The figures and the ratios."""
    peers = [name for name in servers if name != OURS] if OURS in servers else []
    heads = ["scenario", "measure", *servers, *(f"x better than {name}" for name in peers)]
    heads += ["x better than the best"] if len(peers) > 1 else []
    rows = []
    for scenario, by_server in samples.items():
        for index, measure in enumerate(measures(scenario)):
            figures = {name: value(measure, by_server.get(name, ())) for name in servers}
            ratios = [times_better(measure, figures.get(OURS), figures[name]) for name in peers]
            known = [ratio for ratio in ratios if ratio is not None]
            shown = [_figure(figures[name], measure, _lower_bound(scenario, name, ramps)) for name in servers]
            cells = [f"**{scenario}** {TITLES[scenario]}" if index == 0 else "", measure.title, *shown]
            cells += map(_ratio, [*ratios, min(known)] if known and len(peers) > 1 else ratios)
            rows.append(cells + [NOTHING] * (len(heads) - len(cells)))
    return table(heads, rows)


def trust_table(samples: Samples, ramps: Ramps, servers: Sequence[str]) -> str:
    """How busy the generator was, how late it sent, what else ran, and what went wrong: the worst of the rounds."""
    heads = ["scenario", "server", "deliveries", "skipped", "overtaken", "generator CPU", "sent late p99 ms"]
    heads += ["others on the server's core", "others on the generator's core", "trouble"]
    rows = []
    for scenario, by_server in samples.items():
        for name in servers:
            found = by_server.get(name, [])
            if not found:
                continue
            share = max(sample.generator_share for sample in found)
            limited = share > BUSY_SHARE or _lower_bound(scenario, name, ramps)
            late = max(float(sample.result.get("behind_ms", {}).get("p99", 0)) for sample in found)
            troubles = sorted({sample.trouble for sample in found if sample.trouble})
            rows.append(
                [
                    scenario,
                    name,
                    f"{sum(sample.deliveries for sample in found):,}",
                    f"{sum(int(sample.result.get('entries_skipped', 0)) for sample in found):,}",
                    f"{sum(int(sample.result.get('updates_overtaken', 0)) for sample in found):,}",
                    f"{share:.0%}{' (may limit the row)' if limited else ''}",
                    f"{late:.2f}",
                    f"{max(sample.foreign_server_share for sample in found):.0%}",
                    f"{max(sample.foreign_generator_share for sample in found):.0%}",
                    "; ".join(trouble.splitlines()[0] for trouble in troubles) or "none, 0 missing",
                ]
            )
    return table(heads, rows)


def steps_table(ramps: Ramps) -> str:
    """Every rate tried."""
    heads = ["server", "round", "updates/s of each writer", "deliveries/s", "p50 ms", "p99 ms", "generator CPU", "held"]
    rows = [
        [
            name,
            str(number),
            f"{step.rate:.0f}",
            f"{step.sample.deliveries_per_s:,.0f}",
            f"{step.sample.latency_ms('p50'):.2f}",
            f"{step.sample.latency_ms('p99'):.2f}",
            f"{step.sample.generator_share:.0%}",
            "yes" if step.held else f"no: {(step.sample.trouble or 'p99').splitlines()[0]}",
        ]
        for name, climbs in ramps.items()
        for number, ramp in enumerate(climbs, 1)
        for step in ramp.steps
    ]
    return table(heads, rows)


def verdicts(samples: Samples) -> list[str]:
    """The promises this run can judge, each with its figure."""
    claims = []
    hot = _better(samples, "A-max", SUSTAINED, "yws")
    if hot is not None:
        sound = _sound(samples, "A-max", "yws")
        claims.append(f"{_kept(hot >= 2)}: A-max, at least 2x the deliveries/s of y-websocket: {hot:.2f}x{sound}")
    cost = _better(samples, "B", CPU, "hocuspocus")
    if cost is not None:
        sound = _sound(samples, "B", "hocuspocus")
        claims.append(f"{_kept(cost > 1)}: B, less CPU per delivery than Hocuspocus: {1 / cost:.2f} of it{sound}")
    return claims + _verdicts_on_nodes(samples)


def _verdicts_on_nodes(samples: Samples) -> list[str]:
    claims = []
    for scenario in sorted(TWO_NODES & samples.keys()):
        sound = _sound(samples, scenario, "hocuspocus")
        times = value(BETWEEN_TIMES, samples[scenario].get(OURS, ()))
        if times:
            promise = "p50 to the other node at most 2x the p50 within a node"
            claims.append(f"{_kept(times <= 2)}: {scenario}, {promise}: {times:.2f}x{sound}")
        cost = _better(samples, scenario, NODES_CPU, "hocuspocus")
        if cost is not None:
            promise = "less CPU per delivery, nodes and Redis, than Hocuspocus"
            claims.append(f"{_kept(cost > 1)}: {scenario}, {promise}: {1 / cost:.2f} of it{sound}")
    return claims


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _better(samples: Samples, scenario: str, measure: Measure, peer: str) -> float | None:
    by_server = samples.get(scenario, {})
    return times_better(measure, value(measure, by_server.get(OURS, ())), value(measure, by_server.get(peer, ())))


def _sound(samples: Samples, scenario: str, peer: str) -> str:
    judged = [sample for name in (OURS, peer) for sample in samples[scenario].get(name, ())]
    return " (on a disturbed machine)" if any(sample.disturbed for sample in judged) else ""


def _lower_bound(scenario: str, server: str, ramps: Ramps) -> bool:
    return scenario == "A-max" and any(ramp.generator_limited for ramp in ramps.get(server, ()))


def _figure(figure: float | None, measure: Measure, lower_bound: bool) -> str:
    return NOTHING if figure is None else f"{'>= ' if lower_bound else ''}{figure:,.{measure.digits}f}"


def _ratio(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.2f}"


def _kept(kept: object) -> str:
    return "kept" if kept else "NOT kept"
