"""`python -m benchmarks.soak`: whether collab's memory grows while people come, write and leave, for an hour.

Turn after turn 400 clients enter 100 rooms that nobody used before, three of each four write and move their cursors,
the fourth does not read meanwhile; then all are gone without a goodbye. The server has its defaults. Prints the memory
of its processes at the end of each turn, everybody still connected, and draws it. Exit status 1 when the last quarter
of the turns needed a tenth more than the second quarter, or a turn had trouble.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import install, plots, servers
from benchmarks.load import Cores, Load, apply
from benchmarks.services import ServerFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.load import Sample
    from benchmarks.servers import Running

TURN = Load(
    rooms=100, clients=4, writers=3, update_rate=2, cursor_rate=2, stalled=1, warmup_s=0.5, seconds=5, drain_s=20
)
MOST_TIMES = 1.1
"""What the memory may become of what it was (checker C7)."""
DRAWN = 24
"""Bars in the picture, each the median of as many turns."""


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--collab", choices=("sqlite", "postgres"), default="sqlite", help="what it keeps documents in")
    parser.add_argument("--output", type=Path, help="where to draw the memory (.svg)")
    chosen = parser.parse_args()
    server_core, generator_core = sorted(os.sched_getaffinity(0))[:2]
    cores = Cores(server_core, generator_core)
    server = servers.collab(None) if chosen.collab == "sqlite" else servers.collab_postgres()
    try:
        generator = install.compile_generator()
        with servers.place(server, cores) as place, place.running() as running:
            turns = _soak(running, generator, cores, minutes=chosen.minutes)
    except (install.Missing, ServerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    if chosen.output is not None:
        chosen.output.write_text(_picture(turns))
    problems = judge([turn.loaded_kib for turn in turns]) + [turn.trouble for turn in turns if turn.trouble]
    for problem in problems:
        print(f"! {problem}")
    return 1 if problems else 0


def _soak(running: Running, generator: Path, cores: Cores, *, minutes: float) -> list[Sample]:
    turns: list[Sample] = []
    began = time.monotonic()
    while (since := time.monotonic() - began) < minutes * 60:
        turn = apply(TURN, running, generator, cores, run=f"soak-{len(turns)}")
        turns.append(turn)
        print(
            f"{since / 60:5.1f} min, {len(turns) * TURN.rooms} rooms so far: {turn.loaded_kib / 1024:.1f} MiB "
            f"{turn.trouble or ''}",
            flush=True,
        )
    return turns


def judge(kib: Sequence[float]) -> list[str]:
    """What is wrong with the memory at the end of each turn, in order."""
    quarter = len(kib) // 4
    if not quarter:
        return ["too few turns to tell"]
    before, after = statistics.median(kib[quarter : 2 * quarter]), statistics.median(kib[-quarter:])
    said = f"from {before / 1024:.1f} to {after / 1024:.1f} MiB, {after / before:.2f} times"
    print(f"memory, median of the second quarter and the last: {said}")
    return [f"the memory grew {said}"] if after > before * MOST_TIMES else []


def _picture(turns: Sequence[Sample]) -> str:
    each = -(-len(turns) // DRAWN)
    bars = []
    for first in range(0, len(turns), each):
        mib = statistics.median(turn.loaded_kib / 1024 for turn in turns[first : first + each])
        bars.append(plots.Bar(f"after {(first + each) * TURN.rooms} rooms", mib, f"{mib:.1f}", ours=True))
    return plots.svg("collab while people come, write and leave", [plots.Panel("memory, MiB", bars)])


if __name__ == "__main__":
    sys.exit(main())
