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


def read_varuint(data: bytes, position: int, limit: int = MAX_SAFE_INTEGER) -> tuple[int, int]:
    """Read one integer of at most ``limit``.

    Padded encodings (``80 00`` for 0) are accepted up to eight bytes, because lib0 and yrs read them as the same
    number; no stock client writes them. Raises `MalformedMessage` when the bytes end early or a bound is broken.
    """
    value = shift = 0
    for byte in data[position : position + MAX_VARUINT_BYTES]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if value > limit:
                raise MalformedMessage(f"integer above {limit}")
            return value, position + shift // 7
    raise MalformedMessage("integer runs past the end" if shift < 7 * MAX_VARUINT_BYTES else "integer too long")


def write_varuint(value: int) -> bytes:
    """Write ``value``, which must be at least 0, in the shortest form."""
    if value < 0x80:
        return value.to_bytes(1, "little")
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
