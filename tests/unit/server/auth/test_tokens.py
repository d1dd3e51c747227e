"""Where a token may stand."""

from __future__ import annotations

import pytest
from starlette.requests import HTTPConnection

from collab.errors import Unauthenticated
from collab.server.auth import JwtAccess, select_subprotocol, token_of
from tests.unit.server.auth.signing import SECRET, connection, token


async def test_it_may_stand_in_header_query_or_subprotocol() -> None:
    good = token()
    for request in (
        connection({"Authorization": f"bearer {good}"}),
        connection(query=f"token={good}&x=1"),
        connection(subprotocols=["yjs.v1", f"collab.token.{good}"]),
        connection({"Authorization": f"Bearer {good}"}, query=f"token={good}"),
    ):
        assert (await JwtAccess(SECRET)(request, "d")).identity.subject == "ann"


@pytest.mark.parametrize(
    "request_",
    [
        connection(),
        connection({"Authorization": "Basic YTpi"}),
        connection({"Authorization": "Bearer"}),
        connection(query="token="),
        connection(query="token=a&token=b"),
        connection({"Authorization": "Bearer a"}, query="token=b"),
        connection(subprotocols=["yjs.v1"]),
        connection(query=f"token={'x' * 9000}"),
    ],
)
def test_none_two_or_too_long_is_refused(request_: HTTPConnection) -> None:
    with pytest.raises(Unauthenticated):
        token_of(request_)


async def test_d15_where_addresses_carry_none_a_token_there_is_refused_even_beside_a_good_one() -> None:
    good = token()
    door = JwtAccess(SECRET, token_in_url=False)
    for query in (f"token={good}", "token=", "token=x&token=x"):
        for headers in ({}, {"Authorization": f"Bearer {good}"}):
            with pytest.raises(Unauthenticated) as refused:
                await door(connection(headers, query=query), "d")
            assert good not in str(refused.value)
    assert (await door(connection({"Authorization": f"Bearer {good}"}), "d")).identity.subject == "ann"
    assert (await door(connection(subprotocols=["yjs.v1", f"collab.token.{good}"]), "d")).identity.subject == "ann"
    with pytest.raises(Unauthenticated) as asked:
        await door(connection(), "d")
    assert "?token=" not in str(asked.value)


def test_the_server_never_echoes_a_token_as_subprotocol() -> None:
    assert select_subprotocol(["collab.token.abc", "yjs.v1"]) == "yjs.v1"
    assert select_subprotocol(["collab.token.abc"]) is None
    assert select_subprotocol([]) is None
