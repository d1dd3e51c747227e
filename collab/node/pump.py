"""A room's pump: the only one that talks to the engine about its document, one batch at a time.

While a batch is with the engine, whatever arrives gathers; the next batch takes it all. So an idle room answers at once
and a busy one batches by itself. A paced room also lets some time pass between two turns; what gathers, from here and
from other nodes, then reaches every session in one write. `LiveRoom` feeds it and performs the effects it brings back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from collab.engine.port import Verdict
from collab.errors import CloseCode, MalformedMessage
from collab.node.loaded_document import LoadedDocument
from collab.node.outbox import Flow, Outbox
from collab.node.slow_readers import SlowReaders
from collab.protocol.peers import PeerUpdate
from collab.room import Answer, Disconnect, Integrated, Proposal, Room, Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from collab.engine.port import Integration
    from collab.node.counters import Counters
    from collab.room import Effect

FOLLOW_WITHIN = 0.01
"""Seconds until the engine has what was shown without it. More would gather more of it for one trip; a document that is
asked for meanwhile has it first in any case."""

ANSWERED_BYTES = 4 * 1024 * 1024
"""Written to people who join before the turn ends, if there is more: writing this takes a few milliseconds."""

SHOWN_AT_ONCE = 8
"""More updates of other nodes than this are merged by the engine before they are shown."""

Errand = Callable[[LoadedDocument], Awaitable[None]]


class _Heard:
    """Something of another node."""

    __slots__ = ("origin", "shown", "update")

    def __init__(self, update: bytes, origin: tuple[str, PeerUpdate] | None = None) -> None:
        self.update = update
        self.origin = origin
        """Who sent it; None for a row of the log."""
        self.shown = False
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
        perform: Callable[[Sequence[Effect]], None],
        perform_together: Callable[[Sequence[Effect]], None],
        pace: Callable[[], float],
        failed: Callable[[Exception], None],
        rested: Callable[[], None],
    ) -> None:
        """``perform_together`` writes several broadcasts at once; ``pace`` says how long to wait from turn to turn;
        ``failed`` is told of an error that ends the room, ``rested`` whenever nothing is left to do."""
        self._room = room
        self._document = document
        self._counters = counters
        self._outbox = outbox
        self._perform = perform
        self._perform_together = perform_together
        self._pace = pace
        self._failed = failed
        self._rested = rested
        self._proposals: list[Proposal] = []
        self._heard: list[_Heard] = []
        self._heard_due = False
        """Whether the engine should have what was heard now."""
        self._following: asyncio.TimerHandle | None = None
        """Makes it due, when all that was heard is shown."""
        self._showing = False
        """Whether `_show_heard_alone` is about to be called."""
        self._next_turn = 0.0
        self._errands: list[Errand] = []
        self._afterwards: list[Callable[[], None]] = []
        self._asks: dict[Session, Answer] = {}
        self._greets: dict[Session, None] = {}
        self._slow_readers = SlowReaders(room, document, counters)
        self._loop = asyncio.get_running_loop()
        self._sleeper: asyncio.Future[None] | None = None
        self._working = False
        self._stopping = False
        self._ended = False
        """Whether nothing is taken any more; what still comes changes nothing."""
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
        return self._ended or not (self._proposals or self._heard or self._working)

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
        if not self._showing:
            self._showing = True
            pause = self._next_turn - self._loop.time()
            if pause > 0:
                self._loop.call_later(pause, self._show_heard_alone)
            else:
                self._loop.call_soon(self._show_heard_alone)

    def _show_heard_alone(self) -> None:
        """Show what was heard without the engine, unless a turn is about to do it or has done it."""
        self._showing = False
        unshown = [item for item in self._heard if not item.shown]
        if not unshown or self._stopping:
            return
        if (
            self._working
            or self._heard_due
            or self._proposals
            or self._slow_readers.behind
            or len(unshown) > SHOWN_AT_ONCE
        ):
            self._follow()
            return
        self._keep_pace()
        self._perform_together(self._show(unshown))
        if self._following is None:
            self._following = self._loop.call_later(FOLLOW_WITHIN, self._follow)

    def _show(self, unshown: Iterable[_Heard]) -> list[Effect]:
        effects: list[Effect] = []
        for item in unshown:
            item.shown = True
            effects += self._room.heard(item.update)
            if item.origin is not None:
                self._room.brought(*item.origin, self._loop.time())
        return effects

    def _follow(self) -> None:
        """Let the engine have what was heard."""
        if self._following is not None:
            self._following.cancel()
            self._following = None
        self._heard_due = True
        self._wake()

    def _keep_pace(self) -> None:
        self._next_turn = self._loop.time() + self._pace()

    def hear_rows(self, updates: Iterable[bytes]) -> None:
        """Put rows of the log into the next batch."""
        self._heard += (_Heard(update) for update in updates)
        self._follow()

    def run(self, errand: Errand) -> None:
        """Do something with the document in the next turn, after what waits has been integrated."""
        self._errands.append(errand)
        self._wake()

    def afterwards(self, note: Callable[[], None]) -> None:
        """Note something once all that was heard before is integrated and shown: now, or when a turn ends."""
        if self._working or self._heard:
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
        self._slow_readers.note(session, outbox)
        self._wake()

    def saved(self, sessions: Iterable[Session]) -> None:
        """Something these sessions wrote is saved."""
        self._slow_readers.saved(sessions)
        if self._slow_readers.due:
            self._wake()

    def drop(self, session: Session) -> None:
        """A session has left."""
        self._greets.pop(session, None)
        self._slow_readers.drop(session)

    async def _run(self) -> None:
        while not self._stopping:
            if not self._has_work():
                self._working = False
                self._rested()
                await self._sleep()
            pause = self._next_turn - self._loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            self._keep_pace()
            self._working = True
            try:
                await self._turn()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._stopping = True
                self._failed(error)
        self._working = False
        self._ended = True
        self._proposals.clear()
        self._heard.clear()
        self._rested()

    def _has_work(self) -> bool:
        return bool(
            self._proposals or self._heard_due or self._asks or self._greets or self._slow_readers.due or self._errands
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
        if self._slow_readers.due:
            for answer in await self._slow_readers.see_to():
                self.ask(answer)
        if self._greets:
            vector = await self._document.state_vector()
            greets, self._greets = self._greets, {}
            for session in greets:
                self._perform(self._room.greet(session, vector))
        await self._integrate_all()
        if self._asks:
            await self._integrate_heard()
            await self._answer_some()
        if self._errands:
            await self._integrate_heard()
            errands, self._errands = self._errands, []
            for errand in errands:
                await errand(self._document)
        if not self._heard:
            afterwards += self._afterwards
            self._afterwards = []
        for note in afterwards:
            note()

    async def _integrate_all(self) -> None:
        proposals, self._proposals = self._proposals, []
        probes = [proposal for proposal in proposals if proposal.probe]
        if probes:
            proposals = [proposal for proposal in proposals if not proposal.probe]
        if self._heard and proposals and self._document.loaded:
            # What is written here may follow on what was heard, and both travel to the engine together.
            heard = self._take_heard()
            updates = [proposal.update for proposal in proposals]
            heard_answer, answer = await asyncio.gather(
                self._document.integrate([item.update for item in heard]), self._document.integrate(updates)
            )
            await self._take(proposals, answer, await self._show_heard(heard, heard_answer))
        else:
            await self._integrate_heard()
            if proposals:
                await self._take(proposals, await self._document.integrate([one.update for one in proposals]))
        await self._probe(probes)

    async def _take(
        self, proposals: Sequence[Proposal], answer: Integration | None, before: Sequence[Effect] = ()
    ) -> None:
        if answer is not None:
            self._integrated(proposals, answer, before)
            return
        self._perform_together(before)
        for proposal in proposals:
            self._integrated((proposal,), await self._document.integrate_alone(proposal.update))

    def _integrated(self, proposals: Sequence[Proposal], answer: Integration, before: Sequence[Effect] = ()) -> None:
        for proposal in proposals:
            self.waiting_bytes -= len(proposal.update)
        effects = self._room.integrated(self._sort(proposals, answer))
        if before:
            self._perform_together([*before, *effects])
        else:
            self._perform(effects)
        self._counters.broadcast_s.observe(self._loop.time() - proposals[0].arrived_at)

    def _take_heard(self) -> list[_Heard]:
        heard, self._heard, self._heard_due = self._heard, [], False
        if self._following is not None:
            self._following.cancel()
            self._following = None
        return heard

    async def _integrate_heard(self) -> None:
        """Until nothing is left: who is answered now was not in the room when it was shown."""
        while self._heard:
            heard = self._take_heard()
            answer = await self._document.integrate([item.update for item in heard])
            self._perform_together(await self._show_heard(heard, answer))
        self._heard_due = False

    async def _show_heard(self, heard: Sequence[_Heard], answer: Integration | None) -> list[Effect]:
        """What shows it, if it is not shown yet."""
        answers = [answer] if answer else [await self._document.integrate_alone(item.update) for item in heard]
        if any(item.shown for item in heard):
            return self._show(item for item in heard if not item.shown)
        effects: list[Effect] = []
        for answer in answers:
            effects += self._room.heard(answer.merged)
        for item in heard:
            if item.origin is not None:
                self._room.brought(*item.origin, self._loop.time())
        return effects

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

    async def _answer_some(self) -> None:
        """Answer until `ANSWERED_BYTES` are written; the others' turn comes after what was typed meanwhile."""
        written = 0
        while self._asks and written < ANSWERED_BYTES:
            session = next(iter(self._asks))
            written += await self._answer(self._asks.pop(session))
        if self._asks:
            await asyncio.sleep(0)

    async def _answer(self, ask: Answer) -> int:
        """Answer one; gives how many bytes that was."""
        outbox = self._outbox(ask.session)
        if outbox is None:
            return 0
        if outbox.flow is not Flow.OPEN:
            self._slow_readers.owe(ask)
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
        return sum(frame.size for frame in frames)
