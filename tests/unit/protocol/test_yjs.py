"""The bounded reader, byte by byte: every kind of content, what it adds up to, and every refusal.

Updates that real documents write are in `test_yjs_documents`, any bytes at all in `test_yjs_any_bytes`.
"""

from __future__ import annotations

import pytest

from collab.errors import MalformedMessage
from collab.protocol.yjs import DEFAULT_BOUNDS, EMPTY_UPDATE, Bounds, UpdateScan, is_v2_like, scan_update
from collab.protocol.yjs_content import STRING, skip_content
from tests.unit.protocol.spelled import (
    CONTENT,
    GC,
    REFUSED,
    SKIP,
    TYPED,
    X,
    after,
    deleted,
    ident,
    item,
    nested_any,
    of,
    section,
    text,
    update,
)


@pytest.mark.parametrize("name", CONTENT)
def test_every_content_of_yjs_is_read_with_its_clock_length(name: str) -> None:
    struct, length = CONTENT[name]
    entries = {7: [0, length]} if "of a map" in name else {}
    assert scan_update(of(struct)) == UpdateScan({7: [(0, length)]}, {}, {}, entries)
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


def test_structs_that_name_a_key_are_entries_and_those_that_lean_on_them_are_not_told() -> None:
    entry, gone = CONTENT["key of a map"][0], CONTENT["deleted keys of a map"][0]
    overwritten = bytes((0xA8,)) + ident(7, 0) + b"\x01\x7e"
    scan = scan_update(update(section(7, 0, entry, overwritten, gone, entry, SKIP, X, entry), section(8, 5, entry)))
    assert scan.entries == {7: [0, 1, 2, 6, 9, 10], 8: [5, 6]}


@pytest.mark.parametrize(
    ("struct", "beside"),
    [
        (after(7, 3), ((7, 3),)),
        (bytes((0xC4,)) + ident(7, 3) + ident(8, 1) + b"\x01x", ((7, 3), (8, 1))),
        (after(7, 3, b"\x02\xc3\xbc"), None),
        (after(7, 3, b"\x01\x7e", kind=8), None),
    ],
)
def test_what_a_typed_string_stands_beside_comes_with_the_scan(
    struct: bytes, beside: tuple[tuple[int, int], ...] | None
) -> None:
    assert scan_update(update(section(7, 4, struct))).beside == beside


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
