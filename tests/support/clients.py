"""Stock Yjs clients (y-websocket, y-sweet) in one Node process, driven from tests by lines of JavaScript.

`StockClients` owns the process; `StockClient` is one document with an unmodified provider on it. Nothing here knows the
server: a url and a document name are all a client needs.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
from typing import Any, Literal, Self

from tests.support import issued, node

Kind = Literal["y-websocket", "y-sweet"]
PATIENCE_SECONDS = 15.0
"""How long a condition may stay false before a test gives up; generous, since the machine may be busy."""
LINE_BYTES = 64 * 1024 * 1024


class StockClientError(AssertionError):
    """What the Node side said went wrong: a condition that never became true, or a mistake in a line of JavaScript."""


class StockClients:
    """One Node process full of clients. Use as an async context manager.

    ``clock_rate`` makes their clocks run faster: timeouts that compare times come sooner, timers do not.
    """

    def __init__(self, *, clock_rate: int = 1) -> None:
        self._clock_rate = clock_rate
        self._process: asyncio.subprocess.Process | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []
        self.console: list[str] = []
        """What the clients printed: an unmodified client says there what it did not understand."""

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(node.packages)
        self._process = await asyncio.create_subprocess_exec(
            node.node(),
            "--import",
            (node.INTEROP / "fast-clock.mjs").as_uri(),
            str(node.INTEROP / "client.mjs"),
            env={**os.environ, "CLIENT_CLOCK_RATE": str(self._clock_rate)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
        )
        self._tasks = [
            asyncio.create_task(self._read_answers(), name="stock clients: answers"),
            asyncio.create_task(self._read_console(), name="stock clients: console"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._started
        with contextlib.suppress(ConnectionError):
            self._stdin.close()
        try:
            await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
        await asyncio.gather(*self._tasks)

    async def open(
        self,
        url: str,
        document: str,
        *,
        kind: Kind = "y-websocket",
        token: str | None = None,
        client_id: int | None = None,
        presence: dict[str, Any] | None = None,
        connect: bool = True,
    ) -> StockClient:
        """Make a client of ``document`` at ``url`` (ws://host:port/yjs); it connects by itself unless told not to."""
        return await self._open(
            kind=kind,
            url=url,
            document=document,
            token=token and issued.secret(token, "token"),
            clientId=client_id,
            awarenessState=presence,
            connect=connect,
        )

    async def replica(self, *updates: bytes) -> StockClient:
        """A document without a connection, fed with ``updates`` in order: Yjs's own opinion of them."""
        client = await self._open(kind=None)
        encoded = [base64.b64encode(update).decode() for update in updates]
        await client.run("for (const update of arg) Y.applyUpdate(doc, fromBase64(update))", encoded)
        return client

    async def _open(self, **options: Any) -> StockClient:
        name = f"client-{next(self._ids)}"
        client_id = await self.call("open", client=name, **options)
        return StockClient(self, name, client_id)

    async def call(self, op: str, **arguments: Any) -> Any:
        """Send one command and wait for its answer. Raises `StockClientError`."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._stdin.write(json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n")
        await self._stdin.drain()
        return await answer

    async def _read_answers(self) -> None:
        stdout = self._started.stdout
        assert stdout is not None
        async for line in stdout:
            message = json.loads(line)
            answer = self._answers.pop(message["id"])
            if answer.cancelled():
                continue
            if "error" in message:
                answer.set_exception(StockClientError(message["error"]))
            else:
                answer.set_result(message["value"])
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(StockClientError("Node ended: " + "\n".join(self.console[-20:])))

    async def _read_console(self) -> None:
        stderr = self._started.stderr
        assert stderr is not None
        async for line in stderr:
            self.console.append(line.decode(errors="replace").rstrip())

    @property
    def _started(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "use StockClients as an async context manager"
        return self._process

    @property
    def _stdin(self) -> asyncio.StreamWriter:
        stdin = self._started.stdin
        assert stdin is not None
        return stdin


class StockClient:
    """One client. In its lines of JavaScript: doc, awareness, provider, log, Y and the tools of `client.mjs`."""

    def __init__(self, clients: StockClients, name: str, client_id: int) -> None:
        self._clients = clients
        self._name = name
        self.client_id = client_id

    async def run(self, code: str, arg: Any = None) -> Any:
        """Run ``code`` (a function's body; ``return`` what is wanted) with ``arg`` as JSON."""
        return await self._clients.call("run", client=self._name, code=code, arg=arg)

    async def get(self, expression: str, arg: Any = None) -> Any:
        """The value of ``expression``, as JSON."""
        return await self.run(f"return ({expression})", arg)

    async def until(self, expression: str, arg: Any = None, *, seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait until ``expression`` is true and return its value. Raises `StockClientError` after ``seconds``."""
        return await self._clients.call("until", client=self._name, expression=expression, arg=arg, seconds=seconds)

    async def synced(self) -> None:
        """Wait for the answer to the first SyncStep1 of this connection."""
        await self.until("provider.synced")

    async def insert(self, text: str, at: int | None = None) -> None:
        """One transaction: put ``text`` into the text "t", at its end unless said otherwise."""
        await self.run("const t = doc.getText('t'); t.insert(arg.at ?? t.length, arg.text)", {"at": at, "text": text})

    async def text(self, name: str = "t") -> str:
        """The text ``name`` as this client has it."""
        return str(await self.get("doc.getText(arg).toString()", name))

    async def until_text(self, text: str) -> None:
        """Wait until the text "t" is exactly ``text``."""
        await self.until("doc.getText('t').toString() === arg", text)

    async def update(self) -> bytes:
        """The whole document as one update."""
        return base64.b64decode(await self.get("toBase64(Y.encodeStateAsUpdate(doc))"))

    async def canonical(self) -> dict[str, Any]:
        """State vector and delete set: two replicas with the same (and the same content) are equal."""
        answer: dict[str, Any] = await self.get("canonical(doc)")
        return answer

    async def close(self) -> None:
        """Destroy provider and document."""
        await self._clients.call("close", client=self._name)
