"""Many seeds in several processes. Not part of ``__main__``, which a worker cannot import."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

from tests.simulation.run import Outcome, run_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK = 25
"""Seeds a worker takes at once."""
KEPT_LINES = 80
"""Events kept of a history that failed; replay it for all of them."""


def outcomes(seeds: Sequence[int], *, jobs: int, anti_entropy: bool = True) -> Iterator[Outcome]:
    """Run ``seeds``; their outcomes as they come."""
    work = partial(run_chunk, anti_entropy=anti_entropy)
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    if jobs <= 1:
        for chunk in chunks:
            yield from work(chunk)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=collect_rarely) as pool:
        for future in as_completed([pool.submit(work, chunk) for chunk in chunks]):
            yield from future.result()


def collect_rarely() -> None:
    """A history is short and its garbage small: looking for circles after every 700 objects is a sixth of the time."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)


def run_chunk(seeds: Sequence[int], *, anti_entropy: bool) -> list[Outcome]:
    """Some seeds in this process; of those that fail the last events come along."""
    found = [run_seed(seed, anti_entropy=anti_entropy) for seed in seeds]
    for outcome in found:
        del outcome.lines[:-KEPT_LINES]
    return found
