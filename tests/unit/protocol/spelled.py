"""Updates spelled out by hand, for tests that show the bytes they are about.

`CONTENT` holds every struct a document may bring, `REFUSED` every update nobody should send.
"""

from __future__ import annotations

from collab.protocol.varint import write_bytes, write_varuint

uint = write_varuint
text = write_bytes
ROOT = b"\x01\x01t"
"""Parent: the shared type named "t"."""


def ident(client: int, clock: int) -> bytes:
    return uint(client) + uint(clock)


def item(kind: int, content: bytes, *, parent: bytes = ROOT) -> bytes:
    return bytes((kind,)) + parent + content


def after(client: int, clock: int, content: bytes = b"\x01x", *, kind: int = 4) -> bytes:
    return bytes((0x80 | kind,)) + ident(client, clock) + content


def section(client: int, clock: int, *structs: bytes) -> bytes:
    return uint(len(structs)) + uint(client) + uint(clock) + b"".join(structs)


def update(*sections: bytes, deletes: bytes = b"\x00") -> bytes:
    return uint(len(sections)) + b"".join(sections) + deletes


def of(*structs: bytes) -> bytes:
    return update(section(7, 0, *structs))


def deleted(*clients: tuple[int, list[tuple[int, int]]]) -> bytes:
    """A delete set of ``(client, [(clock, length)])``."""
    parts = [uint(len(clients))]
    for client, found in clients:
        parts += [uint(client), uint(len(found)), *(ident(*one) for one in found)]
    return b"".join(parts)


TYPED = bytes.fromhex("0101070004010174017800")
"""The recorded first keystroke of a stock client: "x" into the text "t"."""
GC = b"\x00\x03"
SKIP = b"\x0a\x02"
X = item(4, b"\x01x")

CONTENT: dict[str, tuple[bytes, int]] = {
    "collected": (GC, 3),
    "deleted": (item(1, b"\x05"), 5),
    "binary": (item(3, text(b"\xff\x00")), 1),
    "string": (item(4, text(b"hello")), 5),
    "string in UTF-16 units": (item(4, text("aü日😀".encode())), 5),
    "embed": (item(5, text(b'{"image":"x"}')), 1),
    "format": (item(6, text(b"bold") + text(b"true")), 1),
    "array type": (item(7, b"\x00"), 1),
    "map type": (item(7, b"\x01"), 1),
    "text type": (item(7, b"\x02"), 1),
    "xml element": (item(7, b"\x03" + text(b"p")), 1),
    "xml fragment": (item(7, b"\x04"), 1),
    "xml text": (item(7, b"\x06"), 1),
    "any": (item(8, b"\x03\x7e\x78\x77\x01a"), 3),
    "any of every kind": (
        item(
            8,
            b"\x0d\x7f\x7e\x7d\x41\x7d\x80\x01\x7c1234\x7b12345678\x7a12345678\x79\x78"
            + (b"\x77" + text("ü".encode()) + b"\x76\x02" + text(b"k") + b"\x7e" + text(b"l") + b"\x75\x00")
            + b"\x75\x02\x7e\x76\x00\x74"
            + text(b"\xff"),
        ),
        13,
    ),
    "key of a map": (bytes((0x20 | 8,)) + ROOT + text(b"key") + b"\x01\x7e", 1),
    "several values of a map": (bytes((0x20 | 8,)) + ROOT + text(b"key") + b"\x02\x7e\x7e", 2),
    "deleted keys of a map": (bytes((0x20 | 1,)) + ROOT + text(b"key") + b"\x03", 3),
    "long key name": (item(4, b"\x01x", parent=b"\x01" + text(b"n" * 300)), 1),
}


BIG_CLIENT, BIG_CLOCK = 1 << 53, 1 << 32
REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "no delete set": b"\x00",
    "bytes left over": TYPED + b"\x00",
    "bytes left over after nothing": b"\x00\x00\x00",
    "the five-byte panic": bytes.fromhex("0100070000"),
    "a client twice": update(section(7, 0, X), section(7, 1, X)),
    "only skipped clocks": of(SKIP),
    "a string without length": of(item(4, b"\x00")),
    "a collected struct without length": of(b"\x00\x00"),
    "a deleted struct without length": of(item(1, b"\x00")),
    "no values": of(item(8, b"\x00")),
    "a skip without length": of(b"\x0a\x00", X),
    "client id of 54 bits": update(section(BIG_CLIENT, 0, X)),
    "clock of 33 bits": update(section(7, BIG_CLOCK, X)),
    "clock growing past 32 bits": update(section(7, BIG_CLOCK - 2, X, X)),
    "collected length past 32 bits": of(b"\x00" + uint(BIG_CLOCK)),
    "origin client of 54 bits": of(after(BIG_CLIENT, 0)),
    "origin clock of 33 bits": of(after(8, BIG_CLOCK)),
    "origin in its own future": of(X, after(7, 1)),
    "right origin in its own future": of(X, bytes((0x44,)) + ident(7, 1) + b"\x01x"),
    "parent in its own future": of(item(4, b"\x01x", parent=b"\x00\x07\x00")),
    "neither named nor nested parent": of(item(4, b"\x01x", parent=b"\x02\x01t")),
    "old JSON content": of(item(2, b"\x01" + text(b"1"))),
    "subdocument": of(item(9, text(b"guid") + b"\x76\x00")),
    "skip with flags": of(X, b"\x2a\x01"),
    "collected struct with flags": of(b"\x20\x01"),
    "move of yrs": of(item(11, b"\x00")),
    "kind 31": of(item(31, b"\x01")),
    "xml hook": of(item(7, b"\x05" + text(b"h"))),
    "weak link": of(item(7, b"\x07\x00\x07\x00")),
    "undefined shared type of yrs": of(item(7, b"\x0f")),
    "text that is not UTF-8": of(item(4, text(b"\xff\xfe"))),
    "text with a lone surrogate": of(item(4, text(b"\xed\xa0\x80"))),
    "root name that is not UTF-8": of(item(4, b"\x01x", parent=b"\x01\x01\xff")),
    "map key that is not UTF-8": of(bytes((0x28,)) + ROOT + text(b"\xff") + b"\x01\x7e"),
    "text in a map": of(bytes((0x24,)) + ROOT + text(b"key") + b"\x01x"),
    "text instead of a value in a map": of(X, bytes((0xA4,)) + ident(7, 0) + b"\x01x"),
    "format key that is not UTF-8": of(item(6, text(b"\xff") + text(b"1"))),
    "embed that is not UTF-8": of(item(5, text(b"\xff"))),
    "value that is not UTF-8": of(item(8, b"\x01\x77" + text(b"\xff"))),
    "object key that is not UTF-8": of(item(8, b"\x01\x76\x01" + text(b"\xff") + b"\x7e")),
    "unknown value": of(item(8, b"\x01\x73")),
    "value of tag 0": of(item(8, b"\x01\x00")),
    "integer value of nine bytes": of(item(8, b"\x01\x7d" + b"\x80" * 8 + b"\x00")),
    "more text than bytes": of(item(4, b"\x7fx")),
    "more binary than bytes": of(item(3, b"\x7fx")),
    "more values than bytes": of(item(8, uint(1 << 40) + b"\x7e")),
    "more elements than bytes": of(item(8, b"\x01\x75" + uint(1 << 40))),
    "more keys than bytes": of(item(8, b"\x01\x76" + uint(1 << 40))),
    "more structs than bytes": uint(1) + uint(1 << 40) + b"\x07\x00" + X + b"\x00",
    "more clients than bytes": uint(1 << 40) + section(7, 0, X) + b"\x00",
    "a count of nine bytes": b"\x80" * 8 + b"\x00\x00",
    "more deleted clients than bytes": b"\x00" + uint(1 << 40),
    "more deletions than bytes": b"\x00\x01\x07" + uint(1 << 40) + b"\x00\x01",
    "deletion by a client id of 54 bits": update(deletes=deleted((BIG_CLIENT, [(0, 1)]))),
    "deletion without length": update(deletes=deleted((7, [(3, 0)]))),
    "deletion past 32 bits": update(deletes=deleted((7, [(BIG_CLOCK - 1, 1)]))),
}


def nested_any(depth: int) -> bytes:
    return b"\x75\x01" * (depth - 1) + b"\x76\x00"
