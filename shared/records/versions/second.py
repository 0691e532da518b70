"""Version 2: what reviewers say, what a monitor found, and what candidates answered beside the live model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Add the tables and the columns."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("percept_records", sa.Column("shadow_of", sa.Text))
    op.add_column("percept_records", sa.Column("same", sa.String(32)))
    op.create_table(
        "percept_reviews",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("record", number, nullable=False),
        sa.Column("reviewer", sa.String(64), nullable=False),
        sa.Column("time", sa.DateTime, nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("labels", sa.JSON),
        sa.Column("answer", sa.Text),
        sa.Column("comment", sa.Text),
        sa.UniqueConstraint("record", "reviewer", name="uq_percept_reviews"),
    )
    op.create_table(
        "percept_findings",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("time", sa.DateTime, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("found", sa.JSON, nullable=False),
        sa.Index("ix_percept_findings_model", "model", "time"),
    )


def downgrade() -> None:
    """Remove them."""
    for name in ("percept_findings", "percept_reviews"):
        op.drop_table(name)
    with op.batch_alter_table("percept_records") as table:
        table.drop_column("same")
        table.drop_column("shadow_of")
