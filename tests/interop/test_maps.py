"""E22 refuses nothing that stock Yjs writes: documents full of maps and attributes, live, in any order, and loaded."""

from __future__ import annotations

import json
import subprocess
from random import Random

import pytest
from pycrdt import merge_updates

from collab.engine.port import Verdict
from collab.engine.replica import Replica
from collab.engine.replicas import ignore_progress
from tests.support import node

SHAPES = ("tiptap", "blocknote", "quill", "nested", "records")


@pytest.fixture(scope="module")
def written() -> dict[str, list[list[bytes]]]:
    """Histories of each shape."""
    node.packages()
    told = subprocess.run([node.node(), str(node.INTEROP / "maps.mjs")], capture_output=True, check=True).stdout
    shapes: dict[str, list[list[str]]] = json.loads(told)
    return {name: [list(map(bytes.fromhex, history)) for history in found] for name, found in shapes.items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_e22_what_stock_yjs_writes_is_integrated_live_and_loaded(
    written: dict[str, list[list[bytes]]], shape: str
) -> None:
    for number, history in enumerate(written[shape]):
        rng = Random(number)
        any_order = rng.sample(history, len(history))
        merged = [merge_updates(*any_order[at : at + 3]) for at in range(0, len(any_order), 3)]
        states = []
        for updates in (history, any_order, merged):
            live = Replica()
            live.load(updates[:2], ignore_progress)
            outcomes = live.integrate(updates[2:], ignore_progress).outcomes
            assert Verdict.REFUSED not in {outcome.verdict for outcome in outcomes}
            half = len(updates) // 2
            for rows in (updates, [live.full_update()], [live.full_update(), *updates[half:]]):
                loaded = Replica()
                assert not loaded.load(rows, ignore_progress).refused
                states.append(loaded.digest().hash)
                loaded.close()
            states.append(live.digest().hash)
            assert live._integrator.entries.edges, "there are maps in it"
            live.close()
        assert len(set(states)) == 1
