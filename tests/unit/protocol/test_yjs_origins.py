"""The second reading of an update: what stands where, held against the reader of the content jobs."""

from __future__ import annotations

import pytest
from pycrdt import merge_updates

from collab.engine.content.wire import GC as GC_REF
from collab.engine.content.wire import SKIP as SKIP_REF
from collab.engine.content.wire import decode
from collab.protocol.yjs_origins import HAS_KEY, KIND, read_origins
from tests.unit.engine.histories import history
from tests.unit.protocol.spelled import CONTENT, GC, ROOT, SKIP, X, after, ident, item, of, section, text, update


@pytest.mark.parametrize("seed", range(10))
def test_every_item_is_read_with_its_origins(seed: int) -> None:
    log = history(seed, edits=80)
    for data in (*log, merge_updates(*log), merge_updates(*log[::3])):
        structs = [entry for entry in decode(data)[0] if entry.ref not in (GC_REF, SKIP_REF)]
        read = list(read_origins(data))
        assert [(client, clock, end, info & KIND, left, right) for client, clock, end, info, left, right in read] == [
            (entry.client, entry.clock, entry.clock + entry.length, entry.ref, entry.origin, entry.right_origin)
            for entry in structs
        ]
        unplaced = [entry.origin is None and entry.right_origin is None for entry in structs]
        assert [bool(info & HAS_KEY) for *_, info, _, _ in read if not (info & 0xC0)] == [
            entry.sub is not None for entry, alone in zip(structs, unplaced, strict=True) if alone
        ]


@pytest.mark.parametrize("name", sorted(CONTENT.keys() - {"collected"}))
def test_every_content_is_passed_over(name: str) -> None:
    struct, length = CONTENT[name]
    found = list(read_origins(of(struct, X)))
    assert [(client, clock, end) for client, clock, end, *_ in found] == [(7, 0, length), (7, length, length + 1)]


def test_collected_and_skipped_structs_stand_nowhere() -> None:
    right = bytes((0x48,)) + ident(9, 300) + b"\x01\x7e"
    inside = bytes((0x28,)) + b"\x00" + ident(9, 1) + text(b"key") + b"\x01\x7e"
    data = update(section(7, 5, SKIP, X, GC, after(7, 4)), section(8, 0, right, inside, item(7, b"\x01", parent=ROOT)))
    assert list(read_origins(data)) == [
        (7, 7, 8, 4, None, None),
        (7, 11, 12, 0x84, (7, 4), None),
        (8, 0, 1, 0x48, None, (9, 300)),
        (8, 1, 2, 0x28, None, None),
        (8, 2, 3, 7, None, None),
    ]
