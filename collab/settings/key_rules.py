"""Which keys and secrets a server may be given: what `Settings` objects to, and what those who use keys hold to."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import SecretStr

    from collab.settings.fields import Settings

MIN_SECRET_BYTES = 32
"""RFC 7518 section 3.2: an HS256 key is at least as long as its hash."""
MAC_ALGORITHM = "HS256"
PUBLIC_KEY_ALGORITHMS = ("EdDSA", "ES256", "RS256")


def key_objections(settings: Settings) -> Iterator[str]:
    """What is wrong with where the keys of tokens come from, one sentence each."""
    sources = [name for name in ("jwt_secret", "jwt_keys", "jwt_jwks_url") if getattr(settings, name) is not None]
    variables = ["COLLAB_" + name.upper() for name in sources]
    if not sources:
        yield (
            "With auth=jwt the key of the tokens must be in COLLAB_JWT_SECRET, COLLAB_JWT_KEYS or COLLAB_JWT_JWKS_URL."
        )
    elif len(sources) > 1:
        yield f"{' and '.join(variables)} are set: keep one, tokens have one kind of key."
    elif settings.jwt_algorithms and settings.jwt_secret is None and MAC_ALGORITHM in settings.jwt_algorithms:
        yield (
            f"COLLAB_JWT_ALGORITHMS names HS256, but the keys of {variables[0]} are public: "
            "whoever knows one could sign with it."
        )
    elif settings.jwt_algorithms and settings.jwt_secret is not None and settings.jwt_algorithms != (MAC_ALGORITHM,):
        yield "COLLAB_JWT_ALGORITHMS names more than HS256, the only algorithm of COLLAB_JWT_SECRET."
    yield from _secrets_objections(settings)
    if settings.jwt_jwks_url is not None:
        yield from _jwks_objections(settings, settings.jwt_jwks_url)


def _secrets_objections(settings: Settings) -> Iterator[str]:
    if settings.jwt_secret is not None:
        yield from secret_objections("COLLAB_JWT_SECRET", settings.jwt_secret, MIN_SECRET_BYTES)
    if settings.jwt_secret_old is not None:
        yield from secret_objections("COLLAB_JWT_SECRET_OLD", settings.jwt_secret_old, MIN_SECRET_BYTES)
        if settings.jwt_secret is None:
            yield "COLLAB_JWT_SECRET_OLD is the second of two secrets, but COLLAB_JWT_SECRET is not set."


def _jwks_objections(settings: Settings, url: str) -> Iterator[str]:
    if not may_bring_keys(url):
        yield "COLLAB_JWT_JWKS_URL must be https, or http on this machine: who answers for it decides who gets in."
    if settings.jwt_audience is None or settings.jwt_issuer is None:
        yield (
            "With COLLAB_JWT_JWKS_URL set COLLAB_JWT_AUDIENCE and COLLAB_JWT_ISSUER too: else tokens made for "
            "other applications of that issuer are believed here."
        )


def secret_objections(variable: str, secret: SecretStr, least: int) -> Iterator[str]:
    """What is wrong with a secret of at least ``least`` bytes, one sentence each; never a part of it."""
    raw = secret.get_secret_value().encode()
    if len(raw) < least:
        yield f"{variable} has {len(raw)} bytes; at least {least} are needed."
    elif raw.lstrip().startswith((b"-----BEGIN", b"ssh-")):
        yield f"{variable} holds a public key, which is no secret; a file with it goes into COLLAB_JWT_KEYS."
    elif len(set(raw)) < 8:
        yield f"{variable} looks like a placeholder: use random bytes, for example from `openssl rand -hex 32`."


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine and nothing else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_bring_keys(url: str) -> bool:
    """Whether nobody on the way can answer for ``url``: https, or http to this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or "@" in parts.netloc or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
