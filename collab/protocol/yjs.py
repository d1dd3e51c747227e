"""Bounded reader of Yjs v1 updates and state vectors: what they bring, need and delete, and whether they are safe.

Everything a stranger sends passes here before native code or another client sees it; any bytes are scanned or raise
`MalformedMessage`, in time linear in their length (SPEC W2). Nothing is integrated: parents and origins are ids, so
nesting that grows over several updates is not visible here; the engine, which holds the document, bounds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from collab.errors import MalformedMessage
from collab.protocol.varint import MAX_SAFE_INTEGER, write_varuint
from collab.protocol.yjs_content import MAX_CLOCK, STRING, read_text, read_uint, skip_content, text_units
from collab.protocol.yjs_keystroke import read_keystroke

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from collab.protocol.yjs_keystroke import Beside

EMPTY_UPDATE = b"\x00\x00"
EMPTY_STATE_VECTOR = b"\x00"

MAX_REFERENCED_CLIENTS = 100_000
"""Clients whose structs one update may refer to; more could not be in one document either."""

_GC, _SKIP = 0, 10
_HAS_ORIGIN, _HAS_RIGHT_ORIGIN, _HAS_KEY, _KIND = 0x80, 0x40, 0x20, 0x1F
_HAS_ORIGINS = _HAS_ORIGIN | _HAS_RIGHT_ORIGIN
_MIN_SECTION_BYTES, _MIN_STRUCT_BYTES, _MIN_RANGE_BYTES, _MIN_ENTRY_BYTES = 5, 2, 2, 2

Range = tuple[int, int]
"""Clocks from the first up to, not including, the second."""

_NO_ENTRIES: Mapping[int, list[int]] = {}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large the parts of one update may be. Its length in bytes is bounded where it is received."""

    max_depth: int = 100
    """Levels of arrays and objects in one value. Native code was measured to die at about 15,000."""
    max_clients: int = 100_000
    """Client sections, and clients in the delete set; as many as 600 KB of state vector hold."""
    max_structs: int = 2_000_000
    """Structs in one update. Guessed: one every ten bytes of the largest document, denser than any seen."""
    max_ranges: int = 500_000
    """Separate ranges, brought and deleted together: what one scan may keep in memory (about 60 MB). Guessed."""


DEFAULT_BOUNDS = Bounds()


@dataclass(slots=True)
class UpdateScan:
    """What one update holds. All ranges are sorted and do not touch each other; no list is empty."""

    ranges: dict[int, list[Range]]
    """Client -> clocks of structs it brings; skipped stretches are not among them, collected structs are."""
    needs: dict[int, int]
    """Client -> clock that must be known first, exclusive, from origins and parents of other clients' making. What
    the update brings itself is not subtracted; that a client's own clocks follow on is said by ``ranges``."""
    deletes: dict[int, list[Range]]
    """Client -> clocks it deletes."""
    entries: Mapping[int, list[int]] = field(default_factory=dict)
    """Client -> clocks at which structs that name a key of a map begin and end, in turn. What comes after such a struct
    is in the map, too, without naming the key: `collab.engine.entries` follows that."""
    beside: Beside | None = field(default=None, compare=False)
    """Of one typed string, what it stands beside (`yjs_keystroke.read_typed`): spares whoever asks a second reading."""

    @property
    def empty(self) -> bool:
        """True when it brings no structs (at most deletions)."""
        return not self.ranges

    def missing(self, known: Mapping[int, int]) -> dict[int, int]:
        """Return client -> clock that must be known before all of it integrates into a replica that knows ``known``.

        Empty means that every struct integrates at once; deletions may still be ahead of their structs.
        """
        missing: dict[int, int] = {}
        reached = dict.fromkeys(self.needs, 0)
        for client, found in self.ranges.items():
            reach = known.get(client, 0)
            for start, end in found:
                if start > reach:
                    missing[client] = start
                    break
                reach = max(reach, end)
            reached[client] = reach
        for client, clock in self.needs.items():
            if clock > max(reached[client], known.get(client, 0), missing.get(client, 0)):
                missing[client] = clock
        return missing


def scan_update(data: bytes, bounds: Bounds = DEFAULT_BOUNDS) -> UpdateScan:
    """Read the whole of ``data``, a Yjs v1 update.

    Raises `MalformedMessage` for anything Yjs would not write, for subdocuments and weak links, for updates in the v2
    encoding (`is_v2_like` tells those), and for what breaks ``bounds``.
    """
    if bounds is DEFAULT_BOUNDS and (keystroke := read_keystroke(data)):
        ranges, needs, deletes, beside = keystroke
        return UpdateScan(ranges, needs, deletes, _NO_ENTRIES, beside)
    entries: dict[int, list[int]] = {}
    try:
        ranges, needs, position, kept = _read_structs(data, bounds, entries)
        deletes, position = _read_deletes(data, position, bounds.max_clients, bounds.max_ranges - kept)
    except IndexError as error:
        raise MalformedMessage("update ends early") from error
    except UnicodeDecodeError as error:
        raise MalformedMessage("string is not UTF-8") from error
    if position != len(data):
        raise MalformedMessage("update is in v2 encoding" if is_v2_like(data) else "bytes after the update")
    return UpdateScan(ranges, needs, deletes, entries)


def is_v2_like(data: bytes) -> bool:
    """Whether bytes that `scan_update` refused look like a v2 update: they start with 0 where v1 has its clients."""
    return len(data) > len(EMPTY_UPDATE) and data[0] == 0


def _read_structs(  # noqa: C901 - the loop every byte goes through: calls and objects are what costs here
    data: bytes, bounds: Bounds, entries: dict[int, list[int]]
) -> tuple[dict[int, list[Range]], dict[int, int], int, int]:
    ranges: dict[int, list[Range]] = {}
    needs: dict[int, int] = {}
    clients: dict[bytes, int] = {}
    kept = 0
    size = len(data)
    structs_left = bounds.max_structs
    sections, position = read_uint(data, 0)
    if sections > bounds.max_clients or sections * _MIN_SECTION_BYTES > size:
        raise MalformedMessage("too many clients")
    for _ in range(sections):
        count, position = read_uint(data, position)
        client, position = read_uint(data, position)
        clock, position = read_uint(data, position)
        structs_left -= count
        if count * _MIN_STRUCT_BYTES > size - position or structs_left < 0:
            raise MalformedMessage("too many structs")
        if count == 0 or client in ranges or client > MAX_SAFE_INTEGER:
            raise MalformedMessage("bad client section")
        ranges[client] = found = []
        start = clock
        for _ in range(count):
            info = data[position]
            position += 1
            if info & _HAS_ORIGINS:
                if info & _HAS_ORIGIN:
                    position = _read_reference(data, position, client, clock, needs, clients)
                if info & _HAS_RIGHT_ORIGIN:
                    position = _read_reference(data, position, client, clock, needs, clients)
            elif info != _GC and info != _SKIP:
                position = _read_parent(data, position, info, client, clock, needs, clients)
                if info & _HAS_KEY:
                    _add_entry(entries, client, clock)
            kind = info & _KIND
            if kind == STRING:
                length, position = read_uint(data, position)
                text = data[position : position + length]
                position += length  # past the end, the next read fails
                if not text.isascii():
                    length = text_units(text)
                if info & _HAS_KEY:
                    raise MalformedMessage("text in a map entry")
            elif info == _GC:
                length, position = read_uint(data, position)
            elif info == _SKIP:
                length, position = read_uint(data, position)
                if clock > start:
                    found.append((start, clock))
                    kept += 1
                    if kept > bounds.max_ranges:
                        raise MalformedMessage("too many ranges")
                start = clock + length
            else:
                length, position = skip_content(data, position, kind, bounds.max_depth)
                if length > 1 and info & _HAS_KEY and not info & _HAS_ORIGINS:
                    entries[client][-1] = clock + length
            if length == 0:
                raise MalformedMessage("struct without length")
            clock += length
        if clock > start:
            found.append((start, clock))
            kept += 1
        if clock > MAX_CLOCK or kept > bounds.max_ranges:
            raise MalformedMessage("clocks out of bounds")
        if not found:
            raise MalformedMessage("client section brings nothing")
    return ranges, needs, position, kept


def _add_entry(entries: dict[int, list[int]], client: int, clock: int) -> None:
    """Note one clock. Only entries that are deleted can be longer; the caller knows."""
    edges = entries.setdefault(client, [])
    if edges and edges[-1] == clock:
        edges[-1] = clock + 1
    else:
        edges += (clock, clock + 1)


def _read_parent(
    data: bytes,
    position: int,
    info: int,
    client: int,
    clock: int,
    needs: dict[int, int],
    clients: dict[bytes, int],
) -> int:
    named, position = read_uint(data, position)
    if named == 1:
        _, position = read_text(data, position)
    elif named == 0:
        position = _read_reference(data, position, client, clock, needs, clients)
    else:
        raise MalformedMessage("bad parent")
    if info & _HAS_KEY:
        _, position = read_text(data, position)
    return position


def _read_reference(
    data: bytes, position: int, client: int, clock: int, needs: dict[int, int], clients: dict[bytes, int]
) -> int:
    """Read the id of another struct. ``clients`` remembers five-byte client ids, which most are, by their bytes."""
    other = clients.get(data[position : position + 5])
    if other is None:
        start = position
        other, position = read_uint(data, start)
        if other > MAX_SAFE_INTEGER or len(needs) > MAX_REFERENCED_CLIENTS:
            raise MalformedMessage("reference out of bounds")
        if position == start + 5:
            clients[data[start:position]] = other
    else:
        position += 5
    other_clock, position = read_uint(data, position)
    if other == client:
        if other_clock >= clock:
            raise MalformedMessage("struct refers to its own future")
    elif other_clock >= needs.get(other, 0):
        if other_clock >= MAX_CLOCK:
            raise MalformedMessage("reference out of bounds")
        needs[other] = other_clock + 1
    return position


def _read_deletes(data: bytes, position: int, max_clients: int, max_ranges: int) -> tuple[dict[int, list[Range]], int]:
    deletes: dict[int, list[Range]] = {}
    size = len(data)
    clients, position = read_uint(data, position)
    if clients > max_clients or clients * _MIN_ENTRY_BYTES > size - position:
        raise MalformedMessage("too many clients in delete set")
    for _ in range(clients):
        client, position = read_uint(data, position)
        count, position = read_uint(data, position)
        max_ranges -= count
        if client > MAX_SAFE_INTEGER or max_ranges < 0 or count * _MIN_RANGE_BYTES > size - position:
            raise MalformedMessage("too many deletions")
        found = deletes.setdefault(client, []) if count else []
        for _ in range(count):
            start, position = read_uint(data, position)
            length, position = read_uint(data, position)
            end = start + length
            # Nobody writes an empty range, and one that waits for its structs makes stock Yjs throw.
            if length == 0 or end > MAX_CLOCK:
                raise MalformedMessage("deletion out of bounds")
            found.append((start, end))
    return {client: join(found) for client, found in deletes.items()}, position


def join(found: Iterable[Range]) -> list[Range]:
    """Return ``found`` sorted, with ranges that touch made one."""
    joined: list[Range] = []
    for start, end in sorted(found):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def read_state_vector(data: bytes, max_clients: int = DEFAULT_BOUNDS.max_clients) -> dict[int, int]:
    """Return client -> next expected clock. Raises `MalformedMessage` like `scan_update`."""
    try:
        count, position = read_uint(data, 0)
        if count > max_clients or count * _MIN_ENTRY_BYTES > len(data) - position:
            raise MalformedMessage("too many clients in state vector")
        clocks: dict[int, int] = {}
        for _ in range(count):
            client, position = read_uint(data, position)
            clock, position = read_uint(data, position)
            if client > MAX_SAFE_INTEGER or clock > MAX_CLOCK or client in clocks:
                raise MalformedMessage("bad state vector entry")
            clocks[client] = clock
    except IndexError as error:
        raise MalformedMessage("state vector ends early") from error
    if position != len(data):
        raise MalformedMessage("bytes after the state vector")
    return clocks


def write_state_vector(clocks: Mapping[int, int]) -> bytes:
    """Return ``clocks`` (client -> next expected clock) encoded, highest client first as Yjs writes them."""
    parts = [write_varuint(len(clocks))]
    for client in sorted(clocks, reverse=True):
        parts += (write_varuint(client), write_varuint(clocks[client]))
    return b"".join(parts)
