"""`python -m tests.faults.trace --trace PATH --database sqlite|postgres`: a real editing session against a real server.

Replays a keystroke trace (every patch one transaction, one update) through stock y-websocket clients that take turns,
then asks whether every client, the REST content, and a cold start after `kill -9` have exactly the trace's final text.
Without a trace a smaller one is generated. Prints what was measured.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.kill import running
from tests.support import node, wire
from tests.support.door import Door
from tests.support.server import RunningServer

Patch = tuple[int, int, str]
WINDOW = 64
"""Patches a writer keeps unacknowledged: the flow control of a client that waits for its server."""
DOCUMENT = "trace"


@dataclass(frozen=True, slots=True)
class Trace:
    """Patches to apply in order, and what must come of it."""

    start: str
    end: str
    patches: list[Patch]


@dataclass(slots=True)
class Outcome:
    """What a replay measured, and what was wrong."""

    measured: dict[str, Any]
    cold_open_s: float
    snapshot_bytes: int
    problems: list[str]

    def __str__(self) -> str:
        count, seconds, ack = self.measured["patches"], self.measured["seconds"], self.measured["ackMs"]
        lines = [
            f"{count} updates in {seconds:.1f} s: {count / seconds:.0f} updates/s sustained",
            f"edit to acknowledgement: p50 {ack['p50']:.1f} ms, p99 {ack['p99']:.1f} ms, max {ack['max']:.0f} ms",
            f"cold open after kill -9: {self.cold_open_s * 1000:.0f} ms; the document is {self.snapshot_bytes} bytes",
            *(f"! {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)


def read(path: Path) -> Trace:
    """A trace file: gzipped JSON with startContent, endContent and txns of patches."""
    data = json.loads(gzip.decompress(path.read_bytes()))
    patches: list[Patch] = [(at, deleted, text) for txn in data["txns"] for at, deleted, text in txn["patches"]]
    return Trace(data["startContent"], data["endContent"], patches)


def generate(length: int, rng: Random) -> Trace:
    """A session of somebody typing words, jumping about, and deleting what they regret."""
    text, at = "", 0
    patches: list[Patch] = []
    while len(patches) < length:
        if rng.random() < 0.02:
            at = rng.randint(0, len(text))
        if text and at and rng.random() < 0.3:
            at -= 1
            patches.append((at, 1, ""))
            text = text[:at] + text[at + 1 :]
        else:
            letter = rng.choice("etaoin shrdlu\n")
            patches.append((at, 0, letter))
            text = text[:at] + letter + text[at:]
            at += 1
    return Trace("", text, patches)


async def replay(server: RunningServer, trace: Trace, *, clients: int, rate: float | None = None) -> Outcome:
    """Replay, check, `kill -9`, start again, check again."""
    door = Door(server, DOCUMENT, file=Path())
    measured = await _replay(door, trace, clients=clients, rate=rate)
    problems = [f"client {number} reads differently" for number, right in enumerate(measured["right"]) if not right]
    problems += [f"a client was closed with {code}" for code in measured["closes"]]
    if await door.committed_text() != trace.end:
        problems.append("the committed text is not the trace's")
    await door.kill()
    await door.start()
    if await door.committed_text() != trace.end:
        problems.append("after kill -9 and a cold start the text is not the trace's")
    snapshot = await door.committed_update()
    return Outcome(measured, await _cold_open(door), len(snapshot), problems)


async def _cold_open(door: Door) -> float:
    """Seconds from the upgrade to the whole document in hand, for the first client after a cold start."""
    started = time.perf_counter()
    async with door.socket() as socket:
        await socket.send(wire.step1())
        await door.receive(socket, wire.SYNC, wire.STEP2)
        return time.perf_counter() - started


async def _replay(door: Door, trace: Trace, *, clients: int, rate: float | None) -> dict[str, Any]:
    await asyncio.to_thread(node.packages)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"startContent": trace.start, "endContent": trace.end, "patches": trace.patches}, file)
        file.flush()
        options = {
            "url": door.ws,
            "document": door.document,
            "patches": file.name,
            "clients": clients,
            "window": WINDOW,
            "rate": rate,
        }
        process = await asyncio.create_subprocess_exec(
            node.node(),
            str(node.INTEROP / "trace.mjs"),
            json.dumps(options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the replay failed:\n{err.decode()}")
    measured: dict[str, Any] = json.loads(out)
    return measured


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.trace", description=__doc__)
    parser.add_argument("--trace", type=Path, default=os.environ.get("COLLAB_TRACE"), help="or COLLAB_TRACE")
    parser.add_argument("--database", default="sqlite", choices=["sqlite", "postgres"])
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--rate", type=float, default=None, help="patches per second; default: as fast as acknowledged")
    parser.add_argument("--length", type=int, default=20_000, help="patches to generate when there is no trace")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments = parser.parse_args()
    trace = read(Path(arguments.trace)) if arguments.trace else generate(arguments.length, Random(arguments.seed))
    source = arguments.trace or f"generated, seed {arguments.seed}"
    print(f"{len(trace.patches)} patches ({source}), {arguments.clients} clients, {arguments.database}", flush=True)
    with running(arguments.database) as it:
        outcome = asyncio.run(replay(it.server, trace, clients=arguments.clients, rate=arguments.rate))
        print(f"{outcome}\nthe database takes {asyncio.run(it.database_bytes()) / 2**20:.1f} MiB")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
