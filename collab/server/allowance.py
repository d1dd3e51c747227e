"""How much one session may send: messages and bytes, each a token bucket of a rate and a burst.

Who has used up its allowance is read more slowly, and nothing of it is lost; only one that was held back for nearly a
whole minute is to be sent away, with a code after which it comes back (SPEC N17). Pure: the time is passed in.
`collab.server.websocket.Visit` takes from it with every frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

MESSAGE_BYTES = 8192
"""So much a message counts in an allowance, beside its bytes."""

_MARK = 2.0**-16
COST = MESSAGE_BYTES + _MARK
"""What a message takes from `Allowance.left`, beside its bytes. The mark is a tally: it is too small to matter, and its
sum says exactly how many messages there were, which the sum of their bytes does not."""

_MOST_MESSAGES = 60_000
"""Lent at once; with more the tally would overflow."""

SHORTEST_HOLD = 0.05
"""Seconds. Whoever floods is given several messages at a time, so that waking up for it costs little. Guessed."""

LENIENCE = 9.0
"""A second in which a session was not held back makes up for so many in which it was: nine tenths is nearly all."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one session may send; a rate of 0 means as much as it likes."""

    messages_per_s: float = 200.0
    burst_messages: int = 1_000
    bytes_per_s: float = 2.0 * 1024 * 1024
    burst_bytes: int = 32 * 1024 * 1024
    patience: float = 60.0
    """Seconds a session may be held back all the time before it is sent away."""


UNLIMITED = Rates(messages_per_s=0.0, bytes_per_s=0.0)


@dataclass(frozen=True, slots=True)
class Hold:
    """A session has sent more than it may."""

    seconds: float
    """How long to read nothing of it."""
    limit: str
    """Which rate it was: `messages` or `bytes`."""
    for_good: bool
    """Whether it has been so for too long: it is to be sent away."""


class Allowance:
    """Of one session. For every frame take ``len(data) + COST`` from ``left``; when that is below 0, `settle`.

    Both buckets are lent out as one number that neither can be overdrawn with by more than a frame, so the usual frame
    costs a subtraction and a comparison. They are filled only when that has run out: whoever keeps within its rates and
    bursts is never held back, and after a pause a session may use a burst twice.
    """

    __slots__ = ("_bytes", "_lent", "_messages", "_patience", "_rates", "_settled_at", "left")

    def __init__(self, rates: Rates, now: float) -> None:
        self._rates = rates
        self._messages = float(rates.burst_messages) if rates.messages_per_s else inf
        self._bytes = float(rates.burst_bytes) if rates.bytes_per_s else inf
        self._patience = rates.patience
        self._settled_at = now
        """When the session may be read again, after a hold."""
        self._lend()

    def _lend(self) -> None:
        if self._messages == self._bytes == inf:
            self._lent = self.left = inf
            return
        most = min(min(self._messages, _MOST_MESSAGES) * MESSAGE_BYTES, self._bytes)
        self._lent = self.left = float(int(most))  # a whole number: its fraction will be the tally

    def settle(self, now: float) -> Hold | None:
        """Count what was used, fill up by the clock, and lend again; a hold when there is nothing to lend."""
        used = self._lent - self.left
        messages = round(used % 1.0 / _MARK)
        passed = max(0.0, now - self._settled_at)
        self._settled_at = max(now, self._settled_at)
        self._patience = min(self._rates.patience, self._patience + LENIENCE * passed)
        rates = self._rates
        self._messages = _filled(self._messages - messages, rates.messages_per_s * passed, rates.burst_messages)
        self._bytes = _filled(self._bytes - (used - messages * COST), rates.bytes_per_s * passed, rates.burst_bytes)
        self._lend()
        return self._hold() if self._messages < 0 or self._bytes < 0 else None

    def _hold(self) -> Hold:
        rates = self._rates
        for_messages = -self._messages / rates.messages_per_s if rates.messages_per_s else 0.0
        for_bytes = -self._bytes / rates.bytes_per_s if rates.bytes_per_s else 0.0
        seconds = max(for_messages, for_bytes, SHORTEST_HOLD)
        for_good = self._patience <= 0
        self._patience -= seconds
        self._messages += rates.messages_per_s * seconds
        self._bytes += rates.bytes_per_s * seconds
        self._settled_at += seconds
        self._lend()
        return Hold(seconds, "messages" if for_messages >= for_bytes else "bytes", for_good)


def _filled(tokens: float, more: float, burst: int) -> float:
    return tokens if tokens == inf else min(float(burst), tokens + more)
