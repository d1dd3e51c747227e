"""The keys that tokens are signed with, each bound to the one algorithm its own form says.

A token's header never chooses the algorithm: it can only name the one its key has. Keys come from a secret, a file,
or an address (`collab.server.auth.jwks`); a set never mixes secrets with public keys, since whoever has a public key
could then sign with it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK
from jwt.utils import base64url_encode

from collab.errors import Misuse
from collab.settings.key_rules import MAC_ALGORITHM, MIN_SECRET_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MAX_KEYS = 50
MAX_TRIES = 4
"""Keys tried for one token that names none; more would make a flood of bad tokens that much dearer."""
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
"""Shorter ones can be broken, longer ones cost whoever verifies."""
_MAX_ID_CHARS = 200
_MAX_FILE_BYTES = 256 * 1024
_PEM = re.compile(rb"-----BEGIN (?:RSA )?PUBLIC KEY-----.+?-----END (?:RSA )?PUBLIC KEY-----", re.DOTALL)
_PUBLIC_MEMBERS = ("kty", "crv", "x", "y", "n", "e")
_SECRET_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""RFC 7518 section 6: with one of these an entry is a private or a symmetric key."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key and the only algorithm it verifies."""

    algorithm: str
    jwk: PyJWK
    id: str | None = None
    """The `kid` of tokens it signed. None: it may have signed any."""


class Keys(Protocol):
    """Where the keys come from."""

    @property
    def known(self) -> tuple[Key, ...]:
        """The keys believed now. Another tuple after every change."""

    async def ready(self) -> None:
        """See to it that ``known`` may be believed; raises `Unavailable` when it cannot be."""

    async def look_again(self) -> None:
        """Called for a key id that is not known: fetch anew where that can help, and seldom. Raises `Unavailable`."""


class FixedKeys:
    """Keys that do not change while the server runs. Raises `Misuse` for a set that must not be."""

    def __init__(self, keys: Iterable[Key], *, algorithms: Collection[str] = ()) -> None:
        self.known = tuple(key for key in keys if not algorithms or key.algorithm in algorithms)
        if not self.known:
            raise Misuse("There is no key of an algorithm that tokens may have here.")
        if len({key.algorithm == MAC_ALGORITHM for key in self.known}) > 1:
            raise Misuse("Secrets and public keys do not verify the same tokens.")
        if max(Counter(key.algorithm for key in self.known if key.id is None).values(), default=0) > MAX_TRIES:
            raise Misuse(f"More than {MAX_TRIES} keys of one algorithm need ids: a key set has them, PEM has not.")

    async def ready(self) -> None:
        """They always are."""

    async def look_again(self) -> None:
        """There is nowhere to look."""


def secret_key(secret: str) -> Key:
    """An HS256 key; raises `Misuse` when it is too short, or a public key that everybody may have."""
    raw = secret.encode()
    if len(raw) < MIN_SECRET_BYTES:
        raise Misuse(f"An HS256 key has at least {MIN_SECRET_BYTES} bytes.")
    if raw.lstrip().startswith((b"-----BEGIN", b"ssh-")):
        raise Misuse("A key pair's public key is no secret.")
    jwk = {"kty": "oct", "k": base64url_encode(raw).decode()}
    return Key(MAC_ALGORITHM, PyJWK(jwk, MAC_ALGORITHM))


def public_key(key: object, *, key_id: str | None = None) -> Key:
    """A key of the `cryptography` library; raises `Misuse` for one of a kind that tokens are not signed with here."""
    algorithm = _algorithm(key)
    if algorithm is None:
        raise Misuse(f"A public key is Ed25519, P-256, or RSA with {MIN_RSA_BITS} to {MAX_RSA_BITS} bits.")
    jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return Key(algorithm, PyJWK(jwk, algorithm), key_id)


def keys_of_file(path: str | Path) -> tuple[Key, ...]:
    """The public keys of a file: PEM, one or more, or a JSON Web Key Set. Raises `Misuse`, naming the file."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Misuse(f"The keys in {path} cannot be read: {error.strerror}.") from error
    try:
        return _keys_of(raw)
    except (Misuse, ValueError, RecursionError, UnsupportedAlgorithm) as error:
        reason = str(error) if isinstance(error, Misuse) else "It is neither PEM nor a JSON Web Key Set."
        raise Misuse(f"{path} holds no keys for tokens. {reason}") from error


def _keys_of(raw: bytes) -> tuple[Key, ...]:
    if len(raw) > _MAX_FILE_BYTES:
        raise Misuse("It is too large.")
    if b"PRIVATE KEY-----" in raw:
        raise Misuse("It is a private key, which only whoever signs may have: `openssl pkey -pubout` makes the other.")
    if pems := _PEM.findall(raw):
        return tuple(public_key(load_pem_public_key(pem)) for pem in pems[:MAX_KEYS])
    document = json.loads(raw)
    if any(_SECRET_MEMBERS & entry.keys() for entry in _entries(document) if isinstance(entry, dict)):
        raise Misuse("It has a private or symmetric key, which only whoever signs may have.")
    if not (keys := keys_of_set(document)):
        raise Misuse("None of its keys is for EdDSA, ES256 or RS256 signatures.")
    return keys


def keys_of_set(document: object) -> tuple[Key, ...]:
    """The usable keys of a JSON Web Key Set (RFC 7517); raises `Misuse` when it is none.

    What is not a public key for signatures of a known algorithm is left out, as section 5 asks.
    """
    return tuple(key for entry in _entries(document) if (key := _usable(entry)) is not None)


def _entries(document: object) -> list[Any]:
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise Misuse(f"A key set is an object with at most {MAX_KEYS} keys.")
    return entries


def _usable(entry: object) -> Key | None:
    if not isinstance(entry, dict) or _SECRET_MEMBERS & entry.keys() or not _is_for_signatures(entry):
        return None
    public = {member: entry[member] for member in _PUBLIC_MEMBERS if member in entry}
    key_id = entry.get("kid")
    if not all(isinstance(value, str) for value in public.values()) or not _is_id(key_id):
        return None
    try:
        jwk = PyJWK(public)
    except (jwt.PyJWTError, ValueError, UnsupportedAlgorithm):
        return None
    algorithm = _algorithm(jwk.key)
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        return None
    return Key(algorithm, jwk, key_id)


def _is_for_signatures(entry: dict[str, Any]) -> bool:
    operations = entry.get("key_ops", ["verify"])
    return entry.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _is_id(value: object) -> bool:
    return value is None or (isinstance(value, str) and 0 < len(value) <= _MAX_ID_CHARS)


def _algorithm(key: object) -> str | None:
    if isinstance(key, Ed25519PublicKey):
        return "EdDSA"
    if isinstance(key, EllipticCurvePublicKey):
        return "ES256" if isinstance(key.curve, SECP256R1) else None
    if isinstance(key, RSAPublicKey):
        return "RS256" if MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS else None
    return None
