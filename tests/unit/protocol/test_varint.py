"""lib0 integers and bytes: golden encodings, bounds, and what a cut leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.errors import MalformedMessage
from collab.protocol.varint import MAX_SAFE_INTEGER, read_bytes, read_varuint, write_bytes, write_varuint

GOLDEN = {
    0: "00",
    1: "01",
    127: "7f",
    128: "8001",
    16_383: "ff7f",
    16_384: "808001",
    (1 << 32) - 1: "ffffffff0f",
    MAX_SAFE_INTEGER: "ffffffffffffff0f",
}


@pytest.mark.parametrize(("value", "encoded"), GOLDEN.items())
def test_integers_are_encoded_as_lib0_encodes_them(value: int, encoded: str) -> None:
    assert write_varuint(value).hex() == encoded
    assert read_varuint(bytes.fromhex(encoded), 0) == (value, len(encoded) // 2)


@given(st.integers(0, MAX_SAFE_INTEGER), st.binary(max_size=3), st.binary(max_size=3))
def test_w1_an_integer_reads_back_wherever_it_stands(value: int, before: bytes, after: bytes) -> None:
    encoded = write_varuint(value)
    assert read_varuint(before + encoded + after, len(before)) == (value, len(before) + len(encoded))


@given(st.integers(0, MAX_SAFE_INTEGER))
def test_w2_a_cut_integer_is_malformed(value: int) -> None:
    with pytest.raises(MalformedMessage):
        read_varuint(write_varuint(value)[:-1], 0)


@pytest.mark.parametrize("encoded", ["8000", "818000", "80808080808000"])
def test_padding_within_eight_bytes_is_read_as_lib0_reads_it(encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert read_varuint(data, 0) == (data[0] & 0x7F, len(data))


@pytest.mark.parametrize("encoded", ["808080808080808000", "ffffffffffffffff00", "8080808080808010", "ff" * 1000])
def test_w2_an_integer_above_53_bits_or_eight_bytes_is_malformed(encoded: str) -> None:
    with pytest.raises(MalformedMessage):
        read_varuint(bytes.fromhex(encoded), 0)


def test_w2_an_integer_above_the_callers_limit_is_malformed() -> None:
    assert read_varuint(b"\x05", 0, 5) == (5, 1)
    with pytest.raises(MalformedMessage):
        read_varuint(b"\x06", 0, 5)


@given(st.binary(max_size=300))
def test_w1_bytes_read_back(payload: bytes) -> None:
    encoded = write_bytes(payload)
    assert read_bytes(encoded + b"x", 0) == (payload, len(encoded))


@pytest.mark.parametrize("encoded", ["", "01", "0541", "ffffffffffffff0f41"])
def test_w2_bytes_that_claim_more_than_is_there_are_malformed(encoded: str) -> None:
    with pytest.raises(MalformedMessage):
        read_bytes(bytes.fromhex(encoded), 0)


@given(st.binary(max_size=20), st.integers(0, 20))
def test_w2_any_bytes_read_forward_or_raise(data: bytes, position: int) -> None:
    for read in (read_varuint, read_bytes):
        try:
            _, after = read(data, position)
        except MalformedMessage:
            continue
        assert position < after <= len(data)
