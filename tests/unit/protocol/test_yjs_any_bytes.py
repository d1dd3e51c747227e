"""Any bytes at all: they are scanned or refused, alike by the short cut and the full reader, with linear work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collab.errors import MalformedMessage
from collab.protocol.yjs import DEFAULT_BOUNDS, Bounds, UpdateScan, read_state_vector, scan_update
from tests.unit.protocol.spelled import (
    BIG_CLOCK,
    CONTENT,
    REFUSED,
    SKIP,
    X,
    after,
    deleted,
    ident,
    item,
    nested_any,
    of,
    section,
    text,
    uint,
    update,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from _typeshed import TraceFunction


def outcome(data: bytes, bounds: Bounds = DEFAULT_BOUNDS) -> UpdateScan | None:
    try:
        return scan_update(data, bounds)
    except MalformedMessage:
        return None


FULL_READER = Bounds()
"""Equal to the default, but another object: this keeps `scan_update` from taking its short cut."""
CLIENTS = st.sampled_from([0, 7, 200, 1 << 31, (1 << 35) - 1, 1 << 35, (1 << 53) - 1, 1 << 53, (1 << 56) - 1])
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
