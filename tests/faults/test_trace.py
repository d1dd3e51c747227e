"""The default run's share of `python -m tests.faults.trace`: a short generated editing session, nothing lost."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from tests.faults.trace import generate, replay
from tests.support.server import NO_RATES, RunningServer

if TYPE_CHECKING:
    from pathlib import Path


async def test_p1_a_typed_session_ends_as_typed_everywhere_and_after_a_kill(tmp_path: Path) -> None:
    with RunningServer.start(database=f"sqlite:///{tmp_path / 'trace.db'}", env=NO_RATES) as server:
        outcome = await replay(server, generate(6000, Random(5)), clients=3)
    assert outcome.problems == []
