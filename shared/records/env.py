"""What Alembic runs for each migration; does nothing when it is only imported."""

from __future__ import annotations

from alembic import context

from shared.records.migrating import CONNECTION, VERSION_TABLE

connection = CONNECTION.get()
if connection is not None:
    context.configure(connection=connection, version_table=VERSION_TABLE)
    with context.begin_transaction():
        context.run_migrations()
