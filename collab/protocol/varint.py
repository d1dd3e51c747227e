"""lib0 primitives: unsigned variable-length integers and length-prefixed bytes, read with hard bounds.

Seven bits a byte, lowest group first, the high bit says that more follows. Readers take ``(data, position)`` and
return ``(value, position after it)``, so nothing is copied or wrapped on the way. The dialects and `yjs` call them.
"""

from __future__ import annotations

from collab.errors import MalformedMessage

MAX_SAFE_INTEGER = (1 << 53) - 1
"""Largest integer a JavaScript client reads exactly; lib0 refuses what is above it."""

MAX_VARUINT_BYTES = 8
"""Bytes needed for 53 bits. Longer runs can only be padding, and padding without end is an attack."""


_SINGLE_BYTES = [bytes((value,)) for value in range(0x80)]


def read_uint(data: bytes, position: int) -> tuple[int, int]:
    """Read one integer of at most eight bytes; past the end it raises `IndexError`, which the caller translates.

    Padded encodings (``80 00`` for 0) are accepted, because lib0 and yrs read them as the same number; no stock client
    writes them. Readers spend most of their time here, so the lengths that occur (flags, clocks, 32-bit client ids)
    are written out instead of looped over. The caller also bounds the value: eight bytes hold 56 bits.
    """
    value = data[position]
    if value < 0x80:
        return value, position + 1
    byte = data[position + 1]
    if byte < 0x80:
        return value & 0x7F | byte << 7, position + 2
    value = value & 0x7F | (byte & 0x7F) << 7
    byte = data[position + 2]
    if byte < 0x80:
        return value | byte << 14, position + 3
    value |= (byte & 0x7F) << 14 | (data[position + 3] & 0x7F) << 21
    if data[position + 3] < 0x80:
        return value, position + 4
    byte = data[position + 4]
    if byte < 0x80:
        return value | byte << 28, position + 5
    value |= (byte & 0x7F) << 28
    for index in range(5, MAX_VARUINT_BYTES):
        byte = data[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise MalformedMessage("integer too long")


def read_varuint(data: bytes, position: int, limit: int = MAX_SAFE_INTEGER) -> tuple[int, int]:
    """Read one integer of at most ``limit``; a broken bound and bytes that end early raise `MalformedMessage`."""
    try:
        value, position = read_uint(data, position)
    except IndexError as error:
        raise MalformedMessage("integer runs past the end") from error
    if value > limit:
        raise MalformedMessage(f"integer above {limit}")
    return value, position


def write_varuint(value: int) -> bytes:
    """Write ``value``, which must be at least 0, in the shortest form."""
    if value < 0x80:
        return _SINGLE_BYTES[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_bytes(data: bytes, position: int) -> tuple[bytes, int]:
    """Read a length and that many bytes. Raises `MalformedMessage` when fewer are there."""
    length, start = read_varuint(data, position)
    end = start + length
    if end > len(data):
        raise MalformedMessage("bytes run past the end")
    return data[start:end], end


def write_bytes(payload: bytes) -> bytes:
    """Write the length of ``payload`` and ``payload``."""
    return write_varuint(len(payload)) + payload
