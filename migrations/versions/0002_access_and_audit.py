"""Who may do what (grants, links, tickets, revocations, the access epoch), and the audit log.

Only new tables, which the version before this one does not know. Their foreign keys lock `documents` against writes
(SHARE ROW EXCLUSIVE) until the commit, so nodes that run meanwhile save nothing for that long, nor while the migration
waits for the lock: two seconds at most (`migrations/env.py`), after which it fails and is run again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_Name = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_Time = sa.DateTime(timezone=True)
_ROLE = "role IN ('read', 'comment', 'write', 'admin')"
_HASH = "length(secret_hash) = 32"
_REFUSAL = "the audit log is append-only"


def upgrade() -> None:
    _grants()
    _tickets_and_revocations()
    _changes()
    _audit_log()
    if op.get_bind().dialect.name == "postgresql":
        _refuse_changes_postgres()
    else:
        _refuse_changes_sqlite()


def _grants() -> None:
    op.create_table(
        "grants",
        sa.Column("document_id", _Key, nullable=False),
        sa.Column("subject", _Name, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("granted_by", sa.Text, nullable=False),
        sa.Column("granted_at", _Time, nullable=False),
        sa.CheckConstraint(_ROLE, name=op.f("ck_grants_role")),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name="fk_grants_document_id"),
        sa.PrimaryKeyConstraint("document_id", "subject", name="pk_grants"),
    )
    op.create_index("ix_grants_subject_document_id", "grants", ["subject", "document_id"])
    op.create_table(
        "access_links",
        sa.Column("id", _Key, sa.Identity(), nullable=False),
        sa.Column("document_id", _Key, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False, comment="SHA-256; the secret itself is kept nowhere"),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", _Time, nullable=False),
        sa.Column("expires_at", _Time),
        sa.Column("revoked_at", _Time),
        sa.CheckConstraint(_ROLE, name=op.f("ck_access_links_role")),
        sa.CheckConstraint(_HASH, name=op.f("ck_access_links_secret_hash")),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name="fk_access_links_document_id"),
        sa.PrimaryKeyConstraint("id", name="pk_access_links"),
        sa.UniqueConstraint("secret_hash", name="uq_access_links_secret_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_access_links_document_id_id", "access_links", ["document_id", "id"])


def _tickets_and_revocations() -> None:
    op.create_table(
        "access_tickets",
        sa.Column("secret_hash", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("expires_at", _Time, nullable=False),
        sa.CheckConstraint(_HASH, name=op.f("ck_access_tickets_secret_hash")),
        sa.PrimaryKeyConstraint("secret_hash", name="pk_access_tickets"),
    )
    op.create_index("ix_access_tickets_expires_at", "access_tickets", ["expires_at"])
    op.create_table(
        "access_revocations",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("not_before", _Time, nullable=False, comment="tokens issued before are not believed"),
        sa.Column("expires_at", _Time, nullable=False),
        sa.Column("revoked_by", sa.Text, nullable=False),
        sa.CheckConstraint("kind IN ('subject', 'token')", name=op.f("ck_access_revocations_kind")),
        sa.PrimaryKeyConstraint("kind", "value", name="pk_access_revocations"),
    )


def _changes() -> None:
    op.create_table(
        "access_epoch",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False, comment="how many access changes there ever were"),
        sa.CheckConstraint("id = 1", name=op.f("ck_access_epoch_one_row")),
        sa.PrimaryKeyConstraint("id", name="pk_access_epoch"),
    )
    op.execute("INSERT INTO access_epoch (id, epoch) VALUES (1, 0)")
    op.create_table(
        "access_changes",
        sa.Column("epoch", _Key, nullable=False, autoincrement=False),
        sa.Column("document_id", _Key),
        sa.Column("subject", sa.Text),
        sa.Column("link_id", sa.BigInteger),
        sa.Column("token", sa.Text),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name="fk_access_changes_document_id"),
        sa.PrimaryKeyConstraint("epoch", name="pk_access_changes"),
    )


def _audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", _Key, sa.Identity(), nullable=False),
        sa.Column("key", sa.Text, nullable=False, comment="appended twice, stored once"),
        sa.Column("at", _Time, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("actor", sa.Text),
        sa.Column("actor_kind", sa.Text),
        sa.Column("document", sa.Text, comment="by name: it may never have been there"),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
        sa.UniqueConstraint("key", name="uq_audit_log_key"),
        comment="append-only: triggers refuse everything else",
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_log_document_id", "audit_log", ["document", "id"])
    op.create_index("ix_audit_log_actor_id", "audit_log", ["actor", "id"])


def _refuse_changes_postgres() -> None:
    op.execute(
        "CREATE FUNCTION collab_audit_log_append_only() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log"
        " FOR EACH STATEMENT EXECUTE FUNCTION collab_audit_log_append_only()"
    )


def _refuse_changes_sqlite() -> None:
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_log_no_{change.lower()} BEFORE {change} ON audit_log"
            f" BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        )


def downgrade() -> None:
    for table in (
        "audit_log",
        "access_changes",
        "access_epoch",
        "access_revocations",
        "access_tickets",
        "access_links",
        "grants",
    ):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION collab_audit_log_append_only()")
