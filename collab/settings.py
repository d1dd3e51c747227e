"""Everything that can be set, in one frozen value, read once.

Each field is also a `COLLAB_<FIELD>` environment variable and, secrets apart, an option of `collab serve`. Only
`server/app.py` and the command line read settings; everything below takes what it needs as arguments.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterator

ENV_PREFIX = "COLLAB_"
MIN_SECRET_BYTES = 32
"""RFC 7518 section 3.2: an HS256 key is at least as long as its hash."""
_ORIGIN = re.compile(r"https?://[^/?#\s@]+")
MIN_BUS_SECRET_BYTES = 16
"""Of a message's signature 16 bytes are kept; a shorter key would be easier to guess than that."""
_DATABASE_SCHEMES = ("sqlite", "postgresql", "postgres")
_KIB, _MIB = 1024, 1024 * 1024


class Settings(BaseSettings):
    """How one node of collab runs. Sizes and times carry their unit in the name."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, env_ignore_empty=True
    )

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 lets the system choose.")
    public_url: str | None = Field(
        default=None,
        description="Where browsers reach this server, when a proxy stands in front. Its origin is then allowed too.",
    )
    serve_page: bool = Field(default=True, description="Serve the editor page at /.")
    metrics: bool = Field(default=True, description="Serve Prometheus metrics at /metrics.")

    database: SecretStr = Field(
        default=SecretStr("sqlite:///collab.db"),
        description="Where documents are kept: sqlite:///path or postgresql://user:password@host/name. "
        "A URL with a password belongs in the environment.",
    )
    migrate: bool = Field(
        default=False, description="Bring a PostgreSQL schema up to date at start. SQLite always does so by itself."
    )

    redis: SecretStr | None = Field(
        default=None,
        description="Redis over which the nodes of one deployment hear of each other: redis://, rediss:// (TLS) or "
        "unix://. Unset: this node has no others. A URL with a password belongs in the environment.",
    )
    redis_prefix: str = Field(
        default="collab",
        pattern=r"^[A-Za-z0-9._:{}-]{1,64}$",
        description="Begins every channel's name; the same on all nodes, and no other deployment's on that Redis.",
    )
    redis_sharded: bool = Field(
        default=False,
        description="Use sharded channels (Redis 7). All nodes talk to the one server of COLLAB_REDIS; in a Redis "
        "Cluster that must be the one that has the channels, so the prefix must be in braces, such as {collab}.",
    )
    bus_secret: SecretStr | None = Field(
        default=None,
        description="Signs what nodes tell each other, at least 16 bytes, the same on all nodes. Unset: whoever can "
        "publish in that Redis can write into documents.",
    )

    auth: Literal["open", "jwt"] = Field(
        default="open", description="Who may come in: open lets everybody write, jwt asks for a signed token."
    )
    allow_open_auth: bool = Field(
        default=False, description="Allow auth=open on an address that other machines can reach."
    )
    jwt_secret: SecretStr | None = Field(default=None, description="Key of the tokens (HS256), at least 32 bytes.")
    jwt_audience: str | None = Field(default=None, description="When set, a token must name it in its aud claim.")
    jwt_issuer: str | None = Field(default=None, description="When set, a token must name it in its iss claim.")
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins of web pages on other hosts that may connect, separated by commas. "
        "Empty: same origin only. *: any.",
    )

    engine: Literal["isolated", "inline"] = Field(
        default="isolated",
        description="Where CRDT code runs: isolated in a process of its own, inline in this one (trusted users only).",
    )
    isolation: Literal["strict", "fast"] = Field(
        default="fast",
        description="strict: others see an edit when the engine has taken it. "
        "fast: they see plain keystrokes at once; saved they are when the engine has taken them.",
    )
    engine_memory_mib: int = Field(default=2048, ge=256, description="Memory limit of an engine process.")
    engine_deadline_s: float = Field(
        default=2.0, gt=0, description="An engine that works longer on one batch is killed."
    )

    max_frame_bytes: int = Field(default=16 * _MIB, ge=_KIB, description="Largest WebSocket frame of a session.")
    max_frame_bytes_before_auth: int = Field(
        default=64 * _KIB,
        ge=_KIB,
        description="Largest WebSocket handshake, and what is read of a client before its session is let in.",
    )
    max_body_bytes: int = Field(default=_MIB, ge=_KIB, description="Largest body of a REST request.")
    max_import_bytes: int = Field(
        default=10 * _MIB, ge=_KIB, description="Largest body of a REST request that carries content or an update."
    )
    max_awareness_bytes: int = Field(default=8 * _KIB, ge=256, description="Largest presence state of one client.")
    max_sessions: int = Field(default=10_000, ge=1, description="Most sessions of one node.")
    max_sessions_per_room: int = Field(default=1_000, ge=1, description="Most sessions of one document on one node.")
    outbox_bytes: int = Field(
        default=_MIB,
        ge=16 * _KIB,
        description="What may wait for a slow reader before it gets one diff instead of the backlog.",
    )
    unsaved_bytes: int = Field(
        default=64 * _MIB, ge=_MIB, description="What one node keeps in memory while the database does not answer."
    )
    unsaved_bytes_per_room: int = Field(default=_MIB, ge=16 * _KIB, description="The same for one document.")

    keep_alive_s: float = Field(
        default=10.0, gt=0, le=15, description="A session that hears nothing this long is sent something."
    )
    awareness_expiry_s: float = Field(default=30.0, gt=0, description="Presence unheard of for this long is removed.")
    unload_after_s: float = Field(
        default=30.0, ge=0, description="A saved document without sessions leaves memory after this."
    )
    compact_after_updates: int = Field(
        default=500, ge=2, description="Updates in the log before they are folded into a snapshot."
    )
    drain_timeout_s: float = Field(
        default=20.0, gt=0, description="Longest wait at shutdown for everything to be saved."
    )
    drain_spread_s: float = Field(
        default=5.0,
        ge=0,
        description="Longest time over which a node that shuts down sends its sessions away, a document at a time.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )
    log_format: Literal["console", "json"] = Field(default="console", description="How log lines look.")

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        return tuple(part for part in re.split(r"[,\s]+", value) if part) if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError("an origin is http(s)://host or http(s)://host:port, without a path")
        return tuple(origin.lower() for origin in value)

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^/?#\s@]+", value):
            raise ValueError("a public URL starts with http:// or https:// and a host")
        return value

    @field_validator("database")
    @classmethod
    def _check_database(cls, value: SecretStr) -> SecretStr:
        scheme = value.get_secret_value().partition("://")[0]
        if scheme.partition("+")[0] not in _DATABASE_SCHEMES:
            raise ValueError("a database is sqlite:///path or postgresql://user:password@host/name")
        return value

    @field_validator("redis")
    @classmethod
    def _check_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"(rediss?|unix)://.", value.get_secret_value()):
            raise ValueError("a Redis is redis://host:port/0, rediss://host:port/0 or unix:///path")
        return value

    @property
    def database_shown(self) -> str:
        """The database URL fit for eyes and logs: without the password and the query."""
        return _shown_url(self.database)

    @property
    def redis_shown(self) -> str | None:
        """The same of the Redis URL, where there is one."""
        return None if self.redis is None else _shown_url(self.redis)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address listened on."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def objections(self) -> tuple[str, ...]:
        """Why a server must not be started with these settings, one sentence each; empty when it may."""
        return tuple(self._objections())

    def _objections(self) -> Iterator[str]:
        if self.auth == "open" and not self.is_loopback and not self.allow_open_auth:
            yield (
                f"With auth=open everybody who reaches {self.host} may read and write every document: "
                "set COLLAB_AUTH=jwt, listen on 127.0.0.1, or say COLLAB_ALLOW_OPEN_AUTH=true."
            )
        if self.auth == "jwt":
            if self.jwt_secret is None:
                yield "With auth=jwt the key of the tokens must be in COLLAB_JWT_SECRET."
            else:
                yield from _secret_objections("COLLAB_JWT_SECRET", self.jwt_secret, MIN_SECRET_BYTES)
        if self.redis is not None and self.database.get_secret_value().startswith("sqlite"):
            yield "Nodes with COLLAB_REDIS share one PostgreSQL: set COLLAB_DATABASE, SQLite serves a single node."
        if self.bus_secret is not None:
            yield from _secret_objections("COLLAB_BUS_SECRET", self.bus_secret, MIN_BUS_SECRET_BYTES)
        if self.max_frame_bytes_before_auth > self.max_frame_bytes:
            yield "COLLAB_MAX_FRAME_BYTES_BEFORE_AUTH is larger than COLLAB_MAX_FRAME_BYTES."
        if self.drain_spread_s >= self.drain_timeout_s:
            yield "COLLAB_DRAIN_SPREAD_S is not less than COLLAB_DRAIN_TIMEOUT_S."
        if self.unsaved_bytes_per_room > self.unsaved_bytes:
            yield "COLLAB_UNSAVED_BYTES_PER_ROOM is larger than COLLAB_UNSAVED_BYTES."


def _secret_objections(variable: str, secret: SecretStr, least: int) -> Iterator[str]:
    raw = secret.get_secret_value().encode()
    if len(raw) < least:
        yield f"{variable} has {len(raw)} bytes; at least {least} are needed."
    elif len(set(raw)) < 8:
        yield f"{variable} looks like a placeholder: use random bytes, for example from `openssl rand -hex 32`."


def _shown_url(secret: SecretStr) -> str:
    url = urlsplit(secret.get_secret_value())
    user, at, host = url.netloc.rpartition("@")
    return f"{url.scheme}://{user.partition(':')[0]}{at}{host}{url.path}"


class Setting(NamedTuple):
    """One row of the configuration table."""

    name: str
    """Of the field."""
    variable: str
    kind: str
    default: str
    """Empty when there is none."""
    description: str


def describe() -> tuple[Setting, ...]:
    """Every setting, in the order of the class; the README's table is made from this."""
    return tuple(
        Setting(
            name, ENV_PREFIX + name.upper(), _kind(field.annotation), _shown(field.default), field.description or ""
        )
        for name, field in Settings.model_fields.items()
    )


def markdown_table() -> str:
    """The configuration table of the README."""
    rows = (
        f"| `{row.variable}` | {f'`{row.default}`' if row.default else ''} | {row.description} |" for row in describe()
    )
    return "\n".join(("| Variable | Default | What it does |", "|---|---|---|", *rows))


def sentences(error: ValidationError) -> tuple[str, ...]:
    """What is wrong with settings, as sentences for a person; never a value, which may be a secret."""
    return tuple(
        f"{ENV_PREFIX}{'_'.join(map(str, problem['loc'][:1])).upper()}: {problem['msg'].removeprefix('Value error, ')}."
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    )


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list"
    members = [member for member in get_args(annotation) if member is not type(None)]
    kind = members[0] if members else annotation
    return "str" if kind is SecretStr else str(kind.__name__)


def _shown(default: Any) -> str:
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default in {None, ()} else str(default)
