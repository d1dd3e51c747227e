"""Documents, their update log, their snapshots, and who may use this schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_Name = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "documents",
        sa.Column("id", _Key, sa.Identity(), nullable=False),
        sa.Column("name", _Name, nullable=False, comment="compared bytewise, so that pages are in code point order"),
        sa.Column("title", sa.Text),
        sa.Column("meta", sa.JSON, nullable=False),
        sa.Column("created_at", _Time, nullable=False),
        sa.Column("updated_at", _Time, nullable=False),
        sa.Column("deleted_at", _Time),
        sa.Column("last_seq", sa.BigInteger, nullable=False, comment="sequence of the newest committed update"),
        sa.PrimaryKeyConstraint("id", name="pk_documents"),
        sa.UniqueConstraint("name", name="uq_documents_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "updates",
        sa.Column("document_id", _Key, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False, comment="1, 2, 3, ... within the document, without gaps"),
        sa.Column("bytes", sa.LargeBinary, nullable=False, comment="the Yjs v1 update as received"),
        sa.Column("sha256", sa.LargeBinary, nullable=False, comment="over document name, NUL, bytes"),
        sa.Column("author", sa.Text),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False, comment="counts up within the node; repeats are refused"),
        sa.Column("created_at", _Time, nullable=False),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name="fk_updates_document_id"),
        sa.PrimaryKeyConstraint("document_id", "seq", name="pk_updates"),
        sa.UniqueConstraint("node", "number", name="uq_updates_node_number"),
    )
    op.create_table(
        "snapshots",
        sa.Column("id", _Key, sa.Identity(), nullable=False),
        sa.Column("document_id", _Key, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("bytes", sa.LargeBinary, nullable=False),
        sa.Column("state_vector", sa.LargeBinary, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False, comment="over document name, NUL, bytes"),
        sa.Column(
            "covered_through", sa.BigInteger, nullable=False, comment="rows up to here are folded in, except waiting"
        ),
        sa.Column("waiting", sa.JSON, nullable=False, comment="sequences up to covered_through that are not folded in"),
        sa.Column("seq", sa.BigInteger, nullable=False, comment="the document's last_seq when it was made"),
        sa.Column("author", sa.Text),
        sa.Column("created_at", _Time, nullable=False),
        sa.CheckConstraint("kind IN ('compaction', 'version')", name=op.f("ck_snapshots_kind")),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name="fk_snapshots_document_id"),
        sa.PrimaryKeyConstraint("id", name="pk_snapshots"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_snapshots_document_id_kind_id", "snapshots", ["document_id", "kind", "id"])
    op.create_table(
        "collab_schema",
        sa.Column(
            "oldest", sa.Text, nullable=False, comment="the oldest revision whose code still runs on this schema"
        ),
        sa.PrimaryKeyConstraint("oldest", name="pk_collab_schema"),
    )
    op.execute("INSERT INTO collab_schema (oldest) VALUES ('0001')")
    if op.get_bind().dialect.name == "postgresql":
        _tune_postgres()


def _tune_postgres() -> None:
    # Every append updates its document's row: room on the page keeps that update off the indexes.
    op.execute("ALTER TABLE documents SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)")
    # Compaction deletes from the log; the default of 20 % dead rows lets a big log bloat for days.
    op.execute("ALTER TABLE updates SET (autovacuum_vacuum_scale_factor = 0.02)")
    # Bytes are stored as they come, so the server may compress them; lz4 where this server was built with it,
    # because its default takes several times the CPU on a large snapshot.
    op.execute(
        "DO $$ BEGIN"
        " ALTER TABLE updates ALTER COLUMN bytes SET COMPRESSION lz4;"
        " ALTER TABLE snapshots ALTER COLUMN bytes SET COMPRESSION lz4;"
        " EXCEPTION WHEN OTHERS THEN NULL; END $$"
    )


def downgrade() -> None:
    op.drop_table("collab_schema")
    op.drop_table("snapshots")
    op.drop_table("updates")
    op.drop_table("documents")
