"""The SQLite file of a knowledge base: its tables, one connection that writes, and one for each thread that reads.

A reader sees one state of the file from start to end, and neither waits for a writer nor holds one up.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from shared.errors import ConfigError, NotReady, ServiceError

APPLICATION_ID = 0x50435054
"""ASCII "PCPT": tells our file from other programs' databases."""
SCHEMA_VERSION = 2
BUSY_TIMEOUT_S = 15.0
"""How long a writer waits for another process's; the largest accepted document takes about 5 s to write."""

_FTS5 = "fts5"
_TOKENS = "unicode61 remove_diacritics 2"
_COLUMNS = "title, headings, lead, text, pieces"
_INDEX = (
    f"""CREATE VIRTUAL TABLE stems USING fts5 (
        {_COLUMNS}, content = 'passages', content_rowid = 'key', tokenize = 'porter {_TOKENS}')""",
    f"""CREATE VIRTUAL TABLE forms USING fts5 (
        {_COLUMNS}, content = 'passages', content_rowid = 'key', tokenize = '{_TOKENS}')""",
)
# How many passages have a word, looked up by the word itself.
_VOCABULARY = "CREATE VIRTUAL TABLE vocabulary USING fts5vocab (forms, row)"
_STATE = (
    # `changes` goes up with each document that is put or removed; `encoder` names whose embeddings are kept.
    "CREATE TABLE state (changes INTEGER NOT NULL, encoder TEXT NOT NULL)",
    "INSERT INTO state VALUES (0, '')",
)
_SCHEMA = (
    """CREATE TABLE documents (
        key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, media_type TEXT NOT NULL,
        passages INTEGER NOT NULL, characters INTEGER NOT NULL, sha256 TEXT NOT NULL, updated TEXT NOT NULL,
        fingerprint TEXT NOT NULL, text TEXT NOT NULL)""",
    """CREATE TABLE passages (
        key INTEGER PRIMARY KEY, document INTEGER NOT NULL REFERENCES documents (key), title TEXT NOT NULL,
        path TEXT NOT NULL, headings TEXT NOT NULL, text TEXT NOT NULL,
        start INTEGER NOT NULL, end INTEGER NOT NULL, kind TEXT NOT NULL DEFAULT 'prose',
        lead TEXT NOT NULL DEFAULT '', pieces TEXT NOT NULL DEFAULT '', page INTEGER,
        cells TEXT NOT NULL DEFAULT '[]', embedding BLOB)""",
    "CREATE INDEX passages_by_document ON passages (document)",
    *_INDEX,
    _VOCABULARY,
    *_STATE,
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_FROM_1 = (
    "ALTER TABLE passages ADD COLUMN kind TEXT NOT NULL DEFAULT 'prose'",
    "ALTER TABLE passages ADD COLUMN lead TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE passages ADD COLUMN pieces TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE passages ADD COLUMN page INTEGER",
    "ALTER TABLE passages ADD COLUMN cells TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE passages ADD COLUMN embedding BLOB",
    "DROP TABLE stems",
    "DROP TABLE forms",
    *_INDEX,
    "INSERT INTO stems (stems) VALUES ('rebuild')",
    "INSERT INTO forms (forms) VALUES ('rebuild')",
    _VOCABULARY,
    *_STATE,
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
"""Format 1 knew only prose; its documents stay, and are read anew when they are put again."""
_DAMAGED = "the knowledge base is damaged; whoever runs the service must restore or rebuild it."
_MESSAGES = {
    sqlite3.SQLITE_FULL: "the knowledge base's disk is full. Nothing was changed; try again when there is room.",
    sqlite3.SQLITE_READONLY: "the knowledge base is read-only at present. Nothing was changed.",
    sqlite3.SQLITE_BUSY: "the knowledge base is busy with other documents. Nothing was changed; try again in a moment.",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}
_UNAVAILABLE = "the knowledge base cannot be read or written at present. Nothing was changed; try again later."


class Database:
    """One file, for all threads of a process. A new file gets our tables, and its folder is made too.

    Raises:
        ConfigError: the file cannot be opened, is not a database, belongs to another program or a newer Percept, or
            this Python's SQLite has no FTS5.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = _open(path)
        self._writing = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._is_closed = False

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that sees one state of the file.

        Raises:
            NotReady: the file was closed.
            ServiceError: the file cannot be read.
        """
        self._check_open()
        with _as_service_errors():
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = _connect(self._path)
            try:
                with _transaction(connection, "BEGIN"):
                    yield connection
            finally:
                self._idle.append(connection)
                if self._is_closed:  # while it was read
                    self._close_idle()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection that writes. Everything done with it is kept at the end, or nothing after an error.

        Raises:
            NotReady: the file was closed.
            ServiceError: the disk is full, cannot be written to or is busy.
        """
        if not self._writing.acquire(timeout=BUSY_TIMEOUT_S):
            raise ServiceError(_MESSAGES[sqlite3.SQLITE_BUSY])
        try:
            self._check_open()
            with _as_service_errors(), _transaction(self._writer, "BEGIN IMMEDIATE"):
                yield self._writer
        finally:
            self._writing.release()

    def close(self) -> None:
        """Close all connections; those in use close when they are given back."""
        with self._writing:
            self._is_closed = True
            self._writer.close()
            self._close_idle()

    def _check_open(self) -> None:
        if self._is_closed:
            raise NotReady("the knowledge base is closed: the service is shutting down.")

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # an error may have ended it already
            connection.execute("ROLLBACK")


@contextmanager
def _as_service_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest is detail
        raise ServiceError(_MESSAGES.get(code, _UNAVAILABLE)) from error


def _connect(path: Path) -> sqlite3.Connection:
    """Return a connection that may pass from thread to thread; transactions begin and end by SQL.

    synchronous=FULL, the default, stays: a document whose PUT was answered survives a power cut. It costs one fsync per
    document, a few milliseconds, and documents are put rarely.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _open(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that has our tables; raises as `Database`."""
    with ExitStack() as undo:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # SQLite gives the files beside it the same mode
                os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
            connection = _connect(path)
            undo.callback(connection.close)
            _check_fts5(connection)
            # One transaction: of several processes that open a new file, one makes the tables; none sees half of them.
            with _transaction(connection, "BEGIN IMMEDIATE"):
                for statement in {0: _SCHEMA, 1: _FROM_1, SCHEMA_VERSION: ()}[_version(connection, path)]:
                    connection.execute(statement)
            # Readers go on while one writes, and a crash in mid-write leaves what was there before.
            _use_write_ahead_log(connection)
        except (sqlite3.Error, OSError) as error:
            raise _unusable(path, error) from error
        undo.pop_all()
        return connection


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the format of our tables, or 0 for a new file. Raises ConfigError for a file that is not ours."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == APPLICATION_ID and 1 <= version <= SCHEMA_VERSION:
        return int(version)
    if application == APPLICATION_ID:
        raise ConfigError(
            f"{path} is a knowledge base of format {version}; this version of Percept reads format {SCHEMA_VERSION}. "
            "Update Percept, or name another file and put the documents into it again."
        )
    if tables or application or version:
        raise ConfigError(f"{path} is another program's database, not a knowledge base. Name another file; it is made.")
    return 0


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
        return ConfigError(
            f"{path} is not a knowledge base: it is not an SQLite database. Name another file; it is made."
        )
    return ConfigError(
        f"the knowledge base {path} cannot be opened: {error}. Name a file in a local folder that may be written to; "
        "if the file is damaged, remove it, and its documents are put in again."
    )
