"""Many updates as one compact update, through a fresh replica. The only module here that runs native code."""

from __future__ import annotations

from collections.abc import Sequence

from collab.engine.replica import Replica
from collab.errors import InvalidContent


def fold_whole(update: bytes) -> bytes:
    """``update`` without the text that was deleted.

    Raises `InvalidContent` when it cannot be read, or waits for an update that is not here.
    """
    folded, waiting, refused = _fold((update,))
    if refused:
        raise InvalidContent("the document cannot be read")
    if waiting:
        raise InvalidContent("the update needs other updates that are not in it")
    return folded


def fold_stored(updates: Sequence[bytes]) -> bytes:
    """One update with the content of all of ``updates`` and without the text that was deleted.

    Rows that cannot be read, or wait for one that is not here, are left out, as they are where documents are loaded.
    """
    return _fold(updates)[0]


def _fold(updates: Sequence[bytes]) -> tuple[bytes, tuple[int, ...], tuple[int, ...]]:
    replica = Replica()
    try:
        loaded = replica.load(updates, lambda _: None)
        return replica.full_update(), loaded.waiting, loaded.refused
    finally:
        replica.close()
