"""The engine's side of the fuzz, in a process that may die: one JSON command per line on stdin, one answer per line.

Does with plain updates what the engine does (`collab.engine.replica`), and tells what its document holds then. Which
update it is working on stands in the file named by the first argument, readable after its death.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from collab.engine.native import NativePanic
from collab.engine.port import Verdict
from collab.engine.replica import Replica
from collab.protocol.yjs import EMPTY_UPDATE

MARK = struct.Struct("<q")
READING = -1
"""Stands for the index of an update while the document is only read."""

TAKEN = (Verdict.INTEGRATED, Verdict.REDUNDANT)


class Watched(Replica):
    """A replica that tells whether native code took a load at once, or panicked and made it go one by one."""

    filled = True

    def _fill(self, updates: Sequence[bytes], order: list[int]) -> bool:
        self.filled = super()._fill(updates, order)
        return self.filled


class Side:
    """Answers commands."""

    def __init__(self, mark: mmap.mmap) -> None:
        self._mark = mark
        self._at = 0
        self._offset = 0

    def _progress(self, index: int) -> None:
        self._at = self._offset + index
        MARK.pack_into(self._mark, 0, self._at)

    def check(self, base: list[str], batches: list[list[str]], *, look: bool) -> dict[str, Any]:
        """Give ``batches`` to a replica of ``base``, then load all of it into another.

        Without ``look`` the roots are not read before the last batch: the engine never does, and to read a root is to
        tell the document its type.
        """
        before = [b64decode(update) for update in base]
        updates = [[b64decode(update) for update in batch] for batch in batches]
        answer: dict[str, Any] = {"batches": [], "problems": []}
        self._at, self._offset = READING, 0
        with self._noting(answer["problems"], "live"):
            self._integrate(before, updates, answer["batches"], look=look)
        with self._noting(answer["problems"], "merged"):
            answer["far"] = self._relay(before, [b64decode(batch["merged"]) for batch in answer["batches"]])
        with self._noting(answer["problems"], "loaded"):
            answer["cold"] = self._load(before + [update for batch in updates for update in batch])
        return answer

    @contextmanager
    def _noting(self, problems: list[dict[str, Any]], how: str) -> Iterator[None]:
        try:
            yield
        except NativePanic as panic:
            problems.append({"kind": f"yrs panics, {how}", "at": self._at, "detail": str(panic)})
        except Refused as refused:
            problems.append({"kind": f"engine refuses, {how}", "at": self._at, "detail": str(refused)})
        except BaseException as error:
            problems.append({"kind": f"engine fails, {how}", "at": self._at, "detail": repr(error)[:500]})

    def _integrate(
        self, base: list[bytes], batches: list[list[bytes]], answers: list[dict[str, Any]], *, look: bool
    ) -> None:
        """As the node does that the updates came to."""
        replica = Replica()
        replica.load(base, lambda _: None)
        for number, batch in enumerate(batches, 1):
            merged = self._take(replica, batch)
            MARK.pack_into(self._mark, 0, READING)
            view = read(replica) if look or number == len(batches) else None
            answers.append({"full": full(replica), "view": view, "merged": b64encode(merged).decode()})
            self._offset += len(batch)
        replica.close()

    def _relay(self, base: list[bytes], merged: list[bytes]) -> dict[str, Any]:
        """As another node does, which gets what the first one merged."""
        self._offset = 0
        replica = Replica()
        replica.load(base, lambda _: None)
        for update in merged:
            self._take(replica, [update])
            self._offset += 1
        return self._read_whole(replica)

    def _take(self, replica: Replica, batch: list[bytes]) -> bytes:
        integration = replica.integrate(batch, self._progress)
        for index, outcome in enumerate(integration.outcomes):
            if outcome.verdict not in TAKEN:
                self._at = self._offset + index
                raise Refused(f"{outcome}")
        return integration.merged or EMPTY_UPDATE

    def _load(self, updates: list[bytes]) -> dict[str, Any]:
        """As a node does that opens the document."""
        self._offset = 0
        replica = Watched()
        loaded = replica.load(updates, self._progress)
        if loaded.waiting or loaded.refused:
            raise Refused(f"{loaded}")
        if not replica.filled:
            raise NativePanic("one by one it went")
        return self._read_whole(replica)

    def _read_whole(self, replica: Replica) -> dict[str, Any]:
        MARK.pack_into(self._mark, 0, READING)
        answer = {"full": full(replica), "view": read(replica)}
        replica.close()
        return answer


class Refused(Exception):
    """The engine did not take what was admitted."""


def full(replica: Replica) -> str:
    """All of a replica's document, as it would be stored and sent."""
    return b64encode(replica.full_update()).decode()


def read(replica: Replica) -> dict[str, Any]:
    """What is in a replica's live document, by roots of the names and types the fuzz uses."""
    doc = replica._integrator.doc._doc
    transaction = doc.create_transaction()
    try:
        return {
            "t": doc.get_or_insert_text(transaction, "t").diff(transaction),
            "m": json.loads(doc.get_or_insert_map(transaction, "m").to_json(transaction)),
            "a": json.loads(doc.get_or_insert_array(transaction, "a").to_json(transaction)),
            "x": doc.get_or_insert_xml_fragment(transaction, "x").get_string(transaction),
        }
    finally:
        transaction.drop()


def main() -> None:
    """Serve until stdin ends."""
    with Path(sys.argv[1]).open("r+b") as file:
        side = Side(mmap.mmap(file.fileno(), MARK.size))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(side.check(**json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
