"""`collab doctor`: looks at everything a server needs and says, in a sentence each, what is wrong and what to do.

Changes nothing; an SQLite file that does not exist yet is not created either.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
import secrets
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from collab.cli.console import say, settings
from collab.cli.workshop import open_engine
from collab.engine.port import Compose, Render
from collab.errors import CollabError
from collab.server.page import NOT_BUILT, page_folder
from collab.settings import ENV_PREFIX, describe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from collab.settings import Settings

OLDEST = {"pycrdt": (0, 14, 13), "uvicorn": (0, 54), "starlette": (1, 0, 1), "PyJWT": (2, 13)}
"""Older ones have bugs that matter here: crashes, leaked sockets, forged tokens."""
ENGINE_PATIENCE_S = 20.0


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    subject: str
    sentence: str


def doctor(
    *,
    database: Annotated[
        str | None, typer.Option(envvar="COLLAB_DATABASE", help="Database to look at; default: the configured one.")
    ] = None,
) -> None:
    """Check this machine, the settings, the database, Redis and the engine.

    Exit code 1 when something must be changed.
    """
    wanted = settings(database=database)
    findings = asyncio.run(examine(wanted))
    for found in findings:
        say(f"{found.level.value:<5} {found.subject:<9} {found.sentence}")
    if any(found.level is Level.BAD for found in findings):
        raise typer.Exit(1)


async def examine(wanted: Settings) -> list[Finding]:
    """Everything found, in the order of the report."""
    findings = [*_versions(), *_settings(wanted, os.environ), *_limits(wanted), *_page(wanted)]
    async for found in _database(wanted):
        findings.append(found)  # noqa: PERF401 - an async comprehension would hide that each waits
    findings += await _redis(wanted)
    findings.append(await _engine(wanted))
    return findings


def _versions() -> Iterator[Finding]:
    yield Finding(Level.OK, "python", f"Python {platform.python_version()} on {platform.system()}.")
    for package, oldest in OLDEST.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            yield Finding(Level.BAD, package, "is not installed; install collab-server again.")
            continue
        needed = ".".join(map(str, oldest))
        if _numbers(found) < oldest:
            yield Finding(Level.BAD, package, f"Version {found} has known faults; install {needed} or newer.")
        else:
            yield Finding(Level.OK, package, f"Version {found}.")


def _numbers(text: str) -> tuple[int, ...]:
    digits = ("".join(c for c in part if c.isdigit()) for part in text.split(".")[:3])
    return tuple(int(part or 0) for part in digits)


def _settings(wanted: Settings, environment: os._Environ[str]) -> Iterator[Finding]:
    objections = wanted.objections()
    for objection in objections:
        yield Finding(Level.BAD, "settings", objection)
    known = {setting.variable for setting in describe()}
    for variable in sorted(environment):
        if variable.startswith(ENV_PREFIX) and variable not in known:
            yield Finding(Level.WARN, "settings", f"{variable} is no setting and is ignored; it may be misspelt.")
    if "*" in wanted.allowed_origins:
        yield Finding(Level.WARN, "settings", "COLLAB_ALLOWED_ORIGINS=* lets every web page connect.")
    if wanted.engine == "inline":
        yield Finding(Level.WARN, "settings", "COLLAB_ENGINE=inline: one hostile update can end the whole node.")
    if wanted.auth == "open":
        yield Finding(
            Level.WARN, "settings", "COLLAB_AUTH=open: whoever reaches the server may write; use jwt for users."
        )
    if not objections:
        yield Finding(
            Level.OK, "settings", f"A server may be started: http://{wanted.host}:{wanted.port}, {wanted.auth}."
        )


def _limits(wanted: Settings) -> Iterator[Finding]:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # a server raises the soft limit by itself
    needed = wanted.max_sessions + 200
    if most == resource.RLIM_INFINITY or most >= needed:
        yield Finding(Level.OK, "files", f"{most} open files are allowed.")
    else:
        yield Finding(
            Level.WARN,
            "files",
            f"{most} open files are allowed, but {wanted.max_sessions} sessions need {needed}: have root raise it.",
        )
    core, _ = resource.getrlimit(resource.RLIMIT_CORE)
    if core != 0:
        yield Finding(Level.WARN, "core", "A crash may leave a core file with document text; set `ulimit -c 0`.")


def _page(wanted: Settings) -> Iterator[Finding]:
    if not wanted.serve_page:
        return
    if page_folder() is None:
        yield Finding(Level.WARN, "page", NOT_BUILT)
    else:
        yield Finding(Level.OK, "page", "The editor page is built.")


async def _database(wanted: Settings) -> AsyncIterator[Finding]:
    from collab.store.durability import weaknesses
    from collab.store.sql import SqlStore
    from collab.store.urls import normalised

    url = wanted.database.get_secret_value()
    try:
        address = normalised(url)
        if address.get_backend_name() == "sqlite":
            found = _sqlite_file(Path(address.database or ""))
            if found is not None:
                yield found
                return
        store = SqlStore(url)
    except CollabError as error:
        yield Finding(Level.BAD, "database", f"{error}.")
        return
    try:
        status = await store.check()
    finally:
        await store.close()
    if status.ok:
        yield Finding(Level.OK, "database", f"{status.detail}; schema {status.schema}.")
        for weakness in await weaknesses(url):
            yield Finding(Level.BAD, "database", f"PostgreSQL's {weakness}")
    elif status.schema is None and address.get_backend_name() == "sqlite":
        yield Finding(Level.OK, "database", f"{wanted.database_shown} gets its schema when the server starts.")
    else:
        yield Finding(Level.BAD, "database", f"{status.detail}.")


def _sqlite_file(path: Path) -> Finding | None:
    folder = path.parent if str(path.parent) else Path()
    if not folder.is_dir():
        return Finding(Level.BAD, "database", f"The folder {folder} for the SQLite file does not exist; make it.")
    if not os.access(path if path.exists() else folder, os.W_OK) or not os.access(folder, os.W_OK):
        return Finding(Level.BAD, "database", f"{path} cannot be written by this user; SQLite needs file and folder.")
    if not path.exists():
        return Finding(Level.OK, "database", f"{path} will be made when the server starts.")
    return None


async def _redis(wanted: Settings) -> list[Finding]:
    from collab.bus.redis import try_out

    if wanted.redis is None:
        return []
    secret = wanted.bus_secret.get_secret_value().encode() if wanted.bus_secret else None
    findings = []
    try:
        seconds = await try_out(
            wanted.redis.get_secret_value(),
            node=f"doctor-{secrets.token_hex(4)}",
            rng=random.Random(),  # noqa: S311 - jitter, not secrets
            prefix=wanted.redis_prefix,
            sharded=wanted.redis_sharded,
            secret=secret,
        )
    except CollabError as error:
        findings.append(Finding(Level.BAD, "redis", f"{wanted.redis_shown} carries nothing: {str(error).rstrip('.')}."))
    else:
        took = f"{seconds * 1000:.1f} ms from node to node"
        findings.append(Finding(Level.OK, "redis", f"{wanted.redis_shown} carries messages, {took}."))
    if secret is None:
        findings.append(
            Finding(
                Level.WARN, "redis", "COLLAB_BUS_SECRET is not set: whoever reaches Redis can write into documents."
            )
        )
    return findings


async def _engine(wanted: Settings) -> Finding:
    text = "collab doctor was here"
    try:
        async with asyncio.timeout(ENGINE_PATIENCE_S), open_engine(wanted) as engine:
            update = await engine.run(Compose(text.encode(), "text"))
            assert isinstance(update, bytes)  # noqa: S101 - Compose answers bytes
            shown = await engine.run(Render((update,), "text"))
    except (CollabError, OSError, TimeoutError) as error:
        return Finding(
            Level.BAD, "engine", f"The {wanted.engine} engine does not work: {str(error) or type(error).__name__}."
        )
    if not isinstance(shown, bytes) or shown.decode().strip() != text:
        return Finding(Level.BAD, "engine", f"The {wanted.engine} engine answers wrongly; install pycrdt again.")
    return Finding(Level.OK, "engine", f"The {wanted.engine} engine works.")
