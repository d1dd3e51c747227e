"""`python -m tests.faults [--only F07,F10] [--rounds N] [--short] [--seed S]`: the fault matrix on real processes.

Prints every row as it goes and a table in Markdown at the end; exit status 1 when a row failed. `--rounds` multiplies
how often each fault is made; `--short` shortens outages.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time

from tests.faults import rows_clients, rows_database, rows_nodes, rows_redis, rows_rooms
from tests.faults.matrix import ROWS, Outcome, not_run, run_row, table
from tests.support.clients import StockClients

__all__ = ["rows_clients", "rows_database", "rows_nodes", "rows_redis", "rows_rooms"]


NOT_HERE = {
    "F39": "no row: tests/contract/test_store_schema.py migrates under an old version that writes",
    "F40": "no row yet: it needs a memory limit for the whole node",
    "F42": "no row: tests/unit/server/auth/test_jwks.py has the outage of keys; no mail or models are asked",
    "F43": "no row: tests/acceptance/test_deploy_backup.py takes backups while people write, and restores them",
    "F46": "there are no AI peers yet",
    "F48": "eight hours; no row yet",
    "F50": "needs a second version of pycrdt",
}
"""Rows of the matrix that are not made, and why."""


async def campaign(names: list[str], *, seed: int, rounds: int, short: bool, patience: float) -> list[Outcome]:
    """Run these rows, one after another; prints progress."""
    outcomes: list[Outcome] = []
    for name in names:
        row = ROWS[name]
        print(f"{name:<6} {row.what}; {row.passes}", flush=True)
        async with StockClients() as oracle:
            outcome = await run_row(row, oracle, seed=seed, rounds=row.rounds * rounds, short=short, patience=patience)
        outcomes.append(outcome)
        print(f"{'':<6} {outcome.state}, n = {outcome.n}, {outcome.seconds:.0f} s", flush=True)
        for figure, value in outcome.measured.items():
            print(f"{'':<8} {figure}: {value}", flush=True)
        for problem in outcome.problems:
            print(f"{'':<8} ! {problem}", flush=True)
    return outcomes


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", default="", help="ids, separated by commas")
    parser.add_argument("--rounds", type=int, default=1, help="make each fault this many times as often")
    parser.add_argument("--short", action="store_true", help="shorter outages")
    parser.add_argument("--patience", type=float, default=1.0, help="widen bounds of time on a machine that is shared")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments = parser.parse_args()
    names = [name for name in arguments.only.split(",") if name] or sorted(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"no such rows: {', '.join(unknown)}; there are {', '.join(sorted(ROWS))}")
    print(f"seed {arguments.seed}", flush=True)
    started = time.monotonic()
    outcomes = asyncio.run(
        campaign(
            names,
            seed=arguments.seed,
            rounds=arguments.rounds,
            short=arguments.short,
            patience=arguments.patience,
        )
    )
    if not arguments.only:
        outcomes += [not_run(name, reason) for name, reason in NOT_HERE.items()]
    print(f"\n{table(outcomes)}\n\n{time.monotonic() - started:.0f} s, seed {arguments.seed}")
    return 1 if any(outcome.state == "FAILED" for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
