"""Brings a live room level with its document's log: rows other nodes committed and nobody told of (SPEC N11, N15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collab.node.log_view import LogView
from collab.node.recorder import ADOPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from collab.node.counters import Counters
    from collab.node.exchange import Exchange
    from collab.node.pump import Pump
    from collab.room import Effect, Room
    from collab.store.port import NamedUpdate, Stored


class CatchUp:
    """One room's side of the log."""

    def __init__(
        self,
        room: Room,
        pump: Pump,
        *,
        node: str,
        counters: Counters,
        perform: Callable[[Iterable[Effect]], None],
    ) -> None:
        self.view = LogView()
        self._room = room
        self._pump = pump
        self._node = node
        self._counters = counters
        self._perform = perform

    def opened(self, stored: Stored) -> None:
        """The document was loaded for the first time."""
        self.view.advance(stored.last_seq)
        self.view.seen = stored.last_seq

    def follow(self, rows: Sequence[NamedUpdate], through: int, exchange: Exchange) -> None:
        """The log follower read these rows, and nothing before ``through`` is missing now."""
        fresh = [row for row in rows if row.node != self._node and not self.view.knows(row.seq)]
        self._pump.hear_rows(row.update for row in fresh)
        self._pump.afterwards(lambda: self.view.advance(through))
        if not fresh:
            return
        self._counters.followed += len(fresh)
        for node, number in {row.node: row.number for row in fresh}.items():
            self._perform(self._room.peer_committed(node, number))
            if not node.endswith(ADOPTED):
                exchange.note_peer(node)

    def read_whole(self, stored: Stored) -> None:
        """The log follower came too late for some rows: they are in a snapshot now, and here it is."""
        self._counters.followed += len(stored.updates)
        self._pump.hear_rows(stored.all_updates)
        self._pump.afterwards(lambda: self.view.advance(stored.last_seq))

    def built_again(self, stored: Stored, unsaved: Collection[bytes]) -> None:
        """The engine died and the document was built again: what the log brought along nobody here was shown yet, but
        for what this node is still waiting to hear the commit of."""
        own = set(unsaved)
        rows = {row.seq: b"" if row.update in own else row.update for row in stored.updates}
        unknown = [seq for seq in range(self.view.position + 1, stored.last_seq + 1) if not self.view.knows(seq)]
        shown = [rows[seq] for seq in unknown if seq in rows]
        if stored.snapshot is not None and len(shown) < len(unknown):
            shown.insert(0, stored.snapshot)
        for update in filter(None, shown):
            self._perform(self._room.heard(update))
        self.view.advance(stored.last_seq)
