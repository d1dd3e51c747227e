"""One document's replica: checks every update, integrates what is complete, keeps aside what waits, answers diffs.

The yrs document inside never holds a parked update: what would be parked is predicted from clocks and kept in
`waiting.Waiting`. Synchronous and single-threaded; `replicas.Replicas` is the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from collab.engine.clocks import covered, first_blocker, is_known, may_be_circular, merge_order
from collab.engine.native import NativeDoc, NativePanic, is_contained, merge
from collab.engine.port import Diff, Integration, Loaded, Outcome, Verdict
from collab.engine.split import Split, split_update
from collab.engine.waiting import Parked, Waiting
from collab.errors import CloseCode, MalformedMessage
from collab.protocol.yjs import (
    EMPTY_STATE_VECTOR,
    EMPTY_UPDATE,
    Range,
    UpdateScan,
    is_v2_like,
    read_state_vector,
    scan_update,
)

MAX_DOCUMENT_BYTES = 20 * 1024 * 1024
"""Encoded size beyond which a document takes deletions only."""

MAX_CACHED_DIFF_BYTES = 4 * 1024 * 1024
"""Diffs kept for joiners with equal state vectors, per document and revision; the newest is kept whatever its size."""

MAX_POISON = 16
"""Updates that native code panics on and a load leaves out; with more, the load fails."""

Progress = Callable[[int], None]
"""Told the index of an update right before native code works on it."""

_WOKEN = -1
"""Stands for the index of an update that was given earlier and has waited since."""

_CHANGING = (Verdict.INTEGRATED, Verdict.PENDING)


class Replica:
    """A document held by this engine. After `NativePanic` close it and build it again."""

    def __init__(self, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> None:
        self._doc = NativeDoc()
        self._known: dict[int, int] = {}
        self._waiting = Waiting()
        self._max_bytes = max_bytes
        self._size_estimate = 0
        self._applied: list[tuple[int, bytes, bool]] = []
        self._deleted: dict[int, list[Range]] | None = None
        self._diffs: dict[bytes, Diff] = {}

    def close(self) -> None:
        """Free the document."""
        self._doc.close()

    def full_update(self) -> bytes:
        """Return the whole document as one update, without what waits."""
        return self._doc.update_since(EMPTY_STATE_VECTOR)

    # Loading

    def load(self, updates: Sequence[bytes], progress: Progress) -> Loaded:
        """Become the document made of ``updates`` (any order). Called once, on a new replica."""
        scans: dict[int, UpdateScan] = {}
        for index, update in enumerate(updates):
            with suppress(MalformedMessage):
                scans[index] = scan_update(update)
        for _ in range(MAX_POISON):
            poison = self._build(updates, scans, progress)
            if not poison:
                break
            for index in poison:
                del scans[index]
        else:
            raise NativePanic("too many updates that cannot be read")
        self._size_estimate = sum(map(len, updates))
        waiting: tuple[int, ...] = ()
        if self._waiting:
            waiting = tuple(index for index, scan in scans.items() if not is_known(scan, self._known))
        refused = tuple(index for index in range(len(updates)) if index not in scans)
        return Loaded(self._doc.state_vector(), waiting, refused)

    def _build(self, updates: Sequence[bytes], scans: Mapping[int, UpdateScan], progress: Progress) -> set[int]:
        """Build the document; return the indexes of updates that native code cannot take: try again without them."""
        self._waiting = Waiting()
        order, blocked = merge_order(scans)
        poison = self._apply_all(updates, order)
        if poison:
            return poison
        self._settle(within_budget=False)
        for index in blocked:
            progress(index)
            try:
                outcome = self._integrate_one(index, updates[index], scans[index], within_budget=False)
            except NativePanic:
                return {index}
            if outcome.verdict is Verdict.REFUSED:
                poison.add(index)
        self._settle(within_budget=False)
        return poison

    def _apply_all(self, updates: Sequence[bytes], order: list[int]) -> set[int]:
        """Apply the updates at ``order`` as one, or return the index of one that makes that fail."""
        merged = self._fill([updates[index] for index in order])
        if merged is None:
            low, high = 0, len(order)  # the shortest prefix that fails ends with a culprit
            while high - low > 1:
                middle = (low + high) // 2
                if self._fill([updates[index] for index in order[:middle]]) is None:
                    high = middle
                else:
                    low = middle
            return {order[low]}
        self._relearn()
        if not is_contained(merged, self._doc.state_vector()):
            self._applied = [(index, updates[index], True) for index in order]
        return set()

    def _fill(self, updates: list[bytes]) -> bytes | None:
        """Start again with ``updates`` merged into one; return that, or None when native code cannot take it."""
        self._doc.close()
        self._doc = NativeDoc()
        try:
            merged = merge(updates)
            self._doc.fill(merged)
        except (NativePanic, ValueError):
            return None
        return merged

    # Integrating

    def integrate(self, updates: Sequence[bytes], progress: Progress) -> Integration:
        """Apply ``updates`` in order."""
        outcomes: list[Outcome] = []
        for index, update in enumerate(updates):
            progress(index)
            try:
                outcomes.append(self._integrate_one(index, update, scan_update(update), within_budget=True))
            except MalformedMessage as error:
                code = CloseCode.UNSUPPORTED_ENCODING if is_v2_like(update) else CloseCode.MALFORMED
                outcomes.append(Outcome(Verdict.REFUSED, code, str(error)))
        for index, verdict in self._settle(within_budget=True).items():
            if index != _WOKEN and verdict is Verdict.REFUSED:
                outcomes[index] = Outcome(verdict, CloseCode.MALFORMED, "update waits for itself")
            elif index != _WOKEN:
                outcomes[index] = Outcome(verdict, empty=outcomes[index].empty)
        kept = [update for update, outcome in zip(updates, outcomes, strict=True) if outcome.verdict in _CHANGING]
        if not kept:
            return Integration(tuple(outcomes), None)
        self._diffs.clear()
        self._deleted = None
        return Integration(tuple(outcomes), merge(kept))

    def _integrate_one(self, index: int, update: bytes, scan: UpdateScan, *, within_budget: bool) -> Outcome:
        empty = scan.empty
        try:
            if within_budget and not empty and self._is_full(len(update)) and not is_known(scan, self._known):
                return Outcome(Verdict.REFUSED, CloseCode.QUOTA, "document is full", empty=empty)
            if first_blocker(scan, self._known) is not None:
                return self._integrate_part(index, update, scan, within_budget=within_budget)
            changed, moved = self._apply(index, update, scan)
        except ValueError as error:
            return Outcome(Verdict.REFUSED, CloseCode.MALFORMED, str(error)[:200], empty=empty)
        self._wake(moved)
        return Outcome(Verdict.INTEGRATED if changed else Verdict.REDUNDANT, empty=empty)

    def _integrate_part(self, index: int, update: bytes, scan: UpdateScan, *, within_budget: bool) -> Outcome:
        """Integrate of ``update`` what can be, and park the rest unless it is parked already."""
        split = split_update(update, scan, self._known)
        parked = self._to_park(split)
        if parked is not None and within_budget and not self._waiting.has_room_for(len(parked.update)):
            return Outcome(Verdict.REFUSED, CloseCode.MALFORMED, "too much waits for updates nobody sent", scan.empty)
        changed, moved = False, list[int]()
        if split.ready is not None:
            changed, moved = self._apply(index, split.ready, scan_update(split.ready))
        if parked is not None:
            self._waiting.add(parked)
        self._wake(moved)
        verdict = Verdict.PENDING if parked else Verdict.INTEGRATED if changed else Verdict.REDUNDANT
        return Outcome(verdict, empty=scan.empty)

    def _to_park(self, split: Split) -> Parked | None:
        if split.rest is None:
            return None
        scan = scan_update(split.rest)
        if self._waiting.holds(scan, self._known):
            return None
        is_contained(split.rest, EMPTY_STATE_VECTOR)  # decodes, or raises ValueError now instead of in a later merge
        return Parked(split.rest, scan, split.blockers)

    def _apply(self, index: int, update: bytes, scan: UpdateScan) -> tuple[bool, list[int]]:
        """Give to the document what is complete; tell whether it changed and which clients' clocks moved."""
        known = self._known
        changed = self._doc.apply(update)
        if scan.needs and may_be_circular(scan, known):
            self._applied.append((index, update, changed))
        if changed:
            self._size_estimate += len(update)
        moved: list[int] = []
        for client, ranges in scan.ranges.items():
            clock = ranges[-1][1]
            if clock > known.get(client, 0):
                known[client] = clock
                moved.append(client)
        return changed, moved

    def _wake(self, moved: list[int]) -> None:
        """Integrate what waited for the clients in ``moved``, and what waited for that.

        A parked update that native code panics on must not be held against the one that woke it: the document is
        built again without it, and it stays parked.
        """
        ready = deque(self._waiting.take_ready(moved, self._known)) if self._waiting else None
        if not ready:
            return
        whole = self.full_update()
        woken: list[tuple[bytes, UpdateScan]] = []
        while ready:
            entry = ready.popleft()
            split = split_update(entry.update, entry.scan, self._known)
            if split.ready is not None:
                scan = scan_update(split.ready)
                try:
                    _, moved = self._apply(_WOKEN, split.ready, scan)
                except (NativePanic, ValueError):
                    self._rebuild(whole)
                    for update, known in woken:
                        self._apply(_WOKEN, update, known)
                    self._waiting.add(Parked(entry.update, entry.scan, ()))
                    continue
                woken.append((split.ready, scan))
                ready.extend(self._waiting.take_ready(moved, self._known))
            if split.rest is not None:
                self._waiting.add(Parked(split.rest, scan_update(split.rest), split.blockers))

    def _settle(self, *, within_budget: bool) -> dict[int, Verdict]:
        """Make sure native code parked nothing; return, by index, what became of the updates of which it did.

        Clocks predict everything but structs that wait for each other in a circle, which nobody honest writes. The
        document is built again without them. An update that is nothing but a circle is refused; if some of it did
        integrate, that stays, as in every Yjs client, and the update is kept aside for ever, within the budget.
        """
        applied, self._applied = self._applied, []
        if not applied:
            return {}
        state_vector = self._doc.state_vector()
        if is_contained(merge([update for _, update, _ in applied]), state_vector):
            return {}
        circles = [step for step in applied if not is_contained(step[1], state_vector)]
        self._rebuild(self.full_update())
        verdicts: dict[int, Verdict] = {}
        for index, update, changed in circles:
            verdicts[index] = Verdict.PENDING if changed else Verdict.REFUSED
            if changed:
                if within_budget and not self._waiting.has_room_for(len(update)):
                    raise NativePanic("update waits for itself")
                self._waiting.add(Parked(update, scan_update(update), ()))
        return verdicts

    def _rebuild(self, whole: bytes) -> None:
        self._doc.close()
        self._doc = NativeDoc()
        self._doc.fill(whole)
        self._relearn()

    def _relearn(self) -> None:
        self._known = read_state_vector(self._doc.state_vector())

    def _is_full(self, more: int) -> bool:
        """Whether ``more`` bytes would break the limit; measured only when the running estimate says so."""
        if self._size_estimate + more > self._max_bytes:
            self._size_estimate = len(self.full_update())
        return self._size_estimate + more > self._max_bytes

    # Asking

    def probe(self, updates: Sequence[bytes], progress: Progress) -> Integration:
        """Say what `integrate` would, for each update alone, and change nothing."""
        outcomes: list[Outcome] = []
        for index, update in enumerate(updates):
            progress(index)
            try:
                scan = scan_update(update)
            except MalformedMessage as error:
                code = CloseCode.UNSUPPORTED_ENCODING if is_v2_like(update) else CloseCode.MALFORMED
                outcomes.append(Outcome(Verdict.REFUSED, code, str(error)))
            else:
                outcomes.append(Outcome(self._expect(update, scan), empty=scan.empty))
        return Integration(tuple(outcomes), None)

    def _expect(self, update: bytes, scan: UpdateScan) -> Verdict:
        if first_blocker(scan, self._known) is None:
            return Verdict.REDUNDANT if self._holds(scan) else Verdict.INTEGRATED
        split = split_update(update, scan, self._known)
        if split.ready is not None and not self._holds(scan_update(split.ready)):
            return Verdict.INTEGRATED
        if split.rest is not None and not self._waiting.holds(scan_update(split.rest), self._known):
            return Verdict.PENDING
        return Verdict.REDUNDANT

    def _holds(self, scan: UpdateScan) -> bool:
        if not is_known(scan, self._known):
            return False
        if scan.deletes and self._deleted is None:
            self._deleted = scan_update(self._doc.update_since(self._doc.state_vector())).deletes
        deleted = self._deleted or {}
        return all(
            covered(start, end, deleted.get(client, []))
            for client, ranges in scan.deletes.items()
            for start, end in ranges
        )

    def diff(self, state_vector: bytes) -> Diff:
        """Return what a replica with ``state_vector`` lacks. Raises `MalformedMessage`."""
        cached = self._diffs.get(state_vector)
        if cached is not None:
            return cached
        read_state_vector(state_vector)
        lacking = self._doc.update_since(state_vector)
        if self._waiting:
            parked = [entry.update for entry in self._waiting]
            lacking = merge(parked if lacking == EMPTY_UPDATE else [lacking, *parked])
        diff = Diff(lacking, self._doc.state_vector())
        if sum(len(kept.update) for kept in self._diffs.values()) + len(lacking) > MAX_CACHED_DIFF_BYTES:
            self._diffs.clear()
        self._diffs[state_vector] = diff
        return diff
