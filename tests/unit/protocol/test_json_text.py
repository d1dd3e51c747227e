"""Nesting of JSON text, against what a parser finds, and in linear time."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.protocol.json_text import nests_within

VALUES = st.recursive(
    st.none() | st.integers() | st.text('{}[]"\\a', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('{["\\', max_size=4), inner, max_size=3),
    max_leaves=20,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@given(VALUES, st.integers(0, 6))
def test_text_nests_as_deep_as_the_value_it_was_made_of(value: object, limit: int) -> None:
    assert nests_within(json.dumps(value).encode(), limit) == (depth(value) <= limit)


@given(st.binary(max_size=50))
def test_w2_any_bytes_get_an_answer(text: bytes) -> None:
    assert nests_within(text, len(text))


@pytest.mark.parametrize(
    "text", [b'"' + b'\\"' * 1_000_000, b'"' * 2_000_001, b'["' * 1_000_000, b"\\" * 2_000_000 + b"[" * 9]
)
def test_w2_unclosed_strings_cost_linear_time(text: bytes) -> None:
    """A search that looked again from every quote would not come back before the test's time limit."""
    assert nests_within(text + b"[]" * 9, len(text)) is True
    nests_within(text + b"[]" * 9, 8)
