"""What an item of a Yjs v1 update can hold, read past without building it.

`yjs` calls `skip_content` for everything but plain strings. Each reader checks what a client or the engine would
choke on: UTF-8, nesting, counts larger than the bytes left, kinds nobody knows. Reading past the end raises
`IndexError` here and becomes `MalformedMessage` in `yjs`.
"""

from __future__ import annotations

from collab.errors import MalformedMessage
from collab.protocol.json_text import nests_within
from collab.protocol.varint import MAX_VARUINT_BYTES
from collab.protocol.varint import read_uint as read_uint

MAX_CLOCK = (1 << 32) - 1
"""yrs keeps clocks in 32 bits and cuts what is above."""

DELETED, JSON, BINARY, STRING, EMBED, FORMAT, TYPE, ANY, SUBDOCUMENT = range(1, 10)
"""Content kinds as Yjs numbers them; 0 is a collected struct and 10 a skipped range, which hold no content."""

# Two kinds are refused because yrs (measured: 0.28) reads them otherwise than Yjs writes them: it expects one JSON
# string more than the count says, and no name after an XML hook. Bytes hidden in that difference would reach native
# code unchecked, and honest ones would be misread. Yjs has written neither for years.
_REFUSED = {JSON: "JSON content is not served", SUBDOCUMENT: "subdocuments are not served"}
_XML_ELEMENT, _XML_HOOK, _XML_TEXT = 3, 5, 6
_UNDEFINED, _NULL, _INTEGER, _FLOAT32, _FLOAT64, _BIGINT, _FALSE, _TRUE, _TEXT, _OBJECT, _ARRAY, _BUFFER = range(
    127, 115, -1
)
_WIDTHS = {_UNDEFINED: 0, _NULL: 0, _FALSE: 0, _TRUE: 0, _FLOAT32: 4, _FLOAT64: 8, _BIGINT: 8}


def read_text(data: bytes, position: int) -> tuple[bytes, int]:
    """Read a length-prefixed string and make sure it is UTF-8; native code and clients take that for granted."""
    length, position = read_uint(data, position)
    end = position + length
    text = data[position:end]
    if len(text) != length:
        raise MalformedMessage("string runs past the end")
    if not text.isascii():
        text.decode()
    return text, end


def text_units(text: bytes) -> int:
    """Length of a string as Yjs counts clocks: UTF-16 code units. Raises `UnicodeDecodeError` when not UTF-8."""
    return len(text) if text.isascii() else len(text.decode().encode("utf-16-le")) >> 1


def skip_content(data: bytes, position: int, kind: int, max_depth: int) -> tuple[int, int]:
    """Read one content of ``kind`` and return ``(its clock length, position after it)``."""
    if kind == FORMAT:
        _, position = read_text(data, position)
        return 1, _skip_json(data, position, max_depth)
    if kind == DELETED:
        return read_uint(data, position)
    if kind == TYPE:
        return 1, _skip_type(data, position)
    if kind == ANY:
        return _skip_values(data, position, max_depth)
    if kind == EMBED:
        return 1, _skip_json(data, position, max_depth)
    if kind == BINARY:
        return 1, _skip_buffer(data, position)
    if kind == STRING:
        text, position = read_text(data, position)
        return text_units(text), position
    raise MalformedMessage(_REFUSED.get(kind, "unknown content"))


def _skip_values(data: bytes, position: int, max_depth: int) -> tuple[int, int]:
    count, position = read_uint(data, position)
    if count > len(data) - position:
        raise MalformedMessage("more values than bytes")
    for _ in range(count):
        position = skip_any(data, position, max_depth)
    return count, position


def skip_any(data: bytes, position: int, max_depth: int) -> int:
    """Read past one lib0 `any` value, arrays and objects nesting at most ``max_depth`` levels; no recursion."""
    outer: list[tuple[int, bool]] = []
    left, keyed = 1, False
    while True:
        if left == 0:
            if not outer:
                return position
            left, keyed = outer.pop()
            continue
        left -= 1
        if keyed:
            _, position = read_text(data, position)
        tag = data[position]
        position += 1
        if tag == _TEXT:
            _, position = read_text(data, position)
        elif tag == _INTEGER:
            position = _skip_integer(data, position)
        elif tag in (_OBJECT, _ARRAY):
            if len(outer) == max_depth:
                raise MalformedMessage(f"value nests deeper than {max_depth}")
            outer.append((left, keyed))
            left, position = read_uint(data, position)
            keyed = tag == _OBJECT
            if left > len(data) - position:
                raise MalformedMessage("more values than bytes")
        elif tag == _BUFFER:
            position = _skip_buffer(data, position)
        elif tag in _WIDTHS:
            position += _WIDTHS[tag]
        else:
            raise MalformedMessage("unknown value")


def _skip_json(data: bytes, position: int, max_depth: int) -> int:
    text, position = read_text(data, position)
    if not nests_within(text, max_depth):
        raise MalformedMessage(f"JSON nests deeper than {max_depth}")
    return position


def _skip_type(data: bytes, position: int) -> int:
    kind, position = read_uint(data, position)
    if kind > _XML_TEXT or kind == _XML_HOOK:
        raise MalformedMessage("unknown shared type")
    if kind == _XML_ELEMENT:
        _, position = read_text(data, position)
    return position


def _skip_integer(data: bytes, position: int) -> int:
    for index in range(position, position + MAX_VARUINT_BYTES):
        if data[index] < 0x80:
            return index + 1
    raise MalformedMessage("integer too long")


def _skip_buffer(data: bytes, position: int) -> int:
    length, position = read_uint(data, position)
    if length > len(data) - position:
        raise MalformedMessage("bytes run past the end")
    return position + length
