"""Hashing what is known, deleted and waited for: the parts no replica can be made to show."""

from __future__ import annotations

import pytest

from collab.engine.digest import HASH_BYTES, hash_of
from collab.protocol.varint import write_varuint
from collab.protocol.yjs import scan_update
from tests.unit.engine.histories import deleted, inserted

LARGE = 0xFFFF_FFFF


def delete_set(*clients: tuple[int, int]) -> bytes:
    """An update that deletes (client, clock), each client a section of its own."""
    sections = b"".join(write_varuint(client) + b"\x01" + write_varuint(clock) + b"\x01" for client, clock in clients)
    return b"\x00" + write_varuint(len(clients)) + sections


def test_clients_may_be_encoded_in_any_order() -> None:
    one, other = delete_set((3, 1), (LARGE, 300)), delete_set((LARGE, 300), (3, 1))
    assert hash_of({}, one, []) == hash_of({}, other, [])
    assert hash_of({}, one, []) != hash_of({}, delete_set((LARGE, 1), (3, 300)), [])
    assert scan_update(one).deletes == scan_update(other).deletes
    assert hash_of({}, scan_update(one).deletes, []) == hash_of({}, scan_update(other).deletes, [])


def test_known_clocks_may_come_in_any_order_and_nothing_known_is_nothing() -> None:
    assert hash_of({1: 5, 2: 6}, {}, []) == hash_of({2: 6, 3: 0, 1: 5}, {}, [])
    assert hash_of({1: 5, 2: 6}, {}, []) != hash_of({1: 6, 2: 5}, {}, [])
    assert len(hash_of({}, {}, [])) == HASH_BYTES


def test_what_is_held_and_what_is_deleted_are_not_confused() -> None:
    assert hash_of({1: 5}, {}, []) != hash_of({}, {1: [(0, 5)]}, [])


def test_what_waits_is_united_with_what_is_known() -> None:
    waiting = [scan_update(inserted("xyz", clock=4)), scan_update(deleted(1, 6, 2))]
    assert hash_of({1: 5}, {1: [(2, 6)]}, waiting) == hash_of({1: 7}, {1: [(2, 8)]}, [])
    assert hash_of({1: 3}, {}, waiting) != hash_of({1: 7}, {}, waiting), "clock 3 is not here"


def test_the_hash_stays_what_it_is() -> None:
    """Nodes of two versions compare hashes while one replaces the other: a new form means asking until all are new."""
    waiting = [scan_update(inserted("z", client=2, clock=9))]
    assert hash_of({1: 5, LARGE: 70_000}, {1: [(0, 2), (3, 4)]}, waiting).hex() == "d4d964e7d09cf6c15bbcb73bdb1ebac4"


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_delete_set_that_ends_early_is_an_error(cut: int) -> None:
    with pytest.raises((ValueError, IndexError)):
        hash_of({}, delete_set((1, 300))[:-cut], [])
