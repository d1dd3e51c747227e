"""An engine process with failpoints: native code that dies, hangs or answers nonsense on updates that say so.

Real inputs that kill a patched pycrdt come and go with its versions; these never do.
"""

from __future__ import annotations

import os
import time

from collab.engine import child, native, wire

ABORT, HANG, BABBLE = b"please abort", b"please hang", b"please babble"

_apply = native.NativeDoc.apply
_pack_answer = wire.pack_answer
_babbling = False


def _failing_apply(self: native.NativeDoc, update: bytes) -> bool:
    global _babbling
    if ABORT in update:
        os.abort()
    while HANG in update:
        time.sleep(60)
    _babbling = BABBLE in update
    return _apply(self, update)


def _failing_pack(call: int, answer: wire.Answer) -> list[object]:
    return [call, -1, "what nobody asked for"] if _babbling else _pack_answer(call, answer)


if __name__ == "__main__":
    native.NativeDoc.apply = _failing_apply  # type: ignore[method-assign]
    child.pack_answer = _failing_pack  # type: ignore[attr-defined]
    child.main()
