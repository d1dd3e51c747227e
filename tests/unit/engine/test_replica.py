"""What a replica keeps to itself: how often it works, and how much it remembers."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from pycrdt import merge_updates

from collab.engine.digest import MAX_SCANNED_BYTES
from collab.engine.port import Verdict
from collab.engine.replica import FILL_UPDATES, JOURNAL_UPDATES, MAX_CACHED_DIFF_BYTES, Replica
from collab.engine.replicas import ignore_progress
from tests.unit.engine.histories import NOTHING_KNOWN, deleted, history, inserted, shuffled, text_of, typed


@pytest.fixture
def replica() -> Iterator[Replica]:
    replica = Replica()
    yield replica
    replica.close()


def test_a_diff_is_made_once_per_revision(replica: Replica) -> None:
    replica.load([inserted("ab")], ignore_progress)
    first = replica.diff(NOTHING_KNOWN)
    assert replica.diff(NOTHING_KNOWN) is first
    replica.integrate([inserted("ab")], ignore_progress)
    assert replica.diff(NOTHING_KNOWN) is first, "nothing new came"
    replica.integrate([inserted("c", clock=2)], ignore_progress)
    assert replica.diff(NOTHING_KNOWN) is not first


def test_a_digest_is_made_once_per_revision(replica: Replica) -> None:
    replica.load([inserted("ab")], ignore_progress)
    first = replica.digest()
    replica.integrate([inserted("ab")], ignore_progress)
    assert replica.digest() is first, "nothing new came"
    replica.integrate([deleted(1, 0, 1)], ignore_progress)
    assert replica.digest() != first


def test_a_digest_of_deletions_that_are_not_read_is_the_same_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long delete sets are hashed as native code encodes them, which must be sorted and joined within a client."""
    monkeypatch.setattr("collab.engine.replica.MAX_SCANNED_BYTES", 0)
    for seed in range(10):
        log = history(seed)
        digests = set[bytes]()
        for order in (log, shuffled(log, seed), shuffled(log, seed + 1, merge_some=True), [merge_updates(*log)]):
            other = Replica()
            other.load(order, ignore_progress)
            folded = Replica()
            folded.load([other.full_update()], ignore_progress)
            digests |= {other.digest().hash, folded.digest().hash}
            other.close()
            folded.close()
        assert len(digests) == 1, f"seed {seed}"


def test_a_digest_does_not_depend_on_the_order_of_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = Random(5)
    clients = [rng.getrandbits(32) for _ in range(300)]
    updates = [update for client in clients for update in (inserted("ab", client=client), deleted(client, 0, 1))]
    for scanned in (MAX_SCANNED_BYTES, 0):
        monkeypatch.setattr("collab.engine.replica.MAX_SCANNED_BYTES", scanned)
        digests = set[bytes]()
        for seed in range(4):
            replica = Replica()
            replica.load([], ignore_progress)
            for update in shuffled(updates, seed):
                replica.integrate([update], ignore_progress)
            digests.add(replica.digest().hash)
            replica.close()
        assert len(digests) == 1


def test_remembered_diffs_are_bounded(replica: Replica) -> None:
    size = MAX_CACHED_DIFF_BYTES // 3
    replica.load([inserted("x" * size)], ignore_progress)
    diffs = [replica.diff(b"\x01\x01" + bytes([clock])) for clock in range(8)]
    assert all(len(diff.update) > size - 100 for diff in diffs)
    assert sum(len(diff.update) for diff in replica._diffs.values()) <= MAX_CACHED_DIFF_BYTES


def test_a_load_longer_than_one_filling_is_the_same_document(replica: Replica) -> None:
    keystrokes = typed(FILL_UPDATES * 2 + 7)
    loaded = replica.load(keystrokes[::-1], ignore_progress)
    assert (loaded.waiting, loaded.refused) == ((), ())
    assert len(text_of(replica.full_update())) == len(keystrokes)


def test_poison_among_many_rows_costs_none_of_the_others(replica: Replica) -> None:
    keystrokes = typed(JOURNAL_UPDATES * 2)
    child_of_text = b"\x01\x01\x02\x00\x04\x00\x01\x00\x01x\x00"
    at = JOURNAL_UPDATES + 50
    loaded = replica.load([*keystrokes[:at], child_of_text, *keystrokes[at:]], ignore_progress)
    assert loaded.refused == (at,)
    assert len(text_of(replica.full_update())) == len(keystrokes)


def test_progress_is_told_each_index_before_its_update_is_touched(replica: Replica) -> None:
    replica.load([], ignore_progress)
    seen: list[tuple[int, bytes]] = []
    replica.integrate(typed(3), lambda index: seen.append((index, replica.full_update())))
    assert [index for index, _ in seen] == [0, 1, 2]
    assert [text_of(update) for _, update in seen] == ["", "a", "ab"]


def test_a_full_document_shrinks_back_into_its_limit() -> None:
    replica = Replica(max_bytes=1_000)
    replica.load([inserted("x" * 990)], ignore_progress)
    more = inserted("y" * 100, clock=990)

    def verdict(update: bytes) -> Verdict:
        return replica.integrate([update], ignore_progress).outcomes[0].verdict

    assert [verdict(more), verdict(more)] == [Verdict.REFUSED, Verdict.REFUSED]
    assert verdict(deleted(1, 0, 900)) is Verdict.INTEGRATED
    assert verdict(more) is Verdict.INTEGRATED
    replica.close()
