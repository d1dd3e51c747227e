"""`collab token`: make a token for trying things out. In production the application that knows its users makes them."""

from __future__ import annotations

import time
from typing import Annotated, Any

import jwt
import typer

from collab.cli.console import fail, say, settings
from collab.errors import Unauthenticated
from collab.server.auth import JwtAccess

_Grants = Annotated[
    list[str] | None,
    typer.Option(
        "--document", help="PATTERN=read or PATTERN=write; a pattern is a name or ends in *. May be repeated."
    ),
]


def token(
    subject: Annotated[str, typer.Argument(help="Stable id of the user (the sub claim).")],
    *,
    name: Annotated[str | None, typer.Option(help="Display name.")] = None,
    color: Annotated[str | None, typer.Option(help="Display colour, #rrggbb.")] = None,
    access: Annotated[
        str | None, typer.Option(help="Grant for documents that no pattern names: read or write.")
    ] = None,
    document: _Grants = None,
    minutes: Annotated[int, typer.Option(min=1, max=60 * 24, help="How long it is good for.")] = 60,
) -> None:
    """Print a token signed with COLLAB_JWT_SECRET.

    Without --access and --document it may write every document.
    """
    wanted = settings(auth="jwt")
    secret = wanted.jwt_secret
    if secret is None:
        fail("The key of the tokens must be in COLLAB_JWT_SECRET.", code=2)
    door = JwtAccess(secret.get_secret_value(), audience=wanted.jwt_audience, issuer=wanted.jwt_issuer)
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
        {claim: value for claim, value in claims.items() if value is not None}, secret.get_secret_value(), "HS256"
    )
    try:
        door.access(made)  # what would be refused later is refused here
    except Unauthenticated as error:
        fail(str(error), code=2)
    say(made)


def _pattern(text: str) -> tuple[str, str]:
    pattern, equals, grant = text.rpartition("=")
    if not equals:
        fail(f"--document takes PATTERN=read or PATTERN=write, not {text!r}.", code=2)
    return pattern, grant
