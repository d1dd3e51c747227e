"""The soak's judgement: memory that grows is told from memory that is used."""

from __future__ import annotations

import pytest

from benchmarks.soak import MOST_TIMES, judge

STEADY = [100.0] * 4


@pytest.mark.parametrize(
    ("kib", "grew"),
    [
        pytest.param([50.0, 90.0, *STEADY, *STEADY], False, id="filled at the start"),
        pytest.param([*STEADY, 100.0, 300.0, *STEADY], False, id="one peak"),
        pytest.param([*STEADY, *(100 * MOST_TIMES + 1 for _ in STEADY)], True, id="grew"),
        pytest.param([float(100 + 4 * turn) for turn in range(40)], True, id="grows all the time"),
        pytest.param([1.0, 1.0, 1.0], True, id="too short to tell"),
    ],
)
def test_growth_is_the_last_quarter_beside_the_second(kib: list[float], *, grew: bool) -> None:
    assert bool(judge(kib)) is grew
