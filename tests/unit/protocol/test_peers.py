"""What nodes say to each other: every message comes back as it went, and any bytes are read or refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collab.errors import MalformedMessage
from collab.protocol import peers
from collab.protocol.messages import AwarenessEntry
from collab.protocol.peers import (
    PeerAnswer,
    PeerAsk,
    PeerAwareness,
    PeerCommitted,
    PeerDigest,
    PeerEntry,
    PeerMessage,
    PeerUpdate,
)

NUMBERS = st.integers(0, 2**53 - 1)
BYTES = st.binary(max_size=40)
ENTRIES = st.lists(
    st.builds(
        PeerEntry,
        st.builds(AwarenessEntry, NUMBERS, NUMBERS, st.none() | st.binary(min_size=1, max_size=20)),
        st.text(max_size=10),
        NUMBERS,
    ),
    max_size=4,
).map(tuple)
READERS: dict[type[Any], Callable[[bytes], Any]] = {
    PeerUpdate: peers.read_update,
    PeerCommitted: peers.read_committed,
    PeerAwareness: peers.read_awareness,
    PeerDigest: peers.read_digest,
    PeerAsk: peers.read_ask,
    PeerAnswer: peers.read_answer,
}
MESSAGES = st.one_of(
    st.builds(PeerUpdate, NUMBERS, NUMBERS, BYTES),
    st.builds(PeerCommitted, NUMBERS, st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4).map(tuple)),
    st.builds(PeerAwareness, ENTRIES),
    st.builds(PeerDigest, BYTES, BYTES, BYTES, NUMBERS, NUMBERS),
    st.builds(PeerAsk, BYTES, BYTES),
    st.builds(PeerAnswer, NUMBERS, st.booleans(), BYTES, NUMBERS, ENTRIES),
)


@given(MESSAGES)
def test_b4_every_message_comes_back_as_it_went(message: PeerMessage) -> None:
    assert READERS[type(message)](peers.pack(message)) == message


@given(MESSAGES, st.binary(min_size=1, max_size=10))
def test_b4_fields_a_newer_version_adds_at_the_end_are_ignored(message: PeerMessage, more: bytes) -> None:
    if not isinstance(message, PeerUpdate):  # its update runs to the end
        assert READERS[type(message)](peers.pack(message) + more) == message


@given(st.sampled_from(list(READERS.values())), st.binary(max_size=60))
def test_b4_any_bytes_are_read_or_refused(read: Callable[[bytes], Any], data: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        read(data)
