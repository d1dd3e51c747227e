"""A room beside the attacked ones, whose two clients keep syncing: it notices of an attack what others notice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Self

from pycrdt import Doc, Text
from websockets.asyncio.client import ClientConnection, connect

from collab.protocol.yjs import scan_update
from tests.support import wire

EVERY_SECONDS = 0.02
PATIENCE_SECONDS = 30.0
CLIENT = 4242


class ControlRoom:
    """An author and a reader on raw sockets. Use as an async context manager; ask `longest_pause_s` at the end."""

    def __init__(self, url: str, document: str, *, every_s: float = EVERY_SECONDS) -> None:
        """``every_s`` is the pause between two updates."""
        self._url = f"{url}/{document}"
        self._every_s = every_s
        self._stack = contextlib.AsyncExitStack()
        self._task: asyncio.Task[None] | None = None
        self._arrived = asyncio.Condition()
        self.synced = 0
        """Updates that went from the author through the server to the reader."""
        self.delays_s: list[float] = []
        """From sending each update to its arrival."""

    @property
    def longest_pause_s(self) -> float:
        """The longest of them; 0 before the first."""
        return max(self.delays_s, default=0.0)

    async def __aenter__(self) -> Self:
        author, reader = [await self._enter() for _ in range(2)]
        self._task = asyncio.create_task(self._sync(author, reader), name="control room")
        try:
            await self.still_syncs()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    async def _leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._stack.aclose()

    async def _enter(self) -> ClientConnection:
        unlimited = connect(self._url, max_size=None, compression=None, ping_interval=None, proxy=None)
        return await self._stack.enter_async_context(unlimited)

    async def still_syncs(self, updates: int = 3) -> None:
        """Wait until this many more updates came through. Raises what ended the room, or `TimeoutError`."""
        assert self._task is not None
        wanted = self.synced + updates
        async with asyncio.timeout(PATIENCE_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: self.synced >= wanted or self._task is None or self._task.done())
        if self._task.done():
            self._task.result()

    async def _sync(self, author: ClientConnection, reader: ClientConnection) -> None:
        document: Doc[Text] = Doc(client_id=CLIENT)
        text = document.get("t", type=Text)
        updates: list[bytes] = []
        subscription = document.observe(lambda event: updates.append(event.update))
        for socket in (author, reader):
            await socket.send(wire.step1())
        async with asyncio.TaskGroup() as group:
            group.create_task(_drain(author))
            try:
                while True:
                    updates.clear()
                    text += "x"
                    sent = time.perf_counter()
                    await author.send(wire.update(updates[0]))
                    await _seen(reader, len(text) - 1)
                    self.delays_s.append(time.perf_counter() - sent)
                    self.synced += 1
                    async with self._arrived:
                        self._arrived.notify_all()
                    await asyncio.sleep(self._every_s)
            finally:
                document.unobserve(subscription)
                async with self._arrived:
                    self._arrived.notify_all()


async def _seen(reader: ClientConnection, clock: int) -> None:
    while True:
        for kind, sub, payload in wire.messages(await reader.recv(decode=False)):
            if kind == wire.SYNC and sub != wire.STEP1:
                ranges = scan_update(payload).ranges.get(CLIENT, ())
                if any(start <= clock < end for start, end in ranges):
                    return


async def _drain(socket: ClientConnection) -> None:
    async for _ in socket:
        pass
