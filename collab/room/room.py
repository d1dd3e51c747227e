"""One document being edited here, as decisions: messages and outcomes in, effects out.

The room knows its sessions, their awareness and what each still waits to see saved. It does not hold the document
(the engine does), never awaits and is told the time. `collab.node.live_room.LiveRoom` is its only caller.
"""

from __future__ import annotations

from collections.abc import Iterable

from collab.errors import CloseCode
from collab.protocol.messages import (
    Awareness,
    Message,
    QueryAwareness,
    Renewal,
    SyncStatus,
    SyncStep1,
    SyncStep2,
    TimeLeft,
    Unknown,
    Update,
)
from collab.protocol.peers import PeerUpdate
from collab.protocol.yjs import EMPTY_UPDATE
from collab.room.awareness import AwarenessTable
from collab.room.confirming import Confirming, due_status
from collab.room.effects import (
    Answer,
    Broadcast,
    Disconnect,
    Effect,
    Greet,
    Integrate,
    Integrated,
    Proposal,
    Publish,
    PublishAwareness,
    Receipt,
    Record,
    Renew,
    Send,
)
from collab.room.foreign import Foreign, ForeignUpdate
from collab.room.session import Role, Session

MAX_REFUSED_WRITES = 3
"""A reader's editor that still sends edits after this many is not listening: it is closed."""

MAX_UNKNOWN_MESSAGES = 10
"""Newer clients may know message types we do not; more than this many is not a client."""

STATUS_PATIENCE = 1.0
"""Seconds a sync status may wait before a keep-alive tells y-sweet's client (3 s) that the socket lives."""

KEEP_ALIVE = Awareness(())
"""Awareness of nobody: every stock client takes it as a sign of life and nothing else."""


class Room:
    """The sessions of one document and the decisions about what they send."""

    def __init__(self, document: str, *, keep_alive_every: float = 10.0, expire_after: float = 30.0) -> None:
        self.document = document
        self.sessions: dict[Session, None] = {}
        self.awareness = AwarenessTable(expire_after=expire_after)
        self.foreign = Foreign()
        self._confirming = Confirming(self.sessions, self.foreign)
        self._keep_alive_every = keep_alive_every
        self._kept_alive_at = 0.0

    # who is here

    def join(self, session: Session, now: float) -> list[Effect]:
        """Let a session in; it is greeted before anything else it is told (SPEC R1)."""
        session.joined_at = now
        self.sessions[session] = None
        return [Greet(session)]

    def greet(self, session: Session, state_vector: bytes) -> list[Effect]:
        """Ask for what the document lacks; the first time, also tell who is here."""
        if session not in self.sessions:
            return []
        effects: list[Effect] = [Send(session, SyncStep1(state_vector))]
        if not session.greeted:
            session.greeted = True
            entries = self.awareness.all()
            if entries:
                effects.append(Send(session, Awareness(entries)))
        return effects

    def leave(self, session: Session, now: float) -> list[Effect]:
        """Forget a session and take its awareness along (SPEC A2); what it wrote stays on its way to the log."""
        self._confirming.leave(session)
        if self.sessions.pop(session, session) is None:
            self.awareness.leave(session, now)
        return []

    def change_role(self, session: Session, role: Role) -> list[Effect]:
        """Somebody here may more, or less, from now on (SPEC G6); what it sent before stays.

        Whoever may write again is asked for what was refused meanwhile, which its editor still shows; what follows on
        that is not called saved before the answer.
        """
        may_again = role.writes and not session.role.writes
        session.role = role
        if not may_again or session not in self.sessions:
            return []
        session.refused_writes = 0
        session.synced = False
        return [Greet(session)]

    # what they say

    def receive(self, session: Session, message: Message, now: float) -> list[Effect]:
        """Decide about one message of a session that has joined."""
        match message:
            case Update(update):
                return self._write(session, update, now, answer_to_greeting=False)
            case Awareness(entries):
                self.awareness.receive(session, entries, now)
                return []
            case SyncStatus(version):
                session.wait(version, now)
                return due_status(session)
            case SyncStep1(state_vector):
                return [Answer(session, state_vector)]
            case SyncStep2(update):
                return self._write(session, update, now, answer_to_greeting=True)
            case QueryAwareness():
                return [Send(session, Awareness(self.awareness.all()))]
            case Renewal(token):
                return [Renew(session, token)]
            case Unknown() | TimeLeft():
                session.unknown_messages += 1
                if session.unknown_messages > MAX_UNKNOWN_MESSAGES:
                    return [Disconnect(session, CloseCode.MALFORMED, "too many messages of unknown type")]
                return []

    def _write(self, session: Session, update: bytes, now: float, *, answer_to_greeting: bool) -> list[Effect]:
        session.received += 1
        if answer_to_greeting:
            session.first_sync()
        probe = not session.role.writes
        if probe and not answer_to_greeting and update != EMPTY_UPDATE:
            session.settled = session.received
            return self._refuse_reader(session)
        return [Integrate(Proposal(session, update, session.received, now, probe))]

    def _refuse_reader(self, session: Session) -> list[Effect]:
        session.refused_writes += 1
        if session.refused_writes >= MAX_REFUSED_WRITES:
            return [Disconnect(session, CloseCode.FORBIDDEN, "a reader kept sending edits")]
        return []

    # what became of it

    def integrated(self, batch: Integrated) -> list[Effect]:
        """Fan out what is new, record it, and see that everything settles in order."""
        effects: list[Effect] = []
        if batch.brought or batch.waiting:
            # One by one: what one of them repeats, another session may have written and not have been told is saved;
            # and what waits confirms nothing, while the others do (SPEC K6).
            waiting = frozenset(batch.waiting)
            for proposal in batch.taken:
                whole = Update(proposal.update)
                brought = Update(batch.brought[proposal]) if proposal in batch.brought else whole
                effects += self._taken((proposal,), brought, echo=None if proposal in waiting else whole)
        elif batch.taken and batch.merged is not None:
            merged = Update(batch.merged)
            effects += self._taken(batch.taken, merged, echo=merged)
        for proposal in batch.waiting:
            effects += self._ask_for_the_rest(proposal)
        effects += (self._repeated(proposal, proposal in batch.structless) for proposal in batch.repeated)
        for proposal in batch.still_waiting:
            if proposal.number == proposal.session.proved_by:
                # What is missing in the answer that was to bring it, its client lacks as well, and shows nobody.
                effects.append(self._repeated(proposal, proposal in batch.structless))
            else:
                effects.append(self._repeated(proposal, structless=True))
                effects += self._ask_for_the_rest(proposal)
        refusals: dict[Session, Disconnect] = {}
        for proposal, code, detail in batch.refused:
            refusals.setdefault(proposal.session, Disconnect(proposal.session, code, detail))
        effects += refusals.values()
        return effects

    def _taken(self, taken: tuple[Proposal, ...], merged: Update, *, echo: Update | None) -> Iterable[Effect]:
        authors = {proposal.session: None for proposal in taken}
        receipt = Receipt(
            updates=tuple((proposal.update, proposal.session.identity.subject) for proposal in taken),
            writes=tuple((proposal.session, proposal.number) for proposal in taken),
            arrived_at=taken[0].arrived_at,
            echo=echo,
            after=self.foreign.newest,
        )
        for author in authors:
            author.asked_again = False
        # One frame reaches everybody once: those who wrote it see it after the commit, as their confirmation
        # (SPEC R4). Whoever asks with sync statuses needs no confirmation and, unless it wrote all of it, no delay.
        after_commit = [author for author in authors if len(authors) == 1 or not author.speaks_sync_status]
        yield self._confirming.show(merged, frozenset(after_commit))
        if len(authors) > 1:
            for author in after_commit:
                self._confirming.hold(author, receipt, merged)
        yield Record(receipt)
        yield Publish(merged, receipt)

    def shown(self, proposal: Proposal) -> tuple[Broadcast, Publish]:
        """Show a plain update before the engine has it (SPEC R15). The receipt is recorded when it has."""
        session, message = proposal.session, Update(proposal.update)
        receipt = Receipt(
            updates=((proposal.update, session.identity.subject),),
            writes=((session, proposal.number),),
            arrived_at=proposal.arrived_at,
            echo=message,
            after=self.foreign.newest,
        )
        session.asked_again = False
        return self._confirming.show(message, frozenset((session,))), Publish(message, receipt)

    def waits_to_see(self, session: Session) -> bool:
        """Whether something in the document was not shown to this session yet."""
        return self._confirming.waits_to_see(session)

    def _repeated(self, proposal: Proposal, structless: bool) -> Effect:
        # Nothing new to record, but it may repeat what is not committed yet: it settles behind that (SPEC K4).
        echo = None if structless or proposal.probe else Update(proposal.update)
        writes = ((proposal.session, proposal.number),)
        return Record(Receipt((), writes, proposal.arrived_at, echo, after=self.foreign.newest))

    def probed(self, proposal: Proposal, *, holds_new: bool) -> list[Effect]:
        """A reader's SyncStep2 either repeats the document (every honest reader's does) or is refused whole."""
        if not holds_new:
            return [self._repeated(proposal, structless=True)]
        proposal.session.settled = max(proposal.session.settled, proposal.number)
        return self._refuse_reader(proposal.session)

    def committed(self, receipt: Receipt) -> list[Effect]:
        """The recorder's word that a receipt is in the log."""
        if receipt.adopts:
            self.foreign.adopted(receipt.adopts)
            return self._confirming.settle()
        return self._confirming.committed(receipt)

    def delayed(self, receipt: Receipt) -> list[Effect]:
        """The commit is taking long (SPEC R8)."""
        return self._confirming.delayed(receipt)

    def _ask_for_the_rest(self, proposal: Proposal) -> list[Effect]:
        """Ask for what ``proposal`` waits for, unless that was asked; the answer will prove it saved (SPEC K6)."""
        session = proposal.session
        if not session.expect_sync(Update(proposal.update)):
            return [Disconnect(session, CloseCode.OVERLOADED, "too much of it waits for what it does not bring")]
        if session.asked_again or session not in self.sessions:
            return []
        session.asked_again = True
        return [Greet(session)]

    # other nodes

    def heard(self, merged: bytes | None) -> list[Effect]:
        """Updates of another node are in the document: shown here, neither published nor recorded again (SPEC R5)."""
        return [] if merged is None else [self._confirming.show(Update(merged))]

    def brought(self, node: str, message: PeerUpdate, now: float) -> None:
        """``node`` brought this into the document; it is not known to have committed it."""
        self.foreign.hear(node, message, now)

    def resynced(self, update: bytes, now: float) -> list[Effect]:
        """A resync brought this, and nobody can tell whether it is in the log: it is shown, and recorded here."""
        receipt = Receipt(((update, None),), (), now, after=self.foreign.newest)
        return [self._confirming.show(Update(update)), Record(receipt)]

    def peer_committed(self, node: str, through: int) -> list[Effect]:
        """What ``node`` brought is in the log, up to its log entry of this number."""
        self.foreign.committed(node, through)
        return self._confirming.settle()

    def peer_gone(self, node: str, now: float) -> list[Effect]:
        """A node is no more: its sessions leave, and what it may not have committed is adopted."""
        self.awareness.node_gone(node, now)
        return self._adopt(self.foreign.adopt(node=node), now)

    @property
    def waits_for_peers(self) -> bool:
        """Whether something saved here is not confirmed because of another node."""
        return bool(self._confirming)

    def adopt_awaited(self, before: float, now: float) -> list[Effect]:
        """Adopt what holds up confirmations here and came before a time."""
        if not self._confirming:
            return []
        effects = self._adopt(self.foreign.adopt(through=self._confirming.through, before=before), now)
        if effects:
            for receipt in self._confirming:
                effects += self._confirming.delayed(receipt)
        return effects

    def adopt_old(self, before: float, now: float) -> list[Effect]:
        """Adopt what came before a time and is still not known to be in the log."""
        return self._adopt(self.foreign.adopt(before=before), now)

    def _adopt(self, updates: list[ForeignUpdate], now: float) -> list[Effect]:
        return [Record(Receipt((), (), now, adopts=tuple(updates)))] if updates else []

    # presence, and time

    def flush_awareness(self, now: float) -> list[Effect]:
        """One frame with everything that changed in this turn (SPEC A5)."""
        entries, author = self.awareness.take_changes()
        if not entries:
            return []
        message = Awareness(entries)
        effects: list[Effect] = [Broadcast(message, frozenset((author,)) if author else frozenset())]
        here = self.awareness.owned_here(now, entries)
        if here:
            effects.append(PublishAwareness(here))
        return effects

    def tick(self, now: float) -> list[Effect]:
        """Let time pass: expire awareness, keep connections alive. Call about once a second."""
        self.awareness.expire(now)
        if now - self._kept_alive_at >= self._keep_alive_every:
            self._kept_alive_at = now
            return [Broadcast(KEEP_ALIVE)]
        return [
            Send(session, KEEP_ALIVE)
            for session in self.sessions
            if session.waiting_since is not None and now - session.waiting_since >= STATUS_PATIENCE
        ]
