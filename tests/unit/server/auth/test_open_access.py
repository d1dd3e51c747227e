"""A server without tokens: everybody may write, under its own names only."""

from __future__ import annotations

import pytest

from collab.errors import Forbidden
from collab.room.session import Identity, Role
from collab.server.auth import authenticator, open_access
from collab.settings import Settings
from tests.unit.server.auth.signing import connection


async def test_everybody_is_anonymous_and_may_write() -> None:
    access = await open_access(connection(), "d")
    assert (access.identity, access.role("d")) == (Identity("anonymous"), Role.WRITE)


async def test_an_open_server_on_this_machine_answers_only_to_its_own_names() -> None:
    door = authenticator(Settings(public_url="https://docs.example/x"))
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST", "docs.example"):
        assert (await door(connection({"Host": host}), "d")).role("d") is Role.WRITE
    for host in ("evil.example:8000", "localhost.evil.example", "", "127.0.0.1.evil.example"):
        with pytest.raises(Forbidden):
            await door(connection({"Host": host}), "d")
