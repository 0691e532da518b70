"""The file that a knowledge base lies in: an SQLite database, its tables, and how a connection to it behaves.

Neighbours: `store` reads and writes documents, `index` the search index.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from shared.errors import ConfigError

APPLICATION_ID = 0x50435054
"""ASCII "PCPT": tells our file from other programs' databases."""
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 15.0
"""A writer waits so long for another process's; the largest document that is accepted takes about 5 s to write."""

_FTS5 = "fts5"
_TOKENS = "unicode61 remove_diacritics 2"
_SCHEMA = f"""
CREATE TABLE documents (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, media_type TEXT NOT NULL,
    passages INTEGER NOT NULL, characters INTEGER NOT NULL, sha256 TEXT NOT NULL, updated TEXT NOT NULL,
    fingerprint TEXT NOT NULL, text TEXT NOT NULL
);
CREATE TABLE passages (
    key INTEGER PRIMARY KEY, document INTEGER NOT NULL REFERENCES documents (key), title TEXT NOT NULL,
    path TEXT NOT NULL, headings TEXT NOT NULL, text TEXT NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL
);
CREATE INDEX passages_by_document ON passages (document);
CREATE VIRTUAL TABLE stems USING fts5 (
    title, headings, text, content = 'passages', content_rowid = 'key', tokenize = 'porter {_TOKENS}');
CREATE VIRTUAL TABLE forms USING fts5 (
    title, headings, text, content = 'passages', content_rowid = 'key', tokenize = '{_TOKENS}');
"""


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection that may pass from thread to thread; transactions begin and end by SQL.

    synchronous=FULL, the default, stands: a document whose PUT was answered survives a power cut too. It costs one
    fsync a document, which is milliseconds, and documents are put rarely.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def open_file(path: Path) -> sqlite3.Connection:
    """Return a connection to a file with our tables, which are made where the file is new; its folder too.

    Raises:
        ConfigError: the file cannot be opened, is no database, another program's or a newer Percept's, or this Python's
            SQLite has no FTS5.
    """
    connection = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = connect(path)
        _check_fts5(connection)
        _prepare(connection, path)
        return connection
    except (sqlite3.Error, OSError) as error:
        _close(connection)
        raise _unusable(path, error) from error
    except BaseException:
        _close(connection)
        raise


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # One transaction: of several processes that open a new file, one makes the tables, and none sees half of them.
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _has_our_tables(connection, path):
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    # Readers go on while one writes, and a crash in mid-write leaves what was there before.
    _use_write_ahead_log(connection)


def _has_our_tables(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether the tables are there; False for a new file. Raises ConfigError for a file that is not ours."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == APPLICATION_ID and version == SCHEMA_VERSION:
        return True
    if application == APPLICATION_ID:
        raise ConfigError(
            f"{path} is a knowledge base of format {version}; this version of Percept reads format {SCHEMA_VERSION}. "
            "Update Percept, or name another file and put the documents into it again."
        )
    if tables or application or version:
        raise ConfigError(f"{path} is another program's database, not a knowledge base. Name another file; it is made.")
    return False


def _check_fts5(connection: sqlite3.Connection) -> None:
    has_fts5 = connection.execute("SELECT count(*) FROM pragma_module_list WHERE name = ?", (_FTS5,)).fetchone()[0]
    if not has_fts5:
        raise ConfigError(
            f"this Python's SQLite {sqlite3.sqlite_version} is built without FTS5, which the knowledge base searches "
            "with. Use a Python from python.org, conda, Debian or Homebrew, or one built with SQLITE_ENABLE_FTS5."
        )


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL. While others do the same, SQLite says "locked" at once instead of waiting."""
    until = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _unusable(path: Path, error: Exception) -> ConfigError:
    if "not a database" in str(error):
        return ConfigError(f"{path} is no knowledge base: it is not an SQLite database. Name another file; it is made.")
    return ConfigError(
        f"the knowledge base {path} cannot be opened: {error}. Name a file in a local folder that may be written to; "
        "where the file is damaged, remove it, and its documents are put in again."
    )


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        connection.close()
