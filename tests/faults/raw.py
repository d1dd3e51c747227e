"""Raw clients for rows that need one frame in one place: connect, send, wait for a kind of message, never for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from random import Random

from pycrdt import Doc, Text, TransactionEvent
from websockets.asyncio.client import ClientConnection, connect

from tests.support import wire

PATIENCE_S = 60.0
NOTHING = b"\x00\x00"
"""An update that holds nothing."""
Message = tuple[int, int | None, bytes]


def connecting(url: str, document: str) -> connect:
    """A connection; use as an async context manager."""
    return connect(
        f"{url}/{document}",
        compression=None,
        ping_interval=None,
        proxy=None,
        max_size=None,
        open_timeout=PATIENCE_S,
        close_timeout=1,
    )


@contextlib.asynccontextmanager
async def raw(url: str, document: str) -> AsyncIterator[ClientConnection]:
    """A connection that is synced: it has asked, been answered, and said that it has nothing."""
    async with connecting(url, document) as socket:
        await socket.send(wire.step1())
        await socket.send(wire.step2(NOTHING))
        await message(socket, wire.SYNC, wire.STEP2)
        yield socket


async def messages(socket: ClientConnection, kind: int, sub: int | None = None) -> list[Message]:
    """All messages until the frame with the next one of this kind, which is among them. Raises `TimeoutError`."""
    found: list[Message] = []
    async with asyncio.timeout(PATIENCE_S):
        while not any(one[:2] == (kind, sub) for one in found):
            found += wire.messages(await socket.recv(decode=False))
    return found


async def message(socket: ClientConnection, kind: int, sub: int | None = None) -> bytes:
    """The payload of the next message of this kind; others are passed over. Raises `TimeoutError`."""
    return next(payload for *what, payload in await messages(socket, kind, sub) if what == [kind, sub])


async def saved(socket: ClientConnection) -> None:
    """Wait for the next confirmation by status."""
    await message(socket, wire.SYNC_STATUS)


async def first_answer(url: str, document: str, stay: contextlib.AsyncExitStack) -> bytes:
    """Connect for as long as ``stay``, and return the whole document as the server answers."""
    socket = await stay.enter_async_context(connecting(url, document))
    await socket.send(wire.step1())
    return await message(socket, wire.SYNC, wire.STEP2)


def dependent(rng: Random) -> tuple[bytes, bytes]:
    """An edit ("first "), and one by another client that builds on it ("second")."""
    made: Doc[Text] = Doc(client_id=rng.randrange(1, 2**31))
    made.get("t", type=Text).insert(0, "first ")
    first = made.get_update()
    other: Doc[Text] = Doc(client_id=rng.randrange(1, 2**31))
    other.apply_update(first)
    written: list[TransactionEvent] = []
    subscription = other.observe(written.append)
    other.get("t", type=Text).insert(6, "second")
    other.unobserve(subscription)
    return first, written[0].update
