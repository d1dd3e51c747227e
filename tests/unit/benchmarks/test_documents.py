"""The prepared documents are valid Yjs, hold what their file says, and the load generator believes nothing else.

The generator runs against a small server that hands a document on, whole or not; skipped without a C compiler.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pycrdt
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks import documents, install
from benchmarks.documents import Edited, Pasted
from tests.unit.benchmarks.generator import generate

SMALL = Edited(2_000)


def test_a_document_is_made_the_same_every_time() -> None:
    assert documents.make(SMALL) == documents.make(SMALL)


@pytest.mark.parametrize("document", [SMALL, Edited(300, chars=80, burst=2), Edited(1, burst=1), Pasted(2, 20)])
def test_pycrdt_reads_what_the_file_says(document: Edited | Pasted) -> None:
    documents.check(documents.make(document))


def test_deletions_are_what_the_document_no_longer_shows() -> None:
    made = documents.make(SMALL)
    assert 0 < made.deleted < made.ends[0]
    assert made.deleted + made.ends[0] == SMALL.edits


def test_a_document_in_pieces_is_the_same_document(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = documents.make(SMALL)
    monkeypatch.setattr(documents, "PIECE_BYTES", 500)
    pieces = documents.make(SMALL)
    documents.check(pieces)
    assert len(pieces.pieces) > 2
    texts = []
    for made in (whole, pieces):
        doc: pycrdt.Doc[Any] = pycrdt.Doc()
        for update, _ in made.pieces:
            doc.apply_update(update)
        texts.append(str(doc.get("d", type=pycrdt.Text)))
    assert texts[0] == texts[1]


def test_a_document_is_kept_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "FOLDER", tmp_path / "documents")
    path = documents.path_of(SMALL)
    monkeypatch.setattr(documents, "make", None)
    assert documents.path_of(SMALL) == path
    assert list(path.parent.iterdir()) == [path]


class _Keeper:
    """One room. It keeps what the first client brings and gives others what `given` makes of it."""

    def __init__(self, given: Callable[[bytes], bytes]) -> None:
        self.doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self.given = given

    async def serve(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in connection:
                assert isinstance(frame, bytes)
                if frame.startswith(b"\x00\x00"):
                    state = pycrdt.read_message(frame[2:])
                    answer = self.given(self.doc.get_update(state))
                    await connection.send(b"\x00\x01" + pycrdt.write_message(answer))
                elif frame.startswith(b"\x00\x02"):
                    self.doc.apply_update(pycrdt.read_message(frame[2:]))


async def _joined(given: Callable[[bytes], bytes], tmp_path: Path, *, within_s: float) -> dict[str, Any]:
    """What the generator says when one client brought the document and three joined, or did not ``within_s``."""
    path = tmp_path / "document"
    path.write_bytes(documents.make(SMALL).encoded())
    async with serve(_Keeper(given).serve, "127.0.0.1", 0, max_size=None) as server:
        options = {
            "ports": server.sockets[0].getsockname()[1],
            "document": path,
            "use": "upload",
            "clients": 4,
            "writers": 0,
            "late": 3,
            "until-joined": 1,
            "join-timeout": within_s,
            "drain": 0.1,
        }
        return await generate(**options)


needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, install.COMPILERS)), reason="the load generator needs a C compiler"
)


@needs_compiler
async def test_who_has_the_whole_document_is_synced(tmp_path: Path) -> None:
    result = await _joined(lambda update: update, tmp_path, within_s=30)
    assert (result["late_joined"], result["late_missing"], result["documents_missing"]) == (3, 0, 0)
    assert result["join_ms"]["count"] == 3
    assert result["first_error"] is None


def _without_deletions(update: bytes) -> bytes:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    doc.apply_update(update)
    at = update.rfind(pycrdt.write_var_uint(documents.AUTHOR))
    return update if len(update) < 100 else update[: at - 1] + b"\x00"


def _half(_: bytes) -> bytes:
    made = documents.make(Edited(500))
    return made.pieces[0][0]


def _with_other_letters(update: bytes) -> bytes:
    return update.replace(b"abcd", b"abce")


@needs_compiler
@pytest.mark.parametrize(
    ("given", "error"),
    [
        (_half, None),
        (_without_deletions, None),
        (_with_other_letters, "a document whose text is not what was written"),
    ],
)
async def test_who_has_less_or_something_else_is_not(
    given: Callable[[bytes], bytes], error: str | None, tmp_path: Path
) -> None:
    result = await _joined(given, tmp_path, within_s=1)
    assert (result["late_joined"], result["late_missing"], result["documents_missing"]) == (0, 3, 3)
    assert result["first_error"] == error
