"""A node without sockets: the real hub, the memory store and the inline engine behind the real REST application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from collab.bus import alone
from collab.engine.inline import InlineEngine
from collab.engine.isolated import IsolatedEngine
from collab.node import Hub
from collab.server.auth import Authenticate, JwtAccess, Origins, open_access
from collab.server.guard import BodyLimits, Rest
from collab.server.http import api
from collab.server.refusals import Refusals
from collab.store import MemoryStore

SECRET = "k3Zp0s9QwX7vB2nM5cR8tY1uI4oL6aD_"
BASE = "http://collab.test"


class Clock:
    """A wall clock that goes one second further at every look."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@dataclass
class World:
    """A node and one client of its REST side."""

    client: httpx.AsyncClient
    hub: Hub
    store: MemoryStore
    engine: InlineEngine | IsolatedEngine

    async def create(self, name: str = "d", text: str | None = None, **more: Any) -> httpx.Response:
        """Create a document, by default without content."""
        content = {} if text is None else {"content": {"format": "text", "value": text}}
        response = await self.client.post("/v1/documents", json={"name": name, **content, **more})
        assert response.status_code == 201, response.text
        return response

    async def read(self, name: str = "d", form: str = "text") -> str:
        """The content of a document."""
        response = await self.client.get(f"/v1/documents/{name}/content", params={"format": form})
        assert response.status_code == 200, response.text
        return response.text

    async def update_that_adds(self, text: str) -> bytes:
        """An update from a client that saw nothing."""
        response = await self.client.post(
            "/v1/documents", json={"name": f"scratch-{len(text)}", "content": {"format": "text", "value": text}}
        )
        assert response.status_code == 201, response.text
        return (await self.client.get(f"/v1/documents/scratch-{len(text)}/content?format=update")).content


MakeWorld = Callable[..., Any]


@pytest.fixture
async def make_world() -> AsyncIterator[MakeWorld]:
    """Builds worlds and takes them down."""
    async with AsyncExitStack() as stack:

        async def make(
            *,
            authenticate: Authenticate = open_access,
            origins: Origins | None = None,
            limits: BodyLimits | None = None,
            headers: dict[str, str] | None = None,
            engine: IsolatedEngine | None = None,
        ) -> World:
            store, engine = MemoryStore(clock=Clock()), engine or InlineEngine()
            hub = Hub(node="n", epoch=1, engine=engine, store=store, bus=alone())
            app = api(
                Rest(hub, authenticate, origins or Origins(), Refusals(hub.counters, per_minute=0)),
                version="0",
                limits=limits,
            )
            await engine.start()
            hub.start()
            stack.push_async_callback(engine.close)
            stack.push_async_callback(hub.close)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers)
            return World(await stack.enter_async_context(client), hub, store, engine)

        yield make


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    """One world where everybody may write everything."""
    made: World = await make_world()
    return made


def token(**claims: Any) -> str:
    """A token of the test's key, good for an hour unless ``claims`` say otherwise."""
    claims = {"sub": "ann", "exp": datetime.now(UTC) + timedelta(hours=1), **claims}
    return jwt.encode({claim: value for claim, value in claims.items() if value is not None}, SECRET, "HS256")


def bearer(**claims: Any) -> dict[str, str]:
    """The header for `token`."""
    return {"Authorization": f"Bearer {token(**claims)}"}


@pytest.fixture
async def guarded(make_world: MakeWorld) -> World:
    """One world that asks for tokens."""
    made: World = await make_world(authenticate=JwtAccess(SECRET))
    return made
