"""Readers of one room that are not written everything at once: what they missed comes as one diff.

A reader whose outbox is over its bound falls behind at the state vector of that moment; once its connection has drained
it gets what it lacks since. The pump calls, between two batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collab.node.outbox import Flow, Frame
from collab.protocol.dialects.y_websocket import encode
from collab.protocol.messages import Awareness, Update
from collab.protocol.yjs import EMPTY_STATE_VECTOR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from collab.node.counters import Counters
    from collab.node.loaded_document import LoadedDocument
    from collab.node.outbox import Outbox
    from collab.room import Answer, Room, Session


class SlowReaders:
    """Who is behind, who is due something, and what each is owed."""

    def __init__(self, room: Room, document: LoadedDocument, counters: Counters) -> None:
        self._room = room
        self._document = document
        self._counters = counters
        self._due: dict[Session, Outbox] = {}
        self._behind: dict[Session, Outbox] = {}
        self._postponed: dict[Session, Outbox] = {}
        """Those that have caught up, and get their diff when what they wrote is saved."""
        self._owed: dict[Session, Answer] = {}
        """Answers to those behind: big, so they wait until what is before them has been read."""

    @property
    def due(self) -> bool:
        """Whether `see_to` has something to do."""
        return bool(self._due)

    @property
    def behind(self) -> bool:
        """Whether anybody is."""
        return bool(self._behind)

    def note(self, session: Session, outbox: Outbox) -> None:
        """An outbox is over its bound, or has drained."""
        self._due[session] = self._behind[session] = outbox

    def saved(self, writes: Iterable[tuple[Session, int]]) -> None:
        """These writes are saved. Hot path."""
        if self._postponed:
            for session, _ in writes:
                outbox = self._postponed.pop(session, None)
                if outbox is not None:
                    self.note(session, outbox)

    def owe(self, answer: Answer) -> None:
        """Keep an answer to a session that is behind; a newer one takes its place."""
        self._owed[answer.session] = answer

    def drop(self, session: Session) -> None:
        """A session has left."""
        for kept in (self._due, self._behind, self._postponed):
            kept.pop(session, None)
        self._owed.pop(session, None)

    async def see_to(self) -> list[Answer]:
        """Let fall behind, or catch up, whoever is due; gives the answers that need wait no longer."""
        answers: list[Answer] = []
        due, self._due = self._due, {}
        for session, outbox in due.items():
            if outbox.flow is Flow.FALLING:
                # Everything integrated so far was written to it; nothing that follows will be. Unless it still waits
                # to see a batch it shares: then its diff starts from nothing, since no vector says what it has.
                waits = self._room.waits_to_see(session)
                outbox.fall_behind(EMPTY_STATE_VECTOR if waits else await self._document.state_vector())
            elif outbox.flow is Flow.DRAINED and session.settled < session.received:
                # Its diff would hold what it wrote and is not saved yet, and be taken for the confirmation.
                self._postponed[session] = outbox
            elif outbox.flow is Flow.DRAINED:
                await self._catch_up(outbox)
            if outbox.flow is Flow.OPEN:
                self._behind.pop(session, None)
                if session in self._owed:
                    answers.append(self._owed.pop(session))
        return answers

    async def _catch_up(self, outbox: Outbox) -> None:
        self._counters.slow_reader_diffs += 1
        repeats = outbox.echo_left_out
        vector = None if repeats else outbox.state_vector
        diff = await self._document.diff(vector or EMPTY_STATE_VECTOR)
        if outbox.echo_left_out and not repeats:  # while the engine looked
            diff = await self._document.diff(EMPTY_STATE_VECTOR)
        outbox.catch_up()
        outbox.write(Frame(encode(Update(diff.update))))
        outbox.write(Frame(encode(Awareness(self._room.awareness.known()))))
