"""Envelopes as bytes: what was packed comes back, and nothing else is believed."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from collab.bus import Envelope, Kind
from collab.bus.envelope import VERSION, head, pack, unpack
from collab.errors import MalformedMessage
from collab.protocol.varint import MAX_SAFE_INTEGER

envelopes = st.builds(
    Envelope,
    document=st.text(max_size=200),
    node=st.text(max_size=32),
    epoch=st.integers(0, (1 << 64) - 1),
    sequence=st.integers(0, MAX_SAFE_INTEGER),
    kind=st.integers(0, 1 << 20),
    payload=st.binary(max_size=400),
)
secrets = st.none() | st.binary(min_size=16, max_size=80)


@given(envelopes, secrets)
def test_f12_what_was_packed_comes_back(envelope: Envelope, secret: bytes | None) -> None:
    assert unpack(pack(envelope, secret), secret) == envelope


@given(envelopes, secrets, st.data())
def test_f12_any_changed_byte_is_refused(envelope: Envelope, secret: bytes | None, data: st.DataObject) -> None:
    packed = bytearray(pack(envelope, secret))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(MalformedMessage):
        unpack(bytes(packed), secret)


@given(envelopes, secrets, st.data())
def test_f12_a_cut_or_longer_envelope_is_refused(envelope: Envelope, secret: bytes | None, data: st.DataObject) -> None:
    packed = pack(envelope, secret)
    with pytest.raises(MalformedMessage):
        unpack(packed[: data.draw(st.integers(0, len(packed) - 1))], secret)
    with pytest.raises(MalformedMessage):
        unpack(packed + data.draw(st.binary(min_size=1, max_size=20)), secret)


@given(envelopes, secrets, secrets)
def test_g03_an_envelope_signed_otherwise_is_refused(
    envelope: Envelope, ours: bytes | None, theirs: bytes | None
) -> None:
    assume(ours != theirs)
    with pytest.raises(MalformedMessage):
        unpack(pack(envelope, theirs), ours)


@given(envelopes, secrets, st.integers(0, 255))
def test_f06_an_envelope_of_another_version_is_refused(envelope: Envelope, secret: bytes | None, version: int) -> None:
    assume(bytes((version,)) != VERSION)
    with pytest.raises(MalformedMessage, match="version"):
        unpack(bytes((version,)) + pack(envelope, secret)[1:], secret)


@given(st.binary(max_size=300), st.none() | st.just(b"0123456789abcdef"))
def test_f12_any_bytes_with_a_right_check_are_an_envelope_or_malformed(body: bytes, secret: bytes | None) -> None:
    from collab.bus.envelope import _check

    for data in (body, VERSION + body, VERSION + body + _check(VERSION + body, secret)):
        try:
            envelope = unpack(data, secret)
        except MalformedMessage:
            continue
        assert unpack(pack(envelope, secret), secret) == envelope


@given(st.text(max_size=20), st.text(max_size=20))
def test_the_head_tells_one_node_from_every_other(one: str, other: str) -> None:
    packed = pack(Envelope("d", one, 1, 1, Kind.UPDATE, b"x"))
    assert packed.startswith(head(other)) is (one == other)


def test_a_small_envelope_costs_few_bytes() -> None:
    envelope = Envelope("d" * 20, "n" * 16, 1 << 62, 1000, Kind.UPDATE, b"x" * 40)
    assert len(pack(envelope)) == 40 + 20 + 16 + 18
    assert len(pack(envelope, b"s" * 16)) == len(pack(envelope)) + 12
