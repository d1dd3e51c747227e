"""Frames made to do harm, each with the close code it deserves. Used by the door test and by the mutation run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

from collab.errors import CloseCode
from tests.support import wire


@dataclass(frozen=True, slots=True)
class Attack:
    """One hostile frame."""

    name: str
    frame: bytes | str
    code: CloseCode


def valid_update(client: int = 9) -> bytes:
    """An honest update: the text "t" gets one character."""
    document: Doc[Text] = Doc(client_id=client)
    document.get("t", type=Text).insert(0, "x")
    return document.get_update()


def nested_value(depth: int, *, client: int = 13) -> bytes:
    """Insert into the array "a" one value of ``depth`` nested arrays: two bytes a level, death to native readers."""
    value = b"\x75\x01" * depth + b"\x7f"
    root = wire.prefixed(b"a")
    any_content, has_no_origin = 8, b"\x01"
    struct = bytes([any_content]) + has_no_origin + root + b"\x01" + value
    return b"\x01\x01" + wire.varuint(client) + b"\x00" + struct + b"\x00"


def v2_update() -> bytes:
    """What a client gets that mixes up Yjs's two encodings; read as v1 it seems to be empty."""
    return bytes.fromhex("000002a50100000501010000010101000000")


def lying_state_vector() -> bytes:
    """Says it has 2^32 - 1 entries, in seven bytes."""
    return wire.varuint(2**32 - 1) + b"\x01\x00"


def wrong_inside(kind: Callable[[bytes], bytes]) -> list[Attack]:
    """Updates that cannot be, framed by ``kind``."""
    malformed = CloseCode.MALFORMED
    good = valid_update()
    return [
        Attack("nested-value-30000", kind(nested_value(30_000)), malformed),
        Attack("nested-value-101", kind(nested_value(101)), malformed),
        Attack("five-byte-panic", kind(bytes([1, 0, 9, 0, 0])), malformed),
        Attack("trailing-bytes", kind(good + b"\x00"), malformed),
        Attack("truncated", kind(good[:-2]), malformed),
        Attack("64-KiB-of-ff", kind(b"\xff" * 65_536), malformed),
        Attack("many-clients-claimed", kind(wire.varuint(200_000_000) + b"\x00"), malformed),
        Attack("many-structs-claimed", kind(b"\x01" + wire.varuint(2**32 - 1) + b"\x09\x00\x00"), malformed),
        Attack("many-deletions-claimed", kind(good[:-1] + b"\x01\x09" + wire.varuint(2**32 - 1)), malformed),
        Attack("clock-overflow", kind(b"\x01\x01\x09" + wire.varuint(2**32 + 7) + good[4:]), malformed),
        Attack("client-id-too-big", kind(b"\x01\x01" + wire.varuint(2**53) + good[3:]), malformed),
        Attack("v2-encoding", kind(v2_update()), CloseCode.UNSUPPORTED_ENCODING),
    ]


ATTACKS = [
    *(Attack(f"update-{a.name}", a.frame, a.code) for a in wrong_inside(wire.update)),
    *(Attack(f"step2-{a.name}", a.frame, a.code) for a in wrong_inside(wire.step2)),
    Attack("step1-lies-about-its-length", wire.step1(lying_state_vector()), CloseCode.MALFORMED),
    Attack("step1-truncated", wire.step1(b"\x02\x09\x01"), CloseCode.MALFORMED),
    Attack("step1-of-ff", wire.step1(b"\xff" * 65_536), CloseCode.MALFORMED),
    Attack("frame-of-ff", b"\xff" * 65_536, CloseCode.MALFORMED),
    Attack("empty-frame", b"", CloseCode.MALFORMED),
    Attack("one-byte", b"\x00", CloseCode.MALFORMED),
    Attack("unknown-sync-step", b"\x00\x07\x00", CloseCode.MALFORMED),
    Attack("length-past-the-end", b"\x00\x02\x7f\x00", CloseCode.MALFORMED),
    Attack("text-frame", '{"type": "update"}', CloseCode.UNSUPPORTED_DATA),
    Attack("awareness-of-ff", bytes([wire.AWARENESS]) + wire.prefixed(b"\xff" * 4096), CloseCode.MALFORMED),
    Attack("awareness-not-json", wire.awareness((9, 1, "{")), CloseCode.MALFORMED),
    Attack("awareness-too-deep", wire.awareness((9, 1, '{"a":' + "[" * 500 + "]" * 500 + "}")), CloseCode.MALFORMED),
    Attack("awareness-too-big", wire.awareness((9, 1, '{"a":"' + "x" * 100_000 + '"}')), CloseCode.MALFORMED),
]


def corpus(rng: Random) -> list[bytes]:
    """Honest updates of every kind of content, to be mutated."""
    updates: list[bytes] = []
    document: Doc[Any] = Doc(client_id=rng.randrange(1, 2**31))
    subscription = document.observe(lambda event: updates.append(event.update))
    text = document.get("t", type=Text)
    for number in range(12):
        text.insert(rng.randrange(len(text) + 1), f"word{number} ")
    text.format(2, 9, {"bold": True})
    text.insert_embed(3, {"image": "x.png"})
    del text[1:6]
    mapping: Map[Any] = document.get("m", type=Map)
    mapping["title"], mapping["count"], mapping["nested"] = "Minutes", 3, {"deep": [1, 2.5, None, True, "é"]}
    mapping["inner"] = Map({"k": "v"})
    array: Array[Any] = document.get("a", type=Array)
    array.extend([1, "two", [3, {"four": 5}], b"bytes"])
    del array[1]
    fragment = document.get("default", type=XmlFragment)
    paragraph = fragment.children.append(XmlElement("paragraph", {"level": "2"}))
    paragraph.children.append(XmlText("text of a paragraph"))
    updates.append(document.get_update())
    document.unobserve(subscription)
    return updates


def mutated(data: bytes, rng: Random) -> bytes:
    """``data`` with one to four bytes changed, inserted, removed, or a stretch repeated."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out)) if out else 0
        match rng.randrange(5):
            case 0 if out:
                out[at] = rng.randrange(256)
            case 1 if out:
                out[at] ^= 1 << rng.randrange(8)
            case 2:
                out[at:at] = bytes([rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])])
            case 3 if out:
                del out[at]
            case _:
                out[at:at] = out[at : at + rng.randint(1, 8)]
    return bytes(out)
