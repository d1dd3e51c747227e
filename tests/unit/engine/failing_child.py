"""An engine process with failpoints: native code that dies, hangs or answers nonsense on updates that say so.

Real inputs that kill a patched pycrdt come and go with its versions; these never do.
"""

from __future__ import annotations

import os
import time

from collab.engine import child, native, wire

ABORT, HANG, BURN, BABBLE = b"please abort", b"please hang", b"please burn", b"please babble"

_fill = native.NativeDoc.fill
_pack_answer = wire.pack_answer
_babbling = False


def _failing_fill(self: native.NativeDoc, update: bytes) -> None:
    global _babbling
    if ABORT in update:
        os.abort()
    while HANG in update:
        time.sleep(60)
    while BURN in update:
        pass
    _babbling = BABBLE in update
    _fill(self, update)


def _failing_pack(call: int, answer: wire.Answer) -> list[object]:
    return [call, -1, "what nobody asked for"] if _babbling else _pack_answer(call, answer)


if __name__ == "__main__":
    native.NativeDoc.fill = _failing_fill  # type: ignore[method-assign]
    child.pack_answer = _failing_pack  # type: ignore[attr-defined]
    child.main()
