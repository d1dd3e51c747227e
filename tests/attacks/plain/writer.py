"""Plain updates that pass admission by clocks and are hostile in everything else.

`Gateway` is what a gateway may know without looking into a document: the next clock of every client. `Writer` makes
updates for one document out of ids of anything that ever was in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from collab.protocol.varint import write_varuint
from collab.protocol.yjs_keystroke import read_keystroke, read_typed

MAX_PLAIN_CLIENT = 2**35 - 1
"""No plain update can name a client above it."""

NEWCOMERS = (0, 1, 5, 127, 128, 2**14, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 7, 2**35 - 2, 2**35 - 1)
"""Client ids at the edges of what the short cut reads"""

LEFT, RIGHT, BOTH = 0x84, 0x44, 0xC4

EXCLUSIONS = {
    "entries": "strings that start from a map entry",
    "overlaps": "right origins that are not behind the left one, where both are one client's",
    "strangers": "right origins with another parent than the left one",
    "rights": "right origins",
    "lefts": "strings without a left origin",
    "collected": "origins in structs that were collected when the document was made",
}
"""What a writer can leave out, to see what goes wrong without it. Overlaps, rights and lefts show in the update itself;
the others only a reader of the document can tell."""


class Struct(NamedTuple):
    """One struct as it was when it was first seen; later ones may have split, deleted or collected it."""

    client: int
    clock: int
    length: int
    kind: str
    home: int
    """Which list or map entry it stands in; -1: none."""
    position: int


@dataclass(slots=True)
class Gateway:
    """Admits plain updates by clocks alone."""

    known: dict[int, int]

    def admits(self, update: bytes) -> bool:
        """Whether ``update`` is plain and follows on what is known; if so, it is known from now on."""
        if typed := read_typed(update):
            client, clock, end, needs, _ = typed
            if clock != self.known.get(client, 0):
                return False
            if any(needed > self.known.get(other, 0) for other, needed in needs.items()):
                return False
            self.known[client] = end
            return True
        erased = read_keystroke(update)
        if erased is None:
            return False
        return all(spans[-1][1] <= self.known.get(client, 0) for client, spans in erased[2].items())


@dataclass(slots=True)
class Plain:
    """One update, and in words what is hostile about it."""

    update: bytes
    label: str


@dataclass(slots=True)
class Writer:
    """Makes updates for one document that holds ``structs``."""

    rng: Random
    structs: list[Struct]
    without: frozenset[str] = frozenset()
    """Of `EXCLUSIONS`."""
    typists: list[int] = field(init=False)
    gateway: Gateway = field(init=False)
    refused: int = 0
    """Updates that did not pass admission and were made again."""

    def __post_init__(self) -> None:
        known: dict[int, int] = {}
        for struct in self.structs:
            known[struct.client] = max(known.get(struct.client, 0), struct.clock + struct.length)
        self.gateway = Gateway(known)
        self.typists = [self._newcomer() for _ in range(3)]

    def batch(self, size: int) -> list[Plain]:
        """Return ``size`` updates that are admitted in this order."""
        written: list[Plain] = []
        while len(written) < size:
            made = self._erased() if self.rng.random() < 0.2 else self._typed()
            if made is None:
                continue
            plain, brought = made
            if self.gateway.admits(plain.update):
                written.append(plain)
                self.structs += brought
            else:
                self.refused += 1
        return written

    def _newcomer(self) -> int:
        return (
            self.rng.choice(NEWCOMERS)
            if self.rng.random() < 0.5
            else self.rng.getrandbits(self.rng.choice((31, 32, 35)))
        )

    def _client(self) -> int:
        chance = self.rng.random()
        if chance < 0.6:
            return self.rng.choice(self.typists)
        if chance < 0.9:
            return self.rng.choice(list(self.gateway.known))
        return self._newcomer()

    # Typing

    def _typed(self) -> tuple[Plain, list[Struct]] | None:
        """One typed string; None for what is to be left out."""
        rng = self.rng
        client = self._client()
        clock = self.gateway.known.get(client, 0)
        text = self._text()
        left, right = self._neighbours(client)
        beside = rng.choices((LEFT, RIGHT, BOTH), (4, 2, 5))[0]
        left_clock, right_clock = self._clock_in(left, last=True), self._clock_in(right, last=False)
        ids, names, near = b"", list[str](), [left, right]
        if beside == RIGHT:
            near.remove(left)
        else:
            ids += self._uint(left.client) + self._uint(left_clock)
            names.append(f"left {left.kind}")
        if beside == LEFT:
            near = [left]
        else:
            ids += self._uint(right.client) + self._uint(right_clock)
            names.append(f"right {right.kind}")
        overlapping = beside == BOTH and left.client == right.client and right_clock <= left_clock
        if beside == BOTH:
            names.append(_relation(left, right))
        if overlapping:
            names.append("overlapping")
        if self.without & {
            "overlaps" if overlapping else "",
            "rights" if beside != LEFT else "",
            "lefts" if beside == RIGHT else "",
            "strangers" if beside == BOTH and left.home != right.home else "",
            "entries" if any("entry" in struct.kind for struct in near) else "",
            "collected" if any("gc" in struct.kind for struct in near) else "",
        }:
            return None
        update = b"\x01\x01" + self._uint(client) + self._uint(clock) + bytes((beside,)) + ids
        kind = (
            "gc" if any(struct.home < 0 for struct in near) else "entry typed" if "entry" in near[0].kind else "typed"
        )
        typed = Struct(client, clock, len(text), kind, near[0].home if kind != "gc" else -1, near[0].position)
        return Plain(update + bytes((len(text),)) + text + b"\0", "typed, " + ", ".join(names)), [typed]

    def _text(self) -> bytes:
        rng = self.rng
        length = rng.choices((1, rng.randint(2, 6), rng.randint(1, 127), 127), (60, 30, 8, 2))[0]
        if rng.random() < 0.7:
            return bytes(rng.choices(b"abcxyz ", k=length))
        return bytes(rng.choices(range(128), k=length))

    def _neighbours(self, client: int) -> tuple[Struct, Struct]:
        """Two structs to stand between: honest neighbours, in the wrong order, the same one twice, or any."""
        rng = self.rng
        left = self._any()
        chance = rng.random()
        if chance < 0.2:  # goes on where the client stopped, if it ever began
            left = next((struct for struct in reversed(self.structs[-20:]) if struct.client == client), left)
        if chance < 0.3:
            return left, left
        if chance < 0.75:
            beside = [struct for struct in self.structs if struct.home == left.home]
            return left, rng.choice(beside)
        return left, self._any()

    def _any(self) -> Struct:
        if self.rng.random() < 0.4:
            return self.rng.choice(self.structs[-12:])
        return self.rng.choice(self.structs)

    def _clock_in(self, struct: Struct, *, last: bool) -> int:
        honest = struct.length - 1 if last else 0
        offset = self.rng.choice((honest, honest, honest, 0, struct.length - 1, self.rng.randrange(struct.length)))
        return struct.clock + offset

    def _uint(self, value: int) -> bytes:
        """``value`` as lib0 writes it, now and then padded."""
        written = write_varuint(value)
        if self.rng.random() > 0.02 or len(written) > 4:
            return written
        return written[:-1] + bytes((written[-1] | 0x80,)) + b"\x00"

    # Erasing

    def _erased(self) -> tuple[Plain, list[Struct]]:
        rng = self.rng
        struct = self._any()
        reach = self.gateway.known[struct.client]
        start, end = struct.clock, struct.clock + struct.length
        chance = rng.random()
        if chance < 0.4:
            label = f"erased, one {struct.kind}"
        elif chance < 0.8:
            start = rng.randrange(start, end)
            end = rng.randint(start + 1, min(end, start + 3))
            label = f"erased, part of {struct.kind}"
        elif chance < 0.98:
            start = rng.randrange(reach)
            end = rng.randint(start + 1, min(reach, start + 12))
            label = "erased, some of a client"
        else:
            start, end = 0, reach
            label = "erased, all of a client"
        ranges = b"\x01" + self._uint(start) + self._uint(end - start)
        return Plain(b"\x00\x01" + self._uint(struct.client) + ranges, label), []


def reordered(updates: list[bytes], known: dict[int, int], rng: Random) -> list[int]:
    """Return indexes of ``updates`` in another order, such that each still follows on what is known."""
    gateway = Gateway(dict(known))
    waiting = list(range(len(updates)))
    order: list[int] = []
    while waiting:
        for place in _places(len(waiting), rng):
            if gateway.admits(updates[waiting[place]]):
                order.append(waiting.pop(place))
                break
    return order


def _places(count: int, rng: Random) -> list[int]:
    """Where to look for the next one: somewhere ahead, and from there back to the first, which can always go."""
    start = min(count - 1, int(rng.expovariate(0.2)))
    return list(range(start, -1, -1))


def _relation(left: Struct, right: Struct) -> str:
    if left.home != right.home:
        return "other parents"
    if left is right:
        return "the same"
    return "in order" if left.position < right.position else "not in order"
