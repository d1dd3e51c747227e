"""`collab token`: make a token for trying things out. In production the application that knows its users makes them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jwt
import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from collab.cli.console import fail, say, settings
from collab.errors import Unauthenticated
from collab.server.auth import FixedKeys
from collab.server.auth.configured import jwt_access, keys_of
from collab.server.auth.keys import public_key

if TYPE_CHECKING:
    from collab.server.auth import Keys
    from collab.settings import Settings

_Grants = Annotated[
    list[str] | None,
    typer.Option(
        "--document",
        help="PATTERN=ROLE; a pattern is a name or ends in *, a role is read, comment, write or admin. "
        "May be repeated.",
    ),
]


def token(
    subject: Annotated[str, typer.Argument(help="Stable id of the user (the sub claim).")],
    *,
    name: Annotated[str | None, typer.Option(help="Display name.")] = None,
    color: Annotated[str | None, typer.Option(help="Display colour, #rrggbb.")] = None,
    access: Annotated[str | None, typer.Option(help="Role for documents that no pattern names.")] = None,
    document: _Grants = None,
    minutes: Annotated[int, typer.Option(min=1, max=60 * 24, help="How long it is good for.")] = 60,
    key: Annotated[
        Path | None, typer.Option(help="PEM file with the private key to sign with (Ed25519, P-256 or RSA).")
    ] = None,
    key_id: Annotated[str | None, typer.Option(help="The key's id in the key set (the kid header).")] = None,
) -> None:
    """Print a token signed with COLLAB_JWT_SECRET, or with the private key in --key.

    Without --access and --document it may write every document.
    """
    wanted = settings(auth="jwt")
    signing, keys = _secret(wanted) if key is None else _private_key(key, wanted)
    if access is None and not document:
        access = "write"
    now = int(time.time())
    claims: dict[str, Any] = {
        "sub": subject,
        "iat": now,
        "exp": now + minutes * 60,
        "name": name,
        "color": color,
        "access": access,
        "documents": dict(_pattern(text) for text in document) if document else None,
        "aud": wanted.jwt_audience,
        "iss": wanted.jwt_issuer,
    }
    made = jwt.encode(
        {claim: value for claim, value in claims.items() if value is not None},
        signing,
        keys.known[0].algorithm,
        headers=None if key_id is None else {"kid": key_id},
    )
    try:
        jwt_access(wanted, keys).access(made)  # what would be refused later is refused here
    except Unauthenticated as error:
        fail(str(error), code=2)
    say(made)


def _secret(wanted: Settings) -> tuple[Any, Keys]:
    keys = keys_of(wanted)
    if wanted.jwt_secret is None:
        fail("Public keys sign nothing: give the private one with --key.", code=2)
    return wanted.jwt_secret.get_secret_value(), keys


def _private_key(path: Path, wanted: Settings) -> tuple[Any, Keys]:
    try:
        private: Any = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        fail(f"{path} is no PEM file with a private key that has no password.", code=2)
    own = public_key(private.public_key())
    if wanted.jwt_keys is None:
        return private, FixedKeys([own])
    # The server's own keys, so that a token nobody will believe is not made; of this key's kind, so that it signs.
    return private, FixedKeys(keys_of(wanted).known, algorithms=[own.algorithm])


def _pattern(text: str) -> tuple[str, str]:
    pattern, equals, role = text.rpartition("=")
    if not equals:
        fail(f"--document takes PATTERN=ROLE, such as acme:*=read, not {text!r}.", code=2)
    return pattern, role
