"""`python -m tests.attacks.neighbours`: what a hostile client at full speed costs the rooms beside its own.

A server with its defaults on one core; on the other the clients of four honest rooms, and a process that does to one
more room whatever it can, as fast as it can: mutated updates, bombs, questions, pings, presence, and readers that read
nothing. Prints how long an update took in the honest rooms before and meanwhile, and the server's memory before,
meanwhile and after. Exit status 1 when p99 more than doubled, or the memory did not come back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import secrets
import sys
from random import Random
from typing import TYPE_CHECKING

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from benchmarks.proc import memory_kib
from tests.attacks.control import ControlRoom
from tests.attacks.harm import corpus, mutated, valid_update, wrong_inside
from tests.support import wire
from tests.support.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ROOMS = 4
SERVER_CORE, CLIENTS_CORE = 0, 1
MOST_TIMES = 2.0
"""What p99 may become of its quiet value (issue 5's bound)."""
MOST_MEMORY = 1.1
"""What may stay of the memory: a tenth more than before (checker C7)."""
UNLOAD_AFTER_S, LET_GO_AFTER_S = 2.0, 15.0
"""How soon a room without sessions is let go here, and how long is waited for that and for what is freed late."""


async def mutated_updates(url: str, rng: Random) -> None:
    """Updates with changed bytes, until the server has had enough, and again."""
    good = corpus(rng)
    async with _entered(url) as socket:
        while True:
            await socket.send(wire.update(mutated(rng.choice(good), rng)))


async def bombs(url: str, rng: Random) -> None:
    """Updates that cannot be."""
    attacks = wrong_inside(wire.update)
    async with _entered(url) as socket:
        await socket.send(rng.choice(attacks).frame)
        async for _ in socket:
            pass


async def valid_updates(url: str, rng: Random) -> None:
    """One letter of one more client, as fast as the socket takes them."""
    async with _entered(url) as socket:
        while True:
            await socket.send(wire.update(valid_update(rng.getrandbits(32))))


async def questions(url: str, rng: Random) -> None:
    """SyncStep1 from nothing, again and again."""
    async with _entered(url) as socket:
        while True:
            await socket.send(wire.step1())
            if rng.random() < 0.01:
                await asyncio.sleep(0)


async def pings(url: str, rng: Random) -> None:
    """Pings that nobody waits for."""
    async with _entered(url) as socket:
        while True:
            await socket.ping(rng.randbytes(100))


async def presence(url: str, rng: Random) -> None:
    """The largest state there may be, moving all the time."""
    client, clock = rng.getrandbits(32), 0
    async with _entered(url) as socket:
        while True:
            clock += 1
            await socket.send(wire.awareness((client, clock, f'{{"x":"{rng.randbytes(3500).hex()}"}}')))


async def reads_nothing(url: str, rng: Random) -> None:
    """A reader that reads nothing."""
    async with _entered(url) as socket:
        socket.transport.pause_reading()
        await asyncio.sleep(10 + rng.random())


EVERYTHING = (mutated_updates, bombs, valid_updates, questions, pings, presence, reads_nothing)


@contextlib.asynccontextmanager
async def _entered(url: str) -> AsyncIterator[ClientConnection]:
    async with connect(url, max_size=None, compression=None, ping_interval=None, proxy=None, close_timeout=1) as socket:
        yield socket


async def _again_and_again(act: Callable[[str, Random], Awaitable[None]], url: str, rng: Random) -> None:
    while True:
        with contextlib.suppress(ConnectionClosed, InvalidHandshake, OSError, TimeoutError):
            await act(url, rng)
        await asyncio.sleep(0.05)


async def _attack(url: str, seed: int) -> None:
    rng = Random(seed)
    async with asyncio.TaskGroup() as group:
        for act in EVERYTHING:
            group.create_task(_again_and_again(act, url, Random(rng.getrandbits(64))))


def _hostile_process(url: str, seed: int) -> None:
    os.sched_setaffinity(0, {CLIENTS_CORE})
    # It takes what the honest ones, who share its core, leave of it, and must not slow down their clocks.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    asyncio.run(_attack(url, seed))


async def measure(server: RunningServer, *, seconds: float, seed: int) -> list[str]:
    """Quiet, attacked, left alone; prints figures and gives back what broke a bound."""
    async with contextlib.AsyncExitStack() as stack:
        rooms = [await stack.enter_async_context(ControlRoom(server.ws_url, f"beside:{n}")) for n in range(ROOMS)]
        fresh = memory_kib(server.pid)
        async with _attacked(server, seed):
            await asyncio.sleep(seconds)
        await asyncio.sleep(LET_GO_AFTER_S)
        before = memory_kib(server.pid)  # what a process needs that has worked once is no growth
        quiet = await _listen(rooms, seconds)
        async with _attacked(server, seed + 1):
            attacked, meanwhile = await _listen(rooms, seconds), memory_kib(server.pid)
        await asyncio.sleep(LET_GO_AFTER_S)
        after = memory_kib(server.pid)
    times = _quantile(attacked, 0.99) / _quantile(quiet, 0.99)
    print(f"quiet:     {_shown(quiet)}")
    print(f"attacked:  {_shown(attacked)}; p99 {times:.2f} times the quiet one")
    print(
        f"memory:    {fresh / 1024:.0f} MiB fresh, {before / 1024:.0f} after an attack, {meanwhile / 1024:.0f} during "
        f"another, {after / 1024:.0f} after it"
    )
    problems = [f"p99 is {times:.2f} times its quiet value"] if times > MOST_TIMES else []
    return problems + (["the memory did not come back"] if after > before * MOST_MEMORY else [])


@contextlib.asynccontextmanager
async def _attacked(server: RunningServer, seed: int) -> AsyncIterator[None]:
    process = multiprocessing.get_context("spawn").Process(
        target=_hostile_process, args=(f"{server.ws_url}/hostile:{seed}", seed), daemon=True
    )
    process.start()
    try:
        await asyncio.sleep(3.0)
        yield
    finally:
        process.kill()
        process.join()


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
        problems = asyncio.run(measure(server, seconds=arguments.seconds, seed=arguments.seed))
    for problem in problems:
        print(f"! {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
