"""`python -m tests.faults.kill --runs 200 --database sqlite --target gateway`: `kill -9` at random moments under load.

Prints its seed first; the same seed gives the same load and the same delays (not the same thread timing). Ends with a
table and exit status 1 when anything acknowledged was lost or any replica differs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.campaign import Campaign, Strike, Target
from tests.support.clients import StockClients
from tests.support.postgres import PostgresServer
from tests.support.server import NO_RATES, RunningServer

STRIKES_PER_GENERATION = 20
"""Documents are renewed after this many kills: long histories make checks slow, not sharper."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server on a database of its own."""

    server: RunningServer
    database_bytes: Callable[[], Coroutine[Any, Any, int]]
    """What the database takes on disk now."""


@contextlib.contextmanager
def running(database: str) -> Iterator[Running]:
    """A server on a new database: `sqlite` (a file) or `postgres` (a private server); both end with the block."""
    with contextlib.ExitStack() as stack:
        if database == "sqlite":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="collab-faults-")))

            async def size() -> int:
                return sum(file.stat().st_size for file in folder.iterdir())

            url = f"sqlite:///{folder / 'collab.db'}"
        else:
            postgres = PostgresServer()
            stack.callback(postgres.close)
            postgres.start()
            name = asyncio.run(postgres.create_database())

            async def size() -> int:
                return int((await postgres.run(f"SELECT pg_database_size('{name}')"))[0][0])

            url = postgres.url(name)
        yield Running(stack.enter_context(RunningServer.start("--migrate", database=url, env=NO_RATES)), size)


async def campaign(
    server: RunningServer, targets: list[Target], rng: Random, *, rooms: int, writers: int
) -> list[Strike]:
    """One strike per target, in generations; prints progress."""
    strikes: list[Strike] = []
    async with StockClients() as oracle:
        for start in range(0, len(targets), STRIKES_PER_GENERATION):
            load = Campaign(server, oracle, rng, rooms=rooms, writers=writers)
            await load.begin()
            for target in targets[start : start + STRIKES_PER_GENERATION]:
                strikes.append(await load.strike(target))
                show(len(strikes), len(targets), strikes[-1])
            for problem in await load.end():
                strikes[-1].problems.append(problem)
                print(f"  ! {problem}")
    return strikes


def show(number: int, of: int, strike: Strike) -> None:
    """One line of progress."""
    counts = f"{strike.acknowledged:>6} of {strike.submitted:>6} acknowledged"
    print(f"{number:>4}/{of} {strike.target:<8} {counts}, back after {strike.back_after_s:.2f} s", flush=True)
    for problem in strike.problems:
        print(f"  ! {problem}", flush=True)


def table(strikes: list[Strike]) -> str:
    """The summary: what was killed how often, and what was lost."""
    lines = ["target     kills  back p50  back max  problems"]
    for target in dict.fromkeys(strike.target for strike in strikes):
        mine = [strike for strike in strikes if strike.target == target]
        back = [strike.back_after_s for strike in mine]
        problems = sum(len(strike.problems) for strike in mine)
        lines.append(f"{target:<9} {len(mine):>6} {statistics.median(back):>8.2f}s {max(back):>8.2f}s {problems:>9}")
    return "\n".join(lines)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kill", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="kills (default 200)")
    parser.add_argument("--database", default="sqlite", choices=["sqlite", "postgres"])
    parser.add_argument("--target", default="mixed", choices=["gateway", "engine", "both", "mixed"])
    parser.add_argument("--rooms", type=int, default=5)
    parser.add_argument("--writers", type=int, default=4, help="writers per room")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments = parser.parse_args()
    rng = Random(arguments.seed)
    print(f"seed {arguments.seed}, {arguments.runs} kills of {arguments.target}, {arguments.database}", flush=True)
    every: list[Target] = ["gateway", "engine", "both"]
    targets = [rng.choice(every) if arguments.target == "mixed" else arguments.target for _ in range(arguments.runs)]
    started = time.perf_counter()
    with running(arguments.database) as it:
        strikes = asyncio.run(campaign(it.server, targets, rng, rooms=arguments.rooms, writers=arguments.writers))
    print(f"\n{table(strikes)}\n{time.perf_counter() - started:.0f} s, seed {arguments.seed}")
    return 1 if any(strike.problems for strike in strikes) else 0


if __name__ == "__main__":
    sys.exit(main())
