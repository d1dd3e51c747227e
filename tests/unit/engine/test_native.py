"""Native code at arm's length: panics become exceptions, and merging in a tree changes nothing."""

from __future__ import annotations

import pytest
from pycrdt import merge_updates

from collab.engine.native import MERGE_ARITY, NativeDoc, NativePanic, is_contained, merge
from collab.protocol.yjs import EMPTY_UPDATE
from tests.unit.engine.histories import FIVE_BYTE_PANIC, NOTHING_KNOWN, deleted, inserted, text_of, typed


def test_a_panic_is_an_exception() -> None:
    doc = NativeDoc()
    doc.apply(inserted("a"))
    with pytest.raises(NativePanic):
        doc.apply(FIVE_BYTE_PANIC)
    doc.close()


def test_bytes_that_cannot_be_read_are_a_value_error_and_change_nothing() -> None:
    doc = NativeDoc()
    doc.apply(inserted("ab"))
    with pytest.raises(ValueError, match="Cannot decode"):
        doc.apply(inserted("c", clock=2)[:-3])
    assert text_of(doc.update_since(NOTHING_KNOWN)) == "ab"
    doc.close()


def test_applying_tells_whether_anything_changed() -> None:
    doc = NativeDoc()
    doc.fill(inserted("ab"))
    assert [doc.apply(update) for update in (inserted("ab"), deleted(1, 0, 1), deleted(1, 0, 1))] == [
        False,
        True,
        False,
    ]
    doc.close()


def test_closing_twice_is_no_mistake() -> None:
    doc = NativeDoc()
    doc.apply(inserted("ab"))
    doc.close()
    doc.close()


def test_merging_in_a_tree_equals_merging_flat() -> None:
    updates = typed(MERGE_ARITY * MERGE_ARITY + 1)
    assert merge(updates) == merge_updates(*updates)


def test_a_single_update_merges_to_itself_and_none_to_the_empty_one() -> None:
    update = inserted("ab")
    assert merge([update]) is update
    assert merge([]) == EMPTY_UPDATE


def test_merging_what_cannot_be_read_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Cannot merge"):
        merge([b"\x01\x01", EMPTY_UPDATE])


def test_contained_is_what_lies_below_the_state_vector() -> None:
    assert is_contained(inserted("ab"), b"\x01\x01\x02")
    assert not is_contained(inserted("abc"), b"\x01\x01\x02")
    assert is_contained(deleted(1, 0, 9), NOTHING_KNOWN), "deletions are not looked at"
