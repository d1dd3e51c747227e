"""From settings to the door."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from collab.errors import CollabError, Misuse, Unauthenticated
from collab.server.auth import JwksKeys, JwtAccess, OpenAccess, authenticator, open_access, running
from collab.settings import Settings
from tests.unit.server.auth.signing import PRIVATE, SECRET, bearing, connection, pem, signed, token

URL = {"jwt_jwks_url": "https://id.example/keys", "jwt_audience": "collab", "jwt_issuer": "us"}


def door_of(**given: Any) -> JwtAccess:
    door = authenticator(Settings(auth="jwt", **given))
    assert isinstance(door, JwtAccess)
    return door


def test_settings_choose_the_implementation() -> None:
    assert isinstance(authenticator(Settings()), OpenAccess)
    assert authenticator(Settings(host="0.0.0.0", allow_open_auth=True)) is open_access
    assert door_of(jwt_secret=SECRET).access(token()).identity.subject == "ann"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"jwt_secret": "short"},
        {"jwt_secret": SECRET, "jwt_keys": "keys.pem"},
        {"jwt_secret": SECRET, **URL},
        {"jwt_secret_old": SECRET},
        {"jwt_keys": "/nowhere/at/all.pem"},
        {"jwt_jwks_url": "https://id.example/keys"},
        {**URL, "jwt_jwks_url": "http://id.example/keys"},
        {**URL, "jwt_algorithms": ("HS256",)},
    ],
    ids=str,
)
def test_k01_settings_that_do_not_fit_make_no_door_for_those_who_mount_it_either(given: dict[str, Any]) -> None:
    with pytest.raises(CollabError):
        authenticator(Settings(auth="jwt", **given))


def test_two_secrets_are_believed_while_one_replaces_the_other() -> None:
    door = door_of(jwt_secret=SECRET, jwt_secret_old=SECRET[::-1])
    for key in (SECRET, SECRET[::-1]):
        assert door.access(token(key=key)).identity.subject == "ann"


def test_keys_of_a_file_are_believed_as_far_as_their_algorithm_is(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_bytes(pem(PRIVATE["EdDSA"]) + pem(PRIVATE["RS256"]))
    door = door_of(jwt_keys=str(file), jwt_algorithms=("EdDSA",))
    assert door.access(signed("EdDSA")).identity.subject == "ann"
    with pytest.raises(Unauthenticated):
        door.access(signed("RS256"))
    with pytest.raises(Misuse):
        door_of(jwt_keys=str(file), jwt_algorithms=("ES256",))


async def test_what_the_settings_say_of_tokens_reaches_the_door() -> None:
    strict = {"jwt_audience": "collab", "jwt_issuer": "us", "jwt_max_lifetime_s": 60, "token_in_url": False}
    door = door_of(jwt_secret=SECRET, **strict)
    now = int(time.time())
    good = {"aud": "collab", "iss": "us", "iat": now, "exp": now + 60}
    assert (await door(bearing(token(good)), "d")).identity.subject == "ann"
    for wrong in ({"aud": "x"}, {"iss": "x"}, {"exp": now + 61}):
        with pytest.raises(Unauthenticated):
            await door(bearing(token({**good, **wrong})), "d")
    with pytest.raises(Unauthenticated):
        await door(connection(query=f"token={token(good)}"), "d")


async def test_keys_by_address_are_fetched_while_the_server_runs_and_not_after(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    async def close(_: JwksKeys) -> None:
        told.append("close")

    monkeypatch.setattr(JwksKeys, "start", lambda _: told.append("start"))
    monkeypatch.setattr(JwksKeys, "close", close)
    async with running(door_of(**URL)):
        assert told == ["start"]
    assert told == ["start", "close"]
    async with running(open_access), running(door_of(jwt_secret=SECRET)):
        assert told == ["start", "close"]
