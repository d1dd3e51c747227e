"""State vectors: round trips, the order Yjs writes, and vectors that lie about their length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.errors import MalformedMessage
from collab.protocol.yjs import EMPTY_STATE_VECTOR, read_state_vector, write_state_vector
from tests.unit.protocol.spelled import BIG_CLIENT, BIG_CLOCK, ident, uint

STATE_VECTORS = st.dictionaries(st.integers(0, BIG_CLIENT - 1), st.integers(0, BIG_CLOCK - 1), max_size=20)


@given(STATE_VECTORS)
def test_w1_a_state_vector_reads_back(clocks: dict[int, int]) -> None:
    encoded = write_state_vector(clocks)
    assert read_state_vector(encoded) == clocks
    for cut in range(len(encoded)):
        with pytest.raises(MalformedMessage):
            read_state_vector(encoded[:cut])


def test_the_empty_state_vector_is_a_zero() -> None:
    assert write_state_vector({}) == EMPTY_STATE_VECTOR
    assert read_state_vector(EMPTY_STATE_VECTOR) == {}


def test_state_vectors_list_the_highest_client_first() -> None:
    assert write_state_vector({1: 5, 300: 2}).hex() == "02ac02020105"


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x00\x00",
        b"\x01\x07",
        uint((1 << 32) - 1) + b"\x07\x00",
        b"\x02\x07\x01\x07\x02",
        b"\x80" * 9,
        b"\x01" + ident(BIG_CLIENT, 0),
        b"\x01" + ident(7, BIG_CLOCK),
    ],
)
def test_w5_a_state_vector_that_lies_is_malformed(encoded: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read_state_vector(encoded)


def test_w5_a_state_vector_is_bounded_in_clients() -> None:
    encoded = write_state_vector(dict.fromkeys(range(11), 1))
    assert len(read_state_vector(encoded, 11)) == 11
    with pytest.raises(MalformedMessage):
        read_state_vector(encoded, 10)
