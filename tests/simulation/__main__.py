"""`python -m tests.simulation`: run many seeds, or look at one.

--seeds 100000 --jobs 2 [--from N]     run them; exit status 1 when any fails, each with the command to replay it
--seed N [--verbose]                   run one and print what happened
--no-anti-entropy                      without digests and without following the log: some seeds must then fail
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING

from tests.simulation.campaign import outcomes
from tests.simulation.regressions import REGRESSIONS
from tests.simulation.run import run_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_SHOWN = 20
"""Failing seeds reported one by one."""
MOST_TOLD = 2
"""Failing seeds whose last events are printed too."""


def main() -> int:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes")
    parser.add_argument("--seed", type=int, help="run only this one, and print its last events")
    parser.add_argument("--verbose", action="store_true", help="with --seed: print all its events, also when it passes")
    parser.add_argument("--no-anti-entropy", action="store_true", help="no digests, no following of the log")
    parser.add_argument(
        "--json", action="store_true", help="end with a line of JSON: failing seeds, hash of everything"
    )
    options = parser.parse_args()
    if options.seed is not None:
        return _one(options.seed, anti_entropy=not options.no_anti_entropy, verbose=options.verbose)
    seeds = list(dict.fromkeys([*REGRESSIONS, *range(options.first, options.first + options.seeds)]))
    return _many(seeds, options)


def _one(seed: int, *, anti_entropy: bool, verbose: bool) -> int:
    outcome = run_seed(seed, anti_entropy=anti_entropy, verbose=verbose)
    print("\n".join(outcome.lines))
    print(f"seed {seed}: {outcome.digest}, settled after {outcome.settled_after:.2f} s, {dict(outcome.counts)}")
    print("\n".join(outcome.problems) or "all is well")
    return 1 if outcome.problems else 0


def _many(seeds: Sequence[int], options: argparse.Namespace) -> int:
    started = perf_counter()
    totals: Counter[str] = Counter()
    settled: dict[bool, list[float]] = {False: [], True: []}
    failed: list[int] = []
    digests: dict[int, str] = {}
    for outcome in outcomes(seeds, jobs=options.jobs, anti_entropy=not options.no_anti_entropy):
        totals.update(outcome.counts)
        digests[outcome.seed] = outcome.digest
        if not outcome.problems:
            settled[outcome.bus_was_out].append(outcome.settled_after)
            continue
        failed.append(outcome.seed)
        if len(failed) <= MOST_TOLD:
            print("\n".join(outcome.lines))
        if len(failed) <= MOST_SHOWN:
            print(f"seed {outcome.seed} failed: {'; '.join(outcome.problems[:3])}")
            flag = " --no-anti-entropy" if options.no_anti_entropy else ""
            print(f"  replay: python -m tests.simulation --seed {outcome.seed} --verbose{flag}", flush=True)
    seconds = perf_counter() - started
    print(f"{len(seeds)} histories in {seconds:.0f} s, {len(failed)} failed; {dict(sorted(totals.items()))}")
    for bus_was_out, times in settled.items():
        print(f"settled{' after the bus was out' if bus_was_out else ''}: {_quantiles(times)}")
    if options.json:
        everything = sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
        print(json.dumps({"failed": sorted(failed), "digest": everything}))
    return 1 if failed else 0


def _quantiles(times: list[float]) -> str:
    if not times:
        return "none"
    times.sort()
    found = [
        f"{share:.0%} in {times[min(len(times) - 1, int(share * len(times)))]:.2f} s" for share in (0.5, 0.9, 0.99)
    ]
    return ", ".join([*found, f"all in {times[-1]:.2f} s"])


if __name__ == "__main__":
    sys.exit(main())
