"""The bounded reader, byte by byte: every kind of content, every refusal, and linear work.

Updates are spelled out here by small helpers, so that each test shows the bytes it is about. Those that real
documents write are in `test_yjs_documents`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collab.errors import MalformedMessage
from collab.protocol.varint import write_bytes, write_varuint
from collab.protocol.yjs import (
    DEFAULT_BOUNDS,
    EMPTY_STATE_VECTOR,
    EMPTY_UPDATE,
    Bounds,
    UpdateScan,
    is_v2_like,
    read_state_vector,
    scan_update,
    write_state_vector,
)
from collab.protocol.yjs_content import STRING, skip_content

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from _typeshed import TraceFunction

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
    "key of a map": (bytes((0x20 | 4,)) + ROOT + text(b"key") + b"\x01x", 1),
    "long key name": (item(4, b"\x01x", parent=b"\x01" + text(b"n" * 300)), 1),
}


@pytest.mark.parametrize("name", CONTENT)
def test_every_content_of_yjs_is_read_with_its_clock_length(name: str) -> None:
    struct, length = CONTENT[name]
    assert scan_update(of(struct)) == UpdateScan({7: [(0, length)]}, {}, {})
    assert scan_update(of(struct, struct, X)).ranges == {7: [(0, 2 * length + 1)]}


@pytest.mark.parametrize("name", CONTENT)
def test_w2_content_cut_anywhere_is_malformed(name: str) -> None:
    whole = of(CONTENT[name][0])
    for cut in range(len(whole)):
        with pytest.raises(MalformedMessage):
            scan_update(whole[:cut])


def test_every_content_can_be_skipped_on_its_own() -> None:
    """Others walk structs too; for them strings count like every other content."""
    assert skip_content(b"..\x04\xc3\xbcxy.", 2, STRING, 1) == (3, 7)
    with pytest.raises(MalformedMessage, match="runs past"):
        skip_content(b"\x05abcd", 0, STRING, 1)


def test_the_recorded_keystroke_is_read_as_written() -> None:
    assert scan_update(TYPED) == UpdateScan({7: [(0, 1)]}, {}, {})
    assert not scan_update(TYPED).empty


def test_the_empty_update_brings_nothing() -> None:
    assert scan_update(EMPTY_UPDATE) == UpdateScan({}, {}, {})
    assert scan_update(EMPTY_UPDATE).empty


def test_skipped_clocks_are_not_among_the_ranges() -> None:
    assert scan_update(of(SKIP, X, X, SKIP, GC, SKIP)).ranges == {7: [(2, 4), (6, 9)]}


def test_origins_and_parents_of_other_clients_are_needed() -> None:
    both = bytes((0xC4,)) + ident(8, 5) + ident(9, 0) + b"\x01x"
    right = bytes((0x44,)) + ident(8, 9) + b"\x01x"
    inside = item(4, b"\x01x", parent=b"\x00" + ident(10, 1 << 31))
    assert scan_update(of(both, right, inside)).needs == {8: 10, 9: 1, 10: (1 << 31) + 1}


def test_a_client_does_not_need_its_own_clocks_named() -> None:
    assert scan_update(update(section(7, 4, after(7, 3), after(7, 4)))) == UpdateScan({7: [(4, 6)]}, {}, {})


def test_what_the_update_brings_itself_is_not_subtracted_from_its_needs() -> None:
    scan = scan_update(update(section(8, 0, X), section(7, 0, after(8, 0))))
    assert scan == UpdateScan({8: [(0, 1)], 7: [(0, 1)]}, {8: 1}, {})
    assert scan.missing({}) == {}


@pytest.mark.parametrize(
    ("known", "missing"),
    [
        ({}, {7: 4, 8: 3}),
        ({7: 4}, {8: 3}),
        ({8: 3}, {7: 4}),
        ({7: 3, 8: 2}, {7: 4, 8: 3}),
        ({7: 4, 8: 3}, {}),
        ({7: 9, 8: 9}, {}),
    ],
)
def test_missing_names_the_clocks_to_be_known_first(known: dict[int, int], missing: dict[int, int]) -> None:
    assert scan_update(update(section(7, 4, after(8, 2)))).missing(known) == missing


def test_missing_stops_at_a_skipped_stretch() -> None:
    scan = scan_update(update(section(7, 0, X, SKIP, X)))
    assert scan.missing({}) == {7: 3}
    assert scan.missing({7: 2}) == {7: 3}
    assert scan.missing({7: 3}) == {}


def test_deletions_are_sorted_and_joined() -> None:
    scan = scan_update(
        update(deletes=deleted((7, [(5, 2), (0, 1), (1, 2), (6, 4)]), (8, []), (9, [(0, 1)]), (7, [(20, 1)])))
    )
    assert scan == UpdateScan({}, {}, {7: [(0, 3), (5, 10), (20, 21)], 9: [(0, 1)]})
    assert scan.empty


@pytest.mark.parametrize("found", [(3, 1), (300, 300), (70_000, 1)])
def test_a_single_deletion_is_read(found: tuple[int, int]) -> None:
    data = update(deletes=deleted((1 << 31, [found])))
    assert scan_update(data) == UpdateScan({}, {}, {1 << 31: [(found[0], sum(found))]})


BIG_CLIENT, BIG_CLOCK = 1 << 53, 1 << 32
REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "no delete set": b"\x00",
    "bytes left over": TYPED + b"\x00",
    "bytes left over after nothing": EMPTY_UPDATE + b"\x00",
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
    "map key that is not UTF-8": of(bytes((0x24,)) + ROOT + text(b"\xff") + b"\x01x"),
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


@pytest.mark.parametrize("name", REFUSED)
def test_w5_what_yjs_would_not_write_or_native_code_not_bear_is_malformed(name: str) -> None:
    with pytest.raises(MalformedMessage):
        scan_update(REFUSED[name])


V2_TYPED = bytes.fromhex("00000107000001040302747801010101000100" + "00")


def test_w5_v2_updates_are_refused_and_told_apart() -> None:
    with pytest.raises(MalformedMessage, match="v2"):
        scan_update(V2_TYPED)
    assert is_v2_like(V2_TYPED)
    assert not is_v2_like(TYPED)
    assert not is_v2_like(EMPTY_UPDATE)
    assert not is_v2_like(b"")


def nested_any(depth: int) -> bytes:
    return b"\x75\x01" * (depth - 1) + b"\x76\x00"


def nested_json(depth: int) -> bytes:
    return text(b"[" * depth + b"]" * depth)


def test_w5_values_nest_at_most_a_hundred_levels() -> None:
    for depth, fits in ((DEFAULT_BOUNDS.max_depth, True), (DEFAULT_BOUNDS.max_depth + 1, False), (30_000, False)):
        for struct in (
            item(8, b"\x01" + nested_any(depth)),
            item(5, nested_json(depth)),
            item(6, text(b"k") + nested_json(depth)),
        ):
            if fits:
                assert scan_update(of(struct)).ranges == {7: [(0, 1)]}
            else:
                with pytest.raises(MalformedMessage, match="nests deeper"):
                    scan_update(of(struct))


def test_w5_the_bounds_of_one_update_are_the_callers() -> None:
    two_clients = update(section(7, 0, X), section(8, 0, X))
    two_structs = of(X, X)
    two_ranges = of(X, SKIP, X)
    for data, tight, wide in (
        (two_clients, Bounds(max_clients=1), Bounds(max_clients=2)),
        (two_clients, Bounds(max_structs=1), Bounds(max_structs=2)),
        (two_structs, Bounds(max_structs=1), Bounds(max_structs=2)),
        (two_ranges, Bounds(max_ranges=1), Bounds(max_ranges=2)),
        (of(X, SKIP, X, SKIP), Bounds(max_ranges=1), Bounds(max_ranges=2)),
        (update(deletes=deleted((7, [(0, 1), (5, 1)]))), Bounds(max_ranges=1), Bounds(max_ranges=2)),
        (update(section(7, 0, X), deletes=deleted((7, [(0, 1)]))), Bounds(max_ranges=1), Bounds(max_ranges=2)),
        (update(deletes=deleted((7, [(0, 1)]), (8, [(0, 1)]))), Bounds(max_clients=1), Bounds(max_clients=2)),
        (of(item(8, b"\x01" + nested_any(2))), Bounds(max_depth=1), Bounds(max_depth=2)),
    ):
        with pytest.raises(MalformedMessage):
            scan_update(data, tight)
        assert scan_update(data, wide).ranges is not None


def outcome(data: bytes, bounds: Bounds = DEFAULT_BOUNDS) -> UpdateScan | None:
    try:
        return scan_update(data, bounds)
    except MalformedMessage:
        return None


FULL_READER = Bounds()
"""Equal to the default, but another object: this keeps `scan_update` from taking its short cut."""
CLIENTS = st.sampled_from([0, 7, 200, 1 << 31, (1 << 35) - 1, 1 << 35])
CLOCKS = st.sampled_from([0, 1, 5, 127, 128, 300, 70_000, BIG_CLOCK - 3, BIG_CLOCK - 2, BIG_CLOCK - 1, BIG_CLOCK])
IDS = st.builds(ident, CLIENTS, CLOCKS) | st.builds(lambda clock: b"\x87\x00" + uint(clock), CLOCKS)
WRITTEN = st.sampled_from([b"x", b"x" * 127, b"x" * 128, "ü".encode(), b"\xff", b"\x00", b""])


@st.composite
def keystrokes(draw: st.DrawFn) -> bytes:
    """Updates that look like one keystroke, many of them wrong in one place."""
    if draw(st.booleans()):
        return b"\x00\x01" + uint(draw(CLIENTS)) + b"\x01" + uint(draw(CLOCKS)) + uint(draw(CLOCKS))
    info = draw(st.sampled_from([0x84, 0xC4, 0x44, 0xE4, 0xA4, 0x81, 0x04]))
    beside = b"".join(draw(IDS) for flag in (0x80, 0x40) if info & flag)
    written = draw(WRITTEN)
    length = uint(len(written)) if draw(st.integers(0, 5)) else uint(draw(st.integers(0, 130)))
    return (
        b"\x01\x01"
        + draw(IDS)
        + bytes((info,))
        + beside
        + length
        + written
        + draw(st.sampled_from([b"\x00", b"", b"\x00\x00"]))
    )


@settings(max_examples=500)
@given(keystrokes())
def test_the_short_cut_for_keystrokes_says_what_the_full_reader_says(data: bytes) -> None:
    assert outcome(data) == outcome(data, FULL_READER)


def test_every_mutation_of_one_byte_of_a_keystroke_is_read_alike_by_both_readers() -> None:
    """Exhaustive, over one keystroke at the end, one in the middle and one backspace."""
    author = 1 << 31
    for original in (
        update(section(author, 300, after(author, 299))),
        update(section(author, 300, bytes((0xC4,)) + ident(8, 5) + ident(author, 2) + b"\x01x")),
        update(deletes=deleted((author, [(300, 2)]))),
    ):
        assert outcome(original) is not None
        for index in range(len(original)):
            for byte in range(256):
                mutated = original[:index] + bytes((byte,)) + original[index + 1 :]
                assert outcome(mutated) == outcome(mutated, FULL_READER)


SAMPLES = [of(struct) for struct, _ in CONTENT.values()] + list(REFUSED.values())


@example(b"\xff" * 64)
@example(b"\x01\x01")
@given(st.binary(max_size=80) | st.lists(st.sampled_from([b for s in SAMPLES for b in s]), max_size=60).map(bytes))
def test_w2_any_bytes_scan_or_raise(data: bytes) -> None:
    for read in (scan_update, read_state_vector):
        try:
            assert read(data) is not None
        except MalformedMessage:
            continue


@given(st.sampled_from(SAMPLES), st.sampled_from(SAMPLES), st.data())
def test_w2_mutated_updates_scan_or_raise(one: bytes, other: bytes, data: st.DataObject) -> None:
    mutated = bytearray(one)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(mutated)))
        end = data.draw(st.integers(start, len(mutated)))
        cut = data.draw(st.integers(0, len(other)))
        mutated[start:end] = data.draw(st.binary(max_size=3)) or other[cut : cut + end - start]
    try:
        scan = scan_update(bytes(mutated))
    except MalformedMessage:
        return
    for found in [*scan.ranges.values(), *scan.deletes.values()]:
        edges = [clock for pair in found for clock in pair]
        assert edges == sorted(set(edges)), "ranges are sorted, apart and not empty"
        assert edges[0] >= 0
        assert edges[-1] < BIG_CLOCK


STATE_VECTORS = st.dictionaries(st.integers(0, BIG_CLIENT - 1), st.integers(0, BIG_CLOCK - 1), max_size=20)


@given(STATE_VECTORS)
def test_w1_a_state_vector_reads_back(clocks: dict[int, int]) -> None:
    encoded = write_state_vector(clocks)
    assert read_state_vector(encoded) == clocks
    for cut in range(len(encoded)):
        with pytest.raises(MalformedMessage):
            read_state_vector(encoded[:cut])


def test_the_empty_state_vector_is_a_zero() -> None:
    assert write_state_vector({}) == EMPTY_STATE_VECTOR
    assert read_state_vector(EMPTY_STATE_VECTOR) == {}


def test_state_vectors_list_the_highest_client_first() -> None:
    assert write_state_vector({1: 5, 300: 2}).hex() == "02ac02020105"


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x00\x00",
        b"\x01\x07",
        uint((1 << 32) - 1) + b"\x07\x00",
        b"\x02\x07\x01\x07\x02",
        b"\x80" * 9,
        b"\x01" + ident(BIG_CLIENT, 0),
        b"\x01" + ident(7, BIG_CLOCK),
    ],
)
def test_w5_a_state_vector_that_lies_is_malformed(encoded: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read_state_vector(encoded)


def test_w5_a_state_vector_is_bounded_in_clients() -> None:
    encoded = write_state_vector(dict.fromkeys(range(11), 1))
    assert len(read_state_vector(encoded, 11)) == 11
    with pytest.raises(MalformedMessage):
        read_state_vector(encoded, 10)


def steps(work: Callable[[], object]) -> int:
    """Interpreter instructions that ``work`` takes: the same on every machine, however busy."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> TraceFunction:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except MalformedMessage:
        pass
    finally:
        sys.settrace(before)
    return count


GROWING: dict[str, Callable[[int], bytes]] = {
    "structs": lambda n: of(*[X] * n),
    "origins": lambda n: update(section(7, 1, *[after(8, 1 << 20)] * n)),
    "one long string": lambda n: of(item(4, text(b"x" * n))),
    "one long string beyond ASCII": lambda n: of(item(4, text("ü".encode() * n))),
    "skips": lambda n: of(*[X, SKIP] * n, X),
    "clients": lambda n: update(*[section(client, 0, X) for client in range(n)]),
    "nested values": lambda n: of(item(8, b"\x01" + nested_any(n))),
    "flat values": lambda n: of(item(8, b"\x01\x75" + uint(n) + b"\x7e" * n)),
    "values": lambda n: of(item(8, uint(n) + b"\x7e" * n)),
    "deletions backwards": lambda n: update(deletes=deleted((7, [(2 * k, 1) for k in reversed(range(n))]))),
    "deletions by one client in many parts": lambda n: update(deletes=deleted(*[(7, [(2 * k, 1)]) for k in range(n)])),
    "deletions without ranges": lambda n: update(deletes=deleted(*[(7, [])] * n)),
    "ones": lambda n: b"\x01" * n,
    "never-ending integers": lambda n: b"\xff" * n,
    "zeros": lambda n: b"\x00" * n,
}


@pytest.mark.parametrize("shape", GROWING)
def test_w2_eight_times_the_bytes_cost_at_most_ten_times_the_work(shape: str) -> None:
    small, large = GROWING[shape](200), GROWING[shape](1600)
    assert steps(lambda: scan_update(large)) <= 10 * steps(lambda: scan_update(small)) + 500
