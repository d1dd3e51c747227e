"""A hub with real adapters (inline engine, memory store, memory bus) and connections that keep what they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from collab.bus import MemoryBus, alone
from collab.engine.inline import InlineEngine
from collab.engine.port import Engine
from collab.errors import CloseCode
from collab.node import Frame, Hub, HubLimits, LiveRoom, Outbox
from collab.protocol.dialects.y_websocket import decode, encode
from collab.protocol.messages import Message, SyncStep1, SyncStep2, Update
from collab.room import Identity, Role, Session
from collab.store import MemoryStore
from collab.store.port import Store


class FakeConnection:
    """A socket that keeps what is written; ``full`` makes it a slow reader."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.writes: list[list[Message]] = []
        """The same, by what was written at once."""
        self.waiting_bytes = 0
        self.closed_with: CloseCode | None = None
        self.reading = True
        self.heard = asyncio.Event()
        self.on_close: Callable[[], None] = lambda: None

    def write(self, frame: Frame) -> None:
        self.writes.append([message for payload in frame.payloads for message in decode(payload)])
        self.messages += self.writes[-1]
        self.heard.set()

    def close(self, code: CloseCode) -> None:
        self.closed_with = self.closed_with or code
        self.heard.set()
        asyncio.get_running_loop().call_soon(self.on_close)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.heard.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.heard.clear()
                await self.heard.wait()

    async def receives(self, kind: type[Message]) -> Message:
        await self.until(lambda: any(isinstance(message, kind) for message in self.messages))
        return next(message for message in self.messages if isinstance(message, kind))

    def updates(self) -> list[bytes]:
        return [message.update for message in self.messages if isinstance(message, Update | SyncStep2)]


class Client:
    """One session and its connection."""

    def __init__(self, hub: Hub, name: str, role: Role = Role.WRITE) -> None:
        self.hub = hub
        self.session = Session(name, Identity(name), role)
        self.connection = FakeConnection()
        self.outbox = Outbox(self.connection)
        self.room: LiveRoom | None = None

    async def enter(self, document: str = "d") -> Client:
        self.room = await self.hub.enter(document, self.session, self.outbox)
        self.connection.on_close = self.leave
        await self.connection.receives(SyncStep1)
        return self

    def send(self, *messages: Message) -> None:
        assert self.room is not None
        self.room.receive(self.session, b"".join(map(encode, messages)))

    def leave(self) -> None:
        assert self.room is not None
        self.hub.leave(self.room, self.session)


Build = Callable[..., Hub]


@pytest.fixture
async def build() -> AsyncIterator[Build]:
    """Make hubs; each is closed at the end."""
    hubs: list[Hub] = []

    def make(
        *,
        store: Store | None = None,
        engine: Engine | None = None,
        bus: MemoryBus | None = None,
        limits: HubLimits | None = None,
    ) -> Hub:
        node = f"node{len(hubs)}"
        hub = Hub(
            node=node,
            epoch=len(hubs),
            engine=engine or InlineEngine(),
            store=store or MemoryStore(),
            bus=bus.end(node) if bus else alone(),
            limits=limits,
        )
        hub.start()
        hubs.append(hub)
        return hub

    yield make
    for hub in hubs:
        await hub.close()
        await hub.engine.close()


@pytest.fixture
async def hub(build: Build) -> Hub:
    return build()
