"""What one typed string tells beside what every update does: the ids it stands beside."""

from __future__ import annotations

import pytest

from collab.protocol.yjs_keystroke import read_typed
from tests.unit.protocol.spelled import after, ident, section, update

X = b"\x01x"


@pytest.mark.parametrize(
    ("struct", "needs", "beside"),
    [
        (after(7, 4), {}, ((7, 4),)),
        (after(8, 9), {8: 10}, ((8, 9),)),
        (bytes((0x44,)) + ident(8, 9) + X, {8: 10}, ((8, 9),)),
        (bytes((0xC4,)) + ident(7, 4) + ident(8, 9) + X, {8: 10}, ((7, 4), (8, 9))),
        (bytes((0xC4,)) + ident(8, 9) + ident(8, 3) + X, {8: 10}, ((8, 9), (8, 3))),
        (bytes((0xC4,)) + ident(8, 3) + ident(8, 9) + X, {8: 10}, ((8, 3), (8, 9))),
        (bytes((0xC4,)) + ident(8, 3) + ident(300, 70_000) + X, {8: 4, 300: 70_001}, ((8, 3), (300, 70_000))),
    ],
)
def test_a_typed_string_names_what_it_stands_beside_left_first(
    struct: bytes, needs: dict[int, int], beside: tuple[tuple[int, int], ...]
) -> None:
    assert read_typed(update(section(7, 5, struct))) == (7, 5, 6, needs, beside)


def test_what_is_no_typed_string_names_nothing() -> None:
    assert read_typed(update(section(7, 5, after(7, 5)))) is None, "beside its own future"
    assert read_typed(update(section(7, 5, bytes((0xC4,)) + ident(7, 5) + ident(7, 4) + X))) is None
    assert read_typed(update(section(7, 5, bytes((0xA4,)) + ident(7, 4) + X))) is None
