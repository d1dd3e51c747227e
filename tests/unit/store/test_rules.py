"""What all store adapters share: coverage, checksums, text, prefixes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.errors import Misuse
from collab.store.port import LogEntry
from collab.store.rules import (
    Coverage,
    checksum,
    counts_by_document,
    distinct,
    page_size,
    prefix_end,
    storable,
)

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.lists(st.sets(st.integers(1, 30), max_size=8), max_size=6))
def test_l2_coverage_is_exactly_what_was_folded(rounds: list[set[int]]) -> None:
    coverage, folded = Coverage(), set()
    for covered in rounds:
        coverage = coverage.extended(covered)
        folded |= covered
        assert {seq for seq in range(1, 40) if coverage.covers(seq)} == folded
        assert all(seq <= coverage.through for seq in coverage.waiting)


@given(any_text, any_text)
def test_a_prefix_range_holds_exactly_what_starts_with_it(prefix: str, text: str) -> None:
    end = prefix_end(prefix)
    assert (text >= prefix and (end is None or text < end)) == text.startswith(prefix)


def test_a_prefix_of_the_last_code_point_has_no_end() -> None:
    assert prefix_end("\U0010ffff" * 3) is None
    assert prefix_end("a\U0010ffff") == "b"
    assert prefix_end("") is None
    assert prefix_end("\ud7ff") == "\ue000"


@given(st.text())
def test_storable_text_is_what_utf8_and_postgres_can_hold(text: str) -> None:
    kept = storable(text)
    assert "\x00" not in kept
    assert kept.encode().decode() == kept
    assert len(kept) == len(text)
    assert storable(kept) == kept


def test_a_checksum_belongs_to_name_and_bytes() -> None:
    seen = {checksum(name, update) for name, update in [("a", b"b"), ("ab", b""), ("b", b"b"), ("a", b"b\x00")]}
    assert len(seen) == 4
    assert checksum("a", b"b") == checksum("a", b"b")


def test_documents_are_counted_in_name_order() -> None:
    entries = [LogEntry(name, b"", "n", number) for number, name in enumerate(["b", "a", "b", "C"])]
    assert list(counts_by_document(entries).items()) == [("C", 1), ("a", 1), ("b", 2)]


def test_one_name_names_one_update() -> None:
    entry = LogEntry("a", b"1", "n", 1)
    assert list(distinct([entry, LogEntry("a", b"2", "n", 2), entry]).values()) == [entry, LogEntry("a", b"2", "n", 2)]
    for other in (LogEntry("a", b"2", "n", 1), LogEntry("b", b"1", "n", 1)):
        with pytest.raises(Misuse):
            distinct([entry, other])


@pytest.mark.parametrize(("asked", "given_"), [(-5, 1), (0, 1), (50, 50), (10**9, 1000)])
def test_page_sizes_are_bounded(asked: int, given_: int) -> None:
    assert page_size(asked) == given_
