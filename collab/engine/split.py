"""Splits one update at what is known: the part that can be integrated now, and the rest that has to wait; and takes out
of one what waits already.

Yjs integrates such an update struct by struct and parks what is left inside the document; yrs was measured not to
converge that way. So the parked part is kept outside the document, and this module finds where it begins. The replica
calls it for updates `collab.protocol.yjs.scan_update` has passed; nothing here is checked twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from collab.engine.clocks import Blocker, covered
from collab.protocol.varint import write_varuint
from collab.protocol.yjs import EMPTY_UPDATE, Range, UpdateScan
from collab.protocol.yjs_content import read_text, read_uint, skip_content

_GC, _SKIP = 0, 10
_HAS_ORIGIN, _HAS_RIGHT_ORIGIN, _HAS_KEY, _KIND = 0x80, 0x40, 0x20, 0x1F
_MAX_DEPTH = 1 << 30


@dataclass(frozen=True, slots=True)
class Split:
    """An update cut in two; each part is an update of its own, or None when it would hold nothing."""

    ready: bytes | None
    rest: bytes | None
    blockers: tuple[Blocker, ...]
    """What the parts of ``rest`` wait for; as soon as one of them is known, splitting again makes progress."""


@dataclass(slots=True)
class _Struct:
    clock: int
    end: int
    needs: tuple[Blocker, ...]
    """Empty for a skipped stretch, too: it is passed over, and the struct after it finds the gap."""
    first_byte: int
    last_byte: int
    skip: bool


@dataclass(slots=True)
class _Section:
    client: int
    structs: list[_Struct] = field(default_factory=list)
    taken: int = 0
    """How many of the structs, from the first, are ready."""


def split_update(update: bytes, scan: UpdateScan, known: Mapping[int, int]) -> Split:
    """Cut ``update`` in two over ``known`` (client -> next expected clock)."""
    sections = _read_sections(update)
    reach = {section.client: known.get(section.client, 0) for section in sections}
    blockers = _advance(sections, reach, known)
    ready_deletes: dict[int, list[Range]] = {}
    rest_deletes: dict[int, list[Range]] = {}
    for client, ranges in scan.deletes.items():
        clock = reach.get(client, known.get(client, 0))
        for start, end in ranges:
            if start < clock:
                ready_deletes.setdefault(client, []).append((start, min(end, clock)))
            if end > clock:
                rest_deletes.setdefault(client, []).append((max(start, clock), end))
                blockers.append((client, max(start, clock) + 1))
    ready = _write(update, [(section, 0, section.taken) for section in sections], ready_deletes)
    rest = _write(update, [(section, section.taken, len(section.structs)) for section in sections], rest_deletes)
    return Split(
        ready=None if ready == EMPTY_UPDATE else ready,
        rest=None if rest == EMPTY_UPDATE else rest,
        blockers=tuple(dict.fromkeys(blockers)),
    )


def without(update: bytes, scan: UpdateScan, held: Callable[[int], Sequence[Range]]) -> list[bytes]:
    """``update`` as several, in order, that lack its structs which ``held`` (client -> `clocks.join`) covers whole."""
    pieces: list[bytes] = []
    for section in _read_sections(update):
        stretches, start = held(section.client), 0
        for index, struct in enumerate(section.structs):
            if not struct.skip and covered(struct.clock, struct.end, stretches):
                pieces.append(_write(update, [(section, start, index)], {}))
                start = index + 1
        pieces.append(_write(update, [(section, start, len(section.structs))], {}))
    pieces.append(_write(update, [], {client: list(ranges) for client, ranges in scan.deletes.items()}))
    return [piece for piece in pieces if piece != EMPTY_UPDATE]


def _advance(sections: list[_Section], reach: dict[int, int], known: Mapping[int, int]) -> list[Blocker]:
    """Take from every section what can be taken, moving ``reach``; return what the others are stuck on."""
    stuck: dict[int, list[tuple[_Section, int]]] = {}
    todo = deque(sections)
    while todo:
        section = todo.popleft()
        blocker = _take(section, reach, known)
        if blocker is not None:
            stuck.setdefault(blocker[0], []).append((section, blocker[1]))
        arrived = reach[section.client]
        waiting = stuck.get(section.client)
        if waiting:
            todo.extend(other for other, clock in waiting if clock <= arrived)
            stuck[section.client] = [pair for pair in waiting if pair[1] > arrived]
    return [(client, clock) for client, pairs in stuck.items() for _, clock in pairs]


def _take(section: _Section, reach: dict[int, int], known: Mapping[int, int]) -> Blocker | None:
    while section.taken < len(section.structs):
        struct = section.structs[section.taken]
        if not struct.skip:
            if struct.clock > reach[section.client]:
                return section.client, struct.clock
            for client, clock in struct.needs:
                if clock > reach.get(client, known.get(client, 0)):
                    return client, clock
            reach[section.client] = max(reach[section.client], struct.end)
        section.taken += 1
    return None


def _read_sections(data: bytes) -> list[_Section]:
    sections: list[_Section] = []
    count, position = read_uint(data, 0)
    for _ in range(count):
        structs, position = read_uint(data, position)
        client, position = read_uint(data, position)
        clock, position = read_uint(data, position)
        section = _Section(client)
        for _ in range(structs):
            struct = _read_struct(data, position, client, clock)
            section.structs.append(struct)
            clock, position = struct.end, struct.last_byte
        sections.append(section)
    return sections


def _read_struct(data: bytes, first: int, client: int, clock: int) -> _Struct:
    info = data[first]
    position = first + 1
    if info in (_GC, _SKIP):
        length, position = read_uint(data, position)
        return _Struct(clock, clock + length, (), first, position, skip=info == _SKIP)
    needs: list[Blocker] = []
    references = bool(info & _HAS_ORIGIN) + bool(info & _HAS_RIGHT_ORIGIN)
    if not references:
        named, position = read_uint(data, position)
        if named:
            _, position = read_text(data, position)
        else:
            references = 1
    for _ in range(references):
        other, position = read_uint(data, position)
        other_clock, position = read_uint(data, position)
        if other != client:
            needs.append((other, other_clock + 1))
    if not info & (_HAS_ORIGIN | _HAS_RIGHT_ORIGIN) and info & _HAS_KEY:
        _, position = read_text(data, position)
    length, position = skip_content(data, position, info & _KIND, _MAX_DEPTH)
    return _Struct(clock, clock + length, tuple(needs), first, position, skip=False)


def _write(data: bytes, cuts: list[tuple[_Section, int, int]], deletes: dict[int, list[Range]]) -> bytes:
    parts: list[bytes] = []
    written = 0
    for section, start, end in cuts:
        structs = section.structs[start:end]
        while structs and structs[0].skip:
            structs = structs[1:]
        while structs and structs[-1].skip:
            structs = structs[:-1]
        if structs:
            written += 1
            parts += [write_varuint(len(structs)), write_varuint(section.client), write_varuint(structs[0].clock)]
            parts.append(data[structs[0].first_byte : structs[-1].last_byte])
    parts.append(write_varuint(len(deletes)))
    for client, ranges in deletes.items():
        parts += [write_varuint(client), write_varuint(len(ranges))]
        for start, stop in ranges:
            parts += [write_varuint(start), write_varuint(stop - start)]
    return write_varuint(written) + b"".join(parts)
