"""From settings to the `Authenticate` they ask for. `collab.server.app` calls it, and `collab token`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from collab.errors import Misuse
from collab.server.auth.jwks import JwksKeys
from collab.server.auth.jwt_access import JwtAccess
from collab.server.auth.keys import FixedKeys, keys_of_file, secret_key
from collab.server.auth.open_access import OpenAccess, open_access
from collab.settings.key_rules import key_objections
from collab.settings.objections import LOOPBACK_HOSTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from collab.server.auth.access import Authenticate
    from collab.server.auth.keys import Keys
    from collab.settings import Settings


def authenticator(settings: Settings) -> Authenticate:
    """The implementation that ``settings`` ask for. Raises `Misuse` when they do not fit together."""
    if settings.auth == "jwt":
        return jwt_access(settings, keys_of(settings))
    if settings.allow_open_auth or not settings.is_loopback:
        return open_access
    public = {settings.public_host} if settings.public_host else set()
    return OpenAccess(hosts=LOOPBACK_HOSTS | {settings.host.lower()} | public)


def jwt_access(settings: Settings, keys: Keys) -> JwtAccess:
    """What ``settings`` ask of tokens, by ``keys``."""
    return JwtAccess(
        keys,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        max_lifetime_s=settings.jwt_max_lifetime_s,
        token_in_url=settings.token_in_url,
    )


def keys_of(settings: Settings) -> Keys:
    """The keys that ``settings`` name; raises `Misuse` when there are none, or not such as a server may have."""
    for objection in key_objections(settings):  # whoever mounts collab has asked nobody else
        raise Misuse(objection)
    algorithms = settings.jwt_algorithms
    if settings.jwt_jwks_url is not None:
        return JwksKeys(settings.jwt_jwks_url, algorithms=algorithms)
    if settings.jwt_keys is not None:
        return FixedKeys(keys_of_file(settings.jwt_keys), algorithms=algorithms)
    secrets = [secret for secret in (settings.jwt_secret, settings.jwt_secret_old) if secret is not None]
    return FixedKeys([secret_key(secret.get_secret_value()) for secret in secrets], algorithms=algorithms)


@asynccontextmanager
async def running(authenticate: Authenticate) -> AsyncIterator[None]:
    """While inside, what ``authenticate`` fetches in the background is fetched; afterwards nothing of it is left."""
    keys = authenticate.keys if isinstance(authenticate, JwtAccess) else None
    if not isinstance(keys, JwksKeys):
        yield
        return
    keys.start()
    try:
        yield
    finally:
        await keys.close()
