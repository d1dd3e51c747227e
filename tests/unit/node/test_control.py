"""Wishes between nodes: read back as they were, and nothing else is one."""

from __future__ import annotations

import pytest

from collab.errors import CloseCode, MalformedMessage
from collab.node.control import AccessChanged, CloseDocument, CloseUser, Control, pack, unpack


@pytest.mark.parametrize(
    "wish",
    [
        CloseDocument("d", CloseCode.DELETED),
        CloseUser("ann", CloseCode.FORBIDDEN),
        CloseUser("ann", CloseCode.RESTART, "d"),
        AccessChanged(0),
        AccessChanged(12345678901),
    ],
)
def test_a_wish_is_read_back(wish: Control) -> None:
    packed = pack(wish, ["b", "c"])
    assert [unpack(packed, node) for node in ("a", "b", "c")] == [None, wish, wish]


def test_a_wish_of_a_newer_version_is_nothing() -> None:
    assert unpack(b'{"do":"sing","for":["b"]}', "b") is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b'{"for":["b"]}',
        b'{"do":"access_changed","for":["b"]}',
        b'{"do":"access_changed","epoch":"x","for":["b"]}',
        b'{"do":"access_changed","epoch":1,"for":"b"}',
        b'{"do":"access_changed","epoch":1,"for":null}',
    ],
)
def test_anything_else_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        unpack(payload, "b")
