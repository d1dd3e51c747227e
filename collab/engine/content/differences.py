"""Where two sequences differ, found in n log n time whatever they hold: a patience diff.

Elements that occur once on both sides and in the same order are anchors; between anchors, common beginnings and ends
are cut off. Not the smallest difference, but a cheap one that follows what people do to
documents. `revert.py` calls it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

Key = tuple[Hashable, str]
"""A unit's content and its formatting."""

Difference = tuple[int, int, int, int]
"""``have[start:end]`` is to become ``want[first:last]``; at least one of them is not empty."""


def differences(have: Sequence[Key], want: Sequence[Key]) -> Iterator[Difference]:
    """Every place where ``have`` must change to be ``want``, from left to right."""
    for start, end, first, last in _gaps(have, want):
        while start < end and first < last and have[start] == want[first]:
            start, first = start + 1, first + 1
        while start < end and first < last and have[end - 1] == want[last - 1]:
            end, last = end - 1, last - 1
        if start < end or first < last:
            yield start, end, first, last


def _gaps(have: Sequence[Key], want: Sequence[Key]) -> Iterator[Difference]:
    """What lies between anchors."""
    lines, wanted = _lines(have), _lines(want)
    start = first = 0
    for mine, other in _anchors([tuple(have[a:b]) for a, b in lines], [tuple(want[a:b]) for a, b in wanted]):
        yield start, lines[mine][0], first, wanted[other][0]
        start, first = lines[mine][1], wanted[other][1]
    yield start, len(have), first, len(want)


def _lines(keys: Sequence[Key]) -> list[tuple[int, int]]:
    """Ranges of characters up to a newline; everything that is no character stands alone."""
    ranges = []
    start = 0
    for index, (content, _) in enumerate(keys):
        if isinstance(content, str) and content != "\n":
            continue
        if not isinstance(content, str) and start < index:
            ranges.append((start, index))
            start = index
        ranges.append((start, index + 1))
        start = index + 1
    if start < len(keys):
        ranges.append((start, len(keys)))
    return ranges


def _anchors(have: list[tuple[Key, ...]], want: list[tuple[Key, ...]]) -> list[tuple[int, int]]:
    """The longest rising chain of elements that occur exactly once on both sides."""
    counts, others = Counter(have), Counter(want)
    where = {key: index for index, key in enumerate(want) if others[key] == 1}
    pairs = [(index, where[key]) for index, key in enumerate(have) if counts[key] == 1 and key in where]
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for number, (_, other) in enumerate(pairs):
        length = bisect_left(tails, other)
        tails[length : length + 1] = [other]
        ends[length : length + 1] = [number]
        before.append(ends[length - 1] if length else -1)
    chain = []
    number = ends[-1] if ends else -1
    while number >= 0:
        chain.append(pairs[number])
        number = before[number]
    return chain[::-1]
