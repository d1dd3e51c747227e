"""A thousand seeded histories of several nodes in the default run, and proof that they can fail.

More: `python -m tests.simulation --seeds 100000 --jobs 2`; one again: `python -m tests.simulation --seed N --verbose`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collab.errors import StoreUnavailable
from collab.room import Room
from collab.room.awareness import AwarenessTable
from collab.store.memory import MemoryLog
from collab.store.port import Appended, LogEntry, LoggedUpdate, Stored
from tests.simulation.replica import Replica
from tests.simulation.run import run_seed

SEEDS = 1000
JOBS = 2


def simulate(*arguments: str, hash_seed: str = "0") -> tuple[dict[str, Any], str]:
    """Run the command; what its last line says, and all it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--json", "--jobs", str(JOBS), *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.stdout, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told, done.stdout + done.stderr


def found(kind: str, seeds: Sequence[int] = range(1, 60)) -> str:
    """The first problem of ``kind`` that any of ``seeds`` has."""
    for seed in seeds:
        for problem in run_seed(seed).problems:
            if problem.startswith(kind):
                return problem
    raise AssertionError(f"none of {seeds} found a {kind}")


def test_a_thousand_histories_keep_every_promise() -> None:
    told, printed = simulate("--seeds", str(SEEDS))
    assert told["failed"] == [], printed


def test_a_seed_tells_the_same_story_in_every_process() -> None:
    first, _ = simulate("--seeds", "40", hash_seed="1")
    second, _ = simulate("--seeds", "40", hash_seed="2")
    assert first["digest"] == second["digest"]


def test_b1_what_the_bus_loses_is_found_only_by_looking() -> None:
    told, printed = simulate("--seeds", "100", "--no-anti-entropy")
    assert len(told["failed"]) >= 3, printed
    reasons = re.findall(r"^seed \d+ failed: (.*)", printed, re.MULTILINE)
    assert reasons, printed
    assert all(re.match(r"c\d+ still waits|C[1248]: ", reason) for reason in reasons), printed


def test_c1_a_row_that_is_not_kept_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    load = MemoryLog.load

    async def forgetful(self: MemoryLog, document: str) -> Stored:
        stored = await load(self, document)
        return replace(stored, updates=tuple(row for row in stored.updates if row.seq != 7))

    monkeypatch.setattr(MemoryLog, "load", forgetful)
    assert "a cold load" in found("C2")


def test_c9_an_acknowledgement_before_the_commit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    append = MemoryLog.append

    async def hasty(self: MemoryLog, entries: Sequence[LogEntry]) -> Appended:
        if any(entry.number % 5 == 0 for entry in entries):
            return Appended({}, repeated=True)
        return await append(self, entries)

    monkeypatch.setattr(MemoryLog, "append", hasty)
    assert "not in the log" in found("C9")


def test_c2_what_a_node_does_not_show_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Room, "heard", lambda *_: [])
    found("C2")


def test_c3_what_nobody_wrote_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    forged = Replica(7)
    update = forged.edit(lambda: forged.texts["body"].insert(0, "nobody"))
    assert update is not None
    load = MemoryLog.load

    async def inventive(self: MemoryLog, document: str) -> Stored:
        stored = await load(self, document)
        return replace(stored, updates=(*stored.updates, LoggedUpdate(stored.last_seq + 1, update)))

    monkeypatch.setattr(MemoryLog, "load", inventive)
    found("C3")


def test_c8_a_ghost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AwarenessTable, "node_gone", lambda *_: None)
    assert "ghost" in found("C8")


def test_what_escapes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise StoreUnavailable("on purpose")

    monkeypatch.setattr(Room, "flush_awareness", broken)
    assert "on purpose" in found("escaped")
