"""Tokens that were verified a moment ago, so that a client that comes back costs a hash instead of a signature.

Kept for a minute at most and never beyond the token's own end. What is kept is a hash: whoever reads the memory of
this table finds no token in it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collab.server.auth.access import Access

KEEP_S = 60.0
MAX_TOKENS = 10_000
"""As many as a node has sessions; the one verified longest ago goes first."""


class _Entry(NamedTuple):
    access: Access
    since: float
    until: float


class VerifiedTokens:
    """Hash of a token -> what it stands for. Times are Unix seconds, given by the caller."""

    def __init__(self, *, keep_s: float = KEEP_S, max_tokens: int = MAX_TOKENS) -> None:
        self._keep_s = keep_s
        self._max_tokens = max_tokens
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._entries)

    def get(self, token: str, now: float) -> Access | None:
        """What ``token`` stood for when it was verified, while that may still be said."""
        digest = _digest(token)
        entry = self._entries.get(digest)
        if entry is None:
            return None
        if not entry.since <= now < entry.until:  # a clock set back must not lengthen anything
            del self._entries[digest]
            return None
        return entry.access

    def put(self, token: str, access: Access, now: float) -> None:
        """Remember that ``token`` was verified at ``now``."""
        until = now + self._keep_s if access.expires_at is None else min(now + self._keep_s, access.expires_at)
        self._entries[digest := _digest(token)] = _Entry(access, now, until)
        self._entries.move_to_end(digest)
        if len(self._entries) > self._max_tokens:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything: the keys have changed."""
        self._entries.clear()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
