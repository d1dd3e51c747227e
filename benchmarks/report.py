"""Turns samples into the tables people read: medians over the rounds, ratios against each peer of the same run.

Pure: values in, text and numbers out. A ratio says how many times better collab is, whichever way the figure points,
so above 1 is always good news. What was promised is judged in `bounds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.load import BUSY_SHARE, FOREIGN_SHARE, Sample
from benchmarks.plots import Bar, Panel
from benchmarks.scenarios import PARTS, TITLES, TWO_NODES, Ramp
from benchmarks.servers import COLLAB_INLINE, COLLAB_POSTGRES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OURS = ("collab", COLLAB_POSTGRES)
"""Who promises something."""
NO_PEERS = (*OURS, COLLAB_INLINE)
"""Those nothing is measured against but by name."""
NOTHING = "-"
TROUBLED = "(!)"
PLOTTED = 3
"""Measures of a scenario that are shown as bars."""


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
POSTGRES = Measure(
    "beside that PostgreSQL, CPU ms per 1,000", lambda sample: sample.service_cpu_ms_per_1000("postgres"), 2
)
KIB = Measure("KiB per connection", lambda sample: sample.kib_per_connection, 1)
SYNCED = Measure("seconds until all synced", lambda sample: sample.synced_s, 2)
IDLE = (
    KIB,
    SYNCED,
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
)
SUSTAINED = Measure("deliveries/s sustained", lambda sample: sample.deliveries_per_s, 0, higher_is_better=True)
LAST_JOINED = Measure("seconds until the last is synced", lambda sample: sample.join_ms("max") / 1000, 3)
MIDDLE_JOINED = Measure("seconds until half of them are", lambda sample: sample.join_ms("p50") / 1000, 3)
DOCUMENT_MIB = Measure("MiB per open document", lambda sample: sample.mib_per_document, 2)
GROWTH = Measure("MiB that came while it was sent", lambda sample: sample.sent_growth_mib, 1)
RECOVERED = Measure("seconds until the slow one has everything", lambda sample: sample.recovered_s, 2)
KEPT_P50 = Measure("p50 ms until acknowledged", lambda sample: sample.acknowledged_ms("p50"), 2)
KEPT_P99 = Measure("p99 ms until acknowledged", lambda sample: sample.acknowledged_ms("p99"), 2)
BUSY_CORES = Measure("cores busy", lambda sample: sample.cores, 2)
EDITS_P50 = Measure("p50 ms of the edits", lambda sample: sample.update_ms("p50"), 2)
EDITS_P99 = Measure("p99 ms of the edits", lambda sample: sample.update_ms("p99"), 2)
PEAK = Measure("MiB that came at most", lambda sample: sample.peak_growth_mib, 1)
PEAK_TIMES = Measure("that, in times the document", lambda sample: sample.peak_growth_documents, 1)
DRAINED = Measure("seconds until the last delivery after the end", lambda sample: sample.drained_s, 2)
LOST = Measure("clients lost", lambda sample: sample.connections_lost, 0)
JOINING_CPU = Measure("CPU ms for each who joined", lambda sample: sample.cpu_ms_per_join, 2)

_MEASURES = {
    "A-max": (SUSTAINED,),
    "C": IDLE,
    "D1": (LAST_JOINED,),
    "D50": (LAST_JOINED, MIDDLE_JOINED, JOINING_CPU),
    "DM": (DOCUMENT_MIB,),
    "E0": (GROWTH, P50, P99, CPU),
    "E1": (GROWTH, P50, P99, CPU, RECOVERED),
    "GA2": (KEPT_P50, KEPT_P99, CPU),
    "GB": (KEPT_P50, KEPT_P99, CPU),
    "J": (LAST_JOINED, MIDDLE_JOINED, EDITS_P99, PEAK, PEAK_TIMES),
    "K": (LAST_JOINED, MIDDLE_JOINED, JOINING_CPU),
    "L": (EDITS_P50, EDITS_P99),
    "overload": (LAST_JOINED, DRAINED, LOST),
    **dict.fromkeys(PARTS["H"], (BUSY_CORES, EDITS_P50, EDITS_P99, CPU)),
    **dict.fromkeys(TWO_NODES, NODES),
}


def measures(scenario: str, samples: Mapping[str, Sequence[Sample]] | None = None) -> tuple[Measure, ...]:
    """What is reported of a scenario; with PostgreSQL's share where one of the samples has it."""
    found = _MEASURES.get(scenario, (CPU, P50, P99))
    runs = [sample for by_server in (samples or {}).values() for sample in by_server]
    beside = any("postgres" in sample.service_cpu_ms and sample.deliveries for sample in runs)
    return (*found, POSTGRES) if beside and scenario != "A-max" else found


Samples = dict[str, dict[str, list[Sample]]]
"""By scenario, then by server: one sample a round."""
Ramps = dict[str, list[Ramp]]
"""By server: one climb a round."""


def value(measure: Measure, samples: Sequence[Sample]) -> float | None:
    """The median over the rounds that brought a figure; None when none did."""
    figures = [measure.of(sample) for sample in samples if sample.failure is None]
    return median(figures) if figures else None


def without_trouble(samples: Sequence[Sample]) -> list[Sample]:
    """Those whose figures may be compared."""
    return [sample for sample in samples if sample.trouble is None]


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


def markdown(
    samples: Samples,
    ramps: Ramps,
    servers: Sequence[str],
    facts: Mapping[str, str],
    *,
    verdicts: str = "",
    plots: Mapping[str, str] | None = None,
) -> str:
    """The whole report. `verdicts` is what `bounds` says; `plots` the path of each scenario's."""
    everything = with_sustained(samples, ramps)
    parts = ["# collab beside its peers", "\n".join(f"- {name}: {fact}" for name, fact in facts.items())]
    if warning := disturbance(everything):
        parts.append(warning)
    peers = [name for name in servers if name not in OURS]
    variants: list[str | None] = [name for name in servers if name in OURS]
    for ours in variants or [None]:
        parts.append(f"## {ours or 'The peers'}{' beside its peers' if ours else ''}")
        parts.append(results_table(everything, ramps, ours, peers))
    parts.append(f"{TROUBLED} A row with trouble, which the table below names: not comparable, and judged by nothing.")
    if verdicts:
        parts.append("## What was promised\n\n" + verdicts)
    parts.append("## Can the rows be trusted?\n\n" + trust_table(everything, ramps, servers))
    if ramps:
        parts.append("## A-max, every step\n\n" + steps_table(ramps))
    if plots:
        parts.append("## In pictures")
        parts += [f"![{scenario}: {TITLES[scenario]}]({path})" for scenario, path in plots.items()]
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


def results_table(samples: Samples, ramps: Ramps, ours: str | None, peers: Sequence[str]) -> str:
    """The figures and the ratios of one of ours and its peers."""
    servers = [ours, *peers] if ours else list(peers)
    compared = list(peers) if ours else []
    heads = ["scenario", "measure", *servers, *(f"x better than {name}" for name in compared)]
    heads += ["x better than the best"] if len(compared) > 1 else []
    rows = []
    for scenario, by_server in samples.items():
        runs = {name: by_server.get(name, []) for name in servers}
        if ours and not runs[ours]:
            continue
        for index, measure in enumerate(measures(scenario, runs)):
            figures = {name: value(measure, found) for name, found in runs.items()}
            ratios = [times_better(measure, figures[ours], figures[name]) for name in compared] if ours else []
            sound = [
                ratio
                for ratio, name in zip(ratios, compared, strict=True)
                if ratio and name not in NO_PEERS and not _trouble(runs[name])
            ]
            cells = [f"**{scenario}** {TITLES[scenario]}" if index == 0 else "", measure.title]
            cells += [figure_text(figures[name], measure, runs[name], scenario, name, ramps) for name in servers]
            cells += map(_ratio, [*ratios, min(sound)] if sound and len(compared) > 1 else ratios)
            rows.append(cells + [NOTHING] * (len(heads) - len(cells)))
    return table(heads, rows)


def figure_text(
    figure: float | None, measure: Measure, runs: Sequence[Sample], scenario: str, server: str, ramps: Ramps
) -> str:
    """A figure as the table shows it: marked where the generator may be the limit, and where there was trouble."""
    if figure is None:
        return "failed" if runs else NOTHING
    bound = ">= " if _lower_bound(scenario, server, ramps) else ""
    return f"{bound}{figure:,.{measure.digits}f}{' ' + TROUBLED if _trouble(runs) else ''}"


def _trouble(runs: Sequence[Sample]) -> bool:
    return any(sample.trouble for sample in runs)


def panels(scenario: str, samples: Samples, ramps: Ramps, servers: Sequence[str]) -> list[Panel]:
    """A scenario's first measures as bars; those without a figure of anybody are left out."""
    runs = samples[scenario]
    found = []
    for measure in measures(scenario)[:PLOTTED]:
        bars = [
            Bar(name, figure, figure_text(figure, measure, runs[name], scenario, name, ramps), ours=name in OURS)
            for name in servers
            if name in runs and (figure := value(measure, runs[name])) is not None and isfinite(figure)
        ]
        if any(bar.figure for bar in bars):
            found.append(Panel(measure.title, bars))
    return found


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


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _lower_bound(scenario: str, server: str, ramps: Ramps) -> bool:
    return scenario == "A-max" and any(ramp.generator_limited for ramp in ramps.get(server, ()))


def _ratio(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.2f}"
