"""Keys: each with the one algorithm its form says, from secrets, PEM and key sets; and what is no key for tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519

from collab.errors import Misuse
from collab.server.auth import FixedKeys, JwtAccess, keys_of_file, secret_key
from collab.server.auth.keys import MAX_KEYS, keys_of_set, public_key
from tests.unit.server.auth.signing import PRIVATE, SECRET, jwk, pem, private_jwk, private_pem, signed

PUBLIC = sorted(PRIVATE)


@pytest.mark.parametrize("algorithm", PUBLIC)
def test_i1_a_file_holds_pem_or_a_key_set(tmp_path: Path, algorithm: str) -> None:
    for raw in (pem(PRIVATE[algorithm]), json.dumps({"keys": [jwk(algorithm, kid="1")]}).encode()):
        file = tmp_path / "keys"
        file.write_bytes(raw)
        (key,) = keys_of_file(file)
        assert key.algorithm == algorithm
        assert JwtAccess(FixedKeys([key])).access(signed(algorithm)).identity.subject == "ann"


def test_i1_a_pem_file_may_hold_the_next_key_too(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_bytes(b"# old\n" + pem(PRIVATE["ES256"]) + b"# new\n" + pem(PRIVATE["EdDSA"]))
    assert [key.algorithm for key in keys_of_file(file)] == ["ES256", "EdDSA"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "neither PEM nor"),
        (b"\xff\xfe", "neither PEM nor"),
        (b"[" * 100_000, "neither PEM nor"),
        (b"{}", "key set"),
        (b'{"keys": {}}', "key set"),
        (b'{"keys": []}', "None of its keys"),
        (json.dumps({"keys": [{}] * (MAX_KEYS + 1)}).encode(), "key set"),
        (b" " * 300_000, "too large"),
        (private_pem(PRIVATE["RS256"]), "private"),
        (pem(PRIVATE["RS256"]) + private_pem(PRIVATE["EdDSA"]), "private"),
        (json.dumps({"keys": [private_jwk("RS256")]}).encode(), "private"),
        (json.dumps({"keys": [jwk("RS256"), {"kty": "oct", "k": "AAAA"}]}).encode(), "symmetric"),
        (pem(rsa.generate_private_key(65537, 1024)), "2048"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (pem(ed448.Ed448PrivateKey.generate()), "Ed25519"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "neither PEM nor"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_k01_a_file_without_keys_for_tokens_is_refused_by_name(tmp_path: Path, raw: bytes, words: str) -> None:
    file = tmp_path / "keys"
    file.write_bytes(raw)
    with pytest.raises(Misuse, match=words) as refused:
        keys_of_file(file)
    assert str(file) in str(refused.value)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="nowhere"):
        keys_of_file(tmp_path / "nowhere")


def test_of_a_key_set_what_is_not_for_these_signatures_is_left_out() -> None:
    entries: list[Any] = [
        jwk("ES256", kid="good"),
        jwk("EdDSA", kid="for this", use="sig", key_ops=["verify"], alg="EdDSA"),
        {"kty": "oct", "k": "AAAA", "kid": "secret"},
        {"kty": "oct", "k": "AAAA", "kid": "posing", "alg": "RS256"},
        private_jwk("ES256", kid="private"),
        private_jwk("EdDSA", kid="private"),
        jwk("RS256", kid="to encrypt", use="enc"),
        jwk("RS256", kid="to wrap", key_ops=["wrapKey"]),
        jwk("RS256", kid="to sign", key_ops="verify"),
        jwk("RS256", kid="other hash", alg="RS512"),
        jwk("RS256", kid="other padding", alg="PS256"),
        jwk("RS256", kid="mac", alg="HS256"),
        jwk("RS256", kid="none", alg="none"),
        jwk("ES256", kid="other curve", crv="P-384"),
        jwk("ES256", kid="as another's", alg="EdDSA"),
        jwk("RS256", rsa.generate_private_key(65537, 1024), kid="short"),
        jwk("EdDSA", ed448.Ed448PrivateKey.generate(), kid="448"),
        {"kty": "OKP", "crv": "X25519", "x": jwk("EdDSA")["x"], "kid": "exchange"},
        {**jwk("ES256"), "x": jwk("ES256")["y"], "kid": "off the curve"},
        {**jwk("RS256"), "n": 5, "kid": "a number"},
        {**jwk("RS256"), "n": "!", "kid": "no base64"},
        {**jwk("RS256"), "e": "AA", "kid": "no exponent"},
        {"kty": ["RSA"], "kid": "a list"},
        jwk("ES256", kid=7),
        jwk("ES256", kid=""),
        jwk("ES256", kid="x" * 201),
        {"kid": "nothing"},
        "text",
        None,
    ]
    keys = keys_of_set({"keys": entries, "more": 1})
    assert [(key.id, key.algorithm) for key in keys] == [("good", "ES256"), ("for this", "EdDSA")]


def test_a_key_of_another_kind_is_refused() -> None:
    with pytest.raises(Misuse):
        public_key(x25519.X25519PrivateKey.generate().public_key())


@pytest.mark.parametrize("secret", ["x" * 31, "", pem(PRIVATE["RS256"]).decode(), "ssh-ed25519 " + "A" * 60])
def test_d02_what_is_short_or_public_is_no_secret(secret: str) -> None:
    with pytest.raises(Misuse):
        secret_key(secret)


def test_d02_secrets_and_public_keys_are_never_mixed() -> None:
    mixed = [secret_key(SECRET), public_key(PRIVATE["ES256"].public_key())]
    with pytest.raises(Misuse):
        FixedKeys(mixed)
    assert [key.algorithm for key in FixedKeys(mixed, algorithms=["ES256"]).known] == ["ES256"]


def test_i1_keys_of_other_algorithms_than_allowed_are_left_out() -> None:
    keys = [public_key(PRIVATE[name].public_key()) for name in PUBLIC]
    assert [key.algorithm for key in FixedKeys(keys, algorithms=["ES256", "RS256"]).known] == ["ES256", "RS256"]
    with pytest.raises(Misuse):
        FixedKeys(keys, algorithms=["HS256"])


def test_i1_more_nameless_keys_than_are_tried_are_refused() -> None:
    keys = [public_key(ec.generate_private_key(ec.SECP256R1()).public_key()) for _ in range(5)]
    with pytest.raises(Misuse, match="ids"):
        FixedKeys(keys)
