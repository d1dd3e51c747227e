"""What sessions are shown ahead of the engine: plain updates of this node's sessions, and what other nodes checked.

Everything of one turn reaches a session in one write. The engine has it with the next beat of the node, and only what
it has taken is recorded (SPEC R15). The pump owns it and brings it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collab.protocol.values import value

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from collab.node.counters import Counters
    from collab.node.known_clocks import KnownClocks
    from collab.protocol.peers import PeerUpdate
    from collab.room import Effect, Proposal, Receipt, Room

AT_ONCE = 8
"""More updates than this are merged by the engine before they are shown: then one frame costs less than it waits."""


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
        show: Callable[[Proposal], Receipt],
        perform: Callable[[Sequence[Effect]], None],
        pace: Callable[[], float],
        may_show_heard: Callable[[], bool],
        refer: Callable[[list[Proposal]], None],
        merge: Callable[[], None],
        follow: Callable[[], None],
    ) -> None:
        """``show`` shows one update at once; ``perform`` takes effects, of which several may be broadcasts; ``pace``
        tells the wait from one showing to the next; ``may_show_heard`` tells whether what other nodes sent may be shown
        now. ``refer`` takes plain updates that came in such numbers that the engine had better merge them, ``merge`` is
        called when it should merge what was heard, ``follow`` when it should soon have what was shown."""
        self._room = room
        self._clocks = clocks
        self._counters = counters
        self._loop = loop
        self._show_one = show
        self._perform = perform
        self._pace = pace
        self._may_show_heard = may_show_heard
        self._refer = refer
        self._merge = merge
        self._follow = follow
        self._own: list[Proposal] = []
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

    def take(self, proposal: Proposal) -> bool:
        """Show an update if it is plain, in a crowded room at the end of the turn; else it is not taken. Hot path."""
        if not self._clocks.take(proposal.update):
            return False
        if self._own or self._heard or self._pace():
            self._own.append(proposal)
            self._show_soon()
        else:
            self._shown.append(Shown(proposal.update, proposal, self._show_one(proposal)))
            self._count(proposal)
            self._follow()
        return True

    def hear(self, heard: Heard) -> None:
        """Show what another node sent, if `may_show_heard`."""
        self._heard.append(heard)
        self._show_soon()

    def hear_rows(self, updates: Sequence[Heard]) -> None:
        """Keep rows of the log for the engine."""
        self._heard += updates

    def take_shown(self) -> list[Shown]:
        """What was shown, in that order; who takes it brings it to the engine."""
        self._show_own()
        shown, self._shown = self._shown, []
        return shown

    def give_back(self, shown: list[Shown]) -> None:
        """The engine died with these."""
        self._shown[:0] = shown

    def take_heard(self) -> list[Heard]:
        """What was heard and is not shown; who takes it shows it when it is integrated."""
        heard, self._heard = self._heard, []
        return heard

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
        if not self._heard:
            self._show_own()
        elif len(self._heard) <= AT_ONCE and self._may_show_heard():
            heard, self._heard = self._heard, []
            effects: list[Effect] = []
            for item in heard:
                effects += self._room.heard(item.update)
                self._clocks.note(item.update)
                if item.origin is not None:
                    self._room.brought(*item.origin, self._loop.time())
                self._shown.append(Shown(item.update))
            self._show_own(effects)
        else:
            self._show_own()
            self._merge()
        if self._shown:
            self._follow()

    def _show_own(self, effects: Sequence[Effect] = ()) -> None:
        own, self._own = self._own, []
        if len(own) > AT_ONCE:
            self._refer(own)
            own = []
        effects = list(effects)
        for proposal in own:
            receipt, shown = self._room.shown(proposal)
            effects += shown
            self._shown.append(Shown(proposal.update, proposal, receipt))
        if effects:
            self._perform(effects)
            for proposal in own:
                self._count(proposal)

    def _count(self, proposal: Proposal) -> None:
        self._counters.plain += 1
        self._counters.broadcast_s.observe(self._loop.time() - proposal.arrived_at)
