"""What collab promises of each scenario, and whether a run kept it.

Pure. A bound is judged by medians over the rounds that had no trouble. A peer with trouble is nobody's measure; a
scenario in which collab had trouble keeps no promise. "Unchanged" is within a fifth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import report
from benchmarks.load import BUSY_SHARE
from benchmarks.report import NO_PEERS, OURS, Measure, Samples, value, without_trouble
from benchmarks.servers import COLLAB_INLINE, COLLAB_POSTGRES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNCHANGED = 1.2
ENOUGH_ROUNDS = 5
"""A median of fewer is no verdict to rely on."""
YWS, HOCUSPOCUS = "yws", "hocuspocus"


@dataclass(frozen=True, slots=True)
class Run:
    """All samples of a run, seen by one of ours."""

    samples: Samples
    ours: str

    def own(self, scenario: str, measure: Measure) -> float | None:
        """Our figure."""
        return value(measure, without_trouble(self.samples.get(scenario, {}).get(self.ours, ())))

    def best(self, scenario: str, measure: Measure, peers: Sequence[str] = ()) -> float | None:
        """The best figure among these peers, or among all."""
        by_server = self.samples.get(scenario, {})
        names = peers or [name for name in by_server if name not in NO_PEERS]
        figures = [value(measure, without_trouble(by_server.get(name, ()))) for name in names]
        known = [figure for figure in figures if figure is not None]
        return (max if measure.higher_is_better else min)(known, default=None)


@dataclass(frozen=True, slots=True)
class Bound:
    """One promise. `scenarios` are those whose figures it needs, the one it is about first."""

    scenarios: tuple[str, ...]
    promise: str
    limit: float
    figure: Callable[[Run], float | None]
    unit: str = "x"
    at_least: bool = False
    only: str | None = None
    """The one of ours that it is about, when not each."""

    def keeps(self, figure: float) -> bool:
        """Whether this figure is within it."""
        return figure >= self.limit if self.at_least else figure <= self.limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a promise."""

    bound: Bound
    figure: float | None
    kept: bool | None
    """None: this run cannot tell."""
    remarks: tuple[str, ...]


def _to_peers(scenario: str, measure: Measure, *peers: str) -> Callable[[Run], float | None]:
    """Our figure in times the best of these peers', or of all."""
    return lambda run: _quotient(run.own(scenario, measure), run.best(scenario, measure, peers))


def _own(scenario: str, measure: Measure) -> Callable[[Run], float | None]:
    return lambda run: run.own(scenario, measure)


def _to_own(scenario: str, measure: Measure, other: str, its: Measure | None = None) -> Callable[[Run], float | None]:
    """Our figure in times our own of another scenario."""
    return lambda run: _quotient(run.own(scenario, measure), run.own(other, its or measure))


def _at_best(scenario: str, measure: Measure) -> Callable[[Run], float | None]:
    """The best of our rounds."""

    def best(run: Run) -> float | None:
        sound = without_trouble(run.samples.get(scenario, {}).get(run.ours, ()))
        return min((measure.of(sample) for sample in sound), default=None)

    return best


def _more_than_own(scenario: str, measure: Measure, other: str) -> Callable[[Run], float | None]:
    def difference(run: Run) -> float | None:
        figure, less = run.own(scenario, measure), run.own(other, measure)
        return None if figure is None or less is None else max(0.0, figure - less)

    return difference


def _quotient(figure: float | None, by: float | None) -> float | None:
    return None if figure is None or not by else figure / by


def _speed(scenario: str) -> list[Bound]:
    return [
        Bound((scenario,), "p50 at most 1.2 of the best peer's", 1.2, _to_peers(scenario, report.P50)),
        Bound((scenario,), "p99 not worse than the best peer's", 1.0, _to_peers(scenario, report.P99)),
    ]


def _kept_in_time(scenario: str) -> list[Bound]:
    p50, p99 = report.KEPT_P50, report.KEPT_P99
    return [
        Bound((scenario,), "acknowledged within 10 ms at p50", 10, _own(scenario, p50), " ms", only=COLLAB_POSTGRES),
        Bound((scenario,), "acknowledged within 100 ms at p99", 100, _own(scenario, p99), " ms", only=COLLAB_POSTGRES),
    ]


def _between_nodes(scenario: str) -> Bound:
    return Bound((scenario,), "p50 to the other node at most 2x within a node", 2, _own(scenario, report.BETWEEN_TIMES))


BOUNDS = (
    Bound(("A1h",), "CPU per delivery at most 0.9 of the best peer's", 0.9, _to_peers("A1h", report.CPU)),
    Bound(("A2",), "CPU per delivery at most 0.7 of the best peer's", 0.7, _to_peers("A2", report.CPU)),
    *_speed("A2"),
    Bound(("A-max",), "3x Hocuspocus", 3, _to_peers("A-max", report.SUSTAINED, HOCUSPOCUS), at_least=True),
    Bound(("A-max",), "12x y-websocket", 12, _to_peers("A-max", report.SUSTAINED, YWS), at_least=True),
    Bound(("B",), "CPU per delivery at most 0.9 of y-websocket's", 0.9, _to_peers("B", report.CPU, YWS)),
    Bound(("B",), "CPU per delivery at most 0.45 of Hocuspocus'", 0.45, _to_peers("B", report.CPU, HOCUSPOCUS)),
    *_speed("B"),
    Bound(("C",), "memory per connection at most 2x y-websocket's", 2, _to_peers("C", report.KIB, YWS)),
    Bound(("C",), "synced within 1.5x of y-websocket's time", 1.5, _to_peers("C", report.SYNCED, YWS)),
    Bound(("D50",), "last of 50 within 0.4 of y-websocket's time", 0.4, _to_peers("D50", report.LAST_JOINED, YWS)),
    Bound(
        ("DM",),
        "memory per document at most 0.6 of the better of y-websocket and Hocuspocus",
        0.6,
        _to_peers("DM", report.DOCUMENT_MIB, YWS, HOCUSPOCUS),
    ),
    Bound(
        ("E1", "E0"),
        "at most 1 MiB for a slow reader",
        1,
        _more_than_own("E1", report.GROWTH, "E0"),
        " MiB",
    ),
    Bound(("E1", "E0"), "others' p50 unchanged by a slow reader", UNCHANGED, _to_own("E1", report.P50, "E0")),
    Bound(("E1",), "the slow reader recovers", 20, _own("E1", report.RECOVERED), " s"),
    Bound(
        ("F",), "p50 between nodes at most 0.75 of Hocuspocus'", 0.75, _to_peers("F", report.BETWEEN_P50, HOCUSPOCUS)
    ),
    Bound(("F",), "CPU per delivery at most 0.75 of Hocuspocus'", 0.75, _to_peers("F", report.NODES_CPU, HOCUSPOCUS)),
    _between_nodes("F"),
    _between_nodes("F1"),
    *_kept_in_time("GA2"),
    *_kept_in_time("GB"),
    Bound(("H1",), "at most 0.35 of a core", 0.35, _own("H1", report.BUSY_CORES), " cores"),
    Bound(("H1", "H0"), "the edits' p99 unchanged by cursors", UNCHANGED, _to_own("H1", report.EDITS_P99, "H0")),
    Bound(("J",), "last synced within 0.2 of the best peer's time", 0.2, _to_peers("J", report.LAST_JOINED)),
    Bound(("J",), "the typist's p99 within 100 ms", 100, _own("J", report.EDITS_P99), " ms"),
    Bound(("J",), "memory grows by at most 10x the document", 10, _own("J", report.PEAK_TIMES)),
    Bound(("H10",), "no client lost at ten moves a second", 0, lambda run: _lost(run, "H10"), " clients"),
    Bound(("L",), "others' p99 within 10 ms, best round", 10, _at_best("L", report.EDITS_P99), " ms"),
    Bound(
        ("L",),
        "others' p99 at most 0.25 of what it is with the engine inline",
        0.25,
        _to_peers("L", report.EDITS_P99, COLLAB_INLINE),
    ),
    Bound(
        ("M", "B"),
        "CPU per delivery at most 1.3x one node's",
        1.3,
        _to_own("M", report.NODES_CPU, "B", report.CPU),
        only=COLLAB_POSTGRES,
    ),
    Bound(("overload",), "newcomers synced within 5 s", 5, _own("overload", report.LAST_JOINED), " s"),
    Bound(("overload",), "everything delivered within 5 s", 5, _own("overload", report.DRAINED), " s"),
    Bound(("overload",), "no client lost", 0, lambda run: _lost(run, "overload"), " clients"),
)


def judge(samples: Samples, ours: str) -> list[Verdict]:
    """The promises that this run is about, in the order of their scenarios; peers promise nothing."""
    run = Run(samples, ours)
    found = []
    for bound in BOUNDS if ours in OURS else ():
        runs = [samples.get(scenario, {}).get(ours, []) for scenario in bound.scenarios]
        if not all(runs) or bound.only not in (None, ours):
            continue
        troubles = [sample.trouble for by_scenario in runs for sample in by_scenario if sample.trouble]
        figure = bound.figure(run)
        kept = None if figure is None else bound.keeps(figure)
        remarks = [trouble.splitlines()[0] for trouble in dict.fromkeys(troubles)]
        if troubles:
            kept = False
        elif figure is None:
            remarks.append("no peer to compare with")
        found.append(Verdict(bound, figure, kept, (*remarks, *_doubts(samples, bound.scenarios))))
    return found


def table(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a Markdown table."""
    rows = []
    for verdict in verdicts:
        bound = verdict.bound
        limit = f"{'>=' if bound.at_least else '<='} {bound.limit:g}{bound.unit}"
        figure = report.NOTHING if verdict.figure is None else f"{verdict.figure:.2f}{bound.unit}"
        said = {True: "kept", False: "**NOT kept**", None: "cannot tell"}[verdict.kept]
        rows.append([bound.scenarios[0], bound.promise, limit, figure, said, "; ".join(verdict.remarks)])
    return report.table(["scenario", "promise", "bound", "measured", "", "remarks"], rows)


def _lost(run: Run, scenario: str) -> float | None:
    """Clients lost, trouble or not: that is the trouble."""
    return value(report.LOST, run.samples.get(scenario, {}).get(run.ours, ()))


def _doubts(samples: Samples, scenarios: Sequence[str]) -> list[str]:
    judged = [sample for scenario in scenarios for runs in samples[scenario].values() for sample in runs]
    doubts = ["on a disturbed machine"] if any(sample.disturbed for sample in judged) else []
    if min(len(runs) for scenario in scenarios for runs in samples[scenario].values()) < ENOUGH_ROUNDS:
        doubts.append(f"fewer than {ENOUGH_ROUNDS} rounds")
    if any(sample.generator_share > BUSY_SHARE for sample in judged):
        doubts.append("the generator may have been the limit")
    return doubts
