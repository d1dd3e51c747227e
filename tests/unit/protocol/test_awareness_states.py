"""The quick check of awareness states agrees with a JSON parser."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.protocol.dialects.y_websocket import _is_plain_object

TEXT = st.text(st.characters(max_codepoint=0x7E), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, VALUES, max_size=3), st.data())
def test_a9_what_the_quick_check_takes_is_json_and_cut_or_changed_it_is_only_if_it_still_is(
    value: dict[str, object], data: st.DataObject
) -> None:
    state = json.dumps(value, separators=(",", ":")).encode()
    at = data.draw(st.integers(0, len(state) - 1))
    changed = state[:at] + data.draw(st.binary(max_size=2)) + state[at + 1 :]
    for candidate in (state, state[:at], changed):
        if _is_plain_object(candidate):
            assert isinstance(json.loads(candidate), dict)


@pytest.mark.parametrize("state", [b"{}", b'{"a":[1,-2.5e3,{"b":null}],"c":"\\u00e9 \\n"}'])
def test_a9_what_editors_send_passes_the_quick_check(state: bytes) -> None:
    assert _is_plain_object(state)


@pytest.mark.parametrize(
    "state", [b'{"a":1,}', b"{,}", b'{"a":[1,]}', b'{"a":01}', b'{"a":NaN}', b"[]", b'{"a":"\x01"}']
)
def test_a9_what_is_not_json_does_not(state: bytes) -> None:
    assert not _is_plain_object(state)
