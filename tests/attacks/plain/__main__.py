"""`python -m tests.attacks.plain --updates 1000000`: hostile plain updates that clocks admit, given to yrs and to Yjs.

Prints crashes, made small, and counts what differs. Exit status 1 when something crashed, which it does unless what is
known to crash is left out: `--without wide entries collected`.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from pathlib import Path

from tests.attacks.plain.campaign import SHAPES, Campaign, Case, Summary
from tests.attacks.plain.sides import Sides
from tests.attacks.plain.writer import EXCLUSIONS

REPORT_EVERY_S = 15.0


async def _main(updates: int, seed: int, into: Path | None, without: frozenset[str], *, differences: bool) -> Summary:
    def tell(case: Case) -> None:
        text = "\n".join(case.lines())
        print(text, flush=True)
        if into is not None:
            with into.open("a") as file:
                file.write(f"seed {seed}: {text}\n\n")

    async with Sides() as sides:
        campaign = Campaign(sides, seed, tell, without=without, differences=differences)
        watch = asyncio.create_task(_watch(campaign.summary), name="watch")
        try:
            return await campaign.run(updates)
        finally:
            watch.cancel()


async def _watch(summary: Summary) -> None:
    started = time.perf_counter()
    while True:
        await asyncio.sleep(REPORT_EVERY_S)
        rate = summary.updates / (time.perf_counter() - started)
        print(f"{summary.updates} updates, {rate:.0f}/s, {dict(summary.kinds)}", flush=True)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.plain", description=__doc__)
    parser.add_argument("--updates", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--findings", type=Path, help="file that cases are added to")
    parser.add_argument("--without", nargs="*", default=[], choices=[*EXCLUSIONS, *SHAPES], help="leave this out")
    parser.add_argument("--differences", action="store_true", help="make small what differs, too, not only crashes")
    parser.add_argument("--labels", action="store_true", help="print how often what was written")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    started = time.perf_counter()
    summary = asyncio.run(
        _main(
            arguments.updates,
            arguments.seed,
            arguments.findings,
            frozenset(arguments.without),
            differences=arguments.differences,
        )
    )
    seconds = time.perf_counter() - started
    print(f"{summary.updates} updates for {summary.documents} documents in {seconds:.0f} s, seed {arguments.seed}")
    print(f"not admitted and made again: {summary.refused}; findings: {dict(summary.kinds) or 'none'}")
    for name, count in sorted(summary.shapes.items()):
        print(f"  {name}: {count}")
    if arguments.labels:
        for name, count in summary.labels.most_common():
            print(f"  {count:8d} {name}")
    return 1 if any(case.finding.crash for case in summary.cases) else 0


if __name__ == "__main__":
    sys.exit(main())
