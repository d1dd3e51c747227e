"""One document in the engine, as its live room uses it: loaded, lost with a dying engine, loaded again.

The engine's death is settled here: the document is built again from the log and what is not saved yet, the batch under
way is tried one update at a time, and the update that kills is refused. A document that kills by itself, on loading or
reading, is quarantined. Rooms see verdicts, never deaths.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import structlog

from collab.engine.port import Integration, Outcome, Verdict
from collab.errors import CloseCode, CollabError, DocumentQuarantined, EngineDied, StoreUnavailable
from collab.node.growth import Growth
from collab.node.known_clocks import KnownClocks
from collab.node.outbox import Frame
from collab.node.whole import Whole
from collab.protocol.dialects.y_websocket import encode
from collab.protocol.messages import SyncStep2
from collab.protocol.yjs import EMPTY_STATE_VECTOR

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from collab.engine.port import Diff, Digest, Engine
    from collab.node.counters import Counters
    from collab.store.port import Stored, UpdateLog

Answer = TypeVar("Answer")

MAX_DEATHS = 2
MAX_REFUSED_KILLERS = 10
BLAME_KEPT_FOR = 600.0
"""A document that by itself kills `MAX_DEATHS` engines, or is sent `MAX_REFUSED_KILLERS` deadly updates, within this
many seconds is quarantined (faults matrix F29)."""

REVIVAL_AFTER = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0)
"""Seconds before each try when the engine dies of something else while this document waits for it."""

RELOAD_EVERY = 1.0
"""Seconds between two attempts to load again while the database does not answer."""

log = structlog.get_logger(__name__)


class LoadedDocument:
    """The engine's copy of one document. For one pump; calls may overlap only while it is ``loaded``."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        update_log: UpdateLog,
        counters: Counters,
        *,
        many_clients: int,
        unsaved: Callable[[], list[bytes]],
        reloaded: Callable[[Stored], None],
    ) -> None:
        """One in which ``many_clients`` have written is logged. ``unsaved`` gives the updates that are in the document
        and not yet known to be in the log; ``reloaded`` is told what the log held when the document was built again,
        which may be more than sessions were shown."""
        self._name = name
        self._engine = engine
        self._log = update_log
        self._counters = counters
        self._unsaved = unsaved
        self._reloaded = reloaded
        self._opened = False
        self._loaded = False
        self._state_vector: bytes | None = None
        self._last_vector = b"\x00"
        self._digest: Digest | None = None
        self._deaths: list[float] = []
        self._killers: list[float] = []
        self._whole = Whole()
        self._growth = Growth(name, counters, many_clients=many_clients)
        self.clocks = KnownClocks()
        """What makes an update of it plain."""
        self._poison: set[bytes] = set()
        """Rows of the log that kill engines, and are left out."""

    @property
    def loaded(self) -> bool:
        """Whether the engine holds it, as far as is known: then several calls may be under way at once."""
        return self._loaded

    async def open(self) -> Stored:
        """Load for the first time; raises `DocumentDeleted`, `StoreUnavailable`, `DocumentQuarantined`."""
        stored = await self._insist(self._load, loading=True)
        self._opened = True
        return stored

    async def integrate(self, updates: Sequence[bytes]) -> Integration | None:
        """Integrate a batch; None when the engine died of it, or while it had it: then integrate them one by one."""
        if not self._loaded:
            await self._insist(self._load_patiently, loading=True)
        self._state_vector = self._digest = None
        try:
            answer = await self._engine.integrate(self._name, updates)
        except EngineDied:
            self._loaded = False
            return None
        self._learn(updates, answer)
        return answer

    def follow(self, updates: Sequence[bytes], done: Callable[[Sequence[Outcome] | CollabError], None]) -> None:
        """Integrate what was shown before, past any task. Only while ``loaded``.

        ``done`` gets the outcomes, or what went wrong; after `EngineDied` the updates are given to `integrate`.
        """
        self._state_vector = self._digest = None

        def followed(answer: Integration | CollabError) -> None:
            if isinstance(answer, CollabError):
                self._loaded = self._loaded and not isinstance(answer, EngineDied)
                done(answer)
                return
            self.clocks.followed(answer)
            if answer.crowded:
                self._growth.crowded()
            for update in updates:
                self._whole.integrated(update)
            done(answer.outcomes)

        self._engine.follow(self._name, updates, followed)

    def _learn(self, updates: Sequence[bytes], answer: Integration) -> None:
        self._whole.integrated(answer.merged)
        self.clocks.integrated(updates, answer)
        if answer.crowded:
            self._growth.crowded()

    async def integrate_alone(self, update: bytes) -> Integration:
        """Integrate one update that comes alone, or of a batch that was lost; the one that kills the engine is refused.

        The caller notes each answer before it asks for the next: should the engine die again, the document is built
        from what is noted.
        """

        async def attempt() -> Integration:
            try:
                return await self._engine.integrate(self._name, [update])
            except EngineDied as died:
                if died.culprit is None:
                    raise
                self._loaded = False
                self._blame(self._killers, MAX_REFUSED_KILLERS)
                log.warning("update_killed_engine", document=self._name, bytes=len(update))
                refused = Outcome(Verdict.REFUSED, CloseCode.MALFORMED, "kills the engine")
                return Integration((refused,), None)

        self._state_vector = self._digest = None
        answer = await self._insist(attempt)
        self._learn((update,), answer)
        return answer

    async def probe(self, updates: Sequence[bytes]) -> Integration:
        """Ask what ``updates`` would change, changing nothing."""
        return await self._insist(lambda: self._engine.integrate(self._name, updates, probe=True))

    async def diff(self, state_vector: bytes) -> Diff:
        """What somebody with ``state_vector`` lacks. Raises `MalformedMessage`."""
        diff = await self._insist(lambda: self._engine.diff(self._name, state_vector))
        self._state_vector = self._last_vector = diff.state_vector
        self._growth.look_at(diff.state_vector)
        return diff

    async def answer(self, state_vector: bytes) -> list[Frame]:
        """What answers a SyncStep1, the last of it a SyncStep2. Raises `MalformedMessage`."""
        now = asyncio.get_running_loop().time()
        empty_handed = state_vector == EMPTY_STATE_VECTOR
        if empty_handed and (frames := self._whole.frames(now)):
            return frames
        update = (await self.diff(state_vector)).update
        if not empty_handed:
            return [Frame(encode(SyncStep2(update)))]
        self._whole.keep(update, now)
        return self._whole.frames(now)

    def tick(self, now: float) -> None:
        """Let time pass; about once a second."""
        self._whole.tick(now)

    async def state_vector(self) -> bytes:
        """The document's state vector now; remembered until something is integrated."""
        if self._state_vector is not None:
            return self._state_vector
        return (await self.diff(self._last_vector)).state_vector

    async def digest(self) -> Digest:
        """What the document hashes to now; remembered until something is integrated."""
        if self._digest is None:
            digest = await self._insist(lambda: self._engine.digest(self._name))
            self._digest, self._state_vector = digest, digest.state_vector
        return self._digest

    async def forget(self) -> None:
        """Let the engine free its memory."""
        self._loaded = False
        try:
            await self._engine.forget(self._name)
        except EngineDied:
            log.debug("engine_died_while_forgetting", document=self._name)

    async def _insist(self, call: Callable[[], Awaitable[Answer]], *, loading: bool = False) -> Answer:
        """Call until it is answered, loading again whenever the engine died before or meanwhile."""
        for delay in REVIVAL_AFTER:
            if delay:
                await asyncio.sleep(delay)
            try:
                if not self._loaded and not loading:
                    await self._load_patiently()
                return await call()
            except EngineDied as died:
                self._loaded = False
                if died.culprit is not None:
                    self._blame(self._deaths, MAX_DEATHS + len(self._poison))
        raise EngineDied(f"no engine stayed alive long enough to serve {self._name}")

    async def _load_patiently(self) -> Stored:
        """Load again, however long the database takes: everybody in the room stays connected meanwhile (SPEC E1)."""
        while True:
            try:
                return await self._load()
            except StoreUnavailable as error:
                log.warning("document_waits_for_database", document=self._name, error=str(error))
                await asyncio.sleep(RELOAD_EVERY)

    async def _load(self) -> Stored:
        unsaved = self._unsaved()  # before reading: what is committed meanwhile is then simply there twice
        stored = await self._log.load(self._name)
        if stored.damage:
            self._counters.damage += len(stored.damage)
            log.error("damage_found", document=self._name, damage=list(stored.damage))
        updates = [update for update in (*stored.all_updates, *unsaved) if update not in self._poison]
        try:
            loaded = await self._engine.load(self._name, updates)
        except EngineDied as died:
            self._leave_out(died.culprit, updates, stored.snapshot)
            raise
        if any(updates[index] is stored.snapshot for index in loaded.refused):
            self._counters.quarantines += 1
            log.error("snapshot_refused", document=self._name)
            raise DocumentQuarantined(f"{self._name} has a snapshot that the engine refuses")
        if loaded.refused:
            log.error("poison_rows_left_out", document=self._name, rows=len(loaded.refused))
        self._whole.forget()
        self.clocks.loaded(loaded.state_vector)
        self._growth.look_at(loaded.state_vector)
        self._state_vector = self._last_vector = loaded.state_vector
        self._digest = None
        self._loaded = True
        if self._opened:
            self._reloaded(stored)
        return stored

    def _leave_out(self, culprit: int | None, updates: Sequence[bytes], snapshot: bytes | None) -> None:
        """Next time load without the row that killed. Without its snapshot a document would look empty: never that."""
        if culprit is not None and culprit < len(updates) and updates[culprit] is not snapshot:
            self._poison.add(updates[culprit])
            self._counters.damage += 1
            log.error("deadly_row_left_out", document=self._name, bytes=len(updates[culprit]))

    def _blame(self, blamed_at: list[float], most: int) -> None:
        now = asyncio.get_running_loop().time()
        blamed_at[:] = [when for when in blamed_at if now - when < BLAME_KEPT_FOR]
        blamed_at.append(now)
        if len(blamed_at) >= most:
            self._counters.quarantines += 1
            log.error("document_quarantined", document=self._name)
            raise DocumentQuarantined(f"{self._name} keeps killing engines")
