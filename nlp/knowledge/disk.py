"""Connections to the file of a knowledge base: one that writes, and one for each thread that reads at the moment.

A reader sees one state of the file from its first look to its last, and neither waits for a writer nor holds one up.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nlp.knowledge.schema import connect, open_file
from shared.errors import NotReady, ServiceError

_MESSAGES = {
    sqlite3.SQLITE_FULL: "the knowledge base's disk is full. Nothing was changed; try again when there is room.",
    sqlite3.SQLITE_READONLY: "the knowledge base can only be read at present. Nothing was changed.",
    sqlite3.SQLITE_BUSY: "the knowledge base is busy with other documents. Nothing was changed; try again in a moment.",
    sqlite3.SQLITE_CORRUPT: "the knowledge base is damaged; whoever runs the service must restore or rebuild it.",
    sqlite3.SQLITE_NOTADB: "the knowledge base is damaged; whoever runs the service must restore or rebuild it.",
}


class Disk:
    """One file, for all threads of a process.

    Args:
        path: made where there is none; raises as `open_file`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = open_file(path)
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
                connection = connect(self._path)
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                _roll_back(connection)
                self._idle.append(connection)
                if self._is_closed:  # while it was read
                    self._close_idle()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection that writes; all that is done with it is kept at the end, or nothing where an error left.

        Raises:
            NotReady: the file was closed.
            ServiceError: the disk is full, cannot be written to or is busy.
        """
        with self._writing:
            self._check_open()
            with _as_service_errors():
                try:
                    self._writer.execute("BEGIN IMMEDIATE")
                    yield self._writer
                    self._writer.execute("COMMIT")
                finally:
                    _roll_back(self._writer)

    def close(self) -> None:
        """Close all connections: those in use when they are given back."""
        with self._writing:
            self._is_closed = True
            self._writer.close()
            self._close_idle()

    def _check_open(self) -> None:
        if self._is_closed:
            raise NotReady("the knowledge base is closed: the service is about to end.")

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # an error may have ended it already
        connection.execute("ROLLBACK")


@contextmanager
def _as_service_errors() -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest says more of it
        fallback = "the knowledge base cannot be read or written at present. Nothing was changed; try again later."
        raise ServiceError(_MESSAGES.get(code, fallback)) from error
