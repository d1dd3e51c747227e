"""Makes the documents that some scenarios begin with, and keeps them in a folder that git ignores.

A document is a file of Yjs v1 updates in pieces, and of what a client must have received when it has all of it; the
load generator reads it (`loadgen/document.c`). Each is made once, from a fixed seed, and checked with pycrdt.

The file, all numbers varuints: 1 when its texts are the generator's letters; deleted clocks; the authors, each its last
clock; the pieces, each an update and the state vector of everything up to it, both with their length before.
"""

from __future__ import annotations

import hashlib
import random
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycrdt import Decoder, Doc, Text, XmlElement, XmlFragment, XmlText, write_var_uint

from benchmarks import install

FOLDER = install.PEERS / "documents"
AUTHOR = 1_000_000_000
"""Client id of the first author; the generator's clients have others."""
PIECE_BYTES = 512 * 1024
"""Well below every server's largest frame."""
_STRING, _HAS_ORIGIN, _HAS_RIGHT_ORIGIN = 4, 0x80, 0x40


@dataclass(frozen=True, slots=True)
class Edited:
    """A text that one author made in single steps: bursts of typing and of taking back, the cursor moved between.

    The defaults come near the recorded writing of a paper (Automerge's editing trace): 0.3 of its edits delete, and
    what is left is some ten thousand structs.
    """

    edits: int
    chars: int = 1
    """Letters that each edit inserts."""
    deletions: float = 0.3
    """Share of the edits that delete one letter."""
    burst: int = 16
    """Edits of one kind in a row, on the average."""
    jumps: float = 0.3
    """Share of the bursts before which the cursor moves somewhere else."""


@dataclass(frozen=True, slots=True)
class Pasted:
    """Structured content that comes in one update: paragraphs with formatted text, by one author for each paste."""

    pastes: int
    paragraphs: int


@dataclass(frozen=True, slots=True)
class Made:
    """What the file says."""

    typed: bool
    deleted: int
    ends: tuple[int, ...]
    pieces: tuple[tuple[bytes, bytes], ...]

    @property
    def size(self) -> int:
        """Bytes of all updates."""
        return sum(len(update) for update, _ in self.pieces)

    def encoded(self) -> bytes:
        """The file."""
        out = [_uints(int(self.typed), self.deleted, len(self.ends), *self.ends, len(self.pieces))]
        for piece in self.pieces:
            out += [part for data in piece for part in (write_var_uint(len(data)), data)]
        return b"".join(out)


def path_of(document: Edited | Pasted) -> Path:
    """The document's file, made when it is not there."""
    made_by = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    named = hashlib.sha256(repr(document).encode()).hexdigest()[:12]
    path = FOLDER / f"{named}-{made_by}.bin"
    if not path.exists():
        made = make(document)
        check(made)
        FOLDER.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_bytes(made.encoded())
        unfinished.rename(path)
    return path


def make(document: Edited | Pasted) -> Made:
    """The document itself."""
    return _edited(document) if isinstance(document, Edited) else _pasted(document)


def check(made: Made) -> None:
    """Raises `AssertionError` when pycrdt reads something else in it than the file will say."""
    doc: Doc[Any] = Doc()
    for update, state in made.pieces:
        doc.apply_update(update)
        assert made.ends[1:] or _state(doc.get_state()) == _state(state)
    assert _state(doc.get_state()) == {AUTHOR + number: end for number, end in enumerate(made.ends)}
    if made.typed:
        assert len(str(doc.get("d", type=Text))) == sum(made.ends) - made.deleted


def _edited(document: Edited) -> Made:
    rng = random.Random(20_261_121)
    steps = _Steps(document.chars)
    left = document.edits
    while left:
        burst = min(left, rng.randint(1, 2 * document.burst - 1))
        left -= burst
        if rng.random() < document.jumps:
            steps.move(rng)
        deletes = rng.random() < document.deletions
        for _ in range(burst):
            if deletes and steps.cursor > 0:
                steps.take_back()
            else:
                steps.type()
    return steps.made()


class _Steps:
    """The struct of each run of typing, by a list of what stands right and left of each clock."""

    def __init__(self, chars: int) -> None:
        self.chars = chars
        self.right, self.left = array("q"), array("q")
        self.gone = bytearray()
        self.cursor = -1
        self.runs: list[tuple[int, int, int, int]] = []
        """Of each: its first clock, the one behind its last, and what stood left and right of it; -1 for nothing."""

    def move(self, rng: random.Random) -> None:
        if self.gone:
            self.cursor = rng.randrange(len(self.gone))
            self._to_what_is_left()

    def take_back(self) -> None:
        """Deletes the letter before the cursor; the first letter of all stays."""
        self.gone[self.cursor] = 1
        self._to_what_is_left()

    def _to_what_is_left(self) -> None:
        while self.cursor > 0 and self.gone[self.cursor]:
            self.cursor = self.left[self.cursor]

    def type(self) -> None:
        first, end = len(self.gone), len(self.gone) + self.chars
        left = self.cursor
        right = self.right[left] if left >= 0 else -1
        self.right.extend((*range(first + 1, end), right))
        self.left.extend((left, *range(first, end - 1)))
        self.gone.extend(bytes(self.chars))
        if left >= 0:
            self.right[left] = first
        if right >= 0:
            self.left[right] = end - 1
        self.cursor = end - 1
        if self.runs and left == first - 1 and self.runs[-1][3] == right:
            self.runs[-1] = (self.runs[-1][0], end, *self.runs[-1][2:])
        else:
            self.runs.append((first, end, left, right))

    def made(self) -> Made:
        pieces: list[tuple[bytes, bytes]] = []
        structs: list[bytes] = []
        size, start = 0, 0
        for first, end, left, right in self.runs:
            structs.append(_struct(first, end, left, right))
            size += len(structs[-1])
            last = end == len(self.gone)
            if size >= PIECE_BYTES or last:
                head = _uints(1, len(structs), AUTHOR, start)
                deletions = self._deletions() if last else _uints(0)
                pieces.append((head + b"".join(structs) + deletions, _uints(1, AUTHOR, end)))
                structs, size, start = [], 0, end
        return Made(typed=True, deleted=sum(self.gone), ends=(len(self.gone),), pieces=tuple(pieces))

    def _deletions(self) -> bytes:
        ranges: list[tuple[int, int]] = []
        at = self.gone.find(1)
        while at >= 0:
            end = self.gone.find(0, at)
            end = len(self.gone) if end < 0 else end
            ranges.append((at, end - at))
            at = self.gone.find(1, end)
        if not ranges:
            return _uints(0)
        return _uints(1, AUTHOR, len(ranges)) + b"".join(_uints(*found) for found in ranges)


def _struct(first: int, end: int, left: int, right: int) -> bytes:
    flags = (_HAS_ORIGIN if left >= 0 else 0) | (_HAS_RIGHT_ORIGIN if right >= 0 else 0)
    out = bytes([_STRING | flags])
    if left >= 0:
        out += _uints(AUTHOR, left)
    if right >= 0:
        out += _uints(AUTHOR, right)
    if not flags:
        out += _uints(1, 1) + b"d"  # in the root type "d"
    return out + _uints(end - first) + letters(first, end)


def letters(first: int, end: int) -> bytes:
    """What stands at these clocks, in every document of one author and in what the generator types."""
    alphabet = b"abcdefghijklmnopqrstuvwxyz"
    start = first % 26
    return (alphabet * ((end - first) // 26 + 2))[start : start + end - first]


def _pasted(document: Pasted) -> Made:
    updates = [_paste(number, document.paragraphs) for number in range(document.pastes)]
    ends = [_state(state)[AUTHOR + number] for number, (_, state) in enumerate(updates)]
    return Made(typed=False, deleted=0, ends=tuple(ends), pieces=tuple(updates))


def _paste(number: int, paragraphs: int) -> tuple[bytes, bytes]:
    rng = random.Random(number)
    doc: Doc[Any] = Doc(client_id=AUTHOR + number)
    page = doc.get(f"page{number}", type=XmlFragment)
    with doc.transaction():
        for _ in range(paragraphs):
            text = XmlText()
            page.children.append(XmlElement("paragraph", {"align": "left"}, [text]))
            for at, style in ((0, "strong"), (40, "em")):
                start = rng.randrange(26)
                text.insert(at, letters(start, start + rng.randrange(60, 90)).decode(), {style: {}})
    return doc.get_update(), doc.get_state()


def _state(encoded: bytes) -> dict[int, int]:
    decoder = Decoder(encoded)
    return {decoder.read_var_uint(): decoder.read_var_uint() for _ in range(decoder.read_var_uint())}


def _uints(*numbers: int) -> bytes:
    return b"".join(map(write_var_uint, numbers))
