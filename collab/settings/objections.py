"""Why a server must not be started with some settings: what is open, missing, default or contradicts itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from collab.settings.key_rules import key_objections, secret_objections

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from collab.settings.fields import Settings

ENV_PREFIX = "COLLAB_"
MIN_BUS_SECRET_BYTES = 16
"""Of a message's signature 16 bytes are kept; a shorter key would be easier to guess than that."""
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""How a browser may name the machine it runs on."""
_PLACEHOLDER = re.compile(r"(?i)change.?(me|this|it)|placeholder|(your|my|super|top).?secret|example|insecure|default")
"""Said in documentation where a secret goes. No 32 random bytes are likely to say so."""
_OPEN_IN_PRODUCTION = "In production everybody shows a token: set COLLAB_AUTH=jwt."
_KNOWN_PASSWORDS = frozenset({"", "collab", "postgres", "password", "secret", "admin", "root", "test", "changeme"})


def objections(settings: Settings) -> tuple[str, ...]:
    """One sentence each; empty when it may be started."""
    strict = (*_in_production(settings), *_default_secrets(settings)) if settings.environment == "production" else ()
    return (*_everywhere(settings), *strict)


def objections_when_mounted(settings: Settings, *, own_access: bool, own_store: bool, inline: bool) -> tuple[str, ...]:
    """The same of an application that mounts collab; empty outside production.

    What the application's own server decides is left out: addresses, ports, TLS. With ``own_access`` the application
    says who people are, with ``own_store`` it brings the store; ``inline`` is whether CRDT code runs in its process.
    """
    if settings.environment != "production":
        return ()
    found = [*_of_every_node(settings), *_of_every_production_node(settings, inline=inline)]
    if not own_access:
        found += key_objections(settings) if settings.auth == "jwt" else [_OPEN_IN_PRODUCTION]
    if not own_store:
        found += _of_shared_documents(settings)
    if settings.public_url is None and not settings.allowed_hosts:
        found.append("In production COLLAB_PUBLIC_URL or COLLAB_ALLOWED_HOSTS must say by which name browsers come.")
    if settings.metrics and settings.metrics_port is None:
        found.append(
            "In production /metrics is not where people are served: set COLLAB_METRICS=false, or serve "
            "`Collab.machine_app()` at a port that is not published and name it in COLLAB_METRICS_PORT."
        )
    unused = {"jwt_secret", "jwt_secret_old"} if own_access else set()
    return (*found, *_default_secrets(settings, unused | ({"database"} if own_store else set())))


def _everywhere(settings: Settings) -> Iterator[str]:
    in_production = settings.environment == "production"  # which says more about it
    if settings.auth == "open" and not (settings.is_loopback or settings.allow_open_auth or in_production):
        yield (
            f"With auth=open everybody who reaches {settings.host} may read and write every document: "
            "set COLLAB_AUTH=jwt, listen on 127.0.0.1, or say COLLAB_ALLOW_OPEN_AUTH=true."
        )
    if settings.auth == "jwt":
        yield from key_objections(settings)
    if settings.max_frame_bytes_before_auth > settings.max_frame_bytes:
        yield "COLLAB_MAX_FRAME_BYTES_BEFORE_AUTH is larger than COLLAB_MAX_FRAME_BYTES."
    if settings.metrics_port and settings.metrics_port == settings.port:
        yield "COLLAB_METRICS_PORT is the same as COLLAB_PORT."
    yield from _of_shared_documents(settings)
    yield from _of_every_node(settings)


def _of_shared_documents(settings: Settings) -> Iterator[str]:
    if settings.redis is not None and settings.database.get_secret_value().startswith("sqlite"):
        yield "Nodes with COLLAB_REDIS share one PostgreSQL: set COLLAB_DATABASE, SQLite serves a single node."


def _of_every_node(settings: Settings) -> Iterator[str]:
    if settings.bus_secret is not None:
        yield from secret_objections("COLLAB_BUS_SECRET", settings.bus_secret, MIN_BUS_SECRET_BYTES)
    if settings.drain_spread_s >= settings.drain_timeout_s:
        yield "COLLAB_DRAIN_SPREAD_S is not less than COLLAB_DRAIN_TIMEOUT_S."
    if settings.unsaved_bytes_per_room > settings.unsaved_bytes:
        yield "COLLAB_UNSAVED_BYTES_PER_ROOM is larger than COLLAB_UNSAVED_BYTES."


def _in_production(settings: Settings) -> Iterator[str]:
    if settings.auth == "open":
        yield _OPEN_IN_PRODUCTION
    if settings.public_url is None:
        yield "In production COLLAB_PUBLIC_URL must say where browsers reach this server."
    elif not settings.is_https and settings.public_host not in LOOPBACK_HOSTS:
        yield "In production COLLAB_PUBLIC_URL is https: over plain HTTP everybody on the way reads tokens."
    yield from _of_every_production_node(settings, inline=settings.engine == "inline")
    if settings.metrics and settings.metrics_port is None:
        yield (
            "In production /metrics is not where people are served: set COLLAB_METRICS_PORT to a port that is not "
            "published, or COLLAB_METRICS=false."
        )


def _of_every_production_node(settings: Settings, *, inline: bool) -> Iterator[str]:
    if "*" in settings.allowed_origins:
        yield "In production COLLAB_ALLOWED_ORIGINS names every origin: * lets any web page connect."
    if inline:
        yield "In production COLLAB_ENGINE is isolated: inline, one hostile update ends the whole node."
    if settings.redis is not None and settings.bus_secret is None:
        yield "In production COLLAB_BUS_SECRET must be set: without it whoever reaches Redis writes into documents."


def _default_secrets(settings: Settings, unused: Collection[str] = ()) -> Iterator[str]:
    for name in type(settings).model_fields:
        secret = getattr(settings, name)
        if name in unused or not isinstance(secret, SecretStr):
            continue
        variable, value = ENV_PREFIX + name.upper(), secret.get_secret_value()
        if "://" in value:
            password = urlsplit(value).password
            if password is not None and (password.lower() in _KNOWN_PASSWORDS or _PLACEHOLDER.search(password)):
                yield f"In production the password in {variable} is not a default one."
        elif _PLACEHOLDER.search(value):
            yield f"{variable} looks like a placeholder: use random bytes, for example from `openssl rand -hex 32`."
