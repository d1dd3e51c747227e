"""Byte-mutated valid updates from several sockets over several rooms of a running server: `python -m tests.attacks`.

Prints how many were taken, how the other sockets were closed, how often an engine process died, and the longest pause a
room beside noticed. Exit status 1 when the gateway ended, a code outside of the table was seen, what a document holds
live is not what is in the database, or the other room stood still.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from collab.errors import CloseCode
from collab.protocol.yjs import scan_update
from tests.attacks.control import ControlRoom
from tests.attacks.harm import corpus, mutated
from tests.faults.campaign import alive
from tests.support import wire
from tests.support.checker import decode_state_vector
from tests.support.server import NO_RATES, RunningServer

PER_DOCUMENT = 500
"""Mutations that pile up in one document before a fresh one is taken: long histories make answers slow, not sharper."""
REPORT_EVERY_S = 10.0


@dataclass(slots=True)
class Tally:
    """What came of it."""

    sent: int = 0
    survived: int = 0
    """Mutations that were taken: still an update, or nothing new."""
    attacked: set[str] = field(default_factory=set)
    documents: int = 0
    """Whose live and committed state were compared."""
    closes: Counter[int] = field(default_factory=Counter)
    refused_upgrades: Counter[int] = field(default_factory=Counter)
    """HTTP status of upgrades that were turned down (a quarantined document, for instance)."""
    longest_pause_s: float = 0.0
    engine_deaths: float = 0.0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        names = {code.code: code.name.lower() for code in CloseCode}
        closes = ", ".join(f"{code} {names.get(code, '?')}: {count}" for code, count in sorted(self.closes.items()))
        lines = [
            f"sent {self.sent}, taken {self.survived}, engine deaths {self.engine_deaths:.0f}",
            f"documents alike live and in the database: {self.documents}",
            f"closes: {closes or 'none'}; upgrades refused: {dict(self.refused_upgrades) or 'none'}",
            f"longest pause of the room beside: {self.longest_pause_s * 1000:.0f} ms",
            *(f"! {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)


async def mutate(
    server: RunningServer, *, count: int, rooms: int, sockets: int, rng: Random, loud: bool = False
) -> Tally:
    """Send ``count`` mutated updates to a running server and say what happened."""
    gateway, tally = server.pid, Tally()
    run = f"{rng.getrandbits(32):x}"
    deaths_before = await engine_deaths(server)
    async with ControlRoom(server.ws_url, f"control:{run}") as beside, asyncio.TaskGroup() as group:
        attackers = [
            group.create_task(
                _attack(server, f"mutated:{run}:{number % rooms}", count // sockets, Random(rng.getrandbits(64)), tally)
            )
            for number in range(sockets)
        ]
        watch = group.create_task(_watch(tally, beside, loud=loud))
        await asyncio.wait(attackers)
        await beside.still_syncs()
        for name in sorted(tally.attacked):
            await _compare(server, name, tally)
        watch.cancel()
    tally.longest_pause_s = beside.longest_pause_s
    tally.engine_deaths = await engine_deaths(server) - deaths_before
    if server.pid != gateway or not alive(gateway):
        tally.problems.append("the gateway ended")
    unknown = set(tally.closes) - {code.code for code in CloseCode}
    if unknown:
        tally.problems.append(f"close codes that are not in the table: {sorted(unknown)}")
    return tally


async def _attack(server: RunningServer, name: str, count: int, rng: Random, tally: Tally) -> None:
    honest, sent = corpus(rng), 0
    while sent < count:
        document = f"{name}:{sent // PER_DOCUMENT}"
        url = f"{server.ws_url}/{document}"
        tally.attacked.add(document)
        try:
            async with connect(url, max_size=None, compression=None, ping_interval=None, proxy=None) as socket:
                sent += await _session(socket, honest, min(count - sent, PER_DOCUMENT), rng, tally)
        except ConnectionClosed as closed:
            tally.closes[closed.rcvd.code if closed.rcvd else 1006] += 1
            sent += 1
        except (InvalidHandshake, OSError, TimeoutError) as refused:
            tally.refused_upgrades[getattr(getattr(refused, "response", None), "status_code", 0)] += 1
            sent += 1  # a server that lets nobody in must not keep this loop running for ever


async def _session(socket: ClientConnection, honest: list[bytes], left: int, rng: Random, tally: Tally) -> int:
    """Send mutations one by one, each answered, until the server has enough of it; returns how many."""
    sent = 0
    for update in rng.sample(honest, 3):  # something for the mutations to build on
        await socket.send(wire.update(update))
    while sent < left:
        sent += 1
        tally.sent += 1
        try:
            await socket.send(wire.update(mutated(rng.choice(honest), rng)))
            await socket.send(wire.step1())
            await _answered(socket)
            tally.survived += 1
        except ConnectionClosed:
            tally.closes[socket.close_code or 1006] += 1
            break
    return sent


async def _answered(socket: ClientConnection) -> None:
    """Wait for a SyncStep2: everything sent before the question was dealt with."""
    while True:
        frame = await socket.recv(decode=False)
        if any(message[:2] == (wire.SYNC, wire.STEP2) for message in wire.messages(frame)):
            return


async def _compare(server: RunningServer, document: str, tally: Tally) -> None:
    """What a document's room holds is what its log holds: nothing refused was stored, nothing taken was lost."""
    url = f"{server.ws_url}/{document}"
    try:
        async with connect(url, max_size=None, compression=None, ping_interval=None, proxy=None) as socket:
            greeting = await socket.recv(decode=False)
        live = decode_state_vector(next(payload for _, sub, payload in wire.messages(greeting) if sub == wire.STEP1))
    except (ConnectionClosed, InvalidHandshake) as closed:
        tally.problems.append(f"{document} lets nobody in any more: {closed}")
        return
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.get(f"{server.url}/v1/documents/{document}/content?format=update")
    ranges = scan_update(answer.content).ranges if answer.status_code == 200 else {}
    committed = {client: found[0][1] for client, found in ranges.items() if found[0][0] == 0}
    if live == committed:
        tally.documents += 1
    else:
        tally.problems.append(f"{document} holds {live}, its log {committed} ({answer.status_code})")


async def _watch(tally: Tally, beside: ControlRoom, *, loud: bool) -> None:
    while True:
        await asyncio.sleep(REPORT_EVERY_S)
        if loud:
            print(
                f"{tally.sent} sent, longest pause {beside.longest_pause_s * 1000:.0f} ms, {dict(tally.closes)}",
                flush=True,
            )


async def engine_deaths(server: RunningServer) -> float:
    """Engine restarts so far, from the server's own metrics."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{server.url}/metrics")).text
    return sum(
        float(value) for value in re.findall(r"^\w*engine_restarts\w*(?:\{.*\})? ([0-9.e+]+)$", text, re.MULTILINE)
    )


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("--updates", type=int, default=1_000_000)
    parser.add_argument("--rooms", type=int, default=6)
    parser.add_argument("--sockets", type=int, default=8)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.updates} mutated updates", flush=True)
    started = time.perf_counter()
    with RunningServer.start(env=NO_RATES) as server:
        tally = asyncio.run(
            mutate(
                server,
                count=arguments.updates,
                rooms=arguments.rooms,
                sockets=arguments.sockets,
                rng=Random(arguments.seed),
                loud=True,
            )
        )
    print(f"{tally}\n{time.perf_counter() - started:.0f} s, seed {arguments.seed}")
    return 1 if tally.problems else 0
