"""Seeds that once failed, with what was wrong; they run always, before all others."""

from __future__ import annotations

REGRESSIONS: dict[int, str] = {}
"""Seed -> what it found."""

HEALED_ONLY_BY_ANTI_ENTROPY: tuple[int, ...] = ()
"""Seeds that fail without digests and without following the log."""
