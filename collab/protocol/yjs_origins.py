"""A second reading of an update: which struct stands beside which.

`yjs.scan_update`, which every update passes first, does not keep that, because hardly anybody asks: only the engine
does, of documents with maps or attributes. Nothing is checked twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collab.protocol.yjs_content import STRING, read_text, read_uint, skip_content, text_units

if TYPE_CHECKING:
    from collections.abc import Iterator

_GC, _SKIP = 0, 10
_HAS_ORIGIN, _HAS_RIGHT_ORIGIN = 0x80, 0x40
HAS_KEY, KIND = 0x20, 0x1F
"""In a struct's info byte: the flag that says that it is in a map, of use only where there are no origins, and the
kind of its content."""
_HAS_ORIGINS = _HAS_ORIGIN | _HAS_RIGHT_ORIGIN
_ANY_DEPTH = 1 << 30

Id = tuple[int, int]
"""Client and clock."""

Placed = tuple[int, int, int, int, Id | None, Id | None]
"""Client, first clock, clock after the last, info byte, left origin, right origin."""


def read_origins(data: bytes) -> Iterator[Placed]:
    """Yield every item of ``data``, an update `yjs.scan_update` accepted, section by section.

    Collected and skipped structs are not among them: they stand nowhere.
    """
    clients: dict[bytes, int] = {}
    sections, position = read_uint(data, 0)
    for _ in range(sections):
        count, position = read_uint(data, position)
        client, position = read_uint(data, position)
        clock, position = read_uint(data, position)
        for _ in range(count):
            info = data[position]
            position += 1
            if info in (_GC, _SKIP):
                length, position = read_uint(data, position)
                clock += length
                continue
            left = right = None
            if info & _HAS_ORIGIN:
                left, position = _read_id(data, position, clients)
            if info & _HAS_RIGHT_ORIGIN:
                right, position = _read_id(data, position, clients)
            if not info & _HAS_ORIGINS:
                position = _skip_parent(data, position, info)
            kind = info & KIND
            if kind == STRING:
                length, position = read_uint(data, position)
                text = data[position : position + length]
                position += length
                if not text.isascii():
                    length = text_units(text)
            else:
                length, position = skip_content(data, position, kind, _ANY_DEPTH)
            yield client, clock, clock + length, info, left, right
            clock += length


def _read_id(data: bytes, position: int, clients: dict[bytes, int]) -> tuple[Id, int]:
    """Read one id. ``clients`` remembers five-byte client ids, which most are, by their bytes."""
    client = clients.get(data[position : position + 5])
    if client is None:
        start = position
        client, position = read_uint(data, start)
        if position == start + 5:
            clients[data[start:position]] = client
    else:
        position += 5
    clock, position = read_uint(data, position)
    return (client, clock), position


def _skip_parent(data: bytes, position: int, info: int) -> int:
    named, position = read_uint(data, position)
    if named:
        _, position = read_text(data, position)
    else:
        _, position = read_uint(data, position)
        _, position = read_uint(data, position)
    if info & HAS_KEY:
        _, position = read_text(data, position)
    return position
