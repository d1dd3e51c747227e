"""A document on a running server, as tests knock at it: raw sockets, REST, and the database behind.

`Door` is one document of one server; `Doors` starts servers, shared by their settings or one test's own, and stops
them. The server is the real one: `collab serve` in a process of its own, with its engine in another.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import httpx
from websockets.asyncio.client import ClientConnection, connect

from tests.support import issued, wire
from tests.support.plain import PLAIN
from tests.support.server import RunningServer

PATIENCE_SECONDS = 15.0
POLL_SECONDS = 0.01
Message = tuple[int, int | None, bytes]


class Door:
    """One document of one running server on SQLite. ``token`` goes with every request when it is set."""

    def __init__(self, server: RunningServer, document: str, *, file: Path, token: str | None = None) -> None:
        self.server = server
        self.document = document
        self.file = file
        self.token = token and issued.secret(token, "token")

    @property
    def http(self) -> str:
        """Where REST begins, without a slash at the end."""
        return self.server.url

    @property
    def ws(self) -> str:
        """What stock clients take as server url; they append the document's name."""
        return self.server.ws_url

    def beside(self, document: str) -> Door:
        """Another document of the same server."""
        return Door(self.server, document, file=self.file, token=self.token)

    def socket(self, *, token: str | None = None) -> connect:
        """A raw connection to the document; use as an async context manager."""
        token = token or self.token
        query = f"?token={issued.secret(token, 'token')}" if token else ""
        url = f"{self.ws}/{self.document}{query}"
        return connect(url, max_size=None, compression=None, ping_interval=None, proxy=None)

    async def receive(self, socket: ClientConnection, kind: int, sub: int | None = None) -> bytes:
        """The payload of the next message of this kind; others are passed over."""
        return (await self.receive_until(socket, kind, sub))[-1][2]

    async def receive_until(self, socket: ClientConnection, kind: int, sub: int | None = None) -> list[Message]:
        """All messages up to and including the next one of this kind."""
        seen: list[Message] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                frame = await socket.recv(decode=False)
                for message in wire.messages(frame):
                    seen.append(message)
                    if message[:2] == (kind, sub):
                        return seen

    async def request(self, method: str, path: str, *, content: bytes | None = None) -> httpx.Response:
        """One REST request below this document."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if content is not None:
            headers["Content-Type"] = "application/octet-stream"
        async with httpx.AsyncClient(**PLAIN, timeout=PATIENCE_SECONDS) as client:
            url = f"{self.http}/v1/documents/{self.document}{path}"
            return await client.request(method, url, content=content, headers=headers)

    async def committed_text(self, root: str = "t") -> str:
        """The text as the database has it; empty for a document it has never heard of."""
        response = await self.request("GET", f"/content?format=text&type=text&root={root}")
        if response.status_code == 404:
            return ""
        assert response.status_code == 200, response.text
        return response.text

    async def committed_update(self) -> bytes:
        """The document as the database has it, as one update."""
        response = await self.request("GET", "/content?format=update")
        if response.status_code == 404:
            return b"\x00\x00"
        assert response.status_code == 200, response.text
        return response.content

    async def until_committed(self, text: str, root: str = "t") -> bool:
        """Wait until the committed text is exactly ``text``; False (with what it is, printed) when it never becomes."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while (found := await self.committed_text(root)) != text:
            if asyncio.get_running_loop().time() > deadline:
                print(f"committed: {found!r}")
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    @contextlib.asynccontextmanager
    async def commits_held(self) -> AsyncIterator[None]:
        """While inside, nothing can be committed: somebody else holds the SQLite file's write lock."""
        connection = await asyncio.to_thread(self._lock)
        try:
            yield
        finally:
            connection.rollback()
            connection.close()

    def _lock(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.file, isolation_level=None, timeout=PATIENCE_SECONDS, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
        return connection

    async def start(self) -> None:
        """Start the stopped server again, on the same port and database."""
        await asyncio.to_thread(self.server.launch)

    async def terminate(self) -> int:
        """SIGTERM; the exit status."""
        return await asyncio.to_thread(self.server.terminate)

    async def kill(self) -> None:
        """`kill -9` the gateway; its engines end with it."""
        await asyncio.to_thread(self.server.kill)


class Doors:
    """Starts servers on SQLite files below ``folder`` and stops them all at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shared: dict[frozenset[tuple[str, str]], Door] = {}
        self._own: list[RunningServer] = []
        self._count = 0

    def for_test(self, name: str) -> TestDoors:
        """The doors of one test."""
        return TestDoors(self, name)

    async def shared(self, document: str, settings: dict[str, str]) -> Door:
        """A document on the one server with these settings (environment variables)."""
        key = frozenset(settings.items())
        if key not in self._shared:
            self._shared[key] = await self.open(document, settings)
        return Door(self._shared[key].server, document, file=self._shared[key].file)

    async def open(self, document: str, settings: dict[str, str]) -> Door:
        """A document on a new server."""
        self._count += 1
        file = self._folder / f"server-{self._count}.db"
        server = await asyncio.to_thread(RunningServer.start, database=f"sqlite:///{file}", env=settings)
        self._own.append(server)
        return Door(server, document, file=file)

    def close(self) -> None:
        """Stop every server."""
        for server in self._own:
            server.stop()


class TestDoors:
    """What one test may open; servers of its own end with it."""

    __test__ = False

    def __init__(self, doors: Doors, name: str) -> None:
        self._doors = doors
        self._name = name
        self._own: list[RunningServer] = []

    async def shared(self, **settings: str) -> Door:
        """A door of a server that other tests with the same settings use too."""
        return await self._doors.shared(self._name, settings)

    async def open(self, **settings: str) -> Door:
        """A door of a server of this test's own, which it may stop and kill."""
        door = await self._doors.open(self._name, settings)
        self._own.append(door.server)
        return door

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._own:
            await asyncio.to_thread(server.stop)
