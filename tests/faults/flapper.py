"""A client that comes, types one token, and leaves, again and again: now waiting until it is saved, now not.

It keeps its document, as a browser does that loses its network, and goes to another node each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

from pycrdt import Doc, Text, TransactionEvent
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support import wire
from tests.support.checker import History, Submitted

PATIENCE_S = 60.0
NUMBER = 5


class Flapper:
    """See the module. The only client of ``document``, whose text "t" it types into."""

    def __init__(self, urls: Sequence[str], document: str, rng: Random) -> None:
        self.document = document
        self.history = History()
        self._urls = urls
        self._rng = rng
        self._document: Doc[Text] = Doc(client_id=NUMBER)
        self._text = self._document.get("t", type=Text)
        self._count = 0

    @property
    def replica(self) -> bytes:
        """Everything it has, as one update."""
        return self._document.get_update()

    async def flap(self, cycles: int) -> None:
        """Come and go; the last time it waits until all is saved."""
        for cycle in range(cycles):
            url = self._urls[cycle % len(self._urls)]
            async with asyncio.timeout(PATIENCE_S):
                while not await self._visit(url, patient=cycle + 1 == cycles or self._rng.random() < 0.5):
                    await asyncio.sleep(0.05)

    async def _visit(self, url: str, *, patient: bool) -> bool:
        """Whether it got in."""
        try:
            async with connect(f"{url}/{self.document}", compression=None, proxy=None, close_timeout=5) as socket:
                await socket.send(wire.step1(self._document.get_state()))
                await self._synced(socket)
                entry = self._type()
                await socket.send(wire.update(entry.update) + wire.status(self._count))
                if patient:
                    await self._saved(socket)
        except (ConnectionClosed, InvalidHandshake, OSError, EOFError):
            return False
        return True

    async def _synced(self, socket: ClientConnection) -> None:
        """Exchange what the other lacks: both answers, in whatever order they come."""
        left = {wire.STEP1, wire.STEP2}
        while left:
            for kind, sub, payload in wire.messages(await socket.recv(decode=False)):
                if kind != wire.SYNC:
                    continue
                if sub == wire.STEP1:
                    await socket.send(wire.step2(self._document.get_update(payload)))
                else:
                    self._document.apply_update(payload)
                left.discard(sub or 0)

    async def _saved(self, socket: ClientConnection) -> None:
        while True:
            for kind, _, payload in wire.messages(await socket.recv(decode=False)):
                if kind == wire.SYNC_STATUS:
                    version = wire.read(payload, 0)[0]
                    for entry in self.history.submitted[:version]:
                        entry.acknowledged = "status"
                    return

    def _type(self) -> Submitted:
        self._count += 1
        token = f"c{NUMBER}.{self._count};"
        written: list[TransactionEvent] = []
        subscription = self._document.observe(written.append)
        self._text.insert(len(self._text), token)
        entry = Submitted(written[0].update, inserted=token)
        self._document.unobserve(subscription)
        self.history.submitted.append(entry)
        return entry
