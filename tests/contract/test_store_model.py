"""A seeded history against the log, and a model of it: whatever is appended is what every load gives back.

Updates are names; a fold is the set of names it holds, so that content can be compared without CRDT code.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from collab.store import MemoryStore, SqlStore
from collab.store.port import Compaction, LogEntry, Stored
from tests.support.stores import Bench

DOCUMENT = "a"


def names_in(update: bytes) -> set[str]:
    found: list[str] = json.loads(update)
    return set(found)


class LogHistory(RuleBasedStateMachine):
    """Appends, repeats, loads that are folded later, compactions, rotten snapshots, in any order."""

    reads = Bundle("reads")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.bench = self.make()
        self.entries: list[LogEntry] = []
        self.stored_seq = 0
        self.last_base: int | None = None
        self.deleted_keys: set[int] = set()

    def make(self) -> Bench:
        return Bench(MemoryStore())

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    @initialize()
    def open(self) -> None:
        self.run(self.bench.store.open())

    def teardown(self) -> None:
        self.run(self.bench.store.close())
        self.runner.close()

    @rule(fresh=st.integers(0, 4), repeats=st.lists(st.integers(0, 50), max_size=3), at_front=st.booleans())
    def append(self, fresh: int, repeats: list[int], at_front: bool) -> None:
        start = len(self.entries)
        new = [LogEntry(DOCUMENT, json.dumps([f"u{n}"]).encode(), "n", n) for n in range(start, start + fresh)]
        known = [self.entries[n] for n in repeats if n < start and n not in self.deleted_keys]
        self.entries += new
        if new or known:
            appended = self.run(self.bench.log.append([*known, *new] if at_front else [*new, *known]))
            assert appended.last_seq == {DOCUMENT: len(self.entries)}

    @rule(target=reads)
    def load(self) -> Stored:
        stored: Stored = self.run(self.bench.log.load(DOCUMENT))
        return stored

    @precondition(lambda self: self.entries)
    @rule(read=reads, waiting=st.sets(st.integers(0, 20), max_size=3))
    def compact(self, read: Stored, waiting: set[int]) -> None:
        covered = [row for index, row in enumerate(read.updates) if index not in waiting]
        content = names_in(read.snapshot or b"[]").union(*(names_in(row.update) for row in covered))
        before = self.run(self.bench.rows(DOCUMENT))
        newest = self.run(self.bench.log.load(DOCUMENT)).snapshot_id
        done = self.run(
            self.bench.log.compact(
                DOCUMENT,
                Compaction(
                    read.snapshot_id,
                    json.dumps(sorted(content)).encode(),
                    b"\x00",
                    frozenset(row.seq for row in covered),
                ),
            )
        )
        assert done == (read.snapshot_id == newest)
        after = self.run(self.bench.rows(DOCUMENT))
        if done:
            self.last_base = read.snapshot_id
            needed_with_base = {row.seq for row in read.updates}
            assert not needed_with_base.difference(after), "a row the base does not hold was deleted"
            self.deleted_keys |= {int(seq) for seq in self.keys_of(set(before) - set(after))}
        else:
            assert before == after

    def keys_of(self, seqs: set[int]) -> set[int]:
        """Numbers of the entries at these sequences; rows were stored in the order of their numbers."""
        return {seq - 1 for seq in seqs}

    @precondition(lambda self: self.entries)
    @rule()
    def rot(self) -> None:
        """Damage the newest readable snapshot, unless its fallback is gone by design (two rotten ones in a row)."""
        newest = self.run(self.bench.log.load(DOCUMENT)).snapshot_id
        if newest is not None and newest != self.last_base:
            self.run(self.bench.damage_snapshot(DOCUMENT, newest))

    @invariant()
    def every_load_gives_back_everything(self) -> None:
        stored = self.run(self.bench.log.load(DOCUMENT))
        held: set[str] = set().union(*map(names_in, stored.all_updates))
        assert held == {f"u{number}" for number in range(len(self.entries))}
        assert stored.last_seq == len(self.entries)
        assert all("snapshot" in sentence for sentence in stored.damage)


class SqliteHistory(LogHistory):
    def make(self) -> Bench:
        self.folder = Path(tempfile.mkdtemp(prefix="history-"))
        return Bench(SqlStore(f"sqlite:///{self.folder / 'collab.db'}"))

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.folder)


@pytest.mark.parametrize(("machine", "examples"), [(LogHistory, 150), (SqliteHistory, 12)])
def test_l2_l4_no_history_of_appends_folds_and_rot_loses_an_update(machine: type[LogHistory], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
