"""One document's replica: loads, integrates batches of untrusted updates, tells what they would do, answers diffs.

It scans every byte before native code sees it, and does in batches what `integrator.Integrator` does with one update.
Synchronous and single-threaded; `replicas.Replicas` is the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from collab.engine.clocks import covered, first_blocker, is_known, merge_order
from collab.engine.digest import MAX_SCANNED_BYTES, hash_of
from collab.engine.entries import Entries
from collab.engine.integrator import MAX_DOCUMENT_BYTES, WOKEN, Integrator
from collab.engine.native import NativePanic, is_contained, merge, newer_than
from collab.engine.port import Diff, Digest, Integration, Loaded, Outcome, Verdict
from collab.engine.split import split_update, without
from collab.engine.waiting import Waiting
from collab.errors import CloseCode, MalformedMessage
from collab.protocol.yjs import EMPTY_UPDATE, Range, UpdateScan, is_v2_like, read_state_vector, scan_update

MAX_CACHED_DIFF_BYTES = 4 * 1024 * 1024
"""Diffs kept for joiners with equal state vectors, per document and revision; the newest is kept whatever its size."""

FILL_UPDATES = 1_000
"""Updates a load merges and applies at once. Measured: 260,000 keystrokes in one take 2.2 s of CPU, in thousands 0.3 s,
one by one 0.5 s; the document is the same, because they are in an order without gaps."""

JOURNAL_UPDATES = 200
"""While updates are integrated one by one, the document is written down after as many, to be built again from when
native code panics. Guessed."""

Progress = Callable[[int], None]
"""Told the index of an update right before native code works on it."""

_CHANGING = (Verdict.INTEGRATED, Verdict.PENDING)


class Replica:
    """A document held by this engine. After `NativePanic` close it and build it again."""

    def __init__(self, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> None:
        self._integrator = Integrator(max_bytes)
        self._deleted: dict[int, list[Range]] | None = None
        self._diffs: dict[bytes, Diff] = {}
        self._digest: Digest | None = None

    def close(self) -> None:
        """Free the document."""
        self._integrator.doc.close()

    def full_update(self) -> bytes:
        """Return the whole document as one update, without what waits."""
        return self._integrator.full_update()

    # Loading

    def load(self, updates: Sequence[bytes], progress: Progress) -> Loaded:
        """Become the document made of ``updates`` (any order). Called once, on a new replica."""
        scans: dict[int, UpdateScan] = {}
        for index, update in enumerate(updates):
            with suppress(MalformedMessage):
                scans[index] = scan_update(update)
        entries = Entries()
        order, blocked, poison = _sort(updates, scans, entries)
        if self._fill(updates, order):
            entries.cut(self._integrator.known)
            self._integrator.entries = entries
        else:
            self._integrator.rebuild(EMPTY_UPDATE)
            self._integrator.waiting = Waiting()
            blocked = order + blocked
        for index in poison | self._integrate_each(updates, scans, blocked, progress):
            del scans[index]
        self._integrator.estimate(sum(map(len, updates)))
        self._integrator.moved.clear()
        waiting: tuple[int, ...] = ()
        if self._integrator.waiting:
            waiting = tuple(index for index, scan in scans.items() if not is_known(scan, self._integrator.known))
        refused = tuple(index for index in range(len(updates)) if index not in scans)
        return Loaded(self._integrator.doc.state_vector(), waiting, refused)

    def _fill(self, updates: Sequence[bytes], order: list[int]) -> bool:
        """Fill the document with the updates at ``order``; tell whether native code could take them."""
        self._integrator.rebuild(EMPTY_UPDATE)
        try:
            for start in range(0, len(order), FILL_UPDATES):
                indexes = order[start : start + FILL_UPDATES]
                merged = merge([updates[index] for index in indexes])
                self._integrator.doc.fill(merged)
                if not is_contained(merged, self._integrator.doc.state_vector()):
                    self._integrator.suspect([(index, updates[index], True) for index in indexes])
                    self._integrator.settle(within_budget=False)
        except (NativePanic, ValueError):
            return False
        self._integrator.relearn()
        return True

    def _integrate_each(
        self, updates: Sequence[bytes], scans: Mapping[int, UpdateScan], indexes: list[int], progress: Progress
    ) -> set[int]:
        """Integrate or park the updates at ``indexes``; return those native code cannot take, built without them."""
        poison: set[int] = set()
        if not indexes:
            return poison
        integrator = self._integrator
        journal = integrator.journal = []
        whole = self.full_update()
        for index in indexes:
            progress(index)
            try:
                outcome = integrator.integrate(index, updates[index], scans[index], within_budget=False)
                settled = integrator.settle(within_budget=False).values()
            except NativePanic:
                poison.add(index)
                integrator.rebuild(merge([whole, *journal]))
            else:
                if Verdict.REFUSED in (outcome.verdict, *settled):
                    poison.add(index)
            if len(journal) >= JOURNAL_UPDATES:
                whole = self.full_update()
                journal.clear()
        integrator.journal = None
        return poison

    # Integrating

    def integrate(self, updates: Sequence[bytes], progress: Progress, *, merged: bool = True) -> Integration:
        """Apply ``updates`` in order; ``merged`` says whether the answer is to hold them as one."""
        integrator = self._integrator
        outcomes: list[Outcome] = []
        brought: dict[int, bytes] = {}
        for index, update in enumerate(updates):
            progress(index)
            outcome = integrator.integrate_typed(update)
            if outcome is None:
                try:
                    scan = scan_update(update)
                    before = self._moment(scan) if merged and integrator.has_some_of(scan) else None
                    outcome = integrator.integrate(index, update, scan, within_budget=True)
                    if before is not None and outcome.verdict in _CHANGING:
                        brought[index] = _lacking(update, *before)
                except MalformedMessage as error:
                    outcome = _refused(update, error)
            outcomes.append(outcome)
        for index, verdict in integrator.settle(within_budget=True).items():
            if index != WOKEN and verdict is Verdict.REFUSED:
                outcomes[index] = Outcome(verdict, CloseCode.MALFORMED, "update waits for itself")
            elif index != WOKEN:
                outcomes[index] = Outcome(verdict, empty=outcomes[index].empty)
        kept = [
            brought.get(index, update)
            for index, (update, outcome) in enumerate(zip(updates, outcomes, strict=True))
            if outcome.verdict in _CHANGING
        ]
        if not kept:
            return Integration(tuple(outcomes), None)
        self._diffs.clear()
        self._deleted = self._digest = None
        moved, integrator.moved = integrator.moved, {}
        return Integration(tuple(outcomes), merge(kept) if merged else None, moved, integrator.crowded, brought)

    def _moment(self, scan: UpdateScan) -> tuple[bytes, dict[int, list[Range]]]:
        """The state vector, and what is parked of the clients that ``scan`` names."""
        waiting = self._integrator.waiting
        parked = {client: list(waiting.ranges(client)) for client in scan.ranges} if waiting else {}
        return self._integrator.doc.state_vector(), parked

    # Asking

    def probe(self, updates: Sequence[bytes], progress: Progress) -> Integration:
        """Say what `integrate` would, for each update alone, and change nothing."""
        outcomes: list[Outcome] = []
        for index, update in enumerate(updates):
            progress(index)
            try:
                scan = scan_update(update)
                outcomes.append(Outcome(self._expect(update, scan), empty=scan.empty))
            except MalformedMessage as error:
                outcomes.append(_refused(update, error))
        return Integration(tuple(outcomes), None)

    def _expect(self, update: bytes, scan: UpdateScan) -> Verdict:
        known, waiting, entries = self._integrator.known, self._integrator.waiting, self._integrator.entries
        if first_blocker(scan, known) is None:
            entries.brought_by(update, scan, known)
            if self._holds(scan):
                return Verdict.REDUNDANT
            waits_for_itself = not is_known(scan, known) and waiting.holds_structs(scan, known)
            return Verdict.STILL_PENDING if waits_for_itself else Verdict.INTEGRATED
        split = split_update(update, scan, known)
        changes = False
        if split.ready is not None:
            ready = scan_update(split.ready)
            entries.brought_by(split.ready, ready, known)
            changes = not self._holds(ready)
        if split.rest is None:
            return Verdict.INTEGRATED if changes else Verdict.REDUNDANT
        waits_already = waiting.holds(scan_update(split.rest), known)
        return Verdict.STILL_PENDING if waits_already and not changes else Verdict.PENDING

    def _holds(self, scan: UpdateScan) -> bool:
        """Whether the document knows every struct of ``scan`` and has deleted all that it deletes."""
        if not is_known(scan, self._integrator.known):
            return False
        if scan.deletes and self._deleted is None:
            doc = self._integrator.doc
            self._deleted = scan_update(doc.update_since(doc.state_vector())).deletes
        deleted = self._deleted or {}
        return all(
            covered(start, end, deleted.get(client, ()))
            for client, ranges in scan.deletes.items()
            for start, end in ranges
        )

    def diff(self, state_vector: bytes) -> Diff:
        """Return what a replica with ``state_vector`` lacks. Raises `MalformedMessage`."""
        cached = self._diffs.get(state_vector)
        if cached is not None:
            return cached
        read_state_vector(state_vector)
        lacking = self._integrator.doc.update_since(state_vector)
        if self._integrator.waiting:
            parked = [entry.update for entry in self._integrator.waiting]
            lacking = merge(parked if lacking == EMPTY_UPDATE else [lacking, *parked])
        diff = Diff(lacking, self._integrator.doc.state_vector())
        if sum(len(kept.update) for kept in self._diffs.values()) + len(lacking) > MAX_CACHED_DIFF_BYTES:
            self._diffs.clear()
        self._diffs[state_vector] = diff
        return diff

    def digest(self) -> Digest:
        """Return what the document hashes to. What nobody will ever integrate does not count.

        Such updates (structs that wait for each other) are refused or kept aside depending on what they came with, so
        that two replicas that count them might never be equal.
        """
        if self._digest is not None:
            return self._digest
        integrator = self._integrator
        state_vector = integrator.doc.state_vector()
        deletions = integrator.doc.update_since(state_vector)
        waiting = [entry.scan for entry in integrator.waiting if entry.blockers]
        if len(deletions) > MAX_SCANNED_BYTES:
            digest = hash_of(integrator.known, deletions, waiting)
        else:
            self._deleted = scan_update(deletions).deletes if self._deleted is None else self._deleted
            digest = hash_of(integrator.known, self._deleted, waiting)
        self._digest = Digest(digest, state_vector)
        return self._digest


def _lacking(update: bytes, state_vector: bytes, parked: Mapping[int, list[Range]]) -> bytes:
    """What of ``update`` was neither in a document with ``state_vector`` nor ``parked`` beside it.

    Not what the document has gained by it: that may hold what somebody else sent and what waited, whose author would
    take it for a confirmation (SPEC K6).
    """
    lacking = newer_than(update, state_vector)
    if not any(parked.values()):
        return lacking
    return merge(without(lacking, scan_update(lacking), lambda client: parked.get(client, ())))


def _sort(
    updates: Sequence[bytes], scans: Mapping[int, UpdateScan], entries: Entries
) -> tuple[list[int], list[int], set[int]]:
    """Sort by `merge_order`, filling ``entries``; also return what puts into a map entry what has no place there."""
    poison: set[int] = set()

    def refuses(index: int, known: Mapping[int, int]) -> bool:
        try:
            entries.add(entries.brought_by(updates[index], scans[index], known))
        except MalformedMessage:
            poison.add(index)
        return index in poison

    maps = any(scan.entries for scan in scans.values())
    return *merge_order(scans, refuses if maps else None), poison


def _refused(update: bytes, error: MalformedMessage) -> Outcome:
    code = CloseCode.UNSUPPORTED_ENCODING if is_v2_like(update) else CloseCode.MALFORMED
    return Outcome(Verdict.REFUSED, code, str(error))
