"""Kills parts of a running server under load, again and again, and checks after each time what was promised.

Used by `python -m tests.faults.kill` (hundreds of kills) and by the tests (a few). After the gateway was killed, the
check comes before any client may return: what is found then is what the database kept, not what clients sent again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

import httpx

from tests.support.checker import History, check, lost, text_of, unequal
from tests.support.clients import StockClients
from tests.support.plain import PLAIN
from tests.support.server import RunningServer
from tests.support.writers import Confirm, Gate, Writer

Target = Literal["gateway", "engine", "both"]
PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.002
LONGEST_WAIT_SECONDS = 0.3
"""The moment of a kill is uniform within this time after the load has got going."""


@dataclass(slots=True)
class Strike:
    """One kill and what came of it."""

    target: Target
    submitted: int
    acknowledged: int
    back_after_s: float
    """Until the server was ready (gateway) or everything written was confirmed (engine)."""
    problems: list[str] = field(default_factory=list)


class Campaign:
    """Rooms full of writers on one server. `begin`, any number of `strike`, then `end`."""

    def __init__(
        self, server: RunningServer, oracle: StockClients, rng: Random, *, rooms: int = 5, writers: int = 4
    ) -> None:
        self._server, self._oracle, self._rng = server, oracle, rng
        self._rooms, self._per_room = rooms, writers
        self._generation = 0
        self.histories: dict[str, History] = {}
        self.writers: dict[str, list[Writer]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.gate = Gate()
        self._struck_at = self._back_at = 0.0

    async def begin(self) -> None:
        """Fresh documents, fresh writers; returns when all are connected."""
        self._generation += 1
        self.gate = Gate()
        self.gate.open()
        run = f"{self._rng.getrandbits(40):x}"
        for room in range(self._rooms):
            document = f"kill:{run}:{self._generation}:{room}"
            history = self.histories[document] = History()
            numbers = range(1, self._per_room + 1)
            self.writers[document] = [self._writer(document, history, number) for number in numbers]
        self._tasks = [asyncio.create_task(writer.run(), name=f"writer {writer.number}") for writer in self.everybody]
        await self._connected()

    def _writer(self, document: str, history: History, number: int) -> Writer:
        confirm: Confirm = "status" if number % 2 else "echo"
        return Writer(
            self._server.ws_url,
            document,
            number,
            history=history,
            confirm=confirm,
            gate=self.gate,
            rng=Random(self._rng.getrandbits(64)),
        )

    @property
    def everybody(self) -> list[Writer]:
        """Every writer of every room."""
        return [writer for writers in self.writers.values() for writer in writers]

    def counted(self) -> tuple[int, int]:
        """Updates submitted, updates acknowledged."""
        histories = self.histories.values()
        return sum(len(one.submitted) for one in histories), sum(len(one.acknowledged) for one in histories)

    async def strike(self, target: Target) -> Strike:
        """Kill ``target`` at a random moment under load, check, and let everybody back in."""
        await self.running()
        await asyncio.sleep(self._rng.uniform(0.0, LONGEST_WAIT_SECONDS))
        self._struck_at = self._back_at = time.perf_counter()
        problems = await (self._strike_engine() if target == "engine" else self._strike_gateway(target))
        submitted, acknowledged = self.counted()
        for writer in self.everybody:
            problems += writer.problems
            writer.problems.clear()
        return Strike(target, submitted, acknowledged, self._back_at - self._struck_at, problems)

    async def running(self) -> None:
        """Wait until everybody is connected and acknowledgements come."""
        await self._connected()
        _, before = self.counted()
        await until(lambda: self.counted()[1] > before, "nothing is acknowledged any more")

    async def _connected(self) -> None:
        await until(lambda: all(writer.connected.is_set() for writer in self.everybody), "a client cannot get in")

    async def _strike_gateway(self, target: Target) -> list[str]:
        engines = engine_pids(self._server.pid)
        self.gate.connecting.clear()
        await asyncio.to_thread(self._server.kill if target == "both" else self._server.kill_gateway)
        # Acknowledgements already on their way were given too: read every socket to its end.
        await until(lambda: all(writer.offline for writer in self.everybody), "a socket outlived the server")
        await until(lambda: not any(alive(pid) for pid in engines), "an engine outlived its gateway")
        await asyncio.to_thread(self._server.launch)
        self._back_at = time.perf_counter()
        problems = await self._check_committed()
        self.gate.connecting.set()
        return problems

    async def _strike_engine(self) -> list[str]:
        gateway, closes = self._server.pid, [len(writer.closes) for writer in self.everybody]
        engines = engine_pids(gateway)
        if not engines:
            return ["the gateway has no engine process"]
        doomed = engines if self._rng.random() < 0.5 else [self._rng.choice(engines)]
        for pid in doomed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.gate.writing.clear()
        await self._settled()
        self._back_at = time.perf_counter()
        problems = await self._check_committed()
        if [len(writer.closes) for writer in self.everybody] != closes:
            codes = sorted({code for writer in self.everybody for code in writer.closes})
            problems.append(f"E1: the engine's death closed a socket, codes {codes}")
        if self._server.pid != gateway or not alive(gateway):
            problems.append("E1: the gateway ended with its engine")
        self.gate.writing.set()
        return problems

    async def _settled(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.gather(*(writer.settled() for writer in self.everybody))
        except TimeoutError:
            waiting = [str(writer) for writer in self.everybody if writer.unconfirmed]
            raise AssertionError(f"never confirmed: {waiting}\n{self._server.output[-3000:]}") from None

    async def _check_committed(self) -> list[str]:
        problems: list[str] = []
        for document, history in self.histories.items():
            replica = await committed(self._server, document)
            problems += [f"{document}: {problem}" for problem in check(history, replica)]
        return problems

    async def end(self) -> list[str]:
        """Stop writing, wait until all is saved, and compare every replica there is; then close every client."""
        self.gate.open()
        await self._connected()
        self.gate.writing.clear()
        await self._settled()
        problems: list[str] = []
        for document, history in self.histories.items():
            problems += [f"{document}: {problem}" for problem in await self._compare(document, history)]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self.everybody:
            writer.close()
        self.histories.clear()
        self.writers.clear()
        return problems

    async def _compare(self, document: str, history: History) -> list[str]:
        kept = await self._all_committed(document, history)
        writers, text = self.writers[document], text_of(kept)
        with suppress(AssertionError):  # said better below
            await until(lambda: all(text_of(writer.replica) == text for writer in writers), "replicas differ")
        replicas = {f"writer {writer.number}": writer.replica for writer in writers}
        problems = [*check(history, kept), *unequal({"database": kept, **replicas})]
        problems += [f"submitted, never saved: {problem}" for problem in lost(kept, history.submitted)]
        # C6: what Yjs makes of everything that was ever submitted is what the server made of it.
        yjs = await self._oracle.replica(*(entry.update for entry in history.submitted))
        stored = await self._oracle.replica(kept)
        if await yjs.get("pending(doc)") or await stored.get("pending(doc)"):
            problems.append("C4: Yjs waits for something that was never stored")
        if await yjs.canonical() != await stored.canonical() or await yjs.text() != await stored.text():
            problems.append("C6: Yjs reads the submitted updates differently from what was stored")
        await yjs.close()
        await stored.close()
        return problems

    async def _all_committed(self, document: str, history: History) -> bytes:
        """What is committed once everything submitted is; after `PATIENCE_SECONDS`, whatever is there."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while True:
            kept = await committed(self._server, document)
            if not lost(kept, history.submitted) or asyncio.get_running_loop().time() > deadline:
                return kept
            await asyncio.sleep(POLL_SECONDS)


async def committed(server: RunningServer, document: str) -> bytes:
    """The document as the database has it, as one update."""
    async with httpx.AsyncClient(**PLAIN, timeout=PATIENCE_SECONDS) as client:
        response = await client.get(f"{server.url}/v1/documents/{document}/content?format=update")
    return b"\x00\x00" if response.status_code == 404 else response.raise_for_status().content


async def until(holds: Callable[[], bool], otherwise: str) -> None:
    """Wait until ``holds``; after `PATIENCE_SECONDS` raise `AssertionError` with ``otherwise``."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while not holds():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(otherwise)
        await asyncio.sleep(POLL_SECONDS)


def engine_pids(gateway: int) -> list[int]:
    """The engine processes of a gateway: its children, whichever thread started them."""
    found: list[int] = []
    for task in Path(f"/proc/{gateway}/task").iterdir():
        with suppress(FileNotFoundError):
            found += map(int, (task / "children").read_text().split())
    return sorted(found)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False
