"""The short cut for typed strings: the same verdicts, the same document and the same bytes as the way of all others."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collab.engine.integrator import Integrator
from collab.engine.native import NativePanic
from collab.engine.port import Integration, Outcome
from collab.engine.replica import Replica
from collab.engine.replicas import ignore_progress
from collab.protocol.varint import write_varuint
from collab.protocol.yjs import UpdateScan, scan_update
from tests.unit.engine.histories import deleted, history, inserted, mutated, shuffled

MAX_BYTES = 400
"""Small enough that some documents are full."""
CLIENTS = st.sampled_from([1, 2, 300])
IDS = st.builds(
    lambda client, clock: write_varuint(client) + write_varuint(clock), CLIENTS, st.sampled_from([0, 0, 0, 1, 1, 5])
)


@st.composite
def typing(draw: st.DrawFn) -> list[list[bytes]]:
    """Batches of three typists: most strings follow on what is there; some are known, wait, delete, or are broken."""
    clocks = {1: 2, 2: 2, 300: 0}
    batches: list[list[bytes]] = []
    for size in draw(st.lists(st.integers(1, 4), max_size=10)):
        batches.append(batch := [])
        for _ in range(size):
            client = draw(CLIENTS)
            if not draw(st.integers(0, 5)):
                batch.append(deleted(client, draw(st.integers(0, 8)), draw(st.integers(1, 3))))
                continue
            clock = max(0, clocks[client] + draw(st.sampled_from([0, 0, 0, 0, 0, -1, 1])))
            text = draw(st.sampled_from([b"x", b"x", b"abc", b"x" * 120]))
            clocks[client] = max(clocks[client], clock + len(text))
            batch.append(draw(keystrokes(client, clock, text)))
    return batches


@st.composite
def keystrokes(draw: st.DrawFn, client: int, clock: int, text: bytes) -> bytes:
    if clock == 0:
        return inserted(text.decode(), client=client)
    after_own = write_varuint(client) + write_varuint(clock - 1)
    beside = draw(st.sampled_from([b"\x84" + after_own, b"\xc4" + after_own + draw(IDS), b"\x44" + draw(IDS)]))
    end = draw(st.sampled_from([b"\x00"] * 8 + [b""]))
    return b"\x01\x01" + write_varuint(client) + write_varuint(clock) + beside + bytes((len(text),)) + text + end


class Witness:
    """A replica, and what it says and holds after each batch."""

    def __init__(self, *, short_cut: bool) -> None:
        self._replica = Replica(max_bytes=MAX_BYTES)
        if not short_cut:
            self._replica._integrator.integrate_typed = refuse  # type: ignore[method-assign]
        self._replica.load([inserted("ab", client=client) for client in (1, 2)], ignore_progress)

    def integrate(self, updates: list[bytes]) -> tuple[Integration, UpdateScan, bytes, bytes] | None:
        """What it answers, holds, keeps waiting and hashes to; None when native code panics.

        Clocks are told only where one typed string does not tell them by itself.
        """
        try:
            answer = self._replica.integrate(updates, ignore_progress)
        except NativePanic:
            return None
        waiting = b"".join(sorted(entry.update for entry in self._replica._integrator.waiting))
        answer = Integration(answer.outcomes, answer.merged)
        return answer, scan_update(self._replica.full_update()), waiting, self._replica.digest().hash

    def close(self) -> None:
        self._replica.close()


def refuse(_update: bytes) -> Outcome | None:
    return None


def same(batches: list[list[bytes]]) -> None:
    """Give both the same batches and compare after each."""
    with_it, without = Witness(short_cut=True), Witness(short_cut=False)
    for batch in batches:
        seen = with_it.integrate(batch)
        assert seen == without.integrate(batch)
        if seen is None:
            break
    with_it.close()
    without.close()


@settings(max_examples=400)
@given(typing())
def test_e6_typed_strings_get_the_same_verdicts_with_and_without_the_short_cut(batches: list[list[bytes]]) -> None:
    same(batches)


@pytest.mark.parametrize("seed", range(40))
def test_e6_any_history_is_the_same_with_and_without_the_short_cut(seed: int) -> None:
    rng = Random(seed)
    updates = shuffled(history(seed), seed, merge_some=seed % 2 == 0) if seed % 4 else history(seed)
    updates = [update if rng.random() < 0.98 else mutated(update, rng) for update in updates]
    same([updates[start : start + 3] for start in range(0, len(updates), 3)])


def test_the_short_cut_is_taken() -> None:
    integrator = Integrator(MAX_BYTES)
    assert integrator.integrate_typed(inserted("ab")) is None, "names its root"
    integrator.integrate(0, inserted("ab"), scan_update(inserted("ab")), within_budget=True)
    assert integrator.integrate_typed(inserted("c", clock=2)) is not None
    assert integrator.integrate_typed(inserted("c", clock=2)) is None, "is known"
    assert integrator.integrate_typed(inserted("e", clock=4)) is None, "waits"
    assert integrator.integrate_typed(inserted("d" * 100, clock=3)) is not None
    integrator.doc.close()
