"""Many updates as one compact update, through a fresh native document. The only module here that runs native code."""

from __future__ import annotations

from collections.abc import Sequence

from collab.engine.native import NativeDoc, NativePanic, is_contained, merge
from collab.errors import InvalidContent, MalformedMessage
from collab.protocol.yjs import scan_update


def fold(updates: Sequence[bytes], *, complete: bool = False) -> bytes:
    """One update with the content of all of ``updates`` and without the text that was deleted.

    What waits for an update that is not here is left out; with ``complete`` it raises `InvalidContent` instead. So does
    a document native code cannot read.
    """
    document = NativeDoc()
    try:
        merged = merge(updates)
        document.apply(merged)
        if complete and not _is_whole(merged, document.state_vector()):
            raise InvalidContent("the update needs other updates that are not in it")
        return document.update_since(b"\x00")
    except (NativePanic, ValueError) as error:
        raise InvalidContent("the document cannot be read") from error
    finally:
        document.close()


def fold_stored(updates: Sequence[bytes]) -> bytes:
    """`fold` for what a store holds: rows that cannot be read are left out, as they are where documents are loaded."""
    try:
        return fold(updates)
    except InvalidContent:
        readable = [update for update in updates if _is_readable(update)]
        if len(readable) == len(updates):
            raise
        return fold(readable)


def _is_readable(update: bytes) -> bool:
    try:
        scan_update(update)
    except MalformedMessage:
        return False
    return True


def _is_whole(update: bytes, state_vector: bytes) -> bool:
    return is_contained(update, state_vector) and not _deletes_ahead(update)


def _deletes_ahead(update: bytes) -> bool:
    """Whether it deletes what it does not hold: the replica it came from had more."""
    scan = scan_update(update)
    for client, ranges in scan.deletes.items():
        known = max((end for _, end in scan.ranges.get(client, [])), default=0)
        if any(end > known for _, end in ranges):
            return True
    return False
