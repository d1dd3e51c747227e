"""Yjs v1 updates as structs and values, in plain Python.

`decode` reads one update that `collab.protocol.yjs.scan_update` accepted and native code re-encoded; it integrates
nothing: `replica.py` does. `encoding.py` goes the other way. The format is the one of Yjs 13 (`UpdateEncoderV1`).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from collab.errors import InvalidContent

Id = tuple[int, int]
"""Client and clock of one unit of content."""

GC, DELETED, JSON, BINARY, STRING, EMBED, FORMAT, TYPE, ANY, SUBDOC, SKIP = range(11)
"""Content references of v1; GC and SKIP stand for structs that are no items."""

ARRAY, MAP, TEXT, ELEMENT, FRAGMENT, HOOK, XMLTEXT = range(7)
"""Type references of v1."""

_SAFE_INTEGER: Final = 2**53 - 1


class Undefined:
    """JavaScript's undefined, which JSON leaves out; `UNDEFINED` is the only one."""

    def __repr__(self) -> str:
        """The name; it also tells undefined from null where values are compared as text."""
        return "UNDEFINED"


UNDEFINED: Final = Undefined()


@dataclass(frozen=True, slots=True)
class Opaque:
    """Content this package carries without reading it: a subdocument, or a type later versions invented."""

    ref: int
    raw: bytes


class Struct:
    """One struct as it stands on the wire, and the links `replica.py` gives it. ``length`` counts clock ticks."""

    __slots__ = (
        "client",
        "clock",
        "content",
        "deleted",
        "left",
        "length",
        "origin",
        "parent",
        "place",
        "ref",
        "right",
        "right_origin",
        "sub",
    )

    def __init__(self, client: int, clock: int, ref: int, origin: Id | None, right_origin: Id | None) -> None:
        self.client = client
        self.clock = clock
        self.ref = ref
        self.origin = origin
        self.right_origin = right_origin
        self.length = 0
        self.content: Any = None
        self.place: str | Id | None = None
        """Root name, or id of the item that holds the parent; None where the neighbours tell."""
        self.sub: str | None = None
        self.deleted = ref in (DELETED, GC)
        self.parent: Any = None
        self.left: Struct | None = None
        self.right: Struct | None = None

    @property
    def last_id(self) -> Id:
        """The id of the last unit."""
        return self.client, self.clock + self.length - 1


def utf16_length(text: str) -> int:
    """How many UTF-16 code units ``text`` has: what Yjs counts in."""
    if text.isascii():
        return len(text)
    return len(text) + sum(1 for char in text if char > "\uffff")


def clean(text: str) -> str:
    """``text`` with surrogate pairs joined and lone surrogates replaced by U+FFFD, so that it has a UTF-8 form."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class _Reader:
    """A cursor over bytes. Running off the end raises IndexError or struct.error; `decode` translates."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def uint(self) -> int:
        data, at = self.data, self.at
        byte = data[at]
        at += 1
        if byte < 0x80:
            self.at = at
            return byte
        value, shift = byte & 0x7F, 7
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                self.at = at
                return value
            shift += 7
            if shift > 70:
                raise InvalidContent("a number in the document is too long")

    def sint(self) -> int:
        byte = self.data[self.at]
        self.at += 1
        value, shift, negative = byte & 0x3F, 6, byte & 0x40
        while byte >= 0x80:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 70:
                raise InvalidContent("a number in the document is too long")
        return -value if negative else value

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise IndexError(end)
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def blob(self) -> bytes:
        return self.take(self.uint())

    def string(self) -> str:
        return self.blob().decode("utf-8", "replace")

    def id(self) -> Id:
        return self.uint(), self.uint()

    def json(self) -> Any:
        text = self.string()
        return UNDEFINED if text == "undefined" else json.loads(text, object_pairs_hook=_sorted)

    def any(self) -> Any:  # noqa: C901 - one branch a kind
        # One Python frame a level; the scan that comes before bounds the nesting at about a hundred.
        kind = self.take(1)[0]
        if kind == 119:
            return self.string()
        if kind == 125:
            return self.sint()
        if kind == 124:
            return _number(struct.unpack(">f", self.take(4))[0])
        if kind == 123:
            return _number(struct.unpack(">d", self.take(8))[0])
        if kind == 122:
            return struct.unpack(">q", self.take(8))[0]
        if kind == 118:
            entries = {}
            for _ in range(self.uint()):
                key = self.string()
                entries[key] = self.any()
            return _sorted(entries.items())
        if kind == 117:
            items = []
            for _ in range(self.uint()):
                items.append(self.any())  # noqa: PERF401 - a comprehension would be a second frame a level
            return items
        if kind == 116:
            return self.blob()
        if kind in (120, 121):
            return kind == 120
        if kind == 126:
            return None
        if kind == 127:
            return UNDEFINED
        raise InvalidContent("the document holds a value of an unknown kind")


def _sorted(members: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object with its members in name order: native code re-encodes them in an order of its own, a new one each
    time, and equal documents must render to equal bytes.
    """
    return dict(sorted(members))


def _number(value: float) -> float | int:
    """The int that JavaScript would print for a whole float: 1.0 is 1 there."""
    if value.is_integer() and abs(value) <= _SAFE_INTEGER:
        return int(value)
    return value


def decode(update: bytes) -> tuple[list[Struct], dict[int, list[tuple[int, int]]]]:
    """Every struct of ``update``, and its deletions as client -> [(clock, length)].

    Raises `InvalidContent` for what is not a v1 update.
    """
    reader = _Reader(update)
    try:
        structs = [entry for _ in range(reader.uint()) for entry in _client_section(reader)]
        deletes: dict[int, list[tuple[int, int]]] = {}
        for _ in range(reader.uint()):
            client = reader.uint()
            deletes.setdefault(client, []).extend(reader.id() for _ in range(reader.uint()))
    except (IndexError, struct.error, ValueError) as error:
        raise InvalidContent("the document's bytes cannot be read") from error
    return structs, deletes


def _client_section(reader: _Reader) -> list[Struct]:
    count, client, clock = reader.uint(), reader.uint(), reader.uint()
    section = []
    for _ in range(count):
        entry = _struct(reader, client, clock)
        clock += entry.length
        section.append(entry)
    return section


def _struct(reader: _Reader, client: int, clock: int) -> Struct:
    info = reader.data[reader.at]
    reader.at += 1
    ref = info & 0x1F
    if ref in (GC, SKIP):
        entry = Struct(client, clock, ref, None, None)
        entry.length = reader.uint()
        return entry
    origin = (reader.uint(), reader.uint()) if info & 0x80 else None
    right_origin = (reader.uint(), reader.uint()) if info & 0x40 else None
    entry = Struct(client, clock, ref, origin, right_origin)
    if origin is None and right_origin is None:
        entry.place = reader.string() if reader.uint() == 1 else reader.id()
        if info & 0x20:
            entry.sub = reader.string()
    entry.length, entry.content = _content(reader, ref)
    return entry


def _content(reader: _Reader, ref: int) -> tuple[int, Any]:
    if ref == STRING:
        text = reader.string()
        return utf16_length(text), text
    if ref == DELETED:
        return reader.uint(), None
    if ref == FORMAT:
        return 1, (reader.string(), reader.json())
    if ref == TYPE:
        kind = reader.uint()
        if kind > XMLTEXT:
            raise InvalidContent("the document holds a shared type this server does not know")
        return 1, (kind, reader.string() if kind in (ELEMENT, HOOK) else "")
    if ref == ANY:
        values = [reader.any() for _ in range(reader.uint())]
        return len(values), values
    if ref == JSON:
        values = [reader.json() for _ in range(reader.uint())]
        return len(values), values
    if ref == EMBED:
        return 1, reader.json()
    if ref == BINARY:
        return 1, reader.blob()
    if ref == SUBDOC:
        start = reader.at
        reader.string()
        reader.any()
        return 1, Opaque(SUBDOC, reader.data[start : reader.at])
    raise InvalidContent("the document holds content of an unknown kind")
