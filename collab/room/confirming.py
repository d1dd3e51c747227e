"""Who wrote a thing is told when it is saved: by a sync status, or by seeing it (SPEC K1, R4).

Between a commit and that word stands what another node has not committed yet (K5); and who shares a batch sees its
own part of it, and all that follows, only after the commit (R12).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from collab.protocol.messages import SyncStatus, Update
from collab.room.effects import Broadcast, Echo, Effect, Receipt, Saved, Send

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from collab.room.foreign import Foreign
    from collab.room.session import Session


class Confirming:
    """The confirmations of one room that are due, and what is held back with them."""

    def __init__(self, sessions: Collection[Session], foreign: Foreign) -> None:
        """``sessions`` are those that are here, now and later."""
        self._sessions = sessions
        self._foreign = foreign
        self._holding: dict[Session, None] = {}
        """Sessions with something in ``held``."""
        self._settling: deque[Receipt] = deque()
        """Committed, but what they may depend on is not known to be; in the order of their commits."""

    def __bool__(self) -> bool:
        """Whether something is committed and not confirmed, because of another node."""
        return bool(self._settling)

    def __iter__(self) -> Iterator[Receipt]:
        """What that is, in the order of the commits."""
        return iter(self._settling)

    @property
    def through(self) -> int:
        """Up to which of other nodes' updates something waits for them; only while anything does.

        Not simply that of the last: what was shown early is recorded late, and behind what has heard more.
        """
        return max(receipt.after for receipt in self._settling)

    def leave(self, session: Session) -> None:
        """A session has left: it is told nothing."""
        self._holding.pop(session, None)

    def show(self, message: Update, except_: frozenset[Session] = frozenset()) -> Broadcast:
        """Broadcast now, but in order: who still waits for a batch it shares gets this one behind it (SPEC R12)."""
        if not self._holding:
            return Broadcast(message, except_)
        for session in self._holding:
            if session not in except_:
                session.held.append((None, message))
        return Broadcast(message, except_.union(self._holding))

    def hold(self, session: Session, receipt: Receipt, message: Update) -> None:
        """A session is shown ``message``, a batch it shares, when ``receipt`` is committed."""
        if session in self._sessions:
            session.held.append((receipt, message))
            self._holding[session] = None

    def waits_to_see(self, session: Session) -> bool:
        """Whether something in the document was not shown to this session yet."""
        return session in self._holding

    def committed(self, receipt: Receipt) -> list[Effect]:
        """A receipt is in the log: confirm it to its authors (SPEC K1), unless it may depend on what another node has
        not committed yet (SPEC K5)."""
        self._settling.append(receipt)
        return self.settle()

    def settle(self) -> list[Effect]:
        """Confirm what depends on nothing of another node any more."""
        effects: list[Effect] = []
        while self._settling and self._foreign.is_settled(self._settling[0].after):
            receipt = self._settling.popleft()
            effects += self._confirm(receipt)
            effects.append(Saved(receipt))
        return effects

    def _confirm(self, receipt: Receipt) -> list[Effect]:
        if len(receipt.writes) == 1:
            session, number = receipt.writes[0]
            if not (session.speaks_sync_status or session.held or session.unproven):  # nearly always: all it needs
                session.settled = max(session.settled, number)
                if receipt.echo is None or session not in self._sessions:
                    return []
                return [Echo(receipt.echo, (session,), may_wait=True)]
        authors: dict[Session, None] = {}
        for session, number in receipt.writes:
            session.settled = max(session.settled, number)
            if session in self._sessions:
                authors[session] = None
        effects: list[Effect] = []
        if receipt.echo is not None:
            waited = tuple(session for session in authors if not session.speaks_sync_status or session.held)
            if waited:
                alone = all(session is receipt.writes[0][0] for session, _ in receipt.writes)
                effects.append(Echo(receipt.echo, waited, may_wait=alone))
        for session in authors:
            effects += self._release(session, receipt)
            proved = session.take_proved()
            if not session.speaks_sync_status:
                effects += (Echo(update, (session,), may_wait=True) for update in proved)
            effects += due_status(session)
        return effects

    def delayed(self, receipt: Receipt) -> list[Effect]:
        """The commit is taking long: let the authors of a shared batch see each other's edits meanwhile (SPEC R8)."""
        effects: list[Effect] = []
        for reader in dict.fromkeys(session for session, _ in receipt.writes):
            if reader.held and reader.held[0][0] is receipt:
                effects += _others_updates(receipt, reader)
                effects += self._release(reader, receipt)
        return effects

    def _release(self, session: Session, receipt: Receipt) -> Iterable[Effect]:
        for message in session.release(receipt):
            yield Send(session, message)
        if not session.held:
            self._holding.pop(session, None)


def due_status(session: Session) -> list[Effect]:
    """The sync status a session is due, if any (SPEC K2)."""
    version = session.take_due_version()
    return [] if version is None else [Send(session, SyncStatus(version))]


def _others_updates(receipt: Receipt, reader: Session) -> list[Effect]:
    """What the others wrote of a batch that ``reader`` shares."""
    return [
        Send(reader, Update(update))
        for (update, _), (author, _) in zip(receipt.updates, receipt.writes, strict=True)
        if author is not reader
    ]
