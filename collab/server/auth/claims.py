"""What a token's claims say, each checked for presence, type and value; `access_of` makes an `Access` of them.

The signature, and the registered claims as far as PyJWT checks them, are checked before, in
`collab.server.auth.jwt_access`. PyJWT takes `"exp": "123"` and any lifetime; this does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collab.errors import Unauthenticated
from collab.room.session import Identity, Role
from collab.server.auth.access import Access

if TYPE_CHECKING:
    from collections.abc import Mapping

LEEWAY_S = 30
"""How far clocks may disagree about `exp`, `nbf` and `iat`."""
MAX_LIFETIME_S = 24 * 3600.0
"""A token good for longer is refused. A day, though an hour is the usual advice: stock y-websocket sends the token it
was made with at every reconnect, so its lifetime is how long a laptop may sleep."""
_MAX_TIME = 1e11
_MAX_SUBJECT_CHARS, _MAX_NAME_CHARS, _MAX_ID_CHARS, _MAX_PATTERNS = 200, 100, 200, 200
_ROLES = {role.value: role for role in Role}
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say to be one for this server."""

    audience: str | None = None
    """Must be among `aud`. None: a token that names an audience is for somebody else (RFC 7519 section 4.1.3)."""
    issuer: str | None = None
    """Must be `iss`. None: anybody who has the key."""
    max_lifetime_s: float = MAX_LIFETIME_S


def access_of(claims: Mapping[str, Any], expected: Expected, *, now: float) -> Access:
    """What a verified token stands for; raises `Unauthenticated` without repeating any of it."""
    issued_at, expires = _time(claims, "iat"), _time(claims, "exp")
    _time(claims, "nbf")
    if expires is None:
        raise Unauthenticated("The token lacks the exp claim.")
    begun = now + LEEWAY_S if issued_at is None else issued_at
    if expires - begun > expected.max_lifetime_s:
        raise Unauthenticated(f"The token is good for longer than the {expected.max_lifetime_s:.0f} s allowed here.")
    subject = _text(claims, "sub", _MAX_SUBJECT_CHARS)
    if subject is None:
        raise Unauthenticated("The token lacks the sub claim.")
    return Access(
        Identity(subject, name=_text(claims, "name", _MAX_NAME_CHARS), color=_color(claims.get("color"))),
        _grants(claims),
        expires_at=expires + LEEWAY_S,
        issued_at=issued_at,
        token_id=_text(claims, "jti", _MAX_ID_CHARS),
    )


def _time(claims: Mapping[str, Any], claim: str) -> float | None:
    value = claims.get(claim)
    if value is None:
        return None
    # A bool is an int to Python; NaN and the infinity of 1e999 are outside every bound.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _MAX_TIME:
        raise Unauthenticated(f"The token's {claim} claim is not a time.")
    return float(value)


def _text(claims: Mapping[str, Any], claim: str, limit: int) -> str | None:
    value = claims.get(claim)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
        raise Unauthenticated(f"The token's {claim} claim is not a short text.")
    return value


def _color(value: object) -> str | None:
    # Editors write the colour into a style attribute: anything but this form could carry CSS.
    if value is not None and not (isinstance(value, str) and _COLOR.fullmatch(value)):
        raise Unauthenticated("The token's color claim is not of the form #rrggbb.")
    return value


def _grants(claims: Mapping[str, Any]) -> dict[str, Role]:
    documents = claims.get("documents", {})
    if not isinstance(documents, dict) or len(documents) > _MAX_PATTERNS:
        raise Unauthenticated("The token's documents claim is not a small object of patterns.")
    grants = {pattern: _role(value) for pattern, value in documents.items()}
    if "access" in claims:
        grants.setdefault("*", _role(claims["access"]))
    return grants


def _role(value: object) -> Role:
    if isinstance(value, str) and value in _ROLES:
        return _ROLES[value]
    raise Unauthenticated("A role in the token is none of read, comment, write, admin.")
