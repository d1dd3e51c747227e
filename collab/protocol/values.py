"""Values of the hot path: frozen for the type checker, cheap to make at run time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=False)
def value(*, eq: bool = True) -> Callable[[type[T]], type[T]]:
    """A dataclass that nobody may change, as mypy sees to.

    At run time it is an ordinary one with slots: `frozen=True` makes each take four times as long to build, and a
    busy node builds ten for every update (a tenth of its time, measured). Not hashable, unless ``eq`` is False.
    """
    return dataclass(slots=True, eq=eq)
