"""The version of a store: a new one gets the tables, an older one is brought up to date, a newer one is refused.

Alembic does it, with the steps in `versions`. `env.py` is what Alembic runs; it takes our connection from here.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

VERSION_TABLE = "percept_records_version"
CONNECTION: ContextVar[Connection | None] = ContextVar("records_connection", default=None)
"""That of the migration which is running; None outside of one."""
_one_at_a_time = threading.Lock()  # Alembic's context is one for the whole process


def revision_of(connection: Connection) -> str | None:
    """Return the version of a store; None of an empty database."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


@cache
def known_revisions() -> tuple[str, ...]:
    """Return the versions that this Percept knows, the newest first."""
    return tuple(step.revision for step in ScriptDirectory.from_config(_config()).walk_revisions())


def migrate(connection: Connection) -> None:
    """Bring a store to the newest version, in the connection's transaction, which must keep all others out."""
    with _one_at_a_time:
        token = CONNECTION.set(connection)
        try:
            command.upgrade(_config(), "head")
        finally:
            CONNECTION.reset(token)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
