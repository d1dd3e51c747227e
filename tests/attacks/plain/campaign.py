"""The fuzz of plain updates: makes programs, has both sides run them, makes what went wrong small."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from random import Random
from time import monotonic

from collab.protocol.varint import write_varuint
from collab.protocol.yjs_content import MAX_CLOCK
from tests.attacks.plain.sides import Finding, Program, Sides
from tests.attacks.plain.writer import MAX_PLAIN_CLIENT, Gateway, Plain, Struct, Writer, reordered
from tests.unit.engine.histories import history, inserted

SHAPES = ("plain", "formatted", "wide", "maps", "arrays", "xml", "all", "by pycrdt", "far")
BATCHES = 8
BATCH_SIZES = (1, 2, 8, 30, 60)
DOCUMENTS_PER_BASE = 12
IN_FLIGHT = 3
"""Programs under way: one with either process, one being written."""
KEPT_PER_KIND = 1
MAX_TRIES = 300
"""Programs run to make one case smaller."""
MAX_TRIES_S = 45.0
"""And for how long: each try of a program that hangs takes all the patience there is."""


def far_clocks() -> tuple[bytes, ...]:
    """A document with little in it and clocks near the end of what there is: a deleted and a collected stretch."""
    deleted = b"\x01\x01\x4d\x00\x81\x03\x00" + write_varuint(MAX_CLOCK - 3_000) + b"\x00"
    collected = b"\x01\x01\x4e\x00\x00" + write_varuint(MAX_CLOCK - 500) + b"\x00"
    return inserted("far clocks", client=3), deleted, collected


@dataclass(slots=True)
class Case:
    """A small program that still shows what went wrong."""

    finding: Finding
    base: tuple[bytes, ...]
    updates: list[Plain]

    def lines(self) -> list[str]:
        """Readable form."""
        return [
            f"{self.finding.kind}, at {self.finding.at}",
            *(f"  {line}" for line in self.finding.detail.splitlines()),
            f"  base {[update.hex() for update in self.base]}",
            *(f"  {plain.update.hex()}  {plain.label}" for plain in self.updates),
        ]


@dataclass(slots=True)
class Summary:
    """What a run saw."""

    updates: int = 0
    refused: int = 0
    documents: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    cases: list[Case] = field(default_factory=list)


@dataclass(slots=True)
class Document:
    """A document to start from."""

    shape: str
    base: tuple[bytes, ...]
    structs: list[Struct]


class Campaign:
    """One run. ``tell`` is called with each case as it is found."""

    def __init__(
        self,
        sides: Sides,
        seed: int,
        tell: Callable[[Case], None],
        *,
        without: frozenset[str] = frozenset(),
        differences: bool = False,
    ) -> None:
        self._differences = differences
        self._without = without
        self._sides = sides
        self._rng = Random(seed)
        self._tell = tell
        self.summary = Summary()

    async def run(self, updates: int) -> Summary:
        """Give at least ``updates`` plain updates to both sides."""
        documents = self._documents()
        while self.summary.updates < updates:
            chunk = [await anext(documents) for _ in range(4)] * DOCUMENTS_PER_BASE
            gate = asyncio.Semaphore(IN_FLIGHT)
            async with asyncio.TaskGroup() as group:
                for document in chunk:
                    group.create_task(self._gated(gate, document, self._rng.getrandbits(64)))
        return self.summary

    async def _documents(self) -> AsyncIterator[Document]:
        while True:
            for shape in SHAPES:
                if shape in self._without:
                    continue
                seed = self._rng.getrandbits(31)
                if shape == "by pycrdt":
                    base = tuple(history(seed))
                elif shape == "far":
                    base = far_clocks()
                else:
                    base = (await self._sides.make(seed, shape),)
                described = [Struct(*parts) for parts in await self._sides.describe(list(base))]
                structs = [struct for struct in described if struct.client <= MAX_PLAIN_CLIENT]
                if structs:
                    yield Document(shape, base, structs)

    async def _gated(self, gate: asyncio.Semaphore, document: Document, seed: int) -> None:
        async with gate:
            await self._one(document, Random(seed))

    async def _one(self, document: Document, rng: Random) -> None:
        writer = Writer(rng, list(document.structs), self._without)
        known = dict(writer.gateway.known)
        batches = [writer.batch(rng.choice(BATCH_SIZES)) for _ in range(BATCHES)]
        summary = self.summary
        written = [plain for batch in batches for plain in batch]
        order = reordered([plain.update for plain in written], known, rng)
        program = Program(
            document.base,
            tuple(tuple(plain.update for plain in batch) for batch in batches),
            tuple(order),
            rng.random() < 0.5,
        )
        findings = await self._sides.check(program)
        summary.updates += len(written)
        summary.documents += 1
        summary.refused += writer.refused
        summary.labels.update(plain.label for plain in written)
        for finding in findings:
            summary.kinds[finding.kind] += 1
            summary.shapes[f"{document.shape}: {finding.kind}"] += 1
            if summary.kinds[finding.kind] <= KEPT_PER_KIND and (finding.crash or self._differences):
                case = await self._smaller(finding, known, batches, program)
                summary.cases.append(case)
                self._tell(case)

    async def _smaller(
        self, finding: Finding, known: dict[int, int], batches: list[list[Plain]], program: Program
    ) -> Case:
        """Leave out whatever can be left out while the same kind of thing goes wrong and all is still admitted."""
        best = [(number, plain) for number, batch in enumerate(batches) for plain in batch]
        indexes = {id(plain): index for index, (_, plain) in enumerate(best)}
        rank = {index: place for place, index in enumerate(program.order)}
        step, tries, stop_at = max(1, len(best) // 2), 0, monotonic() + MAX_TRIES_S
        while step and tries < MAX_TRIES:
            start = 0
            while start < len(best) and tries < MAX_TRIES:
                tries = tries + 1 if monotonic() < stop_at else MAX_TRIES
                fewer = _admitted(best[:start] + best[start + step :], known)
                order = sorted(range(len(fewer)), key=lambda place: rank[indexes[id(fewer[place][1])]])
                smaller = replace(program, batches=_batches(fewer), order=tuple(order))
                again = [other for other in await self._sides.check(smaller) if other.kind == finding.kind]
                if again:
                    best, finding = fewer, again[0]
                else:
                    start += step
            step //= 2
        return Case(finding, program.base, [plain for _, plain in best])


def _admitted(numbered: list[tuple[int, Plain]], known: dict[int, int]) -> list[tuple[int, Plain]]:
    gateway = Gateway(dict(known))
    return [(number, plain) for number, plain in numbered if gateway.admits(plain.update)]


def _batches(numbered: list[tuple[int, Plain]]) -> tuple[tuple[bytes, ...], ...]:
    batches = groupby(numbered, key=itemgetter(0))
    return tuple(tuple(plain.update for _, plain in batch) for _, batch in batches)
