"""Document names: one path segment, one spelling, checked in one place.

A name never touches the file system and reaches SQL and the bus only as a parameter or a hash, so the alphabet is
narrow on purpose: what is not in it cannot be escaped wrongly. Every way in (WebSocket path, REST, CLI) calls
`canonical_name` first.
"""

from __future__ import annotations

import re

from collab.errors import InvalidName

MAX_NAME_LENGTH = 200
"""Characters, which are bytes too in this alphabet."""

_NAME = re.compile(rf"[A-Za-z0-9_:~-][A-Za-z0-9._:~-]{{0,{MAX_NAME_LENGTH - 1}}}")


def canonical_name(raw: str) -> str:
    """Return ``raw`` when it names a document, else raise `InvalidName`.

    The caller undoes percent-encoding once, before this call. Names compare by their characters, so case counts.
    Colons make namespaces by convention (``acme:specs:42``); a leading dot is refused to keep ``.`` and ``..`` out.
    """
    if _NAME.fullmatch(raw) is None:
        raise InvalidName(f"a document name is 1 to {MAX_NAME_LENGTH} of A-Z a-z 0-9 . _ : ~ - and starts with no dot")
    return raw
