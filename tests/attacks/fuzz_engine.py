"""Feeds an isolated engine with byte-mutated updates and counts what becomes of them.

    python -m tests.attacks.fuzz_engine --count 100000

The engine may die; this process and a document of honest keystrokes beside the hostile ones must not notice more than
a pause. Inputs that killed are printed as hex, with the updates their document was made of.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from collab.engine.isolated import IsolatedEngine
from collab.engine.port import Verdict
from collab.errors import EngineDied, MalformedMessage
from collab.protocol.yjs import scan_update
from tests.unit.engine.histories import history, mutated, typed

PER_DOCUMENT = 20
PER_CALL = 5


@dataclass(slots=True)
class Summary:
    """What a run saw."""

    verdicts: Counter[str] = field(default_factory=Counter)
    deaths: int = 0
    named: int = 0
    """Deaths and panics whose culprit the engine named."""
    panics: int = 0
    canary_edits: int = 0
    canary_loads: int = 0
    longest_pause_s: float = 0.0
    killers: list[tuple[tuple[bytes, ...], bytes]] = field(default_factory=list)
    """The document's updates, and the one that killed."""

    def lines(self) -> list[str]:
        """Readable form."""
        return [
            f"verdicts: {dict(self.verdicts)}",
            f"engine deaths: {self.deaths}, panics: {self.panics}, culprit named: {self.named}",
            f"honest document: {self.canary_edits} edits, reloaded {self.canary_loads} times",
            f"longest pause of the honest document: {self.longest_pause_s * 1000:.0f} ms",
        ]


class Canary:
    """A document somebody honestly types in while the others are attacked."""

    def __init__(self, engine: IsolatedEngine, keystrokes: list[bytes]) -> None:
        self._engine = engine
        self._keystrokes = keystrokes
        self._typed = 0
        self._loaded = False

    async def type_one(self, summary: Summary) -> None:
        """Make one keystroke, coming back as often as the engine dies."""
        started = time.perf_counter()
        self._typed = self._typed % (len(self._keystrokes) - 1) + 1
        if self._typed == 1:
            self._loaded = False
        while True:
            try:
                if not self._loaded:
                    await self._engine.load("canary", self._keystrokes[: self._typed - 1])
                    self._loaded = True
                    summary.canary_loads += 1
                integration = await self._engine.integrate("canary", [self._keystrokes[self._typed - 1]])
                break
            except EngineDied:
                self._loaded = False
        if integration.outcomes[0].verdict is not Verdict.INTEGRATED:
            raise AssertionError(f"an honest keystroke became {integration.outcomes[0]}")
        summary.canary_edits += 1
        summary.longest_pause_s = max(summary.longest_pause_s, time.perf_counter() - started)


async def fuzz(engine: IsolatedEngine, count: int, seed: int, *, quiet: bool = True) -> Summary:
    """Send ``count`` mutated updates; return what happened. Anything but the engine's own death is an error."""
    rng = Random(seed)
    summary = Summary()
    corpora = [history(seed * 100 + number, edits=60) for number in range(10)]
    canary = Canary(engine, typed(400))
    sent = 0
    while sent < count:
        corpus = rng.choice(corpora)
        at = rng.randrange(len(corpus))
        taken = corpus[:at]
        next_ones = corpus[max(0, at - 2) : at + 3]
        document = f"hostile:{sent}"
        await _load(engine, document, taken)
        for _ in range(PER_DOCUMENT // PER_CALL):
            batch = [_hostile(rng.choice(next_ones), rng) for _ in range(PER_CALL)]
            sent += len(batch)
            alive = await _send(engine, document, taken, batch, summary)
            await canary.type_one(summary)
            if not alive:
                break
        await engine.forget(document)
        if not quiet and sent % 5_000 < PER_DOCUMENT:
            print(f"{sent} sent, {summary.deaths} deaths, {summary.panics} panics", flush=True)
    return summary


def _hostile(update: bytes, rng: Random) -> bytes:
    """Mutate; three times out of four into something the bounded reader lets through to native code."""
    changed = mutated(update, rng)
    if rng.random() < 0.25:
        return changed
    for _ in range(30):
        try:
            scan_update(changed)
        except MalformedMessage:
            changed = mutated(update, rng)
        else:
            break
    return changed


async def _load(engine: IsolatedEngine, document: str, updates: list[bytes]) -> None:
    while True:
        try:
            await engine.load(document, updates)
            return
        except EngineDied:
            continue


async def _send(
    engine: IsolatedEngine, document: str, taken: list[bytes], batch: list[bytes], summary: Summary
) -> bool:
    deaths = engine.counters.restarts
    try:
        integration = await engine.integrate(document, batch)
    except EngineDied as error:
        died = engine.counters.restarts > deaths
        summary.deaths += died
        summary.panics += not died
        if error.culprit is not None:
            summary.named += 1
            if died:
                summary.killers.append((tuple(taken), batch[error.culprit]))
        return False
    for update, outcome in zip(batch, integration.outcomes, strict=True):
        summary.verdicts[outcome.verdict.value] += 1
        if outcome.verdict is Verdict.INTEGRATED:
            taken.append(update)
    return True


async def _main(options: argparse.Namespace) -> None:
    engine = IsolatedEngine()
    await engine.start()
    started = time.perf_counter()
    try:
        summary = await fuzz(engine, options.count, options.seed, quiet=False)
    finally:
        await engine.close()
    print(f"{options.count} mutated updates in {time.perf_counter() - started:.0f} s, seed {options.seed}")
    print("\n".join(summary.lines()))
    for taken, killer in summary.killers[: options.show]:
        print(f"killer {killer.hex()} after {[update.hex() for update in taken]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=3, help="killing inputs to print")
    sys.exit(asyncio.run(_main(parser.parse_args())))
