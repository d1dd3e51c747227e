"""What this node knows of grants, links and revocations that changed, and which of its sessions each change concerns.

The database is asked every two seconds or so what changed after the epoch this node knows, and at once when another
node says that something did: so a change reaches every session, with a bus and without (SPEC G6). Whoever is concerned
is asked to look at its rights again. Does nothing until somebody is asked who they are.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context
from itertools import islice
from typing import TYPE_CHECKING, Literal, Protocol

import structlog

from collab.errors import CollabError
from collab.node.control import AccessChanged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from collab.room import Session
    from collab.store.access_port import AccessChange, RevocationKind
    from collab.store.port import Store

RETRY_S = 1.0
"""Pause before sessions are looked at again whose rights the database did not tell."""
AT_ONCE = 100
"""Sessions that are looked at together. They share queries, and a change that concerns ten thousand is no storm."""
PAGE = 1_000
FORGET_AFTER = 1_000
"""So many revocations at least are learnt one by one before all are read anew, which leaves out what has expired."""

Key = tuple[Literal["subject", "token", "link"], str | int]
"""What a change may name."""

log = structlog.get_logger(__name__)


class Concerned(Protocol):
    """A live session, as far as its rights are concerned."""

    @property
    def session(self) -> Session:
        """Whose rights they are."""
        ...

    @property
    def document(self) -> str:
        """Where it is."""
        ...

    @property
    def keys(self) -> tuple[Key, ...]:
        """What its rights lean on; while it is registered, always the same."""
        ...

    async def examine(self) -> bool:
        """Ask again what it may, and act on it; False when that could not be found out now. Raises nothing."""
        ...

    def renew(self, token: bytes) -> None:
        """Its client sent another token."""
        ...


class AccessWatch:
    """Watches for one node. ``close`` it once; it starts by itself when it is first needed."""

    def __init__(self, store: Store, *, every: float, tell: Callable[[AccessChanged], None]) -> None:
        """``every`` so many seconds the database is asked; ``tell`` lets other nodes know that something changed."""
        self._store = store
        self._every = every
        self._tell = tell
        self._epoch: int | None = None
        """Everything up to here is known; None before the first look."""
        self._not_before: dict[tuple[str, str], float] = {}
        """(kind, subject or token id) -> Unix time before which its tokens must not have been issued."""
        self._learnt_before_all = 0
        """Revocations that may still be learnt one by one."""
        self._index: dict[Key, dict[Concerned, None]] = {}
        self._live: dict[Session, Concerned] = {}
        self._pending: dict[Concerned, None] = {}
        self._looking = asyncio.Lock()
        self._told = asyncio.Event()
        self._due = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._failing = False
        self.heard = 0
        """Grows with every change. Rights that were asked for at another count may be out of date."""

    async def close(self) -> None:
        """Stop."""
        self._closed = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # what is revoked

    async def known(self) -> None:
        """Return when the revocations are known here. Raises `StoreUnavailable`."""
        if not self._tasks and not self._closed:
            # In contexts of their own: they outlive the request in which they begin, and log nothing in its name.
            self._tasks = [
                asyncio.create_task(self._look_for_ever(), name="access watch", context=Context()),
                asyncio.create_task(self._examine_for_ever(), name="access examiner", context=Context()),
            ]
        if self._epoch is None:
            await self.look()

    def revoked(self, subject: str, token_id: str | None, issued_at: float | None) -> bool:
        """Whether a token is no longer believed. One that does not say when it was issued counts as the oldest."""
        limits = [self._not_before.get(("subject", subject))]
        if token_id is not None:
            limits.append(self._not_before.get(("token", token_id)))
        return any(limit is not None and (issued_at is None or issued_at < limit) for limit in limits)

    # who is here

    def add(self, concerned: Concerned, *, heard: int) -> None:
        """Register a session. ``heard`` is the count at which its rights were asked for: what changed since counts."""
        self._live[concerned.session] = concerned
        for key in concerned.keys:
            self._index.setdefault(key, {})[concerned] = None
        if heard != self.heard:
            self.note(concerned)

    def remove(self, concerned: Concerned) -> None:
        """Forget a session; twice is no mistake."""
        self._live.pop(concerned.session, None)
        self._pending.pop(concerned, None)
        for key in concerned.keys:
            found = self._index.get(key, {})
            found.pop(concerned, None)
            if not found:
                self._index.pop(key, None)

    def note(self, *concerned: Concerned) -> None:
        """Have these looked at again, soon."""
        self._pending.update(dict.fromkeys(concerned))
        if self._pending:
            self._due.set()

    def renew(self, session: Session, token: bytes) -> None:
        """A client sent another token for its session; where nobody is asked who they are that means nothing."""
        concerned = self._live.get(session)
        if concerned is not None:
            concerned.renew(token)

    # what changed

    async def changed(self) -> None:
        """Something was changed from here and is committed: act on it now, and let the other nodes."""
        await self._look_or_say_why_not()  # then the next look finds it
        self._tell(AccessChanged(self._epoch or 0))

    def hear(self, wish: AccessChanged) -> None:
        """Another node changed something. What it was the database says, so nobody can make up a change."""
        if self._tasks and (not wish.epoch or self._epoch is None or wish.epoch > self._epoch):
            self._told.set()

    async def look(self) -> None:
        """Find out what changed, and have those concerned looked at. Raises `StoreUnavailable`."""
        async with self._looking:
            if self._epoch is None:
                epoch = await self._store.access_changes.epoch()
                await self._load_revocations()
                self._epoch = epoch
                return
            while await self._look_on(self._epoch):
                pass

    async def _look_on(self, epoch: int) -> bool:
        """Take one page of changes; whether there may be more."""
        tail = await self._store.access_changes.after(epoch, limit=PAGE)
        if not tail.complete:
            await self._load_revocations()
        elif named := {key for change in tail.changes if (key := _revoked_by(change)) is not None}:
            await self._learn_revocations(named)
        self.heard += len(tail.changes) or not tail.complete
        if tail.complete:
            for change in tail.changes:
                self.note(*self._concerned(change))
        else:
            log.warning("access_changes_missed", epoch=epoch, through=tail.through)
            self.note(*self._live.values())
        self._epoch = tail.through
        return len(tail.changes) >= PAGE

    async def _load_revocations(self) -> None:
        found = await self._store.revocations.all_current()
        self._not_before = {(one.kind, one.value): one.not_before.timestamp() for one in found}
        self._learnt_before_all = max(FORGET_AFTER, len(self._not_before))

    async def _learn_revocations(self, named: set[tuple[RevocationKind, str]]) -> None:
        """A change costs what it names, however many revocations there are."""
        self._learnt_before_all -= len(named)
        if self._learnt_before_all < 0:
            await self._load_revocations()
            return
        for one in await self._store.revocations.current(named):
            self._not_before[one.kind, one.value] = one.not_before.timestamp()

    def _concerned(self, change: AccessChange) -> Iterable[Concerned]:
        if change.link_id is not None:
            return tuple(self._index.get(("link", change.link_id), ()))
        if change.token is not None:
            return tuple(self._index.get(("token", change.token), ()))
        found = self._index.get(("subject", change.subject or ""), {})
        return tuple(one for one in found if change.document in (None, one.document))

    async def _look_for_ever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._told.wait()
            self._told.clear()
            await self._look_or_say_why_not()

    async def _look_or_say_why_not(self) -> None:
        try:
            await self.look()
        except CollabError as error:
            if not self._failing:
                log.warning("access_not_watched", error=str(error))
            self._failing = True
        except Exception:
            log.exception("access_not_watched")
            self._failing = True
        else:
            self._failing = False

    async def _examine_for_ever(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            some = tuple(islice(self._pending, AT_ONCE))
            for one in some:
                del self._pending[one]
            done = await asyncio.gather(*map(_examined, some))
            again = [one for one, found_out in zip(some, done, strict=True) if not found_out]
            self._pending.update((one, None) for one in again if self._live.get(one.session) is one)
            if again:
                await asyncio.sleep(RETRY_S)
            if self._pending:
                self._due.set()


async def _examined(one: Concerned) -> bool:
    """`Concerned.examine`; what it should not raise must not end the looking at everybody else."""
    try:
        return await one.examine()
    except Exception:
        log.exception("access_not_examined", document=one.document, session=one.session.id)
        return False


def _revoked_by(change: AccessChange) -> tuple[RevocationKind, str] | None:
    """The revocation a change is about, if it is about one."""
    if change.token is not None:
        return "token", change.token
    if change.document is None and change.subject is not None:
        return "subject", change.subject
    return None
