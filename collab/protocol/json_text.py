"""How deep JSON text nests, found without parsing it.

Parsers recurse, here and in every client, so depth is bounded before anything parses. Called on awareness states
and on the JSON inside updates; says nothing about whether the text is JSON at all.
"""

from __future__ import annotations

import re

# Possessive, and an unclosed string matches up to the end: every byte is looked at once (SPEC W2).
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))


def nests_within(text: bytes, limit: int) -> bool:
    """Whether arrays and objects in the JSON ``text`` nest at most ``limit`` levels. Linear time, no recursion."""
    if text.count(b"{") + text.count(b"[") <= limit:
        return True
    depth = 0
    for bracket in _STRING.sub(b"", text).translate(None, _NOT_BRACKETS):
        if bracket in b"{[":
            depth += 1
            if depth > limit:
                return False
        else:
            depth -= 1
    return True
