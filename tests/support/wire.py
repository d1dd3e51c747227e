"""The y-websocket wire in a few lines, for raw test clients: written apart from `collab.protocol`, to check it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Message = tuple[int, int | None, bytes]
"""Type, sync sub-type or None, payload."""
SYNC, AWARENESS, AUTH, QUERY_AWARENESS, SYNC_STATUS = 0, 1, 2, 3, 102
STEP1, STEP2, UPDATE = 0, 1, 2


def varuint(value: int) -> bytes:
    """lib0's unsigned integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def prefixed(payload: bytes) -> bytes:
    """Length and bytes."""
    return varuint(len(payload)) + payload


def step1(state_vector: bytes = b"\x00") -> bytes:
    """A SyncStep1 frame."""
    return bytes([SYNC, STEP1]) + prefixed(state_vector)


def step2(update: bytes) -> bytes:
    """A SyncStep2 frame."""
    return bytes([SYNC, STEP2]) + prefixed(update)


def update(update: bytes) -> bytes:
    """An Update frame."""
    return bytes([SYNC, UPDATE]) + prefixed(update)


def status(version: int) -> bytes:
    """A message 102 frame."""
    return bytes([SYNC_STATUS]) + prefixed(varuint(version))


def awareness(*entries: tuple[int, int, str]) -> bytes:
    """An awareness frame of (client, clock, JSON text)."""
    body = b"".join(varuint(client) + varuint(clock) + prefixed(state.encode()) for client, clock, state in entries)
    return bytes([AWARENESS]) + prefixed(varuint(len(entries)) + body)


def messages(frame: bytes) -> Iterator[Message]:
    """Every message of a server's frame."""
    at = 0
    while at < len(frame):
        kind, at = read(frame, at)
        sub = None
        if kind == QUERY_AWARENESS:
            yield kind, None, b""
            continue
        if kind == SYNC:
            sub, at = read(frame, at)
        size, at = read(frame, at)
        yield kind, sub, frame[at : at + size]
        at += size


def read(data: bytes, at: int) -> tuple[int, int]:
    """One unsigned integer, and the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
