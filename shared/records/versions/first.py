"""Version 1: records, feedback, and the subjects that are to be forgotten."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None
SALT_BYTES = 32


def upgrade() -> None:
    """Make the tables, and the salt that subjects are hashed with."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts only what is called INTEGER
    op.create_table(
        "percept_records",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("item", sa.Integer, nullable=False),
        sa.Column("time", sa.DateTime, nullable=False, index=True),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("scores", sa.JSON, nullable=False),
        sa.Column("confidence", sa.Double),
        sa.Column("out_of_scope_score", sa.Double),
        sa.Column("share", sa.Double, nullable=False),
        sa.Column("subject", sa.Text, index=True),
        sa.Column("consent", sa.Boolean),
        sa.Column("characters", sa.Integer),
        sa.Column("context_characters", sa.Integer),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("features", sa.LargeBinary),
        sa.Column("text", sa.Text),
        sa.Column("context", sa.Text),
        sa.Column("answer", sa.Text),
        sa.Column("photo", sa.LargeBinary),
        sa.Index("ix_percept_records_request", "request_id", "item"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "percept_feedback",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("record", number, nullable=False, index=True),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("item", sa.Integer, nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("time", sa.DateTime, nullable=False),
        sa.Column("right", sa.Boolean),
        sa.Column("helpful", sa.Boolean),
        sa.Column("labels", sa.JSON),
        sa.Column("answer", sa.Text),
        sa.Column("comment", sa.Text),
        sa.UniqueConstraint("request_id", "item", "key", name="uq_percept_feedback"),
    )
    op.create_table(
        "percept_forgotten",
        sa.Column("subject_hash", sa.String(64), primary_key=True),
        sa.Column("time", sa.DateTime, nullable=False),
    )
    salt = op.create_table("percept_salt", sa.Column("salt", sa.String(64), primary_key=True))
    op.bulk_insert(salt, [{"salt": secrets.token_hex(SALT_BYTES)}])


def downgrade() -> None:
    """Remove the tables."""
    for name in ("percept_salt", "percept_forgotten", "percept_feedback", "percept_records"):
        op.drop_table(name)
