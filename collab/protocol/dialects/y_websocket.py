"""The y-websocket dialect: frames of bytes <-> message values.

Shared by y-websocket, y-sweet (message 102) and y/hub clients; message 103, by which a client renews its token, is
collab's own. A frame holds one or more messages, each a varuint type and its payload, without an address: one document
per socket. Text frames are the server's business, not this module's.
"""

from __future__ import annotations

import re
from functools import lru_cache
from json import JSONDecoder
from typing import NoReturn

from collab.errors import MalformedMessage
from collab.protocol.json_text import nests_within
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
from collab.protocol.varint import MAX_SAFE_INTEGER, read_bytes, read_uint, write_bytes, write_varuint

MAX_MESSAGES = 1_000
"""Messages in one frame; stock clients send one."""
MAX_AWARENESS_ENTRIES = 1_000
"""Entries in one awareness message: as many as a room may have connections."""
MAX_AWARENESS_STATE_BYTES = 8 * 1024
"""Bytes of one client's state."""
MAX_AWARENESS_DEPTH = 8
"""Nesting of one client's state."""
MAX_AWARENESS_CLOCK = (1 << 32) - 1

MAX_TOKEN_BYTES = 8 * 1024
"""Of a new token; as long as one in a request may be."""

KEEP_ALIVE = bytes((1, 1, 0))
"""An awareness message without entries: says nothing, and resets every stock client's silence timer."""

_SYNC = 0
_AWARENESS = 1
_QUERY_AWARENESS = 3
_SYNC_STATUS = 102
_TOKEN = 103
_STEP_1, _STEP_2, _UPDATE = 0, 1, 2


def decode(
    frame: bytes,
    *,
    max_awareness_entries: int = MAX_AWARENESS_ENTRIES,
    max_awareness_state_bytes: int = MAX_AWARENESS_STATE_BYTES,
    from_server: bool = False,
) -> list[Message]:
    """Return every message of ``frame``, in order; at least one.

    An unknown type yields `Unknown` and takes the rest of its frame with it, since its length cannot be known. What
    is inside updates and state vectors is not looked at. Raises `MalformedMessage` for an empty or cut frame, for bytes
    left over, for too many messages, and for awareness or a token that breaks a bound; then nothing of the frame
    counts. ``from_server`` reads what a server wrote: there message 103 is the time left, and not a token.
    """
    # One short update is nearly every frame of a busy room: it is cut out without a single call.
    if len(frame) > 2 and frame[0] == _SYNC and frame[1] == _UPDATE and frame[2] + 3 == len(frame) and frame[2] < 0x80:
        return [Update(frame[3:])]
    if not frame:
        raise MalformedMessage("empty frame")
    messages: list[Message] = []
    position = 0
    try:
        while position < len(frame):
            kind, position = read_uint(frame, position)
            if kind == _AWARENESS:
                payload, position = read_bytes(frame, position)
                message: Message = Awareness(_read_entries(payload, max_awareness_entries, max_awareness_state_bytes))
            elif kind == _SYNC:
                message, position = _read_sync(frame, position)
            elif kind == _QUERY_AWARENESS:
                message = QueryAwareness()
            elif kind == _SYNC_STATUS:
                version, position = read_bytes(frame, position)
                message = SyncStatus(version)
            elif kind == _TOKEN and from_server:
                seconds, position = read_uint(frame, position)
                message = TimeLeft(seconds)
            elif kind == _TOKEN:
                message, position = _read_token(frame, position)
            else:
                message = Unknown(kind)
                position = len(frame)
            messages.append(message)
            if len(messages) > MAX_MESSAGES:
                raise MalformedMessage(f"more than {MAX_MESSAGES} messages in a frame")
    except IndexError as error:
        raise MalformedMessage("frame ends early") from error
    return messages


def encode(message: Message) -> bytes:
    """Return the frame holding just ``message``. `Unknown` becomes its bare type."""
    match message:
        case Update(update):
            return b"\x00\x02" + write_bytes(update)
        case Awareness(entries):
            return b"\x01" + write_bytes(_write_entries(entries))
        case SyncStep2(update):
            return b"\x00\x01" + write_bytes(update)
        case SyncStep1(state_vector):
            return b"\x00\x00" + write_bytes(state_vector)
        case SyncStatus(version):
            return b"\x66" + write_bytes(version)
        case QueryAwareness():
            return b"\x03"
        case Renewal(token):
            return b"\x67" + write_bytes(token)
        case TimeLeft(seconds):
            return b"\x67" + write_varuint(seconds)
        case _:
            return write_varuint(message.type)


def _read_sync(frame: bytes, position: int) -> tuple[Message, int]:
    step, position = read_uint(frame, position)
    payload, position = read_bytes(frame, position)
    if step == _UPDATE:
        return Update(payload), position
    if step == _STEP_1:
        return SyncStep1(payload), position
    if step == _STEP_2:
        return SyncStep2(payload), position
    raise MalformedMessage("unknown sync step")


def _read_token(frame: bytes, position: int) -> tuple[Renewal, int]:
    token, position = read_bytes(frame, position)
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise MalformedMessage(f"a token that is not ASCII, or above {MAX_TOKEN_BYTES} bytes")
    return Renewal(token), position


def _read_entries(payload: bytes, max_entries: int, max_state_bytes: int) -> tuple[AwarenessEntry, ...]:
    count, position = read_uint(payload, 0)
    if count > max_entries:
        raise MalformedMessage(f"more than {max_entries} awareness entries")
    entries = []
    for _ in range(count):
        client, position = read_uint(payload, position)
        clock, position = read_uint(payload, position)
        if client > MAX_SAFE_INTEGER or clock > MAX_AWARENESS_CLOCK:
            raise MalformedMessage("client id or clock out of bounds")
        state, position = read_bytes(payload, position)
        if state == b"null":
            entries.append(AwarenessEntry(client, clock, None))
            continue
        if len(state) > max_state_bytes:
            raise MalformedMessage(f"awareness state above {max_state_bytes} bytes")
        if not _is_plain_object(state):
            _check_state(state)
        entries.append(AwarenessEntry(client, clock, state))
    if position != len(payload):
        raise MalformedMessage("bytes after the last awareness entry")
    return tuple(entries)


def _write_entries(entries: tuple[AwarenessEntry, ...]) -> bytes:
    parts = [write_varuint(len(entries))]
    for entry in entries:
        state = b"null" if entry.state is None else entry.state
        parts += (write_varuint(entry.client), write_varuint(entry.clock), write_bytes(state))
    return b"".join(parts)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


# Integers as floats: a thousand digits cost linear time, and JavaScript reads them so.
_parse = JSONDecoder(parse_int=float, parse_constant=_refuse_constant).decode


def _plain_object(depth: int) -> bytes:
    """A pattern of JSON objects as `JSON.stringify` writes them, ASCII only, nesting at most ``depth`` levels."""
    string = rb'"(?:[ !#-\[\]-~]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
    atom = string + rb"|-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null"
    value, nested = atom, b""
    for _ in range(depth):
        nested = rb"\{(?:" + string + rb":(?:" + value + rb")(?:,(?!\})|(?=\})))*+\}"
        value = nested + rb"|\[(?:(?:" + value + rb")(?:,(?!\])|(?=\])))*+\]|" + atom
    return nested


_is_plain_object = re.compile(_plain_object(6)).fullmatch
"""Nearly every state is one: a cursor costs half as much to check this way as to parse."""


@lru_cache(1024)
def _check_state(state: bytes) -> None:
    """Every receiver parses the state, and one that fails drops the rest of the message: only whole JSON passes.

    Remembered, because stock clients send back what they receive: in a room of n, each state comes n times.
    """
    if not nests_within(state, MAX_AWARENESS_DEPTH):
        raise MalformedMessage(f"awareness state nests deeper than {MAX_AWARENESS_DEPTH}")
    try:
        value = _parse(state.decode())
    except ValueError as error:
        raise MalformedMessage("awareness state is not JSON") from error
    if not isinstance(value, dict):
        raise MalformedMessage("awareness state is not an object")
