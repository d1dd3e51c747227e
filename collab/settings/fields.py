"""Everything that can be set, in one frozen value, read once.

Each field is also a `COLLAB_<FIELD>` environment variable and, secrets apart, an option of `collab serve`. Only
`server/app.py` and the command line read settings; everything below takes what it needs as arguments.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from collab.settings.key_rules import is_loopback
from collab.settings.objections import ENV_PREFIX, LOOPBACK_HOSTS, objections

_ORIGIN = re.compile(r"https?://[^/?#\s@]+")
_DATABASE_SCHEMES = ("sqlite", "postgresql", "postgres")
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_KIB, _MIB = 1024, 1024 * 1024


class Settings(BaseSettings):
    """How one node of collab runs. Sizes and times carry their unit in the name."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, env_ignore_empty=True
    )

    environment: Literal["development", "production"] = Field(
        default="development",
        description="production: strangers can reach this server. It does not start with open access, default or short "
        "secrets, wildcards or plain HTTP in its addresses, and answers only to host names it knows.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 lets the system choose.")
    public_url: str | None = Field(
        default=None,
        description="Where browsers reach this server, when a proxy stands in front. Its origin is then allowed too.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Host names requests may ask for, without ports, separated by commas, besides that of the public "
        "URL and this machine's own. Empty: only those in production, any in development; but with auth=open on an "
        "address of this machine never more than localhost and the public URL's.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("127.0.0.1", "::1"),
        description="Addresses or networks of proxies in front, separated by commas, whose X-Forwarded-For and "
        "X-Forwarded-Proto are believed. none: nobody's. *: any.",
    )
    serve_page: bool = Field(default=True, description="Serve the editor page at /.")
    openapi: bool = Field(default=True, description="Serve the description of the REST API at /openapi.json.")
    metrics: bool = Field(default=True, description="Serve Prometheus metrics at /metrics.")
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Serve /metrics at a port of its own instead, which only machines should reach; /livez and /readyz "
        "are there too.",
    )

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
    jwt_secret_old: SecretStr | None = Field(
        default=None, description="A second secret that is believed too, while one replaces the other."
    )
    jwt_keys: str | None = Field(
        default=None, description="File with the public keys of the tokens: PEM, or a JSON Web Key Set."
    )
    jwt_jwks_url: str | None = Field(
        default=None,
        description="Address of the public keys of the tokens, a JSON Web Key Set: https, or http on this machine.",
    )
    jwt_algorithms: Annotated[tuple[Literal["EdDSA", "ES256", "RS256", "HS256"], ...], NoDecode] = Field(
        default=(),
        description="Algorithms of tokens, separated by commas. "
        "Empty: HS256 with a secret; EdDSA, ES256 and RS256 with public keys.",
    )
    jwt_audience: str | None = Field(
        default=None,
        min_length=1,
        description="When set, a token must name it in its aud claim. Unset: a token that names any is refused.",
    )
    jwt_issuer: str | None = Field(
        default=None, min_length=1, description="When set, a token must name it in its iss claim."
    )
    jwt_max_lifetime_s: float = Field(
        default=86_400.0,
        gt=0,
        description="A token good for longer is refused. Stock y-websocket sends the token it was made with at every "
        "reconnect, so this is also how long a laptop may sleep.",
    )
    token_in_url: bool = Field(
        default=True,
        description="Take tokens from ?token= too, the only place where stock y-websocket and y-sweet can put one. "
        "Proxies before this server, and an application that mounts collab, must not log it.",
    )
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
    max_body_bytes: int = Field(default=64 * _KIB, ge=_KIB, description="Largest body of a REST request.")
    max_import_bytes: int = Field(
        default=10 * _MIB, ge=_KIB, description="Largest body of a REST request that carries content or an update."
    )
    max_awareness_bytes: int = Field(default=8 * _KIB, ge=256, description="Largest presence state of one client.")
    max_sessions: int = Field(default=10_000, ge=1, description="Most sessions of one node.")
    max_sessions_per_room: int = Field(default=1_000, ge=1, description="Most sessions of one document on one node.")
    max_sessions_per_user: int = Field(
        default=50,
        ge=0,
        description="Most sessions of one user on one node; 0: any number, as of users called anonymous and where "
        "auth=open.",
    )
    max_sessions_per_link: int = Field(
        default=250,
        ge=0,
        description="Most sessions on one node of people who have shown one link and nothing else, so that a link "
        "cannot fill its document; 0: any number.",
    )
    max_refusals_per_address: int = Field(
        default=50,
        ge=0,
        description="So often one address may be refused in a minute, over REST for want of an identity and over "
        "WebSocket for want of one or of a role, before all it asks is answered 429 unseen. 0: any number.",
    )
    messages_per_s: float = Field(
        default=200.0,
        ge=0,
        description="Messages of one session beyond which it is read more slowly; one held back for nearly a minute "
        "is closed with 4529. 0: no limit.",
    )
    burst_messages: int = Field(default=1_000, ge=1, description="So many may come at once.")
    bytes_per_s: float = Field(
        default=2 * _MIB, ge=0, description="Bytes of one session beyond which it is read more slowly. 0: no limit."
    )
    burst_bytes: int = Field(default=32 * _MIB, ge=_KIB, description="So many bytes may come at once.")
    max_document_bytes: int = Field(
        default=20 * _MIB,
        ge=64 * _KIB,
        le=128 * _MIB,
        description="Largest document, encoded; a larger one takes deletions only. One half as large is logged.",
    )
    many_clients: int = Field(
        default=50_000,
        ge=1,
        description="A document in which so many clients have written, one for each time somebody opened a page and "
        "typed, is logged.",
    )
    outbox_bytes: int = Field(
        default=_MIB,
        ge=16 * _KIB,
        description="What may wait for a slow reader before it gets one diff instead of the backlog.",
    )
    unsaved_bytes: int = Field(
        default=64 * _MIB,
        ge=_MIB,
        description="What one node keeps in memory of its own people's edits while the database does not answer; with "
        "more it reads writers slowly.",
    )
    unsaved_bytes_per_room: int = Field(default=_MIB, ge=16 * _KIB, description="The same for one document.")

    request_head_s: float = Field(
        default=10.0, gt=0, description="Longest time from connecting to the end of a request's head."
    )
    request_body_s: float = Field(default=120.0, gt=0, description="Longest time for the body of a REST request.")
    authentication_s: float = Field(
        default=5.0,
        gt=0,
        description="Longest time for finding out who opens a WebSocket; then it is closed with 4508.",
    )
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

    @field_validator("allowed_origins", "allowed_hosts", "trusted_proxies", "jwt_algorithms", mode="before")
    @classmethod
    def _split_lists(cls, value: object) -> object:
        return tuple(part for part in re.split(r"[,\s]+", value) if part) if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError("an origin is http(s)://host or http(s)://host:port, without a path")
        return tuple(origin.lower() for origin in value)

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not _HOST.fullmatch(host):
                raise ValueError("a host is a name or an address, IPv6 in brackets, without a port")
        return tuple(host.lower() for host in value)

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value == ("none",):
            return ()
        for proxy in value:
            try:
                proxy == "*" or ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ValueError("a proxy is an address such as 10.0.0.7 or a network such as 10.0.0.0/8") from error
        if "*" in value and len(value) > 1:
            raise ValueError("* is every proxy and stands alone")
        return value

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
        return is_loopback(self.host)

    @property
    def public_host(self) -> str | None:
        """The host of the public URL in lower case, without its port; None without one."""
        return None if self.public_url is None else _host_of(self.public_url)

    @property
    def is_https(self) -> bool:
        """Whether browsers reach this server over TLS."""
        return self.public_url is not None and self.public_url.lower().startswith("https://")

    @property
    def known_hosts(self) -> frozenset[str] | None:
        """The host names this server answers to, in lower case and without ports; None: to any."""
        if self.environment == "development" and not self.allowed_hosts:
            return None
        public = {self.public_host} if self.public_host else set()
        own = f"[{self.host}]" if ":" in self.host else self.host.lower()
        return LOOPBACK_HOSTS | public | {own} | set(self.allowed_hosts)

    def objections(self) -> tuple[str, ...]:
        """Why a server must not be started with these settings, one sentence each; empty when it may."""
        return objections(self)


def _host_of(url: str) -> str:
    return re.sub(r":\d*$", "", url.lower().split("/")[2])


def _shown_url(secret: SecretStr) -> str:
    url = urlsplit(secret.get_secret_value())
    user, at, host = url.netloc.rpartition("@")
    return f"{url.scheme}://{user.partition(':')[0]}{at}{host}{url.path}"
