"""Updates made by pycrdt, and stores and engines that misbehave on request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pycrdt

from collab.engine.inline import InlineEngine
from collab.engine.port import Diff, Digest, Followed, Integration, Loaded
from collab.errors import CollabError, EngineDied, StoreUnavailable
from collab.store import MemoryStore
from collab.store.port import ROW_WAIT_S, Appended, LogEntry, Stored


class Writer:
    """A Yjs client: every `type` gives the update for it."""

    def __init__(self) -> None:
        self.doc: Any = pycrdt.Doc()
        self.text = self.doc.get("t", type=pycrdt.Text)

    def type(self, text: str) -> bytes:
        before = self.doc.get_state()
        self.text += text
        return bytes(self.doc.get_update(before))

    def delete(self, start: int, end: int) -> bytes:
        before = self.doc.get_state()
        del self.text[start:end]
        return bytes(self.doc.get_update(before))


def text_of(*updates: bytes) -> str:
    doc: Any = pycrdt.Doc()
    doc.apply_update(pycrdt.merge_updates(*updates))
    return str(doc.get("t", type=pycrdt.Text))


class FlakyLog:
    """The memory store's log, which fails or waits when told."""

    def __init__(self, store: MemoryStore) -> None:
        self.inner = store.log
        self.failures = 0
        self.attempts = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.load_gate = asyncio.Event()
        self.load_gate.set()
        self.loads = 0

    async def append(self, entries: Sequence[LogEntry], *, row_wait_s: float = ROW_WAIT_S) -> Appended:
        self.attempts += 1
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("told to fail")
        return await self.inner.append(entries, row_wait_s=row_wait_s)

    async def load(self, document: str) -> Stored:
        self.loads += 1
        await self.load_gate.wait()
        return await self.inner.load(document)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class FlakyStore(MemoryStore):
    """A memory store with a `FlakyLog`."""

    def __init__(self) -> None:
        super().__init__()
        self.flaky = FlakyLog(self)
        self.log = self.flaky  # type: ignore[assignment]


class DeadlyEngine(InlineEngine):
    """Dies of updates that hold ``poison``, and whenever ``deaths`` says so; a death loses every document."""

    def __init__(self, poison: bytes = b"POISON") -> None:
        super().__init__()
        self.poison = poison
        self.deaths = 0
        self.deadly_loads = False
        self.alive: set[str] = set()

    def die(self, culprit: int | None) -> EngineDied:
        self.alive.clear()
        return EngineDied("told to die", culprit=culprit)

    async def load(self, document: str, updates: Sequence[bytes]) -> Loaded:
        if self.deadly_loads:
            raise self.die(0)
        for index, update in enumerate(updates):
            if self.poison in update:
                raise self.die(index)
        self.alive.add(document)
        return await super().load(document, updates)

    async def integrate(self, document: str, updates: Sequence[bytes], *, probe: bool = False) -> Integration:
        self._check(document)
        for index, update in enumerate(updates):
            if self.poison in update:
                raise self.die(index)
        return await super().integrate(document, updates, probe=probe)

    def follow(self, document: str, updates: Sequence[bytes], done: Followed) -> None:
        async def integrate() -> None:
            try:
                done(await self.integrate(document, updates))
            except CollabError as error:
                done(error)

        self.following = asyncio.create_task(integrate())

    async def diff(self, document: str, state_vector: bytes) -> Diff:
        self._check(document)
        return await super().diff(document, state_vector)

    async def digest(self, document: str) -> Digest:
        self._check(document)
        return await super().digest(document)

    def _check(self, document: str) -> None:
        if self.deaths:
            self.deaths -= 1
            raise self.die(None)
        if document not in self.alive:
            raise EngineDied("lost")
