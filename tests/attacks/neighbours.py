"""`python -m tests.attacks.neighbours`: what a hostile client at full speed costs the rooms beside its own.

A server with its defaults on one core; on the other the clients of four honest rooms, and a process that does to one
more room whatever it can, as fast as it can (`tests.attacks.hostile`): mutated updates, bombs, questions, pings,
presence, and readers that read nothing. Prints how long an update took in the honest rooms before and meanwhile, and
the server's memory before, meanwhile and after. Exit status 1 when p99 more than doubled, or the memory did not come
back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import secrets
import sys

from benchmarks.proc import memory_kib
from tests.attacks.control import ControlRoom
from tests.attacks.hostile import attacked
from tests.support.server import RunningServer

EVERY_S = (0.017, 0.019, 0.023, 0.029)
"""Between the updates of each honest room; rooms that keep time would wait for each other in their own process."""
SERVER_CORE, CLIENTS_CORE = 0, 1
MOST_TIMES = 2.0
"""What p99 may become of its quiet value (issue 5's bound)."""
MOST_MEMORY = 1.1
"""What may stay of the memory: a tenth more than before (checker C7)."""
UNLOAD_AFTER_S, LET_GO_AFTER_S = 2.0, 15.0
"""How soon a room without sessions is let go here, and how long is waited for that and for what is freed late."""


async def measure(server: RunningServer, *, seconds: float, seed: int) -> list[str]:
    """Quiet, attacked, left alone; prints figures and gives back what broke a bound."""
    async with contextlib.AsyncExitStack() as stack:
        rooms = [
            await stack.enter_async_context(ControlRoom(server.ws_url, f"beside:{every}", every_s=every))
            for every in EVERY_S
        ]
        fresh = memory_kib(server.pid)
        async with attacked(f"{server.ws_url}/hostile:{seed}", seed, core=CLIENTS_CORE):
            await asyncio.sleep(seconds)
        await asyncio.sleep(LET_GO_AFTER_S)
        before = memory_kib(server.pid)  # what a process needs that has worked once is no growth
        quiet = await _listen(rooms, seconds)
        async with attacked(f"{server.ws_url}/hostile:{seed + 1}", seed + 1, core=CLIENTS_CORE) as done:
            beside, meanwhile = await _listen(rooms, seconds), memory_kib(server.pid)
        await asyncio.sleep(LET_GO_AFTER_S)
        after = memory_kib(server.pid)
    times = _quantile(beside, 0.99) / _quantile(quiet, 0.99)
    print(f"attack:    {done.connections} connections, {done.frames} frames")
    print(f"quiet:     {_shown(quiet)}")
    print(f"attacked:  {_shown(beside)}; p99 {times:.2f} times the quiet one")
    print(
        f"memory:    {fresh / 1024:.0f} MiB fresh, {before / 1024:.0f} after an attack, {meanwhile / 1024:.0f} during "
        f"another, {after / 1024:.0f} after it"
    )
    problems = [f"p99 is {times:.2f} times its quiet value"] if times > MOST_TIMES else []
    return problems + (["the memory did not come back"] if after > before * MOST_MEMORY else [])


async def _listen(rooms: list[ControlRoom], seconds: float) -> list[float]:
    for room in rooms:
        room.delays_s.clear()
    await asyncio.sleep(seconds)
    return sorted(delay for room in rooms for delay in room.delays_s)


def _quantile(delays: list[float], q: float) -> float:
    return delays[int(q * (len(delays) - 1))]


def _shown(delays: list[float]) -> str:
    p50, p99 = _quantile(delays, 0.5), _quantile(delays, 0.99)
    return f"{len(delays)} updates, p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, most {delays[-1] * 1000:.1f} ms"


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.neighbours", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of listening, before and meanwhile")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    os.sched_setaffinity(0, {SERVER_CORE})
    with RunningServer.start(env={"COLLAB_UNLOAD_AFTER_S": str(UNLOAD_AFTER_S)}) as server:
        os.sched_setaffinity(0, {CLIENTS_CORE})
        gc.disable()  # its pauses would be taken for the server's
        problems = asyncio.run(measure(server, seconds=arguments.seconds, seed=arguments.seed))
    for problem in problems:
        print(f"! {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
