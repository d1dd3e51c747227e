"""Gives updates to a yrs document that never holds a parked one: integrates what is complete, parks the rest outside.

What would be parked is predicted from clocks, before native code sees it; the one thing clocks cannot predict is undone
by `settle`. `replica.Replica` is the caller; it knows of batches, probes, diffs and loading.
"""

from __future__ import annotations

from collections import deque

from collab.engine.clocks import first_blocker, is_known, may_be_circular
from collab.engine.entries import Entries
from collab.engine.native import NativeDoc, NativePanic, is_contained, merge
from collab.engine.port import INTEGRATED, Outcome, Verdict
from collab.engine.split import Split, split_update
from collab.engine.waiting import Parked, Waiting
from collab.errors import CloseCode, MalformedMessage
from collab.protocol.varint import MAX_SAFE_INTEGER
from collab.protocol.yjs import EMPTY_STATE_VECTOR, UpdateScan, read_state_vector, scan_update
from collab.protocol.yjs_keystroke import read_typed

MAX_DOCUMENT_BYTES = 20 * 1024 * 1024
"""Encoded size beyond which a document takes deletions only."""

WOKEN = -1
"""Stands for the index of an update that was given earlier and has waited since."""


class Integrator:
    """A document, what is known of its clocks, and what waits for it. Of no use after `NativePanic`."""

    def __init__(self, max_bytes: int) -> None:
        self.doc = NativeDoc()
        self.known: dict[int, int] = {}
        """Client -> next expected clock."""
        self.entries = Entries()
        self.waiting = Waiting()
        self.journal: list[bytes] | None = None
        """When it is a list, everything applied is added to it."""
        self.moved: dict[int, int] = {}
        """Client -> next expected clock, of those moved by `integrate`; whoever reads it empties it."""
        self._applied: list[tuple[int, bytes, bool]] = []
        self._max_bytes = max_bytes
        self._size = 0
        self._size_is_exact = True
        self._crowded = False

    def full_update(self) -> bytes:
        """Return the whole document as one update, without what waits."""
        return self.doc.update_since(EMPTY_STATE_VECTOR)

    def suspect(self, applied: list[tuple[int, bytes, bool]]) -> None:
        """Have `settle` look at updates that were given to ``doc`` directly: index, update, whether it changed it."""
        self._applied += applied

    def estimate(self, size: int) -> None:
        """Say how large the document may be, encoded."""
        self._size, self._size_is_exact = size, False

    def integrate_typed(self, update: bytes) -> Outcome | None:
        """Integrate one typed string that follows on what is known; None means that it is not, and nothing was done.

        Nearly every update of a busy room is one. The outcome is what `integrate` says within the budget (a test holds
        the two together), at half the cost, and `settle` need not look at it. Not for loading: nothing is journaled.
        """
        typed = read_typed(update)
        if typed is None or self._size + len(update) > self._max_bytes:
            return None
        client, clock, end, needs, beside = typed
        known = self.known
        if clock != known.get(client, 0) or (self.entries.edges and self.entries.holds(beside)):
            return None
        for other, needed in needs.items():
            if needed > known.get(other, 0):
                return None
        if self.waiting.parked and self.waiting.holds_some(client, clock, end):
            return None
        try:
            self.doc.fill(update)
        except ValueError:
            return None
        self._size += len(update)
        self._size_is_exact = False
        known[client] = end
        if self.waiting.parked:
            self._wake([client])
        return INTEGRATED

    def has_some_of(self, scan: UpdateScan) -> bool:
        """Whether the document holds some struct of ``scan``, or it waits already."""
        known, waiting = self.known, self.waiting
        return any(ranges[0][0] < known.get(client, 0) for client, ranges in scan.ranges.items()) or (
            bool(waiting)
            and any(waiting.holds_some(client, *span) for client in scan.ranges for span in scan.ranges[client])
        )

    def integrate(self, index: int, update: bytes, scan: UpdateScan, *, within_budget: bool) -> Outcome:
        """Integrate one update, or park what of it has to wait. Call `settle` after the last of a batch.

        Without ``within_budget`` neither the size of the document nor what waits is limited: it is stored already.
        """
        empty = scan.empty
        try:
            if within_budget and not empty and self._is_full(len(update)) and not is_known(scan, self.known):
                return Outcome(Verdict.REFUSED, CloseCode.QUOTA, "document is full", empty=empty)
            if first_blocker(scan, self.known) is not None:
                return self._integrate_part(index, update, scan, within_budget=within_budget)
            changed, moved = self._apply(index, update, scan)
        except (ValueError, MalformedMessage) as error:
            return Outcome(Verdict.REFUSED, CloseCode.MALFORMED, str(error)[:200], empty=empty)
        self._wake(moved)
        return Outcome(Verdict.INTEGRATED if changed else Verdict.REDUNDANT, empty=empty)

    def _integrate_part(self, index: int, update: bytes, scan: UpdateScan, *, within_budget: bool) -> Outcome:
        """Integrate of ``update`` what can be, and park the rest unless it is parked already."""
        split = split_update(update, scan, self.known)
        parked = self._to_park(split)
        if parked is not None and within_budget and not self.waiting.has_room_for(len(parked.update)):
            return Outcome(Verdict.REFUSED, CloseCode.MALFORMED, "too much waits for updates nobody sent", scan.empty)
        changed, moved = False, list[int]()
        if split.ready is not None:
            changed, moved = self._apply(index, split.ready, scan_update(split.ready))
        if parked is not None:
            self.waiting.add(parked)
        self._wake(moved)
        if split.rest is None:
            verdict = Verdict.INTEGRATED if changed else Verdict.REDUNDANT
        else:
            verdict = Verdict.PENDING if changed or parked else Verdict.STILL_PENDING
        return Outcome(verdict, empty=scan.empty)

    def _to_park(self, split: Split) -> Parked | None:
        if split.rest is None:
            return None
        scan = scan_update(split.rest)
        if self.waiting.holds(scan, self.known):
            return None
        is_contained(split.rest, EMPTY_STATE_VECTOR)  # decodes, or raises ValueError now instead of in a later merge
        return Parked(split.rest, scan, split.blockers)

    def _apply(self, index: int, update: bytes, scan: UpdateScan) -> tuple[bool, list[int]]:
        """Give to the document what is complete; tell whether it changed and which clients' clocks moved.

        Complete structs change it exactly when a clock moves. Only what clocks do not tell is asked of native code.
        Raises `MalformedMessage`, having done nothing, for what must not be in a map entry.
        """
        known = self.known
        entries = self.entries.brought_by(update, scan, known)
        suspect = bool(scan.needs) and may_be_circular(scan, known)
        if suspect or scan.deletes:
            changed = self.doc.apply(update)
        else:
            self.doc.fill(update)
            changed = not is_known(scan, known)
        self.entries.add(entries)
        if self.journal is not None:
            self.journal.append(update)
        if suspect:
            self._applied.append((index, update, changed))
        if changed:
            self._size += len(update)
            self._size_is_exact = False
        moved: list[int] = []
        for client, ranges in scan.ranges.items():
            clock = ranges[-1][1]
            if clock > known.get(client, 0):
                known[client] = self.moved[client] = clock
                moved.append(client)
        return changed, moved

    def _wake(self, moved: list[int]) -> None:
        """Integrate what waited for the clients in ``moved``, and what waited for that.

        A parked update that native code panics on must not be held against the one that woke it: the document is
        built again without it, and it stays parked. One that puts into a map entry what has no place there is dropped:
        nobody must be sent it any more.
        """
        ready = deque(self.waiting.take_ready(moved, self.known)) if self.waiting else None
        if not ready:
            return
        whole = self.full_update()
        woken: list[tuple[bytes, UpdateScan]] = []
        while ready:
            entry = ready.popleft()
            split = split_update(entry.update, entry.scan, self.known)
            if split.ready is not None:
                scan = scan_update(split.ready)
                try:
                    _, moved = self._apply(WOKEN, split.ready, scan)
                except MalformedMessage:
                    continue
                except (NativePanic, ValueError):
                    self.rebuild(whole)
                    for update, known in woken:
                        self._apply(WOKEN, update, known)
                    self.waiting.add(Parked(entry.update, entry.scan, ()))
                    continue
                woken.append((split.ready, scan))
                ready.extend(self.waiting.take_ready(moved, self.known))
            if split.rest is not None:
                self.waiting.add(Parked(split.rest, scan_update(split.rest), split.blockers))

    def settle(self, *, within_budget: bool) -> dict[int, Verdict]:
        """Make sure native code parked nothing; return, by index, what became of the updates of which it did.

        Clocks predict everything but structs that wait for each other in a circle, which nobody honest writes. The
        document is built again without them. An update that is nothing but a circle is refused; if some of it did
        integrate, that stays, as in every Yjs client, and the update is kept aside for ever, within the budget.
        """
        applied, self._applied = self._applied, []
        if not applied:
            return {}
        state_vector = self.doc.state_vector()
        if is_contained(merge([update for _, update, _ in applied]), state_vector):
            return {}
        circles = [step for step in applied if not is_contained(step[1], state_vector)]
        self.rebuild(self.full_update())
        verdicts: dict[int, Verdict] = {}
        for index, update, changed in circles:
            scan = scan_update(update)
            if self.waiting.holds_structs(scan, self.known):
                verdicts[index] = Verdict.PENDING if changed else Verdict.STILL_PENDING
                continue
            verdicts[index] = Verdict.PENDING if changed else Verdict.REFUSED
            if changed:
                if within_budget and not self.waiting.has_room_for(len(update)):
                    raise NativePanic("update waits for itself")
                self.waiting.add(Parked(update, scan, ()))
        return verdicts

    def rebuild(self, whole: bytes) -> None:
        """Start again with nothing but ``whole``, one complete update; what waits goes on waiting."""
        self.doc.close()
        self.doc = NativeDoc()
        self.doc.fill(whole)
        self.relearn()

    def relearn(self) -> None:
        """Take the clocks from the document."""
        self.known = read_state_vector(self.doc.state_vector(), max_clients=MAX_SAFE_INTEGER)
        self.entries.cut(self.known)

    @property
    def crowded(self) -> bool:
        """Whether the document is more than half of what it may be; asked once, a document that is stays so."""
        if not self._crowded and self._size > self._max_bytes // 2:
            self._measure()
            self._crowded = self._size > self._max_bytes // 2
        return self._crowded

    def _measure(self) -> None:
        if not self._size_is_exact:
            self._size = len(self.full_update())
            self._size_is_exact = True

    def _is_full(self, more: int) -> bool:
        """Whether ``more`` bytes would break the limit; measured only when the running estimate says so."""
        if self._size + more > self._max_bytes:
            self._measure()
        return self._size + more > self._max_bytes
