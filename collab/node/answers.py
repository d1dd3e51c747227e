"""Who asked what it lacks (SyncStep1) and is not answered yet. The pump answers between two batches.

Eight bytes ask for a whole document, so whoever got a large answer waits for the next one (SPEC R16).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from collab.errors import CloseCode, MalformedMessage
from collab.node.outbox import Flow
from collab.node.whole import LARGE_BYTES
from collab.room import Disconnect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collab.node.counters import Counters
    from collab.node.loaded_document import LoadedDocument
    from collab.node.outbox import Outbox
    from collab.node.slow_readers import SlowReaders
    from collab.room import Answer, Effect, Session

ANSWERED_BYTES = 4 * 1024 * 1024
"""Written to people who join before the turn ends, if there is more: writing this takes a few milliseconds."""

LARGE_ANSWER_EVERY = 5.0
"""Seconds from an answer of `LARGE_BYTES` to the next one to the same session. Clients ask when they connect, which
makes a new session, and never again in a hurry."""


class Answers:
    """Those of one room."""

    def __init__(
        self,
        document: LoadedDocument,
        slow_readers: SlowReaders,
        counters: Counters,
        *,
        outbox: Callable[[Session], Outbox | None],
        perform: Callable[[Sequence[Effect]], None],
    ) -> None:
        self._document = document
        self._slow_readers = slow_readers
        self._counters = counters
        self._outbox = outbox
        self._perform = perform
        self._due: dict[Session, Answer] = {}
        self._late: dict[Session, Answer] = {}
        """Newest questions of those who wait for the time of their next answer."""

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._due)

    def add(self, answer: Answer) -> None:
        """A session asks; of several questions its newest counts."""
        self._due[answer.session] = answer

    def take(self) -> dict[Session, Answer]:
        """All that are due; who takes them gives them to `give` when all that was shown before is integrated."""
        due, self._due = self._due, {}
        return due

    async def give(self, due: dict[Session, Answer]) -> None:
        """Answer until `ANSWERED_BYTES` are written; the others' turn comes after what was typed meanwhile."""
        written = 0
        while due and written < ANSWERED_BYTES:
            session = next(iter(due))
            written += await self._answer(due.pop(session))
        if due:
            self._due = {**due, **self._due}
            await asyncio.sleep(0)

    async def _answer(self, ask: Answer) -> int:
        """Answer one; gives how many bytes that was."""
        outbox = self._outbox(ask.session)
        if outbox is None:
            return 0
        if outbox.flow is not Flow.OPEN:
            self._slow_readers.owe(ask)
            return 0
        if self._put_off(ask, outbox):
            return 0
        try:
            frames = await self._document.answer(ask.state_vector)
        except MalformedMessage as error:
            self._perform([Disconnect(ask.session, CloseCode.MALFORMED, str(error))])
            return 0
        for frame in frames:
            outbox.write_always(frame)
            self._counters.frames_out += 1
            self._counters.bytes_out += frame.size
        size = sum(frame.size for frame in frames)
        if size >= LARGE_BYTES:
            outbox.answer_after = asyncio.get_running_loop().time() + LARGE_ANSWER_EVERY
        return size

    def _put_off(self, ask: Answer, outbox: Outbox) -> bool:
        """Whether it is too early for another answer; then the session's newest question will be asked again."""
        loop = asyncio.get_running_loop()
        if loop.time() >= outbox.answer_after:
            return False
        if ask.session not in self._late:
            loop.call_at(outbox.answer_after, self._ask_again, ask.session)
        self._late[ask.session] = ask
        self._counters.limits.add("answers")
        return True

    def _ask_again(self, session: Session) -> None:
        self._perform([self._late.pop(session)])
