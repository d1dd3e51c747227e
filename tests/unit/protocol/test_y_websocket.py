"""The y-websocket dialect: golden frames, round trips, bounds, and any bytes at all."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collab.errors import MalformedMessage
from collab.protocol.dialects.y_websocket import (
    KEEP_ALIVE,
    MAX_AWARENESS_DEPTH,
    MAX_AWARENESS_ENTRIES,
    MAX_AWARENESS_STATE_BYTES,
    MAX_MESSAGES,
    MAX_TOKEN_BYTES,
    decode,
    encode,
)
from collab.protocol.messages import (
    Awareness,
    AwarenessEntry,
    Message,
    QueryAwareness,
    Renewal,
    SyncStatus,
    SyncStep1,
    SyncStep2,
    TimeLeft,
    Unknown,
    Update,
)
from collab.protocol.varint import write_bytes, write_varuint

GOLDEN: dict[str, Message] = {
    "00000100": SyncStep1(b"\x00"),
    "0001020000": SyncStep2(b"\x00\x00"),
    "00020b0101070004010174017800": Update(bytes.fromhex("0101070004010174017800")),
    "0106010700027b7d": Awareness((AwarenessEntry(7, 0, b"{}"),)),
    "010b010701077b2275223a317d": Awareness((AwarenessEntry(7, 1, b'{"u":1}'),)),
    "0108010701046e756c6c": Awareness((AwarenessEntry(7, 1, None),)),
    "03": QueryAwareness(),
    "660105": SyncStatus(b"\x05"),
    "66028001": SyncStatus(b"\x80\x01"),
    "6700": Renewal(b""),
    "6703612e62": Renewal(b"a.b"),
}

STATES = st.none() | st.sampled_from(
    [b"{}", b'{"user":{"name":"\xc3\xbc"}}', b'{"a":[1,2.5,true,null]}', b' {"a" : 1} ']
)
ENTRIES = st.builds(AwarenessEntry, st.integers(0, (1 << 53) - 1), st.integers(0, (1 << 32) - 1), STATES)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(SyncStep1, st.binary(max_size=200)),
    st.builds(SyncStep2, st.binary(max_size=200)),
    st.builds(Update, st.binary(max_size=200)),
    st.builds(Awareness, st.lists(ENTRIES, max_size=5).map(tuple)),
    st.just(QueryAwareness()),
    st.builds(SyncStatus, st.binary(max_size=9)),
    st.builds(Renewal, st.text(st.characters(max_codepoint=127), max_size=200).map(str.encode)),
)
UNKNOWN = st.builds(Unknown, st.integers(4, (1 << 53) - 1).filter(lambda kind: kind not in (102, 103)) | st.just(2))


def awareness_frame(payload: bytes) -> bytes:
    return b"\x01" + write_bytes(payload)


def state_frame(state: bytes) -> bytes:
    return awareness_frame(b"\x01\x07\x00" + write_bytes(state))


@pytest.mark.parametrize(("frame", "message"), GOLDEN.items())
def test_w1_recorded_frames_of_stock_clients_mean_what_they_say(frame: str, message: Message) -> None:
    assert decode(bytes.fromhex(frame)) == [message]
    assert encode(message).hex() == frame


def test_the_keep_alive_is_an_awareness_message_without_entries() -> None:
    assert decode(KEEP_ALIVE) == [Awareness(())]
    assert encode(Awareness(())) == KEEP_ALIVE


@given(MESSAGES | UNKNOWN)
def test_w1_decode_of_encode_is_the_message(message: Message) -> None:
    assert decode(encode(message)) == [message]


@given(st.lists(MESSAGES, min_size=1, max_size=5), st.none() | UNKNOWN)
def test_w3_every_message_of_a_frame_is_returned_in_order(messages: list[Message], last: Unknown | None) -> None:
    sent = [*messages, last] if last is not None else messages
    assert decode(b"".join(map(encode, sent))) == sent


def test_w3_a_frame_has_a_thousand_messages_at_most() -> None:
    message = encode(Update(b"\x00\x00"))
    assert len(decode(message * MAX_MESSAGES)) == MAX_MESSAGES
    with pytest.raises(MalformedMessage):
        decode(message * (MAX_MESSAGES + 1))


@given(UNKNOWN, st.binary(max_size=50))
def test_w4_an_unknown_type_takes_the_rest_of_its_frame(unknown: Unknown, rest: bytes) -> None:
    assert decode(encode(unknown) + rest) == [unknown]


def test_w4_auth_from_a_client_is_unknown() -> None:
    assert decode(bytes.fromhex("02000178")) == [Unknown(2)]


@given(MESSAGES, st.data())
def test_w2_a_cut_message_is_malformed(message: Message, data: st.DataObject) -> None:
    frame = encode(message)
    cut = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(MalformedMessage):
        decode(frame[:cut])


@example(b"")
@example(b"\xff" * 1000)
@example(bytes.fromhex("0000ffffffff0f00"))
@given(st.binary(max_size=100))
def test_w2_any_bytes_decode_or_raise(frame: bytes) -> None:
    try:
        messages = decode(frame)
    except MalformedMessage:
        return
    assert messages
    if not any(isinstance(message, Unknown) for message in messages):
        assert decode(b"".join(map(encode, messages))) == messages


@given(st.lists(MESSAGES, min_size=1, max_size=4), st.data())
def test_w2_mutated_frames_decode_or_raise(messages: list[Message], data: st.DataObject) -> None:
    frame = bytearray(b"".join(map(encode, messages)))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MalformedMessage):
        assert decode(bytes(frame))


@pytest.mark.parametrize(
    "frame",
    [
        "",  # empty
        "00",  # sync without a step
        "000300",  # a step nobody knows
        "0002",  # update without a length
        "00020201",  # update cut
        "0002010100",  # one byte left over, read as a cut sync message
        "0101",  # awareness cut
        "01020000",  # bytes after the last entry
        "01020107",  # entry cut
        "0104010700ff",  # state cut
        "66",  # status without a payload
        "80808080808080808000",  # type that never ends
    ],
)
def test_w2_broken_frames_are_malformed(frame: str) -> None:
    with pytest.raises(MalformedMessage):
        decode(bytes.fromhex(frame))


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"1",
        b"[]",
        b'"text"',
        b"true",
        b"nul",
        b"null ",
        b"{",
        b"{}{}",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":01}',
        b"{'a':1}",
        b'{"a":"\n"}',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_a9_a_state_that_browsers_cannot_parse_as_an_object_is_malformed(state: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(state_frame(state))


@pytest.mark.parametrize("state", [b'{"a":' + b"9" * 6000 + b"}", b'{"a":1e999}', b'{"\\ud800":"\\u0000"}', b'{"":{}}'])
def test_a9_odd_but_valid_states_pass(state: bytes) -> None:
    assert decode(state_frame(state)) == [Awareness((AwarenessEntry(7, 0, state),))]


def test_a9_a_state_is_bounded_in_depth() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":' * depth + b"1" + b"}" * depth

    assert decode(state_frame(nested(MAX_AWARENESS_DEPTH)))
    with pytest.raises(MalformedMessage, match="nests"):
        decode(state_frame(nested(MAX_AWARENESS_DEPTH + 1)))
    assert decode(state_frame(b'{"a":"' + b"[{" * 100 + b'"}'))


def test_a9_a_state_is_bounded_in_bytes() -> None:
    def sized(size: int) -> bytes:
        return b'{"a":"' + b"x" * (size - 8) + b'"}'

    assert decode(state_frame(sized(MAX_AWARENESS_STATE_BYTES)))
    with pytest.raises(MalformedMessage, match="bytes"):
        decode(state_frame(sized(MAX_AWARENESS_STATE_BYTES + 1)))
    assert decode(state_frame(sized(20)), max_awareness_state_bytes=20)
    with pytest.raises(MalformedMessage):
        decode(state_frame(sized(21)), max_awareness_state_bytes=20)


def test_a9_an_awareness_message_is_bounded_in_entries() -> None:
    def crowd(size: int) -> bytes:
        return encode(Awareness(tuple(AwarenessEntry(client, 1, None) for client in range(size))))

    assert decode(crowd(MAX_AWARENESS_ENTRIES))
    with pytest.raises(MalformedMessage):
        decode(crowd(MAX_AWARENESS_ENTRIES + 1))
    with pytest.raises(MalformedMessage):
        decode(crowd(3), max_awareness_entries=2)


@pytest.mark.parametrize(("client", "clock"), [(1 << 53, 0), (0, 1 << 32)])
def test_a9_client_ids_and_clocks_beyond_their_width_are_malformed(client: int, clock: int) -> None:
    entry = write_varuint(client) + write_varuint(clock) + write_bytes(b"{}")
    with pytest.raises(MalformedMessage):
        decode(awareness_frame(b"\x01" + entry))


@given(st.integers(0, (1 << 53) - 1))
def test_w1_the_time_left_is_read_back_by_clients(seconds: int) -> None:
    frame = encode(TimeLeft(seconds))
    assert decode(frame, from_server=True) == [TimeLeft(seconds)]
    assert decode(encode(SyncStatus(b"\x01")) + frame, from_server=True) == [SyncStatus(b"\x01"), TimeLeft(seconds)]
    for cut in range(1, len(frame)):
        with pytest.raises(MalformedMessage):
            decode(frame[:cut], from_server=True)


def test_w2_a_token_is_bounded_in_bytes_and_ascii() -> None:
    longest = b"t" * MAX_TOKEN_BYTES
    assert decode(encode(Renewal(longest))) == [Renewal(longest)]
    for token in (longest + b"t", "tökén".encode(), b"\xff"):
        with pytest.raises(MalformedMessage):
            decode(encode(Renewal(token)))
