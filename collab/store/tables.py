"""The tables, as SQLAlchemy sees them; `migrations/` makes them, and a test keeps the two equal on both databases.

`updates` is the log, `snapshots` holds folded documents (kind ``compaction``, used for loading) and labelled ones
(kind ``version``, made on request). `collab_schema` has one row, for nodes older than the schema. Times are UTC.
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
