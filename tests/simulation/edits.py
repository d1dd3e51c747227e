"""What a simulated editor does to its document: unique tokens such as ``c7.123;`` in, tokens out, now and then a field.

Tokens go between tokens anybody wrote, so that nearly every insertion depends on somebody else's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from tests.simulation.replica import TEXTS, Replica

TOKEN = re.compile(r"c\d+\.\d+;")
KEYS = ("colour", "owner", "state")


class Editor:
    """Edits of one client; ``deletes`` is the share of deletions."""

    def __init__(self, number: int, rng: Random, *, deletes: float) -> None:
        self._number = number
        self._rng = rng
        self._deletes = deletes
        self._count = 0

    def __call__(self, replica: Replica) -> tuple[str, bytes] | None:
        """One transaction of one to three changes: what it did, and the update; None when it changed nothing."""
        steps = [self._step(replica) for _ in range(self._rng.choice((1, 1, 1, 1, 2, 3)))]
        words: list[str] = []
        update = replica.edit(lambda: words.extend(step() for step in steps))
        return None if update is None else (" ".join(words), update)

    def _step(self, replica: Replica) -> Callable[[], str]:
        roll = self._rng.random()
        if roll < self._deletes:
            return lambda: self._delete(replica)
        if roll < self._deletes + 0.12:
            return lambda: self._set(replica)
        return lambda: self._insert(replica)

    def _token(self) -> str:
        self._count += 1
        return f"c{self._number}.{self._count};"

    def _insert(self, replica: Replica) -> str:
        text = replica.texts[TEXTS[self._rng.random() < 0.2]]
        written, token = str(text), self._token()
        at = written.find(";", self._rng.randrange(len(written))) + 1 if written and self._rng.random() < 0.6 else 0
        text.insert(at if self._rng.random() < 0.8 else len(written), token)
        return f"+{token}"

    def _delete(self, replica: Replica) -> str:
        text = replica.texts[TEXTS[self._rng.random() < 0.2]]
        found = list(TOKEN.finditer(str(text)))
        if not found:
            return self._insert(replica)
        first = self._rng.choice(found)
        del text[first.start() : first.end()]
        return f"-{first.group()}"

    def _set(self, replica: Replica) -> str:
        key, token = self._rng.choice(KEYS), self._token()
        replica.fields[key] = token
        return f"{key}={token}"
