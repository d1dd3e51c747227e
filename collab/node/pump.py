"""A room's pump: the only one that talks to the engine about its document, one batch at a time.

While a batch is with the engine, whatever arrives gathers; the next batch takes it all. So an idle room answers at once
and a busy one batches by itself. `LiveRoom` feeds it and performs the effects it brings back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from collab.engine.port import Verdict
from collab.errors import CloseCode, MalformedMessage
from collab.node.loaded_document import LoadedDocument
from collab.node.outbox import Flow, Frame, Outbox
from collab.protocol.dialects.y_websocket import encode
from collab.protocol.messages import Awareness, SyncStep2, Update
from collab.protocol.peers import PeerUpdate
from collab.protocol.values import value
from collab.protocol.yjs import EMPTY_STATE_VECTOR
from collab.room import Answer, Disconnect, Integrated, Proposal, Room, Send, Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from collab.engine.port import Integration
    from collab.node.counters import Counters
    from collab.room import Effect

FOLLOW_WITHIN = 0.01
"""Seconds until the engine has what was shown without it. More would gather more of it for one trip; a document that is
asked for meanwhile has it first in any case."""

Errand = Callable[[LoadedDocument], Awaitable[None]]


@value()
class _Heard:
    """Something of another node."""

    update: bytes
    origin: tuple[str, PeerUpdate] | None = None
    """Who sent it; None for a row of the log."""
    shown: bool = False
    """Whether this node's sessions were shown it before the engine had it."""


class Pump:
    """What waits for the engine, and the task that brings it there. ``start`` it once, ``stop`` it once."""

    def __init__(
        self,
        room: Room,
        document: LoadedDocument,
        counters: Counters,
        *,
        outbox: Callable[[Session], Outbox | None],
        perform: Callable[[Iterable[Effect]], None],
        failed: Callable[[Exception], None],
        rested: Callable[[], None],
    ) -> None:
        """``failed`` is told of an error that ends the room, ``rested`` whenever nothing is left to do."""
        self._room = room
        self._document = document
        self._counters = counters
        self._outbox = outbox
        self._perform = perform
        self._failed = failed
        self._rested = rested
        self._proposals: list[Proposal] = []
        self._heard: list[_Heard] = []
        self._errands: list[Errand] = []
        self._afterwards: list[Callable[[], None]] = []
        self._asks: dict[Session, Answer] = {}
        self._owed: dict[Session, Answer] = {}
        """Answers to readers that are behind: big, so they wait until what is before them has been read."""
        self._greets: dict[Session, None] = {}
        self._slow: dict[Session, Outbox] = {}
        self._behind: dict[Session, Outbox] = {}
        """Readers that are not written everything at once."""
        self._postponed: dict[Session, Outbox] = {}
        """Readers that have caught up, and get their diff when what they wrote is saved."""
        self._loop = asyncio.get_running_loop()
        self._sleeper: asyncio.Future[None] | None = None
        self._working = False
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self.waiting_bytes = 0
        """Bytes of proposals without a verdict."""

    def start(self, name: str) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._run(), name=name)

    def finish(self) -> None:
        """Take no further batch. Whoever sent what is dropped now is told to come back, and brings it again."""
        self._stopping = True
        self._wake()

    async def stop(self) -> None:
        """Stop at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def resting(self) -> bool:
        """Whether no update waits or is under way."""
        return not (self._proposals or self._heard or self._working)

    def propose(self, proposal: Proposal) -> None:
        """Put an update of a session into the next batch."""
        self._proposals.append(proposal)
        self.waiting_bytes += len(proposal.update)
        self._wake()

    def hear(self, node: str, message: PeerUpdate) -> None:
        """Another node took this from its sessions: show it, and let the engine have it within `FOLLOW_WITHIN`.

        The other node's engine has checked it, so nobody need wait for ours. What comes in a burst is merged first,
        and while a session is behind nothing is shown that a diff for it might not hold.
        """
        self._heard.append(_Heard(message.update, (node, message)))
        if len(self._heard) == 1 and not self._working:
            self._loop.call_soon(self._show_alone)
        else:
            self._wake()

    def _show_alone(self) -> None:
        if len(self._heard) != 1 or self._behind or self._working:
            self._wake()
            return
        (item,) = self._heard
        if item.origin is not None and not item.shown:
            self._heard = [_Heard(item.update, item.origin, shown=True)]
            self._room.brought(*item.origin, self._loop.time())
            self._perform(self._room.heard(item.update))
            self._loop.call_later(FOLLOW_WITHIN, self._wake)

    def hear_rows(self, updates: Iterable[bytes]) -> None:
        """Put rows of the log into the next batch."""
        self._heard += (_Heard(update) for update in updates)
        self._wake()

    def run(self, errand: Errand) -> None:
        """Do something with the document in the next turn, after what waits has been integrated."""
        self._errands.append(errand)
        self._wake()

    def afterwards(self, note: Callable[[], None]) -> None:
        """Note something once all that was heard before is integrated and shown: now, or when the next turn ends."""
        if self._working or self._has_work():
            self._afterwards.append(note)
        else:
            note()

    def ask(self, answer: Answer) -> None:
        """Answer a session's SyncStep1 in the next turn; its newest, if it asks several times."""
        self._asks[answer.session] = answer
        self._wake()

    def greet(self, session: Session) -> None:
        """Ask a session for what the document lacks in the next turn."""
        self._greets[session] = None
        self._wake()

    def note_slow(self, session: Session, outbox: Outbox) -> None:
        """See to an outbox that is over its bound or has drained in the next turn."""
        self._slow[session] = self._behind[session] = outbox
        self._wake()

    def saved(self, sessions: Iterable[Session]) -> None:
        """Something these sessions wrote is saved."""
        if self._postponed:
            for session in sessions:
                outbox = self._postponed.pop(session, None)
                if outbox is not None:
                    self.note_slow(session, outbox)

    def drop(self, session: Session) -> None:
        """A session has left."""
        self._postponed.pop(session, None)
        self._behind.pop(session, None)
        self._greets.pop(session, None)
        self._slow.pop(session, None)
        self._owed.pop(session, None)

    async def _run(self) -> None:
        while not self._stopping:
            if not self._has_work():
                self._working = False
                self._rested()
                await self._sleep()
            self._working = True
            try:
                await self._turn()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._stopping = True
                self._failed(error)
        self._working = False
        self._proposals.clear()
        self._heard.clear()
        self._rested()

    def _has_work(self) -> bool:
        return bool(
            self._proposals
            or self._heard
            or self._asks
            or self._greets
            or self._slow
            or self._errands
            or self._afterwards
        )

    async def _sleep(self) -> None:
        """Until something is queued. Not an asyncio.Event: that asks for the running loop each time."""
        self._sleeper = self._loop.create_future()
        try:
            await self._sleeper
        finally:
            self._sleeper = None

    def _wake(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def _turn(self) -> None:
        afterwards, self._afterwards = self._afterwards, []
        if self._slow:
            await self._see_to_slow_readers()
        if self._greets:
            vector = await self._document.state_vector()
            greets, self._greets = self._greets, {}
            for session in greets:
                self._perform(self._room.greet(session, vector))
        await self._integrate_all()
        if self._asks:
            await self._integrate_heard()
            asks, self._asks = self._asks, {}
            for ask in asks.values():
                await self._answer(ask)
        if self._errands:
            await self._integrate_heard()
            errands, self._errands = self._errands, []
            for errand in errands:
                await errand(self._document)
        for note in afterwards:
            note()

    async def _integrate_all(self) -> None:
        proposals, self._proposals = self._proposals, []
        probes = [proposal for proposal in proposals if proposal.probe]
        if probes:
            proposals = [proposal for proposal in proposals if not proposal.probe]
        if self._heard and proposals and self._document.loaded:
            # What is written here may follow on what was heard, and both travel to the engine together.
            heard, self._heard = self._heard, []
            updates = [proposal.update for proposal in proposals]
            heard_answer, answer = await asyncio.gather(
                self._document.integrate([item.update for item in heard]), self._document.integrate(updates)
            )
            await self._show_heard(heard, heard_answer)
            await self._take(proposals, answer)
        else:
            await self._integrate_heard()
            if proposals:
                await self._take(proposals, await self._document.integrate([one.update for one in proposals]))
        await self._probe(probes)

    async def _take(self, proposals: Sequence[Proposal], answer: Integration | None) -> None:
        if answer is not None:
            self._integrated(proposals, answer)
            return
        for proposal in proposals:
            self._integrated((proposal,), await self._document.integrate_alone(proposal.update))

    def _integrated(self, proposals: Sequence[Proposal], answer: Integration) -> None:
        for proposal in proposals:
            self.waiting_bytes -= len(proposal.update)
        self._perform(self._room.integrated(self._sort(proposals, answer)))
        self._counters.broadcast_s.observe(self._loop.time() - proposals[0].arrived_at)

    async def _integrate_heard(self) -> None:
        """Until nothing is left: who is answered now was not in the room when it was shown."""
        while self._heard:
            heard, self._heard = self._heard, []
            await self._show_heard(heard, await self._document.integrate([item.update for item in heard]))

    async def _show_heard(self, heard: Sequence[_Heard], answer: Integration | None) -> None:
        answers = [answer] if answer else [await self._document.integrate_alone(item.update) for item in heard]
        if not all(item.shown for item in heard):
            for answer in answers:
                self._perform(self._room.heard(answer.merged))
        for item in heard:
            if item.origin is not None and not item.shown:
                self._room.brought(*item.origin, self._loop.time())

    def _sort(self, proposals: Sequence[Proposal], answer: Integration) -> Integrated:
        taken, waiting, repeated, structless, refused = [], [], [], [], []
        for proposal, outcome in zip(proposals, answer.outcomes, strict=True):
            self._counters.updates[outcome.verdict.value] += 1
            match outcome.verdict:
                case Verdict.INTEGRATED:
                    taken.append(proposal)
                case Verdict.PENDING:
                    taken.append(proposal)
                    waiting.append(proposal)
                case Verdict.REDUNDANT:
                    repeated.append(proposal)
                    if outcome.empty:
                        structless.append(proposal)
                case Verdict.REFUSED:
                    refused.append((proposal, outcome.code or CloseCode.MALFORMED, outcome.detail))
        return Integrated(
            taken=tuple(taken),
            merged=answer.merged,
            waiting=tuple(waiting),
            repeated=tuple(repeated),
            structless=frozenset(structless),
            refused=tuple(refused),
        )

    async def _probe(self, proposals: Sequence[Proposal]) -> None:
        if not proposals:
            return
        answer = await self._document.probe([proposal.update for proposal in proposals])
        for proposal, outcome in zip(proposals, answer.outcomes, strict=True):
            self.waiting_bytes -= len(proposal.update)
            self._perform(self._room.probed(proposal, holds_new=outcome.verdict is not Verdict.REDUNDANT))

    async def _answer(self, ask: Answer) -> None:
        outbox = self._outbox(ask.session)
        if outbox is None:
            return
        if outbox.flow is not Flow.OPEN:
            self._owed[ask.session] = ask
            return
        try:
            diff = await self._document.diff(ask.state_vector)
        except MalformedMessage as error:
            self._perform([Disconnect(ask.session, CloseCode.MALFORMED, str(error))])
            return
        self._perform([Send(ask.session, SyncStep2(diff.update))])

    async def _see_to_slow_readers(self) -> None:
        slow, self._slow = self._slow, {}
        for session, outbox in slow.items():
            if outbox.flow is Flow.FALLING:
                # Everything integrated so far was written to it; nothing that follows will be. Unless it still waits
                # to see a batch it shares: then its diff starts from nothing, since no vector says what it has.
                waits = self._room.waits_to_see(session)
                outbox.fall_behind(EMPTY_STATE_VECTOR if waits else await self._document.state_vector())
            elif outbox.flow is Flow.DRAINED and session.settled < session.received:
                # Its diff would hold what it wrote and is not saved yet, and be taken for the confirmation.
                self._postponed[session] = outbox
            elif outbox.flow is Flow.DRAINED:
                self._counters.slow_reader_diffs += 1
                vector = None if outbox.echo_left_out else outbox.state_vector
                diff = await self._document.diff(vector or EMPTY_STATE_VECTOR)
                outbox.catch_up()
                outbox.write(Frame(encode(Update(diff.update))))
                outbox.write(Frame(encode(Awareness(self._room.awareness.all()))))
            if outbox.flow is Flow.OPEN:
                self._behind.pop(session, None)
            if outbox.flow is Flow.OPEN and session in self._owed:
                self.ask(self._owed.pop(session))
