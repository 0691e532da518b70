"""The tables of a store as they are now; `versions` has how they came to be."""

from __future__ import annotations

import sqlalchemy as sa

from shared.records.migrating import VERSION_TABLE

_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLES = sa.MetaData()
RECORDS = sa.Table(
    "percept_records",
    TABLES,
    sa.Column("id", _number, primary_key=True),
    sa.Column("request_id", sa.String),
    sa.Column("item", sa.Integer),
    sa.Column("time", sa.DateTime),
    sa.Column("key", sa.String),
    sa.Column("task", sa.String),
    sa.Column("model", sa.Text),
    sa.Column("version", sa.Text),
    sa.Column("outcome", sa.String),
    sa.Column("labels", sa.JSON),
    sa.Column("scores", sa.JSON),
    sa.Column("confidence", sa.Double),
    sa.Column("out_of_scope_score", sa.Double),
    sa.Column("share", sa.Double),
    sa.Column("subject", sa.Text),
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
    sa.Column("shadow_of", sa.Text),
    sa.Column("same", sa.String),
)
FEEDBACK = sa.Table(
    "percept_feedback",
    TABLES,
    sa.Column("id", _number, primary_key=True),
    sa.Column("record", _number),
    sa.Column("request_id", sa.String),
    sa.Column("item", sa.Integer),
    sa.Column("key", sa.String),
    sa.Column("time", sa.DateTime),
    sa.Column("right", sa.Boolean),
    sa.Column("helpful", sa.Boolean),
    sa.Column("labels", sa.JSON(none_as_null=True)),
    sa.Column("answer", sa.Text),
    sa.Column("comment", sa.Text),
)
FORGOTTEN = sa.Table(
    "percept_forgotten",
    TABLES,
    sa.Column("subject_hash", sa.String, primary_key=True),
    sa.Column("time", sa.DateTime),
)
SALT = sa.Table("percept_salt", TABLES, sa.Column("salt", sa.String))
VERSION = sa.Table(VERSION_TABLE, TABLES, sa.Column("version_num", sa.String))
REVIEWS = sa.Table(
    "percept_reviews",
    TABLES,
    sa.Column("id", _number, primary_key=True),
    sa.Column("record", _number),
    sa.Column("reviewer", sa.String),
    sa.Column("time", sa.DateTime),
    sa.Column("reason", sa.String),
    sa.Column("labels", sa.JSON(none_as_null=True)),
    sa.Column("answer", sa.Text),
    sa.Column("comment", sa.Text),
)
FINDINGS = sa.Table(
    "percept_findings",
    TABLES,
    sa.Column("id", _number, primary_key=True),
    sa.Column("time", sa.DateTime),
    sa.Column("model", sa.Text),
    sa.Column("version", sa.Text),
    sa.Column("state", sa.String),
    sa.Column("found", sa.JSON),
)
