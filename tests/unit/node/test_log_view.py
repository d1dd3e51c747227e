"""Which rows of a log are known, against a plain set of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collab.node.log_view import MAX_STRETCHES, LogView

STEPS = st.lists(
    st.tuples(st.just("add"), st.integers(1, 60), st.integers(1, 6))
    | st.tuples(st.just("advance"), st.integers(0, 60), st.just(0)),
    max_size=40,
)


@given(STEPS)
def test_n11_exactly_what_was_told_is_known(steps: list[tuple[str, int, int]]) -> None:
    view, told = LogView(), set[int]()
    for step, number, count in steps:
        if step == "add":
            view.add(number, count)
            told |= set(range(number, number + count))
        else:
            view.advance(number)
            told |= set(range(1, number + 1))
        assert {seq for seq in range(1, 80) if view.knows(seq)} == told
        assert view.position + 1 not in told, "what follows on the position is part of it"


def test_n11_too_many_stretches_are_forgotten_not_invented() -> None:
    view = LogView()
    for first in range(2, 2 * MAX_STRETCHES + 6, 2):
        view.add(first, 1)
    known = {seq for seq in range(1, 3 * MAX_STRETCHES) if view.knows(seq)}
    assert known <= set(range(2, 2 * MAX_STRETCHES + 6, 2))
    assert view.position == 0
