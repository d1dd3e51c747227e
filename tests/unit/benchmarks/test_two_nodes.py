"""The load generator tells deliveries within a node from those between nodes, and believes only the content.

Runs the compiled generator against a relay on two ports that stands in for two nodes: it hands every update to every
other client, and does to those for the other node what a test asks for. Skipped where there is no C compiler.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks import install
from tests.unit.benchmarks.generator import generate

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, install.COMPILERS)), reason="the load generator needs a C compiler"
)

SYNC_STEP1, UPDATE = b"\x00\x00", b"\x00\x02"
NOTHING_TO_SYNC = b"\x00\x01\x02\x00\x00"
CLIENTS, WRITERS, RATE = 6, 3, 20


@dataclass(slots=True)
class _Relay:
    """Two nodes in name only. `between` makes of an update what reaches the other node, or None to lose it."""

    delay_s: float = 0.0
    between: Callable[[bytes], bytes | None] = lambda frame: frame
    clients: dict[ServerConnection, int] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, connection: ServerConnection, node: int) -> None:
        self.clients[connection] = node
        with contextlib.suppress(ConnectionClosed):
            async for frame in connection:
                assert isinstance(frame, bytes)
                if frame.startswith(SYNC_STEP1):
                    await connection.send(NOTHING_TO_SYNC)
                elif frame.startswith(UPDATE):
                    await self._hand_on(frame, connection)
        del self.clients[connection]

    async def _hand_on(self, frame: bytes, author: ServerConnection) -> None:
        changed = self.between(frame)
        for other, node in list(self.clients.items()):
            if other is author:
                continue
            if node == self.clients[author]:
                await other.send(frame)
            elif changed is not None:
                task = asyncio.create_task(self._send_late(other, changed))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

    async def _send_late(self, to: ServerConnection, frame: bytes) -> None:
        await asyncio.sleep(self.delay_s)
        with contextlib.suppress(ConnectionClosed):
            await to.send(frame)


async def _measured(relay: _Relay, *, drain_s: float = 2) -> dict[str, Any]:
    """What the generator says after a second of typing through the relay, and ``drain_s`` for what never comes."""
    async with contextlib.AsyncExitStack() as stack:
        ports = []
        for node in (0, 1):
            server = serve(functools.partial(relay.serve, node=node), "127.0.0.1", 0)
            ports.append(str((await stack.enter_async_context(server)).sockets[0].getsockname()[1]))
        options = {"clients": CLIENTS, "writers": WRITERS, "update_rate": RATE, "seconds": 1, "drain": drain_s}
        return await generate(ports=",".join(ports), **options)


async def test_latency_within_a_node_and_between_nodes_is_told_apart() -> None:
    result = await _measured(_Relay(delay_s=0.4), drain_s=20)
    sent = result["updates_sent"]
    assert sent > 0
    assert result["updates_missing"] == result["protocol_errors"] == 0
    assert result["same_node_ms"]["count"] == sent * 2  # six clients in turn: two others on one's own node
    assert result["other_node_ms"]["count"] == sent * 3
    assert result["latency_ms"]["count"] == result["update_deliveries"] == sent * 5
    assert result["other_node_ms"]["p50"] >= 400
    assert result["same_node_ms"]["p50"] < result["other_node_ms"]["p50"]


async def test_an_update_that_arrives_with_another_text_is_not_a_delivery() -> None:
    result = await _measured(_Relay(between=lambda frame: frame[:-2] + b"\x7e" + frame[-1:]))
    assert result["first_error"] == "an update whose text is not what was sent"
    assert result["other_node_ms"]["count"] == 0
    assert result["updates_missing"] == result["updates_sent"] * 3
    assert result["same_node_ms"]["count"] == result["updates_sent"] * 2


async def test_an_update_lost_between_nodes_is_missing_at_every_client_there() -> None:
    seen = 0

    def lose_the_tenth(frame: bytes) -> bytes | None:
        nonlocal seen
        seen += 1
        return None if seen == 10 else frame

    result = await _measured(_Relay(between=lose_the_tenth))
    assert result["updates_missing"] == 3
    assert result["protocol_errors"] == 0


@pytest.mark.parametrize("ports", ["", "x", "1;2", "1,2,3,4,5,6,7,8,9"])
async def test_ports_that_are_no_ports_are_refused(ports: str) -> None:
    process = await asyncio.create_subprocess_exec(
        install.compile_generator(), "--ports", ports, stderr=asyncio.subprocess.PIPE
    )
    _, complained = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert b"port" in complained
