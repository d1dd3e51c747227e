"""Clients of the load generator that ask for acknowledgements, stop reading, paste, or come late.

Runs the compiled generator against a small room that hands every update on. Skipped where there is no C compiler.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks import documents, install
from benchmarks.documents import Pasted
from tests.unit.benchmarks.generator import generate

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, install.COMPILERS)), reason="the load generator needs a C compiler"
)

SYNC_STEP1, UPDATE, STATUS = b"\x00\x00", b"\x00\x02", b"\x66"
NOTHING_TO_SYNC = b"\x00\x01\x02\x00\x00"


@dataclass(slots=True)
class _Room:
    """Hands updates on at once and acknowledges after a while; the newest clients get nothing of what was before."""

    acknowledged_after_s: float = 0.0
    acknowledged_up_to: int = 10**9
    rooms: dict[str, set[ServerConnection]] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, connection: ServerConnection) -> None:
        assert connection.request
        members = self.rooms.setdefault(connection.request.path, set())
        members.add(connection)
        with contextlib.suppress(ConnectionClosed):
            async for frame in connection:
                assert isinstance(frame, bytes)
                if frame.startswith(SYNC_STEP1):
                    await connection.send(NOTHING_TO_SYNC)
                elif frame.startswith(UPDATE):
                    self._later(self._hand_on(frame, members - {connection}))
                elif frame.startswith(STATUS) and frame[-1] <= self.acknowledged_up_to:
                    self._later(self._acknowledge(connection, frame))
        members.discard(connection)

    def _later(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _hand_on(self, frame: bytes, others: set[ServerConnection]) -> None:
        for other in others:
            with contextlib.suppress(ConnectionClosed):
                await other.send(frame)

    async def _acknowledge(self, connection: ServerConnection, frame: bytes) -> None:
        await asyncio.sleep(self.acknowledged_after_s)
        with contextlib.suppress(ConnectionClosed):
            await connection.send(frame)


DRAIN_S = 20
"""Ends when nothing is under way any more."""
FOR_NOTHING_S = 1
"""Where something never comes."""


async def _measured(room: _Room, **options: object) -> dict[str, Any]:
    async with serve(room.serve, "127.0.0.1", 0, max_size=None) as server:
        chosen = {"ports": server.sockets[0].getsockname()[1], "drain": DRAIN_S, **options}
        return await generate(**chosen)


async def test_an_acknowledgement_is_measured_from_the_updates_sending() -> None:
    result = await _measured(_Room(acknowledged_after_s=0.2), clients=3, writers=2, update_rate=20, acknowledged=1)
    assert result["acknowledged_ms"]["count"] == result["updates_sent"] > 0
    assert result["acknowledged_ms"]["p50"] >= 200
    assert result["update_ms"]["p50"] < 200
    assert result["acknowledgements_missing"] == 0


async def test_what_is_never_acknowledged_is_missing() -> None:
    room = _Room(acknowledged_up_to=5)
    result = await _measured(room, clients=2, writers=1, update_rate=20, acknowledged=1, drain=FOR_NOTHING_S)
    assert result["acknowledgements_missing"] == result["updates_sent"] - 5
    assert result["updates_missing"] == 0


async def test_who_stops_reading_has_everything_in_the_end_and_spoils_no_latency() -> None:
    result = await _measured(_Room(), clients=4, writers=2, update_rate=20, update_chars=500, stalled=1, look=1)
    assert result["stalled_missing"] == result["updates_missing"] == 0
    assert 0 <= result["stalled_recovered_s"] < DRAIN_S
    assert result["update_ms"]["count"] == result["updates_sent"] * 2  # the other writer and the reader
    assert result["update_ms"]["max"] < 900


async def test_a_paste_goes_to_its_room_alone_and_is_checked_there(tmp_path: Path) -> None:
    path = tmp_path / "pastes"
    path.write_bytes(documents.make(Pasted(2, 50)).encoded())
    options = {"rooms": 3, "clients": 2, "writers": 1, "update_rate": 10, "seconds": 1.9}
    result = await _measured(_Room(), **options, document=path, use="paste")
    assert (result["pasted"], result["documents_missing"]) == (2, 0)
    assert result["updates_sent"] == result["update_deliveries"] == pytest.approx(2 * 19, abs=2)
    assert result["first_error"] is None


async def test_who_comes_late_without_being_told_what_was_before_misses_it() -> None:
    options = {"clients": 3, "writers": 1, "update_rate": 20, "late": 1, "late_at": 0.5, "join_timeout": 20}
    result = await _measured(_Room(), **options, drain=FOR_NOTHING_S)
    assert result["late_joined"] == result["join_ms"]["count"] == 1
    assert result["update_ms"]["count"] == result["updates_sent"]
    assert 5 <= result["updates_missing"] <= 15  # half a second of typing


@pytest.mark.parametrize(
    "options", [{"late": 2}, {"update-chars": 0}, {"update-chars": 5000}, {"use": "upload"}, {"use": "keep"}]
)
async def test_roles_that_do_not_fit_together_are_refused(options: dict[str, object]) -> None:
    process = await asyncio.create_subprocess_exec(
        install.compile_generator(),
        *("--ports", "1", *(part for name, value in options.items() for part in (f"--{name}", str(value)))),
        stderr=asyncio.subprocess.PIPE,
    )
    _, complained = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert complained.startswith(b"loadgen: ")
