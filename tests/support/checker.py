"""The checker of every fault test: given who submitted and was promised what, are these replicas right?

Pure functions over update bytes: pycrdt judges one replica, Yjs (fed by the caller, in Node) is the oracle.
Each returns what is wrong as sentences, an empty list when nothing is. The names C1 to C9 are used in every report.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from pycrdt import Doc, Text, TransactionEvent, get_update, merge_updates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MERGE_WIDTH = 64
"""`merge_updates` takes quadratic time in its number of arguments; a tree of this width does not."""
TOKEN = re.compile(r"c\d+\.\d+;")
"""What a writer inserts: its number, a count, and a mark, so that every character has an origin."""
NOTHING_NEW = 0
"""First byte of an update without structs."""


@dataclass(slots=True)
class Submitted:
    """One update a writer sent, and what it was told about it."""

    update: bytes
    inserted: str | None = None
    """The token it inserts; None for a deletion."""
    deleted: str | None = None
    """The token it deletes; None for an insertion."""
    acknowledged: str | None = None
    """How the writer learned that it is saved ("status" or "echo"); None while it has not."""


@dataclass(slots=True)
class History:
    """What happened to one document, as its writers saw it."""

    submitted: list[Submitted] = field(default_factory=list)

    @property
    def acknowledged(self) -> list[Submitted]:
        """What the server called saved."""
        return [entry for entry in self.submitted if entry.acknowledged]


def check(history: History, replica: bytes, *, name: str = "t") -> list[str]:
    """C1, C3 and C4 on one replica (a full update of the document)."""
    return [
        *lost(replica, history.acknowledged),
        *invented(text_of(replica, name), history.submitted),
        *misplaced(text_of(replica, name), history.submitted),
        *pending(replica, [entry.update for entry in history.acknowledged]),
    ]


def lost(replica: bytes, acknowledged: Iterable[Submitted]) -> list[str]:
    """C1: acknowledged updates with a struct or a deletion that ``replica`` does not have."""
    entries = list(acknowledged)
    if not entries or not _lacks(replica, merged(entry.update for entry in entries)):
        return []
    missing = [entry for entry in entries if _lacks(replica, entry.update)]
    if not missing:
        return ["C1: the acknowledged updates merged hold something that the replica lacks"]
    return [f"C1: acknowledged by {entry.acknowledged} and lost: {_shown(entry)}" for entry in missing]


def invented(text: str, submitted: Iterable[Submitted]) -> list[str]:
    """C3: characters that nobody submitted, or submitted once and present twice."""
    found = TOKEN.findall(text)
    known = {entry.inserted for entry in submitted}
    wrong = [f"C3: nobody inserted {token!r}" for token in found if token not in known]
    wrong += [f"C3: {token!r} is there twice" for token in sorted({one for one in found if found.count(one) > 1})]
    if "".join(found) != text:
        wrong.append(f"C3: characters outside of every token: {TOKEN.sub('', text)[:80]!r}")
    return wrong


def misplaced(text: str, submitted: Sequence[Submitted]) -> list[str]:
    """C1 in words: an acknowledged insertion nobody deleted is visible, an acknowledged deletion is gone."""
    present = set(TOKEN.findall(text))
    deleted = {entry.deleted for entry in submitted}
    wrong: list[str] = []
    for entry in submitted:
        if not entry.acknowledged:
            continue
        if entry.inserted and entry.inserted not in deleted and entry.inserted not in present:
            wrong.append(f"C1: {entry.inserted!r} was acknowledged and is not in the text")
        if entry.deleted and entry.deleted in present:
            wrong.append(f"C1: the deletion of {entry.deleted!r} was acknowledged and it is still there")
    return wrong


def pending(replica: bytes, log: Sequence[bytes]) -> list[str]:
    """C4: something in ``replica`` waits for what never came: repeating the log into it changes it."""
    document = load(replica)
    if log and _changes(document, merged(log)):
        return ["C4: repeating the log changes the replica"]
    return []


def unequal(replicas: Mapping[str, bytes], *, name: str = "t") -> list[str]:
    """C2 and C5: replicas that differ in state vector, in deletions or in content."""
    loaded = {who: load(update) for who, update in replicas.items()}
    wrong: list[str] = []
    for (one, first), (other, second) in pairwise(loaded.items()):
        if _vector(first) != _vector(second):
            wrong.append(f"C2: {one} and {other} have different state vectors: {_vector(first)}, {_vector(second)}")
        elif _lacks(replicas[one], replicas[other]) or _lacks(replicas[other], replicas[one]):
            wrong.append(f"C2: {one} and {other} have different deletions")
        if str(first.get(name, type=Text)) != str(second.get(name, type=Text)):
            wrong.append(f"C2: {one} and {other} read differently")
    return wrong


def load(replica: bytes) -> Doc[Text]:
    """A fresh document holding ``replica``."""
    document: Doc[Text] = Doc()
    document.apply_update(replica)
    return document


def text_of(replica: bytes, name: str = "t") -> str:
    """The text ``name`` of a replica."""
    return str(load(replica).get(name, type=Text))


def merged(updates: Iterable[bytes]) -> bytes:
    """All ``updates`` as one; empty when there are none."""
    level = list(updates)
    while len(level) > 1:
        level = [merge_updates(*level[at : at + MERGE_WIDTH]) for at in range(0, len(level), MERGE_WIDTH)]
    return level[0] if level else b"\x00\x00"


def _lacks(replica: bytes, update: bytes) -> bool:
    document = load(replica)
    if get_update(update, document.get_state())[0] != NOTHING_NEW:
        return True
    return _changes(document, update)


def _changes(document: Doc[Text], update: bytes) -> bool:
    events: list[TransactionEvent] = []
    subscription = document.observe(events.append)
    document.apply_update(update)
    document.unobserve(subscription)
    return any(event.update != b"\x00\x00" for event in events)


def _vector(document: Doc[Text]) -> dict[int, int]:
    # The order of clients in an encoded state vector is not fixed: compare what it says.
    return decode_state_vector(document.get_state())


def decode_state_vector(data: bytes) -> dict[int, int]:
    """Client -> next clock."""
    numbers = list(_varuints(data))
    return dict(zip(numbers[1::2], numbers[2::2], strict=True))


def _varuints(data: bytes) -> Iterable[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0


def _shown(entry: Submitted) -> str:
    return f"insert {entry.inserted!r}" if entry.inserted else f"delete {entry.deleted!r}"
