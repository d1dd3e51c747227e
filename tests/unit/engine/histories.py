"""Updates to feed engines with: honest histories from pycrdt itself, and the hand-made ones no client would write."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText, merge_updates

from collab.protocol.varint import write_varuint

NOTHING_KNOWN = b"\x00"
FIVE_BYTE_PANIC = b"\x01\x00\x01\x00\x00"
"""One client section with zero structs: panics native code (field-notes 2)."""
LYING_STATE_VECTOR = b"\xff\xff\xff\xff\x0f\x01\x01\x00"
"""Claims 2^32-1 entries in eight bytes."""


def inserted(text: str, *, client: int = 1, clock: int = 0, root: str = "t") -> bytes:
    """Text at the start of an empty root, or right after the same client's character before ``clock``."""
    encoded = text.encode()
    if clock == 0:
        parent = b"\x04\x01" + write_varuint(len(root)) + root.encode()
    else:
        parent = b"\x84" + write_varuint(client) + write_varuint(clock - 1)
    content = write_varuint(len(encoded)) + encoded
    return b"\x01\x01" + write_varuint(client) + write_varuint(clock) + parent + content + b"\x00"


def deleted(client: int, start: int, length: int) -> bytes:
    """A deletion and nothing else."""
    return b"\x00\x01" + write_varuint(client) + b"\x01" + write_varuint(start) + write_varuint(length)


def bomb(depth: int) -> bytes:
    """An array in an array in an array (field-notes 1)."""
    return b"\x01\x01\x01\x00\x08\x01\x01t\x01" + b"\x75\x01" * depth + b"\x7e\x00"


def nested(levels: int, *, first: int = 0) -> bytes:
    """``levels`` XML elements of client 1, each inside the one before (field-notes 1, attack B10)."""
    structs = []
    for clock in range(first, first + levels):
        parent = b"\x00\x01" + write_varuint(clock - 1) if clock else b"\x01\x01x"
        structs.append(b"\x07" + parent + b"\x03\x01p")
    return b"\x01" + write_varuint(levels) + b"\x01" + write_varuint(first) + b"".join(structs) + b"\x00"


def circle() -> bytes:
    """Two clients' characters, each said to stand right of the other: nobody can place them."""
    return b"\x02" + b"\x01\x02\x00\x84\x01\x00\x01b" + b"\x01\x01\x00\x84\x02\x00\x01a" + b"\x00"


def typed(count: int, *, client: int = 1) -> list[bytes]:
    """``count`` keystrokes of one client."""
    updates: list[bytes] = []
    doc: Doc[Text] = Doc(client_id=client)
    subscription = doc.observe(lambda event: updates.append(bytes(event.update)))
    text = doc.get("t", type=Text)
    for number in range(count):
        text.insert(number, chr(97 + number % 26))
    doc.unobserve(subscription)
    return updates


def text_of(update: bytes) -> str:
    """What is in the text root, read by pycrdt alone."""
    doc: Doc[Text] = Doc()
    doc.apply_update(update)
    return str(doc.get("t", type=Text))


def history(seed: int, *, edits: int = 40, clients: int = 3) -> list[bytes]:
    """What several clients wrote, in the order they wrote it, each having heard of some of the others' edits."""
    rng = Random(seed)
    written: list[bytes] = []
    log: list[bytes] = []
    docs: list[Doc[Any]] = [Doc(client_id=number + 1) for number in range(clients)]
    subscriptions = [doc.observe(lambda event: written.append(bytes(event.update))) for doc in docs]
    for _ in range(edits):
        written.clear()
        rng.choice(_EDITS)(rng.choice(docs), rng)
        log += written
        if rng.random() < 0.4:
            hearer, teller = rng.sample(docs, 2)
            hearer.apply_update(teller.get_update(hearer.get_state()))
    for doc, subscription in zip(docs, subscriptions, strict=True):
        doc.unobserve(subscription)
    return log


def shuffled(updates: list[bytes], seed: int, *, merge_some: bool = False) -> list[bytes]:
    """``updates`` in any order; with ``merge_some`` neighbours become one, so that updates need parts of each other."""
    rng = Random(seed)
    rest = list(updates)
    rng.shuffle(rest)
    if not merge_some:
        return rest
    merged: list[bytes] = []
    while rest:
        count = rng.randint(1, 4)
        taken, rest = rest[:count], rest[count:]
        merged.append(merge_updates(*taken) if len(taken) > 1 else taken[0])
    return merged


def mutated(update: bytes, rng: Random) -> bytes:
    """``update`` with one to three bytes changed."""
    changed = bytearray(update)
    for _ in range(rng.randint(1, 3)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _type(doc: Doc[Any], rng: Random) -> None:
    text = doc.get("t", type=Text)
    text.insert(rng.randint(0, len(text)), rng.choice(["a", "bc", "def"]))


def _erase(doc: Doc[Any], rng: Random) -> None:
    text = doc.get("t", type=Text)
    if len(text):
        start = rng.randrange(len(text))
        del text[start : min(len(text), start + rng.randint(1, 3))]


def _embolden(doc: Doc[Any], rng: Random) -> None:
    text = doc.get("t", type=Text)
    if len(text) > 2:
        start = rng.randrange(len(text) - 2)
        text.format(start, start + 2, {"bold": True})


def _set(doc: Doc[Any], rng: Random) -> None:
    values = doc.get("m", type=Map)
    values[rng.choice("xyz")] = rng.choice([1, "two", [3, {"four": 5.5}], None, True])


def _push(doc: Doc[Any], rng: Random) -> None:
    array = doc.get("a", type=Array)
    if len(array) > 4:
        del array[rng.randrange(len(array))]
    array.append(rng.choice([0, "one", Map({"nested": "map"}), b"\x00\x01"]))


def _nest(doc: Doc[Any], rng: Random) -> None:
    fragment = doc.get("x", type=XmlFragment)
    paragraph = XmlElement("paragraph", {"level": str(rng.randint(1, 3))}, [XmlText("word")])
    fragment.children.insert(rng.randint(0, len(fragment.children)), paragraph)


_EDITS: tuple[Callable[[Doc[Any], Random], None], ...] = (
    _type,
    _type,
    _type,
    _erase,
    _erase,
    _embolden,
    _set,
    _push,
    _nest,
)
