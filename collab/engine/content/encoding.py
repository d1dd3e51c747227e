"""New structs as a Yjs v1 update, in plain Python: deterministic, which native encoding is not.

`model.py` says what to write. Nothing here is checked against a document; that is what `Encoder` is told by its caller.
"""

from __future__ import annotations

import json
import struct
from hashlib import sha256
from typing import Any, Final

from collab.engine.content.wire import Id, Undefined, clean
from collab.errors import InvalidContent
from collab.protocol.yjs import DEFAULT_BOUNDS

_INT31: Final = 2**31 - 1


def write_uint(value: int) -> bytes:
    """lib0's variable-length unsigned integer."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_string(text: str) -> bytes:
    """UTF-8 with its length in bytes in front; lone surrogates become U+FFFD."""
    data = clean(text).encode()
    return write_uint(len(data)) + data


def _write_int(value: int) -> bytes:
    rest = abs(value)
    out = bytearray(((0x80 if rest > 0x3F else 0) | (0x40 if value < 0 else 0) | rest & 0x3F,))
    rest >>= 6
    while rest:
        out.append((0x80 if rest > 0x7F else 0) | rest & 0x7F)
        rest >>= 7
    return bytes(out)


def _write_number(value: float) -> bytes:
    if -_INT31 <= value <= _INT31 and value == int(value):
        return b"\x7d" + _write_int(int(value))
    # Every number of JavaScript is a double; writing a bigint instead would break JSON.stringify in browsers.
    try:
        number = float(value)
    except OverflowError:
        raise InvalidContent("a number in the content is too large") from None
    try:
        short = struct.pack(">f", number)
    except OverflowError:
        return b"\x7b" + struct.pack(">d", number)
    if struct.unpack(">f", short)[0] == number:
        return b"\x7c" + short
    return b"\x7b" + struct.pack(">d", number)


def write_any(value: Any) -> bytes:
    """lib0's `writeAny`: a JSON value, bytes, or `UNDEFINED`."""
    if value is None:
        return b"\x7e"
    if value is True:
        return b"\x78"
    if value is False:
        return b"\x79"
    if isinstance(value, str):
        return b"\x77" + write_string(value)
    if isinstance(value, int | float):
        return _write_number(value)
    if isinstance(value, bytes):
        return b"\x74" + write_uint(len(value)) + value
    if isinstance(value, Undefined):
        return b"\x7f"
    out = bytearray()
    if isinstance(value, dict):
        out += b"\x76" + write_uint(len(value))
        for key, entry in value.items():
            out += write_string(key) + write_any(entry)
        return bytes(out)
    out += b"\x75" + write_uint(len(value))
    for entry in value:
        out += write_any(entry)
    return bytes(out)


def write_json(value: Any) -> bytes:
    """A JSON value as v1 writes it in embeds and formats: its text as a string."""
    if isinstance(value, Undefined):
        return write_string("undefined")
    return write_string(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


class Encoder:
    """Writes the structs of one new client, whose id is drawn from the bytes themselves (`finish`).

    The id depends on everything written, so the same content always gives the same bytes, and different content never
    shares an id. That is what lets two nodes seed the same document twice and have it once.
    """

    def __init__(self) -> None:
        self._parts: list[bytes | None] = []  # None stands for the client id, not known before the end
        self._structs = 0
        self.clock = 0

    def item(
        self,
        ref: int,
        body: bytes,
        *,
        length: int = 1,
        parent: str | Id,
        sub: str | None = None,
        origin: Id | None = None,
        right_origin: Id | None = None,
    ) -> Id:
        """Append one item; returns the id of its last unit. Ids of this encoder have client -1.

        Raises `InvalidContent` when one update could not hold it beside the others.
        """
        info = ref | (0x80 if origin else 0) | (0x40 if right_origin else 0) | (0x20 if sub is not None else 0)
        if self._structs >= DEFAULT_BOUNDS.max_structs:
            raise InvalidContent("the content is too large for one document")
        parts = self._parts
        parts.append(bytes((info,)))
        if origin:
            self._id(origin)
        if right_origin:
            self._id(right_origin)
        if not origin and not right_origin:
            if isinstance(parent, str):
                parts.append(b"\x01" + write_string(parent))
            else:
                parts.append(b"\x00")
                self._id(parent)
            if sub is not None:
                parts.append(write_string(sub))
        parts.append(body)
        self._structs += 1
        self.clock += length
        return OWN, self.clock - 1

    def _id(self, identifier: Id) -> None:
        client, clock = identifier
        if client == OWN:
            self._parts += (None, write_uint(clock))
        else:
            self._parts.append(write_uint(client) + write_uint(clock))

    def finish(
        self,
        *,
        deletes: dict[int, list[tuple[int, int]]] | None = None,
        taken: frozenset[int] = frozenset(),
        salt: bytes = b"",
    ) -> bytes:
        """The update. Its client id is 32 bits of a SHA-256 over ``salt`` and the content, never one of ``taken``."""
        tail = _write_deletes(deletes or {})
        digest = sha256(salt + tail)
        for part in self._parts:
            digest.update(b"\xff" if part is None else part)
        client = int.from_bytes(digest.digest()[:4], "big") or 1
        while client in taken:
            client = client % 0xFFFFFFFF + 1
        if not self._structs:
            return b"\x00" + tail
        name = write_uint(client)
        body = b"".join(name if part is None else part for part in self._parts)
        return b"\x01" + write_uint(self._structs) + name + b"\x00" + body + tail


OWN: Final = -1
"""Stands for the client of an `Encoder` until `Encoder.finish` knows it."""


def _write_deletes(deletes: dict[int, list[tuple[int, int]]]) -> bytes:
    out = bytearray(write_uint(len(deletes)))
    for client in sorted(deletes, reverse=True):
        ranges = sorted(deletes[client])
        out += write_uint(client) + write_uint(len(ranges))
        for clock, length in ranges:
            out += write_uint(clock) + write_uint(length)
    return bytes(out)
