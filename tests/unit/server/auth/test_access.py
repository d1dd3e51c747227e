"""Roles by patterns of names."""

from __future__ import annotations

from collab.room.session import Identity, Role
from collab.server.auth import Access


def test_the_most_specific_pattern_decides() -> None:
    access = Access(
        Identity("a"),
        {"*": Role.WRITE, "acme:*": Role.READ, "acme:wiki:*": Role.WRITE, "acme:wiki:x": Role.READ},
    )
    grants = {name: access.role(name) for name in ("other", "acme:1", "acme:wiki:1", "acme:wiki:x", "acme:wiki:x1")}
    assert grants == {
        "other": Role.WRITE,
        "acme:1": Role.READ,
        "acme:wiki:1": Role.WRITE,
        "acme:wiki:x": Role.READ,
        "acme:wiki:x1": Role.WRITE,
    }


def test_a_star_in_the_middle_is_no_wildcard() -> None:
    access = Access(Identity("a"), {"a*b": Role.WRITE})
    assert access.role("axb") is None
