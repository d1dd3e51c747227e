"""A client that does to one room whatever it can, as fast as it can, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.attacks.harm import corpus, mutated, valid_update, wrong_inside
from tests.support import wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from multiprocessing.connection import Connection

AT_ONCE = 2
"""Connections of each kind of attack."""
MANY = 500
"""Frames of each kind, made beforehand: it is to be quick."""
PAUSE_S = 0.01
"""Until it comes back after it was sent away."""
TELL_EVERY_S = 0.5
AT_FULL_SPEED_AFTER_S = 3.0


@dataclass(slots=True)
class Done:
    """What it did."""

    connections: int = 0
    frames: int = 0


class Hostile:
    """All its attacks at once; `attack` never returns."""

    def __init__(self, url: str, rng: Random) -> None:
        """``url`` is that of the room."""
        self._url = url
        self._rng = rng
        self.done = Done()
        good, client = corpus(rng), rng.getrandbits(32)
        self._mutated = [wire.update(mutated(rng.choice(good), rng)) for _ in range(MANY)]
        self._valid = [wire.update(valid_update(rng.getrandbits(32))) for _ in range(MANY)]
        self._bombs = [attack.frame for attack in wrong_inside(wire.update)]
        self._presence = [
            wire.awareness((client, clock, f'{{"x":"{rng.randbytes(3500).hex()}"}}')) for clock in range(1, MANY)
        ]

    async def attack(self) -> None:
        """Begin, and go on."""
        acts = (
            self._mutated_updates,
            self._bomb,
            self._valid_updates,
            self._questions,
            self._pings,
            self._largest_presence,
            self._read_nothing,
        )
        async with asyncio.TaskGroup() as group:
            for act in acts * AT_ONCE:
                group.create_task(_again_and_again(act))

    async def _mutated_updates(self) -> None:
        """Updates with changed bytes, until the server has had enough."""
        await self._flood(self._mutated)

    async def _bomb(self) -> None:
        """An update that cannot be."""
        async with self._entered() as socket:
            await self._send(socket, self._rng.choice(self._bombs))
            await socket.wait_closed()

    async def _valid_updates(self) -> None:
        """One letter of one more client each time."""
        await self._flood(self._valid)

    async def _questions(self) -> None:
        """SyncStep1 from nothing."""
        await self._flood([wire.step1()])

    async def _pings(self) -> None:
        """Pings that nobody waits for."""
        async with self._entered() as socket:
            while True:
                await socket.ping(self._rng.randbytes(100))
                await self._sent()

    async def _largest_presence(self) -> None:
        """The largest state there may be, moving all the time."""
        await self._flood(self._presence)

    async def _read_nothing(self) -> None:
        """A reader that reads nothing."""
        async with self._entered(reads=False) as socket:
            socket.transport.pause_reading()
            await asyncio.sleep(10 + self._rng.random())

    async def _flood(self, frames: Sequence[bytes]) -> None:
        async with self._entered() as socket:
            while True:
                for frame in frames[self._rng.randrange(len(frames)) :]:
                    await self._send(socket, frame)

    async def _send(self, socket: ClientConnection, frame: bytes | str) -> None:
        await socket.send(frame)
        await self._sent()

    async def _sent(self) -> None:
        self.done.frames += 1
        if self.done.frames % 16 == 0:
            await asyncio.sleep(0)  # the other attacks are to go on, too

    @contextlib.asynccontextmanager
    async def _entered(self, *, reads: bool = True) -> AsyncIterator[ClientConnection]:
        """A connection; unless it ``reads``, the client does not even notice that it was sent away."""
        async with connect(
            self._url, max_size=None, compression=None, ping_interval=None, proxy=None, close_timeout=1
        ) as socket:
            self.done.connections += 1
            reading = asyncio.create_task(_discard(socket)) if reads else None
            try:
                yield socket
            finally:
                if reading is not None:
                    reading.cancel()


async def _discard(socket: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for _ in socket:
            pass


async def _again_and_again(act: Callable[[], Awaitable[None]]) -> None:
    while True:
        with contextlib.suppress(ConnectionClosed, InvalidHandshake, OSError, TimeoutError):
            await act()
        await asyncio.sleep(PAUSE_S)


@contextlib.asynccontextmanager
async def attacked(url: str, seed: int, *, core: int) -> AsyncIterator[Done]:
    """While inside, after a moment, the room at ``url`` is attacked from ``core``. What was done is known after it."""
    context = multiprocessing.get_context("spawn")
    heard, told = context.Pipe(duplex=False)
    process = context.Process(target=_process, args=(url, seed, core, told), daemon=True)
    process.start()
    done = Done()
    try:
        await asyncio.to_thread(heard.recv)
        await asyncio.sleep(AT_FULL_SPEED_AFTER_S)
        yield done
    finally:
        process.kill()
        process.join()
        while heard.poll():
            done.connections, done.frames = heard.recv()


def _process(url: str, seed: int, core: int, told: Connection) -> None:
    os.sched_setaffinity(0, {core})
    # It takes what the honest ones, who share its core, leave of it, and must not slow down their clocks.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    asyncio.run(_attack(Hostile(url, Random(seed)), told))


async def _attack(hostile: Hostile, told: Connection) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(hostile.attack())
        while True:
            told.send((hostile.done.connections, hostile.done.frames))
            await asyncio.sleep(TELL_EVERY_S)
