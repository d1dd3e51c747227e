"""The short cut of the update reader: one typed string, or one erased range, read by pattern.

Nearly every update of a busy room is one of these two. `yjs.scan_update` asks here first; the answer is exactly what
the full reader says (a test holds the two together), and every refusal is left to it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from collab.protocol.varint import MAX_SAFE_INTEGER
from collab.protocol.yjs_content import MAX_CLOCK, read_uint

_UINT = rb"([\x80-\xff]{0,7}[\0-\x7f])"
# One client, one string struct of at most 127 ASCII characters beside one or two others, nothing deleted.
_match_typed = re.compile(
    rb"\x01\x01"
    + _UINT * 2
    + rb"(?:[\x84\x44]|\xc4"
    + _UINT * 2
    + rb")"
    + _UINT * 2
    + rb"([\x01-\x7f])([\0-\x7f]{1,127})\0\Z"
).match
# No structs, one client, one deleted range.
_match_erased = re.compile(rb"\0\x01" + _UINT + rb"\x01" + _UINT * 2 + rb"\Z").match

Beside = tuple[tuple[int, int], ...]
"""The ids (client, clock) of a struct's left origin, its right one, or both, left first."""

Parts = tuple[dict[int, list[tuple[int, int]]], dict[int, int], dict[int, list[tuple[int, int]]], Beside | None]
"""Ranges, needs, deletes and what is beside, as in `yjs.UpdateScan`."""

Typed = tuple[int, int, int, dict[int, int], Beside]
"""Client, first clock, clock after the last, needs as in `yjs.UpdateScan`, and what it stands beside."""


def read_keystroke(data: bytes) -> Parts | None:
    """Return what ``data`` brings, needs and deletes, or None when it is no plain keystroke."""
    if typed := read_typed(data):
        client, clock, end, needs, beside = typed
        return {client: [(clock, end)]}, needs, {}, beside
    if erased := read_erased(data):
        client, clock, end = erased
        return {}, {}, {client: [(clock, end)]}, None
    return None


def read_erased(data: bytes) -> tuple[int, int, int] | None:
    """Return whose clocks ``data`` deletes, from which on and up to which, or None when it is not just one range."""
    erased = _match_erased(data)
    if erased is None:
        return None
    client_id, first, length = erased.groups()
    clock = read_uint(first, 0)[0]
    end = clock + read_uint(length, 0)[0]
    client = _client_of(client_id)
    return (client, clock, end) if clock < end <= MAX_CLOCK and client <= MAX_SAFE_INTEGER else None


def read_typed(data: bytes) -> Typed | None:
    """Return who typed ``data`` at which clocks, or None when it is anything but one typed string."""
    typed = _match_typed(data)
    if typed is None:
        return None
    author, first, left, left_clock, right, right_clock, length, text = typed.groups()
    client = _client_of(author)
    clock = read_uint(first, 0)[0]
    end = clock + len(text)
    if length[0] != len(text) or end > MAX_CLOCK or client > MAX_SAFE_INTEGER:
        return None
    needs: dict[int, int] = {}
    other = _client_of(right)
    other_clock = read_uint(right_clock, 0)[0]
    if other_clock >= (clock if other == client else MAX_CLOCK) or other > MAX_SAFE_INTEGER:
        return None
    if other != client:
        needs[other] = other_clock + 1
    if left is None:
        return client, clock, end, needs, ((other, other_clock),)
    first_other = _client_of(left)
    first_clock = read_uint(left_clock, 0)[0]
    if first_clock >= (clock if first_other == client else MAX_CLOCK) or first_other > MAX_SAFE_INTEGER:
        return None
    if first_other != client and first_clock >= needs.get(first_other, 0):
        needs[first_other] = first_clock + 1
    return client, clock, end, needs, ((first_other, first_clock), (other, other_clock))


@lru_cache(1024)
def _client_of(encoded: bytes) -> int:
    """A keystroke names its author two or three times, and so does the next one."""
    return read_uint(encoded, 0)[0]
