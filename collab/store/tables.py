"""The tables, as SQLAlchemy sees them; `migrations/` makes them, and a test keeps the two equal on both databases.

`updates` is the log, `snapshots` holds folded documents (kind ``compaction``, used for loading) and labelled ones
(kind ``version``, made on request). `grants` and the tables behind it say who may do what. `collab_schema` has one row,
for nodes older than the schema. Times are UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

SQLITE_TIME = "%Y-%m-%d %H:%M:%S.%f"
"""How SQLite keeps a time, so that text order is time order."""


class UtcTime(TypeDecorator[datetime]):
    """An aware time, in UTC; SQLite keeps it without its zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Make it UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Give SQLite's times their zone back."""
        if value is None:
            return None
        time: datetime = value
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


_Key = BigInteger().with_variant(Integer, "sqlite")
_ROLE = "role IN ('read', 'comment', 'write', 'admin')"
_HASH = "length(secret_hash) = 32"
_Name = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

documents = Table(
    "documents",
    metadata,
    Column("id", _Key, Identity(), primary_key=True),
    Column("name", _Name, nullable=False, comment="compared bytewise, so that pages are in code point order"),
    Column("title", Text),
    Column("meta", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("deleted_at", UtcTime),
    Column("last_seq", BigInteger, nullable=False, comment="sequence of the newest committed update"),
    UniqueConstraint("name"),
    sqlite_autoincrement=True,
)

updates = Table(
    "updates",
    metadata,
    Column("document_id", _Key, ForeignKey("documents.id"), nullable=False),
    Column("seq", BigInteger, nullable=False, comment="1, 2, 3, ... within the document, without gaps"),
    Column("bytes", LargeBinary, nullable=False, comment="the Yjs v1 update as received"),
    Column("sha256", LargeBinary, nullable=False, comment="over document name, NUL, bytes"),
    Column("author", Text),
    Column("node", Text, nullable=False),
    Column("number", BigInteger, nullable=False, comment="counts up within the node; repeats are refused"),
    Column("created_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("document_id", "seq"),
    UniqueConstraint("node", "number"),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("id", _Key, Identity(), primary_key=True),
    Column("document_id", _Key, ForeignKey("documents.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("label", Text),
    Column("bytes", LargeBinary, nullable=False),
    Column("state_vector", LargeBinary, nullable=False),
    Column("sha256", LargeBinary, nullable=False, comment="over document name, NUL, bytes"),
    Column("covered_through", BigInteger, nullable=False, comment="rows up to here are folded in, except waiting"),
    Column("waiting", JSON, nullable=False, comment="sequences up to covered_through that are not folded in"),
    Column("seq", BigInteger, nullable=False, comment="the document's last_seq when it was made"),
    Column("author", Text),
    Column("created_at", UtcTime, nullable=False),
    CheckConstraint("kind IN ('compaction', 'version')", name="kind"),
    Index("ix_snapshots_document_id_kind_id", "document_id", "kind", "id"),
    sqlite_autoincrement=True,
)

collab_schema = Table(
    "collab_schema",
    metadata,
    Column("oldest", Text, primary_key=True, comment="the oldest revision whose code still runs on this schema"),
)

grants = Table(
    "grants",
    metadata,
    Column("document_id", _Key, ForeignKey("documents.id"), nullable=False),
    Column("subject", _Name, nullable=False),
    Column("role", Text, nullable=False),
    Column("granted_by", Text, nullable=False),
    Column("granted_at", UtcTime, nullable=False),
    CheckConstraint(_ROLE, name="role"),
    PrimaryKeyConstraint("document_id", "subject"),
    Index(None, "subject", "document_id"),
)

access_links = Table(
    "access_links",
    metadata,
    Column("id", _Key, Identity(), primary_key=True),
    Column("document_id", _Key, ForeignKey("documents.id"), nullable=False),
    Column("role", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False, comment="SHA-256; the secret itself is kept nowhere"),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    CheckConstraint(_ROLE, name="role"),
    CheckConstraint(_HASH, name="secret_hash"),
    UniqueConstraint("secret_hash"),
    Index(None, "document_id", "id"),
    sqlite_autoincrement=True,
)

access_tickets = Table(
    "access_tickets",
    metadata,
    Column("secret_hash", LargeBinary, primary_key=True),
    Column("payload", JSON, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    CheckConstraint(_HASH, name="secret_hash"),
    Index(None, "expires_at"),
)

access_revocations = Table(
    "access_revocations",
    metadata,
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("not_before", UtcTime, nullable=False, comment="tokens issued before are not believed"),
    Column("expires_at", UtcTime, nullable=False),
    Column("revoked_by", Text, nullable=False),
    CheckConstraint("kind IN ('subject', 'token')", name="kind"),
    PrimaryKeyConstraint("kind", "value"),
)

access_epoch = Table(
    "access_epoch",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False, comment="how many access changes there ever were"),
    CheckConstraint("id = 1", name="one_row"),
)

access_changes = Table(
    "access_changes",
    metadata,
    Column("epoch", _Key, primary_key=True, autoincrement=False),
    Column("document_id", _Key, ForeignKey("documents.id")),
    Column("subject", Text),
    Column("link_id", BigInteger),
    Column("token", Text),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", _Key, Identity(), primary_key=True),
    Column("key", Text, nullable=False, comment="appended twice, stored once"),
    Column("at", UtcTime, nullable=False),
    Column("action", Text, nullable=False),
    Column("actor", Text),
    Column("actor_kind", Text),
    Column("document", Text, comment="by name: it may never have been there"),
    Column("detail", JSON, nullable=False),
    UniqueConstraint("key"),
    Index(None, "document", "id"),
    Index(None, "actor", "id"),
    comment="append-only: triggers refuse everything else",
    sqlite_autoincrement=True,
)
