"""Raw Python clients that write unique tokens, note which of them the server called saved, and reconnect.

Half a load confirms by message 102 ("status"), half by the echo of what it wrote ("echo"). A `Writer` is a real
replica: it integrates what others write and inserts among it. All of one load share a `Gate`, which a fault test closes
while the server is down, so that what is checked then is what was kept, not what a client has sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pycrdt import Doc, Text, TransactionEvent
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from collab.protocol.yjs import scan_update
from tests.support import wire
from tests.support.checker import History, Submitted, decode_state_vector, merged

if TYPE_CHECKING:
    from random import Random

Confirm = Literal["status", "echo"]
IN_FLIGHT = 8
"""Unconfirmed updates a writer allows itself before it waits: flow control, so a slow server is not drowned."""
RETRY_S = 0.02
Ranges = Mapping[int, Sequence[tuple[int, int]]]
"""Client -> half-open ranges of clocks."""


@dataclass(slots=True)
class Gate:
    """What a fault test lets its writers do."""

    connecting: asyncio.Event = field(default_factory=asyncio.Event)
    writing: asyncio.Event = field(default_factory=asyncio.Event)

    def open(self) -> None:
        """Let them connect and write."""
        self.connecting.set()
        self.writing.set()


@dataclass(slots=True)
class _Unconfirmed:
    version: int
    entry: Submitted
    ranges: Ranges
    known: bool = False
    """The server's state vector covers it, so it is not sent again and no echo will come: saved, perhaps."""


class Writer:
    """One client of one document. Start `run` as a task; cancel it to end it, then call `close`."""

    def __init__(
        self, url: str, document: str, number: int, *, history: History, confirm: Confirm, gate: Gate, rng: Random
    ) -> None:
        self.url = f"{url}/{document}"
        self.number = number
        self.confirm: Confirm = confirm
        self.problems: list[str] = []
        """Broken promises seen on the wire."""
        self.closes: list[int] = []
        """Code of every close by the server."""
        self.confirmed = asyncio.Condition()
        self.connected = asyncio.Event()
        """Set while this client is synced."""
        self.offline = True
        """True while it has no connection and tries none."""
        self._history, self._gate, self._rng = history, gate, rng
        self._document: Doc[Text] = Doc(client_id=number)
        self._text = self._document.get("t", type=Text)
        self._written: list[bytes] = []
        self._trail: list[bytes] = []
        self._subscription = self._document.observe(self._changed)
        self._own: list[str] = []
        self._count = 0
        self._version = 0
        self._unconfirmed: deque[_Unconfirmed] = deque()
        self._socket: ClientConnection | None = None

    def __str__(self) -> str:
        mine = (waiting.entry for waiting in self._unconfirmed if not waiting.known)
        waiting = [entry.inserted or f"-{entry.deleted}" for entry in mine]
        return f"writer {self.number} by {self.confirm} of {self.url}: {', '.join(waiting)} unconfirmed"

    @property
    def unconfirmed(self) -> int:
        """How many updates wait for their acknowledgement."""
        return sum(not waiting.known for waiting in self._unconfirmed)

    @property
    def stuck(self) -> bool:
        """Whether it has as much in flight as it allows itself."""
        return self.unconfirmed >= IN_FLIGHT

    @property
    def newest(self) -> str:
        """The token it wrote last."""
        return self._own[-1]

    async def write_unasked(self) -> None:
        """One more insertion, whatever is in flight. Only while connected."""
        assert self._socket is not None
        await self._write(self._socket, self._insert())

    @property
    def replica(self) -> bytes:
        """Everything this client wrote and was sent, as one update.

        Not what its live document came to: yrs goes wrong on updates that come before what they depend on, and whether
        the server keeps that order is a test of its own.
        """
        return merged(self._trail)

    async def settled(self) -> None:
        """Wait until everything written so far is confirmed, or known to the server without a word of confirmation."""
        async with self.confirmed:
            await self.confirmed.wait_for(lambda: not self.unconfirmed)

    def close(self) -> None:
        """Let go of the document."""
        self._document.unobserve(self._subscription)

    async def run(self) -> None:
        """Connect whenever the gate is open, write whenever it says so; until cancelled."""
        while True:
            await self._gate.connecting.wait()
            self.offline = False
            try:
                async with connect(self.url, max_size=None, compression=None, ping_interval=None, proxy=None) as socket:
                    await self._session(socket)
            except ConnectionClosed as closed:
                self.closes.append(closed.rcvd.code if closed.rcvd else 1006)
            except (OSError, InvalidHandshake, EOFError, TimeoutError):
                pass
            self.connected.clear()
            self.offline = True
            await asyncio.sleep(RETRY_S)

    async def _session(self, socket: ClientConnection) -> None:
        self._socket = socket
        await socket.send(wire.step1(self._document.get_state()))
        if self.confirm == "status":
            await socket.send(wire.status(self._version))
        writing = asyncio.create_task(self._write_on(socket), name=f"writer {self.number}")
        try:
            async for frame in socket:
                assert isinstance(frame, bytes)
                await self._read(socket, frame)
            self.closes.append(socket.close_code or 1006)
        finally:
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                await writing

    async def _write_on(self, socket: ClientConnection) -> None:
        await self.connected.wait()
        while True:
            await self._gate.writing.wait()
            async with self.confirmed:
                await self.confirmed.wait_for(lambda: self.unconfirmed < IN_FLIGHT)
            await self._write(socket, self._edit())
            await asyncio.sleep(self._rng.uniform(0.0, 0.02))

    async def _write(self, socket: ClientConnection, entry: Submitted) -> None:
        self._version += 1
        scan = scan_update(entry.update)
        self._history.submitted.append(entry)
        self._trail.append(entry.update)
        self._unconfirmed.append(_Unconfirmed(self._version, entry, scan.ranges))
        await socket.send(wire.update(entry.update))
        if self.confirm == "status":
            await socket.send(wire.status(self._version))

    def _edit(self) -> Submitted:
        # An echo confirms structs for certain, deletions only when they were new: echo writers only insert.
        if self.confirm == "status" and len(self._own) > 4 and self._rng.random() < 0.1:
            token = self._own.pop(self._rng.randrange(len(self._own)))
            at = str(self._text).index(token)
            self._written.clear()
            del self._text[at : at + len(token)]
            return Submitted(self._written[0], deleted=token)
        return self._insert()

    def _insert(self) -> Submitted:
        self._count += 1
        token = f"c{self.number}.{self._count};"
        self._written.clear()
        self._text.insert(self._boundary(), token)
        self._own.append(token)
        return Submitted(self._written[0], inserted=token)

    def _boundary(self) -> int:
        text = str(self._text)
        return text.find(";", self._rng.randrange(len(text))) + 1 if text and self._rng.random() < 0.5 else len(text)

    def _changed(self, event: TransactionEvent) -> None:
        self._written.append(event.update)

    async def _read(self, socket: ClientConnection, frame: bytes) -> None:
        for kind, sub, payload in wire.messages(frame):
            if kind == wire.SYNC_STATUS:
                await self._confirm_by_status(wire.read(payload, 0)[0])
            elif kind == wire.SYNC and sub == wire.STEP1:
                await socket.send(wire.step2(self._document.get_update(payload)))
                await self._note_known(decode_state_vector(payload))
            elif kind == wire.SYNC:
                self._trail.append(payload)
                self._document.apply_update(payload)
                if sub == wire.STEP2:
                    self.connected.set()
                if self.confirm == "echo":
                    await self._confirm_by_echo(payload)

    async def _note_known(self, state: Mapping[int, int]) -> None:
        for waiting in self._unconfirmed:
            last = max((end for _, end in waiting.ranges.get(self.number, ())), default=None)
            waiting.known = self.confirm == "echo" and last is not None and last <= state.get(self.number, 0)
        async with self.confirmed:
            self.confirmed.notify_all()

    async def _confirm_by_status(self, version: int) -> None:
        if version > self._version:
            self.problems.append(f"status {version} was never sent by writer {self.number}")
        await self._confirm([waiting for waiting in self._unconfirmed if waiting.version <= version])

    async def _confirm_by_echo(self, update: bytes) -> None:
        if not self._unconfirmed:
            return
        scan = scan_update(update)
        if self.number not in scan.ranges:
            return
        await self._confirm([one for one in self._unconfirmed if _within(one.ranges, scan.ranges)])

    async def _confirm(self, confirmed: Sequence[_Unconfirmed]) -> None:
        if not confirmed:
            return
        for waiting in confirmed:
            waiting.entry.acknowledged = self.confirm
            self._unconfirmed.remove(waiting)
        async with self.confirmed:
            self.confirmed.notify_all()


def _within(part: Ranges, whole: Ranges) -> bool:
    return all(
        any(low <= start and end <= high for low, high in whole.get(client, ()))
        for client, ranges in part.items()
        for start, end in ranges
    )
