"""Which signatures are believed: algorithms fixed by keys, headers that choose nothing, and what is remembered."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from collab.errors import Unauthenticated
from collab.server.auth import FixedKeys, JwtAccess, Key, secret_key
from collab.server.auth.keys import keys_of_set, public_key
from tests.unit.server.auth.signing import (
    GOOD,
    NOW,
    PRIVATE,
    SECRET,
    Clock,
    base64url,
    bearing,
    forged,
    jwk,
    pem,
    signed,
    token,
)

PUBLIC = sorted(PRIVATE)
ALGORITHMS = ["HS256", *PUBLIC]
OTHER = SECRET[::-1]


def door_of(algorithm: str, **more: Any) -> JwtAccess:
    if algorithm == "HS256":
        return JwtAccess(SECRET, **more)
    return JwtAccess(FixedKeys([public_key(PRIVATE[algorithm].public_key())]), **more)


def good(algorithm: str, **header: Any) -> str:
    return token(**header) if algorithm == "HS256" else signed(algorithm, **header)


def all_public() -> JwtAccess:
    """Believes three keys of three algorithms, each by its id."""
    return JwtAccess(FixedKeys(keys_of_set({"keys": [jwk(name, kid=name.lower()) for name in PUBLIC]})))


def refused(door: JwtAccess, text: str) -> None:
    with pytest.raises(Unauthenticated):
        door.access(text)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_i1_a_token_is_believed_by_a_key_of_its_algorithm(algorithm: str) -> None:
    assert door_of(algorithm).access(good(algorithm)).identity.subject == "ann"


@pytest.mark.parametrize("signature", [b"", b"\x00", b"\x00" * 32, b"\x00" * 64, b"\x00" * 256], ids=len)
@pytest.mark.parametrize("named", ["none", "None", "nOnE", "NONE", "none ", ""])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_d01_no_algorithm_is_no_signature(algorithm: str, named: str, signature: bytes) -> None:
    refused(door_of(algorithm), forged({"alg": named, "typ": "JWT"}, signature=signature))


@pytest.mark.parametrize("signature", [b"", b"\x00" * 32, b"\x00" * 64, b"\x00" * 256], ids=len)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_d01_an_empty_or_blank_signature_is_refused(algorithm: str, signature: bytes) -> None:
    refused(door_of(algorithm), forged({"alg": algorithm, "typ": "JWT"}, signature=signature))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_d01_another_key_or_a_changed_token_is_refused(algorithm: str) -> None:
    door = door_of(algorithm)
    head, body, signature = good(algorithm).split(".")
    root = base64url(json.dumps({**GOOD, "sub": "root"}).encode())
    for bad in (
        f"{head}.{root}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        "a.b.c",
        "",
        "ä.ö.ü",
        ".",
        "..",
        "\x00",
    ):
        refused(door, bad)
    others = {"HS256": OTHER, "ES256": ec.generate_private_key(ec.SECP256R1())}
    if algorithm in others:
        refused(door, token(key=others[algorithm], algorithm=algorithm))


def _forms(private: Any, name: str) -> dict[str, bytes]:
    public = private.public_key()
    made = jwk(name)
    return {
        "PEM": pem(private),
        "PEM without its last line's end": pem(private).rstrip(),
        "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "JWK": json.dumps(made).encode(),
        "JWK, compact": json.dumps(made, separators=(",", ":"), sort_keys=True).encode(),
        "JWKS": json.dumps({"keys": [made]}).encode(),
        "number": str(made.get("n", made.get("x"))).encode(),
    }


FORMS = [(name, form, raw) for name in PUBLIC for form, raw in _forms(PRIVATE[name], name).items()]


@pytest.mark.parametrize(("algorithm", "form", "raw"), FORMS, ids=[f"{name} {form}" for name, form, _ in FORMS])
def test_d02_a_public_key_is_no_hmac_secret(algorithm: str, form: str, raw: bytes) -> None:
    for named in ("HS256", "HS384", algorithm):
        text = forged({"alg": named, "typ": "JWT"}, secret=raw)
        refused(door_of(algorithm), text)
        refused(all_public(), forged({"alg": named, "typ": "JWT", "kid": algorithm.lower()}, secret=raw))


@pytest.mark.parametrize("claimed", [*ALGORITHMS, "HS384", "HS512", "RS384", "PS256", "ES384", "ES256K", "Ed25519"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_d03_the_key_fixes_the_algorithm_whatever_the_header_says(algorithm: str, claimed: str) -> None:
    if claimed != algorithm:
        _, body, signature = good(algorithm).split(".")
        head = base64url(json.dumps({"alg": claimed, "typ": "JWT"}).encode())
        refused(door_of(algorithm), f"{head}.{body}.{signature}")
        refused(door_of(algorithm), forged({"alg": claimed}, secret=SECRET.encode()))


@pytest.mark.parametrize("kid", [name.lower() for name in PUBLIC])
@pytest.mark.parametrize("algorithm", PUBLIC)
def test_d03_the_id_of_one_key_with_the_algorithm_of_another_is_refused(algorithm: str, kid: str) -> None:
    text = signed(algorithm, kid=kid)
    if kid == algorithm.lower():
        assert all_public().access(text).identity.subject == "ann"
    else:
        refused(all_public(), text)


@pytest.mark.parametrize("kid", ["", "../../x", "ed", "EDDSA", "eddsa ", "x" * 5000])
def test_d03_a_key_id_that_names_no_key_is_refused(kid: str) -> None:
    refused(all_public(), signed("EdDSA", kid=kid))


@pytest.mark.parametrize("kid", [7, None, True, ["eddsa"], {"eddsa": 1}])
def test_d03_a_key_id_that_is_no_text_is_refused(kid: Any) -> None:
    refused(all_public(), forged({"alg": "EdDSA", "kid": kid}))
    refused(JwtAccess(SECRET), forged({"alg": "HS256", "kid": kid}, secret=SECRET.encode()))


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["x"], "x": 1},
        {"crit": ["b64"], "b64": False},
        {"crit": ["b64"], "b64": True},
        {"crit": []},
        {"crit": None},
    ],
)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_d04_a_critical_header_is_refused(algorithm: str, header: dict[str, Any]) -> None:
    door, text = door_of("HS256"), forged({"alg": "HS256", **header}, secret=SECRET.encode())
    refused(door, text)
    refused(door_of(algorithm), forged({"alg": algorithm, **header}))


@pytest.mark.parametrize("member", ["jku", "x5u", "jwk", "x5c", "all"])
@pytest.mark.parametrize("algorithm", PUBLIC)
async def test_d05_keys_named_by_the_token_are_ignored_and_nobody_is_asked(algorithm: str, member: str) -> None:
    connections = 0

    async def came(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    attacker = rsa.generate_private_key(65537, 2048)
    server = await asyncio.start_server(came, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
        named = {
            "jku": url,
            "x5u": url,
            "jwk": jwk("RS256", attacker, kid="evil"),
            "x5c": [base64url(pem(attacker))],
        }
        header = named if member == "all" else {member: named[member]}
        for kid in ({}, {"kid": "evil"}, {"kid": url}, {"kid": algorithm.lower()}):
            with pytest.raises(Unauthenticated):
                await all_public()(bearing(token(key=attacker, algorithm="RS256", **header, **kid)), "d")
        access = await all_public()(bearing(signed(algorithm, **header)), "d")
        assert access.identity.subject == "ann"
    assert connections == 0


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", None])
def test_d10_a_token_of_the_right_kind_is_believed(kind: str | None) -> None:
    header = {"alg": "HS256"} if kind is None else {"alg": "HS256", "typ": kind}
    assert JwtAccess(SECRET).access(forged(header, secret=SECRET.encode())).identity.subject == "ann"


@pytest.mark.parametrize(
    "kind",
    ["rt+jwt", "id+jwt", "dpop+jwt", "logout+jwt", "secevent+jwt", "ticket", "JWE", "", " JWT", 7, True, None, ["JWT"]],
)
def test_d10_a_token_of_another_kind_is_refused(kind: Any) -> None:
    refused(JwtAccess(SECRET), forged({"alg": "HS256", "typ": kind}, secret=SECRET.encode()))


@pytest.mark.parametrize("header", [b"[]", b'"x"', b"{}", b"null", b"7", b"{", b"", b"\xff", b"[" * 6000, b'{"alg":7}'])
def test_a_header_that_is_no_object_with_an_algorithm_is_refused(header: bytes) -> None:
    refused(JwtAccess(SECRET), forged(header, secret=SECRET.encode()))


def test_i1_while_secrets_are_exchanged_both_are_believed_and_no_third() -> None:
    door = JwtAccess(FixedKeys([secret_key(SECRET), secret_key(OTHER)]))
    for key in (SECRET, OTHER):
        assert door.access(token(key=key)).identity.subject == "ann"
    refused(door, token(key="another-key-of-more-than-32-bytes!"))


def test_i1_a_token_without_a_key_id_is_tried_with_few_keys_only() -> None:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(5)]
    entries = [jwk("ES256", key, kid=str(n)) for n, key in enumerate(keys)]
    few, many = (JwtAccess(FixedKeys(keys_of_set({"keys": entries[:count]}))) for count in (4, 5))
    nameless, named = (token(key=keys[3], algorithm="ES256", **header) for header in ({}, {"kid": "3"}))
    assert few.access(nameless).identity.subject == few.access(named).identity.subject == "ann"
    refused(many, nameless)
    assert many.access(named).identity.subject == "ann"


class Counted:
    """Keys, and how often one of them was used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.known: tuple[Key, ...] = (secret_key(SECRET),)
        self.uses = 0
        decode = jwt.decode

        def counting(*args: Any, **more: Any) -> Any:
            self.uses += 1
            return decode(*args, **more)

        monkeypatch.setattr("jwt.decode", counting)

    async def ready(self) -> None:
        pass

    async def look_again(self) -> None:
        pass


async def test_d18_a_token_that_comes_again_within_a_minute_costs_no_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, clock = Counted(monkeypatch), Clock(NOW)
    door = JwtAccess(keys, clock=clock)
    request = bearing(token())
    first = await door(request, "d")
    clock.now += 59.9
    assert await door(request, "other") is first
    assert keys.uses == 1
    clock.now += 0.1
    await door(request, "d")
    assert keys.uses == 2


async def test_d18_what_is_remembered_ends_with_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, clock = Counted(monkeypatch), Clock(NOW + 3600 + 29)
    door = JwtAccess(keys, clock=clock)
    request = bearing(token())
    await door(request, "d")  # by PyJWT's clock there is an hour left
    clock.now += 1
    await door(request, "d")
    assert keys.uses == 2


async def test_d18_a_refused_token_is_not_remembered_and_neither_is_one_whose_key_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = Counted(monkeypatch)
    door = JwtAccess(keys, clock=Clock(NOW))
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await door(bearing(token(key=OTHER)), "d")
    await door(bearing(token()), "d")
    keys.known = (secret_key(OTHER),)
    with pytest.raises(Unauthenticated):
        await door(bearing(token()), "d")
