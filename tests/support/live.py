"""Nodes without sockets that share a memory store and a memory bus: the real hub, endpoint and REST application.

A `Socket` is a client's connection: what it sends goes to the endpoint's listener, what it is sent is kept. Tokens are
signed with a key of the tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import jwt

from collab.bus import MemoryBus, alone
from collab.engine.inline import InlineEngine
from collab.errors import CloseCode
from collab.node import Frame, Hub, HubLimits
from collab.node.cluster import ClusterTimes
from collab.protocol.dialects.y_websocket import decode, encode
from collab.protocol.messages import Message, SyncStep1, SyncStep2, Update
from collab.server.auth import Authenticate, JwtAccess, Origins
from collab.server.direct import EXTENSION
from collab.server.guard import Rest
from collab.server.http import api
from collab.server.refusals import Refusals
from collab.server.websocket import EndpointLimits, YjsEndpoint
from collab.store import MemoryStore

if TYPE_CHECKING:
    from starlette.responses import Response

    from collab.server.connection import Listener

SECRET = "k3Zp0s9QwX7vB2nM5cR8tY1uI4oL6aD_"
PATIENCE_SECONDS = 20.0
QUICK = ClusterTimes(access_every=0.05)


def token(sub: str = "ann", **claims: Any) -> str:
    """A token of the tests' key, issued now and good for an hour unless ``claims`` say otherwise."""
    now = datetime.now(UTC)
    told = {"sub": sub, "iat": now, "exp": now + timedelta(hours=1), **claims}
    return jwt.encode({claim: value for claim, value in told.items() if value is not None}, SECRET, "HS256")


def bearer(sub: str = "ann", **claims: Any) -> dict[str, str]:
    """The header for `token`."""
    return {"Authorization": f"Bearer {token(sub, **claims)}"}


ROOT = {"sub": "root", "documents": {"*": "admin"}}


class Socket:
    """A client's connection to the endpoint."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.closed_with: CloseCode | None = None
        self.refused_with: int | None = None
        self.subprotocol: str | None = None
        self.waiting_bytes = 0
        self._listener: Listener | None = None
        self._heard = asyncio.Event()

    async def accept(self, subprotocol: str | None) -> None:
        self.subprotocol = subprotocol

    async def refuse(self, response: Response) -> None:
        self.refused_with = response.status_code

    async def serve(self, listener: Listener) -> None:
        self._listener = listener
        if self.closed_with is not None:
            self._end()

    def write(self, frame: Frame) -> None:
        self.messages += [message for part in frame.payloads for message in decode(part, from_server=True)]
        self._heard.set()

    def close(self, code: CloseCode) -> None:
        self.closed_with = self.closed_with or code
        self._heard.set()
        asyncio.get_running_loop().call_soon(self._end)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def rest(self, seconds: float) -> None:
        pass

    def send(self, *messages: Message) -> None:
        """One frame from the client."""
        assert self._listener is not None
        self._listener.on_frame(b"".join(map(encode, messages)))

    def leave(self) -> None:
        """The client goes."""
        self._end()

    def _end(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.on_ended()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that came made ``condition`` true."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._heard.clear()
                await self._heard.wait()

    async def receives(self, kind: type[Message], count: int = 1) -> Any:
        """The ``count``-th message of a kind."""
        await self.until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    def of(self, kind: type[Message]) -> list[Any]:
        """What came of a kind."""
        return [message for message in self.messages if isinstance(message, kind)]

    async def closed(self) -> int:
        """The code it is closed with, sooner or later."""
        await self.until(lambda: self.closed_with is not None)
        assert self.closed_with is not None
        return self.closed_with.code

    async def joined(self) -> Socket:
        """Wait for the greeting, and answer it."""
        await self.until(lambda: bool(self.of(SyncStep1)) or self.closed_with is not None)
        assert self.closed_with is None, self.closed_with
        self.send(SyncStep2(b"\x00\x00"))
        return self

    def updates(self) -> list[bytes]:
        """What it was shown of the document."""
        return [message.update for message in self.messages if isinstance(message, Update | SyncStep2)]


@dataclass
class LiveNode:
    """One node: its hub, its endpoint and a client of its REST side."""

    hub: Hub
    endpoint: YjsEndpoint
    client: httpx.AsyncClient

    async def connect(
        self, document: str, presented: str | None = None, *, subprotocol: str | None = None, query: str | None = None
    ) -> Socket:
        """A WebSocket's upgrade with a token, ticket or link as bearer, subprotocol or query parameter."""
        socket = Socket()
        headers = [(b"host", b"collab.test")]
        if presented is not None:
            headers.append((b"authorization", f"Bearer {presented}".encode()))
        offered = [] if subprotocol is None else ["yjs.v1", f"collab.token.{subprotocol}"]
        scope = {
            "type": "websocket",
            "path": f"/yjs/{document}",
            "path_params": {"document": document},
            "query_string": b"" if query is None else urlencode({"token": query}).encode(),
            "headers": headers,
            "subprotocols": offered,
            "client": ("192.0.2.1", 1234),
            "extensions": {EXTENSION: socket},
        }
        await self.endpoint(scope, _not_called, _not_called)
        assert socket.refused_with is None, socket.refused_with
        return socket

    async def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        """A REST request; without ``headers`` from somebody who may everything."""
        return await self.client.request(method, path, headers=bearer(**ROOT) if headers is None else headers, **more)


@asynccontextmanager
async def live_nodes(
    count: int = 1,
    *,
    store: MemoryStore | None = None,
    bus: MemoryBus | None = None,
    authenticate: Authenticate | None = None,
    times: ClusterTimes = QUICK,
    token_in_url: bool = True,
) -> AsyncIterator[list[LiveNode]]:
    """``count`` nodes on one store and, when given, one bus."""
    store = store or MemoryStore()
    authenticate = authenticate or JwtAccess(SECRET)
    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(count):
            name, engine = f"node{number}", InlineEngine()
            await engine.start()
            hub = Hub(
                node=name,
                epoch=number + 1,
                engine=engine,
                store=store,
                bus=bus.end(name) if bus else alone(),
                limits=HubLimits(cluster=times),
            )
            hub.start()
            stack.push_async_callback(engine.close)
            stack.push_async_callback(hub.close)
            refusals = Refusals(hub.counters)
            endpoint = YjsEndpoint(hub, authenticate, Origins(), EndpointLimits(token_in_url=token_in_url), refusals)
            app = api(Rest(hub, authenticate, Origins(), refusals, token_in_url=token_in_url), version="0")
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url="http://collab.test")
            nodes.append(LiveNode(hub, endpoint, await stack.enter_async_context(client)))
        yield nodes


async def _not_called(*_: object) -> Any:
    raise AssertionError("a direct connection is spoken to directly")
