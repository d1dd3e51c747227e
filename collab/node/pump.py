"""A room's pump: the only one that talks to the engine about its document, one batch at a time.

While a batch is with the engine, whatever arrives gathers; the next batch takes it all. So an idle room answers at once
and a busy one batches by itself. What may be shown before the engine has it (`ahead`) goes there with the node's next
beat, past the task that does all the rest. `LiveRoom` feeds it and performs the effects it brings back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from collab.engine.port import REPEATS, Integration, Outcome, Verdict
from collab.node.ahead import Ahead, Heard, Shown
from collab.node.answers import Answers
from collab.node.bell import Bell
from collab.node.following import Following
from collab.node.loaded_document import LoadedDocument
from collab.node.outbox import Outbox
from collab.node.slow_readers import SlowReaders
from collab.node.verdicts import NOTHING_NEW, sort
from collab.protocol.peers import PeerUpdate
from collab.protocol.yjs import EMPTY_UPDATE
from collab.room import Answer, Proposal, Publish, Record, Room, Session, Withdraw

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from collab.node.beat import Beat
    from collab.node.counters import Counters
    from collab.room import Broadcast, Effect

Errand = Callable[[LoadedDocument], Awaitable[None]]


class Pump:
    """What waits for the engine, and the task that brings it there. ``start`` it once, ``stop`` it once."""

    def __init__(
        self,
        room: Room,
        document: LoadedDocument,
        counters: Counters,
        beat: Beat,
        *,
        fast: bool,
        outbox: Callable[[Session], Outbox | None],
        broadcast: Callable[[Broadcast], None],
        publish: Callable[[Publish], None],
        perform: Callable[[Sequence[Effect]], None],
        perform_together: Callable[[Sequence[Effect]], None],
        pace: Callable[[], float],
        failed: Callable[[Exception], None],
        rested: Callable[[], None],
    ) -> None:
        """``fast`` lets plain updates be shown before the engine has them. ``perform_together`` writes several
        broadcasts at once, ``broadcast`` one, ``publish`` tells other nodes; ``pace`` says how long to wait from turn
        to turn; ``failed`` is told of an error that ends the room, ``rested`` whenever nothing is left to do."""
        self._room = room
        self._document = document
        self._counters = counters
        self._beat = beat
        self._fast = fast
        self._perform = perform
        self._perform_together = perform_together
        self._failed = failed
        self._rested = rested
        self._loop = asyncio.get_running_loop()
        self._ahead = Ahead(
            room,
            document.clocks,
            counters,
            self._loop,
            broadcast=broadcast,
            publish=publish,
            perform=perform_together,
            pace=pace,
            may_show_heard=self._may_show_heard,
            merge=self._bring,
            follow=self._follow_soon,
        )
        self._proposals: list[Proposal] = []
        self._judging = False
        """Whether proposals are with the engine now."""
        self._following = Following(document, settle=self._settle, lost=self._lost, failed=self._fail, rest=self._rest)
        self._follows_soon = False
        """Whether `_follow` will be called with the next beat."""
        self._ahead_due = False
        """Whether the next turn should bring the engine what was shown or heard."""
        self._ahead_killed = False
        """Whether the engine died with it: then it is brought one by one."""
        self._errands: list[Errand] = []
        self._afterwards: list[Callable[[], None]] = []
        self._greets: dict[Session, None] = {}
        self._slow_readers = SlowReaders(room, document, counters)
        self._answers = Answers(document, self._slow_readers, counters, outbox=outbox, perform=perform)
        self._bell = Bell(self._loop)
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
        self._bell.ring()

    async def stop(self) -> None:
        """Stop at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def resting(self) -> bool:
        """Whether no update waits or is under way."""
        return self._ended or not (self._proposals or self._ahead or self._following or self._working)

    @property
    def engine_lacks_own(self) -> bool:
        """Whether something that sessions here wrote is shown and said, and the engine has not taken it."""
        return self._ahead.holds_own or bool(self._following)

    def propose(self, proposal: Proposal) -> None:
        """Show an update of a session if it is plain, else put it into the next batch. Hot path."""
        if proposal.update == EMPTY_UPDATE and self.resting and not self._stopping:
            # What every newcomer without anything of its own says: the engine need not be asked. It is confirmed behind
            # what is on its way to the log, which may be its own from an earlier connection.
            self._perform(self._room.integrated(sort((proposal,), NOTHING_NEW, self._counters)))
            return
        self.waiting_bytes += len(proposal.update)
        in_order = not (self._proposals or self._judging or self._slow_readers.behind)
        if not (in_order and self._fast and not proposal.probe and not self._stopping and self._ahead.take(proposal)):
            self._proposals.append(proposal)
            self._bell.ring()

    def hear(self, node: str, message: PeerUpdate) -> None:
        """Another node took this from its sessions: show it, and let the engine have it with the next beat.

        The other node's engine has checked it, or finds it plain, so nobody need wait for ours. What comes in a burst
        is merged first, and while a session is behind nothing is shown that a diff for it might not hold.
        """
        self._ahead.hear(Heard(message.update, (node, message)))

    def _may_show_heard(self) -> bool:
        return not (self._working or self._ahead_due or self._proposals or self._slow_readers.behind or self._stopping)

    def hear_rows(self, updates: Iterable[bytes]) -> None:
        """Put rows of the log into the next batch."""
        self._ahead.hear_rows([Heard(update) for update in updates])
        self._bring()

    def _bring(self) -> None:
        """Let the next turn bring the engine what was shown or heard."""
        self._ahead_due = True
        self._bell.ring()

    def run(self, errand: Errand) -> None:
        """Do something with the document in the next turn, after what waits has been integrated."""
        self._errands.append(errand)
        self._bell.ring()

    def afterwards(self, note: Callable[[], None]) -> None:
        """Note something once all that was heard before is integrated and shown: now, or when it is."""
        if self._working or self._ahead or self._following:
            self._afterwards.append(note)
        else:
            note()

    def ask(self, answer: Answer) -> None:
        """Answer a session's SyncStep1 in the next turn; its newest, if it asks several times."""
        self._answers.add(answer)
        self._bell.ring()

    def greet(self, session: Session) -> None:
        """Ask a session for what the document lacks in the next turn."""
        self._greets[session] = None
        self._bell.ring()

    def note_slow(self, session: Session, outbox: Outbox) -> None:
        """See to an outbox that is over its bound or has drained in the next turn."""
        self._slow_readers.note(session, outbox)
        self._bell.ring()

    def saved(self, writes: Iterable[tuple[Session, int]]) -> None:
        """These writes are saved."""
        self._slow_readers.saved(writes)
        if self._slow_readers.due:
            self._bell.ring()

    def drop(self, session: Session) -> None:
        """A session has left."""
        self._greets.pop(session, None)
        self._slow_readers.drop(session)

    # what was shown ahead of the engine

    def _follow_soon(self) -> None:
        if not self._follows_soon:
            self._follows_soon = True
            self._beat.soon(self._follow)

    def _follow(self) -> None:
        """Bring the engine what was shown; while there is a turn, the next one does it."""
        self._follows_soon = False
        if self._working or self._following or not self._document.loaded or self._stopping:
            self._bring()
            return
        shown = self._ahead.take_shown()
        if shown:
            notes: list[Callable[[], None]] = []
            if not self._ahead.unshown:
                notes, self._afterwards = self._afterwards, notes
            self._following.send(shown, notes)

    def _lost(self, shown: list[Shown], notes: list[Callable[[], None]]) -> None:
        self._ahead.give_back(shown)
        self._afterwards[:0] = notes
        self._ahead_killed = True
        self._bring()

    def _rest(self) -> None:
        if self.resting:
            self._rested()

    def _settle(self, shown: Sequence[Shown], outcomes: Sequence[Outcome]) -> None:
        """The engine has its say about what was shown: record it. What is not as it seemed goes the general way."""
        if self._ended:
            return
        effects: list[Effect] = []
        otherwise: list[tuple[Proposal, Outcome]] = []
        for item, outcome in zip(shown, outcomes, strict=True):
            proposal, receipt = item.proposal, item.receipt
            if proposal is None or receipt is None:
                continue
            if outcome.verdict is Verdict.INTEGRATED:
                self._counters.updates[outcome.verdict.value] += 1
                self.waiting_bytes -= len(proposal.update)
                effects.append(Record(receipt))
            else:
                effects.append(Withdraw(receipt))
                otherwise.append((proposal, outcome))
        self._perform(effects)
        for proposal, outcome in otherwise:
            merged = proposal.update if outcome.verdict is Verdict.PENDING else None
            self._integrated((proposal,), Integration((outcome,), merged))

    async def _integrate_shown(self) -> None:
        shown = self._ahead.take_shown()
        if not shown:
            return
        answer = None
        if not self._ahead_killed:
            answer = await self._document.integrate([item.update for item in shown])
        self._ahead_killed = False
        if answer is not None:
            self._settle(shown, answer.outcomes)
            return
        for item in shown:
            self._settle((item,), (await self._document.integrate_alone(item.update)).outcomes)

    # turns

    async def _run(self) -> None:
        while not self._stopping:
            if not self._has_work():
                self._working = False
                self._rest()
                await self._bell.wait()
            pause = self._ahead.pause
            if pause > 0:
                await asyncio.sleep(pause)
            await self._following.over()
            self._ahead.keep_pace()
            self._working = True
            try:
                await self._turn()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._fail(error)
        self._working = False
        self._ended = True
        self._proposals.clear()
        self._ahead.clear()
        self._rested()

    def _fail(self, error: Exception) -> None:
        self._stopping = True
        self._bell.ring()
        self._failed(error)

    def _has_work(self) -> bool:
        return bool(
            self._proposals
            or self._ahead_due
            or self._answers
            or self._greets
            or self._slow_readers.due
            or self._errands
        )

    async def _turn(self) -> None:
        afterwards, self._afterwards = self._afterwards, []
        await self._integrate_shown()
        if self._slow_readers.due:
            for answer in await self._slow_readers.see_to():
                self.ask(answer)
        if self._greets:
            vector = await self._document.state_vector()
            greets, self._greets = self._greets, {}
            for session in greets:
                self._perform(self._room.greet(session, vector))
        # Whoever asks from here on is in the room, and sees what is shown meanwhile.
        asks = self._answers.take()
        errands, self._errands = self._errands, []
        await self._integrate_all()
        if asks:
            await self._answers.give(asks)
        for errand in errands:
            await self._integrate_shown()
            await errand(self._document)
        if not self._ahead:
            afterwards += self._afterwards
            self._afterwards = []
        for note in afterwards:
            note()

    async def _integrate_all(self) -> None:
        self._ahead_due = False
        await self._integrate_shown()
        proposals, self._proposals = self._proposals, []
        probes = [proposal for proposal in proposals if proposal.probe]
        if probes:
            proposals = [proposal for proposal in proposals if not proposal.probe]
        self._judging = bool(proposals)
        try:
            if self._ahead.unshown and proposals and self._document.loaded:
                # What is written here may follow on what was heard, and both travel to the engine together.
                heard = self._ahead.take_heard()
                updates = [proposal.update for proposal in proposals]
                heard_answer, answer = await asyncio.gather(
                    self._document.integrate([item.update for item in heard]), self._document.integrate(updates)
                )
                await self._take(proposals, answer, await self._show_heard(heard, heard_answer))
            else:
                await self._integrate_heard()
                if proposals:
                    await self._take(proposals, await self._document.integrate([one.update for one in proposals]))
        finally:
            self._judging = False
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
        effects = self._room.integrated(sort(proposals, answer, self._counters))
        if before:
            self._perform_together([*before, *effects])
        else:
            self._perform(effects)
        self._counters.broadcast_s.observe(self._loop.time() - proposals[0].arrived_at)

    async def _integrate_heard(self) -> None:
        heard = self._ahead.take_heard()
        if heard:
            answer = await self._document.integrate([item.update for item in heard])
            self._perform_together(await self._show_heard(heard, answer))

    async def _show_heard(self, heard: Sequence[Heard], answer: Integration | None) -> list[Effect]:
        answers = [answer] if answer else [await self._document.integrate_alone(item.update) for item in heard]
        return self._ahead.merged(heard, answers)

    async def _probe(self, proposals: Sequence[Proposal]) -> None:
        if not proposals:
            return
        answer = await self._document.probe([proposal.update for proposal in proposals])
        for proposal, outcome in zip(proposals, answer.outcomes, strict=True):
            self.waiting_bytes -= len(proposal.update)
            self._perform(self._room.probed(proposal, holds_new=outcome.verdict not in REPEATS))
