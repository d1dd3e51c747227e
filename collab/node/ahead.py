"""What sessions are shown ahead of the engine: plain updates of this node's sessions, and what other nodes checked.

Everything of one turn reaches a session in one write. The engine has it with the next beat of the node, and only what
it has taken is recorded (SPEC R15). The pump owns it and brings it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collab.protocol.values import value

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from collab.engine.port import Integration
    from collab.node.counters import Counters
    from collab.node.known_clocks import KnownClocks
    from collab.protocol.peers import PeerUpdate
    from collab.room import Broadcast, Effect, Proposal, Publish, Receipt, Room

AT_ONCE = 8
"""More updates than this wait for the engine, which merges them: then one frame costs less than it waits."""


@value(eq=False)
class Heard:
    """Something of another node."""

    update: bytes
    origin: tuple[str, PeerUpdate] | None = None
    """Who sent it; None for a row of the log."""


@value(eq=False)
class Shown:
    """Something people have seen and the engine has not."""

    update: bytes
    proposal: Proposal | None = None
    """What it is here; None for what another node sent."""
    receipt: Receipt | None = None


class Ahead:
    """The two queues of one room: what is about to be shown, and what is shown and not with the engine."""

    def __init__(
        self,
        room: Room,
        clocks: KnownClocks,
        counters: Counters,
        loop: asyncio.AbstractEventLoop,
        *,
        broadcast: Callable[[Broadcast], None],
        publish: Callable[[Publish], None],
        perform: Callable[[Sequence[Effect]], None],
        pace: Callable[[], float],
        may_show_heard: Callable[[], bool],
        merge: Callable[[], None],
        follow: Callable[[], None],
    ) -> None:
        """``broadcast`` shows one update, ``publish`` tells other nodes, ``perform`` takes effects of which several may
        be broadcasts. ``pace`` tells the wait from one showing to the next, ``may_show_heard`` whether what other nodes
        sent may be shown now; ``merge`` is called when the engine should merge what was heard, ``follow`` when it
        should soon have what was shown."""
        self._room = room
        self._clocks = clocks
        self._counters = counters
        self._loop = loop
        self._broadcast = broadcast
        self._publish = publish
        self._perform = perform
        self._pace = pace
        self._may_show_heard = may_show_heard
        self._merge = merge
        self._follow = follow
        self._own: list[tuple[Shown, Broadcast]] = []
        self._heard: list[Heard] = []
        self._shown: list[Shown] = []
        self._showing = False
        """Whether `_show` is about to be called."""
        self._next = 0.0
        """Nothing is shown before this time of the loop."""

    def __bool__(self) -> bool:
        """Whether anything is not with the engine yet."""
        return bool(self._own or self._shown or self._heard)

    @property
    def unshown(self) -> bool:
        """Whether other nodes sent something that nobody here has seen."""
        return bool(self._heard)

    @property
    def holds_own(self) -> bool:
        """Whether anything shown, or about to be, is not with the engine yet."""
        return bool(self._own or self._shown)

    def take(self, proposal: Proposal) -> bool:
        """Show an update if it is plain, and publish it; else it is not taken. Hot path.

        In a crowded room what comes in one turn, or while it keeps its pace, is shown together.
        """
        if len(self._own) >= AT_ONCE or not self._clocks.take(proposal.update):
            return False
        broadcast, publish = self._room.shown(proposal)
        self._publish(publish)
        shown = Shown(proposal.update, proposal, publish.receipt)
        if self._own or self._heard or self._pace():
            self._own.append((shown, broadcast))
            self._show_soon()
        else:
            self._broadcast(broadcast)
            self._note(shown)
            self._follow()
        return True

    def hear(self, heard: Heard) -> None:
        """Show what another node sent, if `may_show_heard`."""
        self._heard.append(heard)
        self._show_soon()

    def hear_rows(self, rows: Sequence[Heard]) -> None:
        """Keep rows of the log for the engine."""
        self._heard += rows

    def take_shown(self) -> list[Shown]:
        """What was shown, in that order; who takes it brings it to the engine."""
        if effects := self._show_own():
            self._perform(effects)
        shown, self._shown = self._shown, []
        return shown

    def give_back(self, shown: list[Shown]) -> None:
        """The engine died with these."""
        self._shown[:0] = shown

    def take_heard(self) -> list[Heard]:
        """What was heard and is not shown; who takes it shows it when it is integrated."""
        heard, self._heard = self._heard, []
        return heard

    def merged(self, heard: Sequence[Heard], answers: Iterable[Integration]) -> list[Effect]:
        """What shows ``heard``, which the engine has merged."""
        effects: list[Effect] = []
        for answer in answers:
            effects += self._room.heard(answer.merged)
        for item in heard:
            self._note_origin(item)
        return effects

    def clear(self) -> None:
        """The room has ended."""
        self._own.clear()
        self._heard.clear()
        self._shown.clear()

    @property
    def pause(self) -> float:
        """Seconds to wait before anything more is shown; 0 or less: none."""
        return self._next - self._loop.time()

    def keep_pace(self) -> None:
        """Something is shown now."""
        self._next = self._loop.time() + self._pace()

    def _show_soon(self) -> None:
        if not self._showing:
            self._showing = True
            pause = self.pause
            if pause > 0:
                self._loop.call_later(pause, self._show)
            else:
                self._loop.call_soon(self._show)

    def _show(self) -> None:
        self._showing = False
        if self._own or self._heard:
            self.keep_pace()
        effects = self._show_own()  # first: what was heard may stand on it, and not the other way round
        if len(self._heard) <= AT_ONCE and self._may_show_heard():
            effects += self._show_heard()
        if self._heard:
            self._merge()
        if effects:
            self._perform(effects)
        if self._shown:
            self._follow()

    def _show_own(self) -> list[Effect]:
        own, self._own = self._own, []
        for shown, _ in own:
            self._note(shown)
        return [broadcast for _, broadcast in own]

    def _show_heard(self) -> list[Effect]:
        """Up to the first that may repeat what somebody here wrote, or stands behind what is missing."""
        effects: list[Effect] = []
        heard = self.take_heard()
        for position, item in enumerate(heard):
            if not self._clocks.follows(item.update):
                self._heard = heard[position:]
                break
            effects += self._room.heard(item.update)
            self._clocks.note(item.update)
            self._note_origin(item)
            self._shown.append(Shown(item.update))
        return effects

    def _note_origin(self, heard: Heard) -> None:
        if heard.origin is not None:
            self._room.brought(*heard.origin, self._loop.time())

    def _note(self, shown: Shown) -> None:
        self._shown.append(shown)
        self._counters.plain += 1
        if shown.proposal is not None:
            self._counters.broadcast_s.observe(self._loop.time() - shown.proposal.arrived_at)
