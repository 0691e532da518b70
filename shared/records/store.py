"""The store of records and feedback: SQLite in a file, or PostgreSQL by URL.

Several processes write to one store. Every writing transaction first looks which version the store has, so that one
which was deleted, replaced or brought up to date meanwhile is noticed. SQLite: WAL, and `BEGIN IMMEDIATE`, so that a
writer waits for another at its beginning and never has to give up halfway.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson
import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, SQLAlchemyError

from shared.errors import ConfigError
from shared.records.migrating import known_revisions, migrate, revision_of
from shared.records.tables import FEEDBACK, FORGOTTEN, RECORDS, REVIEWS, SALT, VERSION

Reason = Literal["locked", "full", "version", "unavailable", "broken", "refused"]
"""Why a store did not do what it was asked: another process holds it; its disk or quota is full; it is of a newer
version; it cannot be reached or opened; its file is no store; it refused the values."""
BUSY_S = 2.0
"""How long a transaction waits for another's end."""
CONNECT_S = 3
_STATEMENT_S = 10
_SWEEP_ROWS = 500
"""Deleted at once: others get their turn in between."""
_AT_ONCE = 1000
"""Parameters of one query."""
_WRITES = "percept_writes"
_LARGE = frozenset({"features", "text", "context", "photo"})
"""Columns that are read only where they are needed."""
_LOCK = 0x70657263
"""Number of our lock in PostgreSQL: "perc"."""
_SQLITE = {
    "SQLITE_BUSY": "locked", "SQLITE_LOCKED": "locked", "SQLITE_PROTOCOL": "locked", "SQLITE_FULL": "full",
    "SQLITE_CANTOPEN": "unavailable", "SQLITE_IOERR": "unavailable", "SQLITE_READONLY": "unavailable",
    "SQLITE_PERM": "unavailable", "SQLITE_NOTADB": "broken", "SQLITE_CORRUPT": "broken",
}  # fmt: skip
"""SQLite's name of an error, without what follows a second underscore -> reason."""
_POSTGRESQL = {"53100": "full", "53200": "full", "55P03": "locked", "57014": "locked", "40P01": "locked",
               "40001": "locked", "25006": "unavailable"}  # fmt: skip
"""Code of an error in PostgreSQL's documentation, appendix A -> reason."""


def check_url(url: str) -> None:
    """Refuse a URL that SQLAlchemy cannot read; the message does not show it.

    Raises:
        ConfigError: it cannot.
    """
    try:
        make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError("the URL of the records is not one as SQLAlchemy reads it: look at its port.") from None


def shown_place(url: URL) -> str:
    """Return a database's URL without passwords, wherever they are in it.

    >>> shown_place(make_url("postgresql://ada:secret@db/x?sslmode=require&password=secret"))
    'postgresql://ada:***@db/x?password=***&sslmode=require'
    """
    hidden = {name: "***" for name in url.query if re.search("pass|pwd|secret|token|key", name, re.IGNORECASE)}
    shown = url.update_query_dict(hidden) if hidden else url
    return shown.render_as_string(hide_password=True).replace("%2A", "*")


@contextmanager
def opened(url: str, *, must_exist: bool = False) -> Iterator[Store]:
    """Give a command the store, and close it.

    Args:
        url: of the store.
        must_exist: refuse one that no service has made yet.

    Raises:
        ConfigError: it is no URL, there is no such store, or it did not do what it was asked: a StoreError becomes one.
    """
    check_url(url)
    store = Store(url)
    try:
        if must_exist and not store.is_there():
            raise ConfigError(f"there are no records in {store.place}. Name the store as the service has it.")
        yield store
    except StoreError as error:
        raise ConfigError(f"the records in {store.place} cannot be used ({error.reason}): {error}") from error
    finally:
        store.close()


def rows_in(
    connection: Connection, query: sa.Select[Any], column: sa.Column[Any], values: Sequence[Any]
) -> Iterator[sa.Row[Any]]:
    """Yield the rows of a query whose column has one of these values, in no order; some values at a time.

    Databases limit the parameters of a query.
    """
    for start in range(0, len(values), _AT_ONCE):
        yield from connection.execute(query.where(column.in_(values[start : start + _AT_ONCE])))


class StoreError(Exception):
    """The store did not do it. Its message names no password and no value.

    Args:
        reason: why.
        message: for the log.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Kept:
    """A record that feedback is given on."""

    id: int
    task: str
    labels: Sequence[str]


@dataclass(frozen=True)
class Deleted:
    """How many rows are gone."""

    records: int
    feedback: int


class Store:
    """Writes to and reads from a store; may be used by several threads. Nothing is opened before it is used.

    Args:
        url: SQLAlchemy's, of SQLite (sqlite:////var/lib/percept/records.sqlite) or PostgreSQL with psycopg.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self.engine = _sqlite_engine(self._url) if self._is_sqlite else _postgresql_engine(self._url)

    @property
    def _is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @property
    def place(self) -> str:
        """Where it is, without the password."""
        return shown_place(self._url)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add rows, as `Record.row` gives them, and return how many: none of subjects that are to be forgotten.

        Raises:
            StoreError: none was added.
        """
        with self.writing() as connection:
            subjects = {row["subject"] for row in rows} - {None}
            if subjects:
                self.lock(connection, shared=True)
                hashes = {_hashed(connection, subject): subject for subject in subjects}
                query = sa.select(FORGOTTEN.c.subject_hash).where(FORGOTTEN.c.subject_hash.in_(hashes))
                gone = {hashes[found] for found in connection.scalars(query)}
                rows = [row for row in rows if row["subject"] not in gone]
            if rows:
                # Each column costs each row about half a microsecond: those that all leave empty are left out.
                filled = [name for name in rows[0] if any(row[name] is not None for row in rows)]
                connection.execute(sa.insert(RECORDS), [{name: row[name] for name in filled} for row in rows])
        return len(rows)

    def find(self, request_id: str, item: int, key: str | None) -> Kept | None:
        """Return the newest record of an item; None if there is none.

        Args:
            request_id: of the request that was answered.
            item: its place in the request.
            key: name of the caller's key, which must be that of the request; None for whoever may see all.
        """
        query = sa.select(RECORDS.c.id, RECORDS.c.task, RECORDS.c.labels).where(
            RECORDS.c.request_id == request_id, RECORDS.c.item == item, RECORDS.c.shadow_of.is_(None)
        )
        if key is not None:
            query = query.where(RECORDS.c.key == key)
        with self.reading() as connection:
            found = connection.execute(query.order_by(RECORDS.c.id.desc()).limit(1)).first()
        return Kept(found.id, found.task, found.labels) if found is not None else None

    def give_feedback(self, kept: Kept, request_id: str, item: int, key: str, **said: Any) -> bool | None:
        """Keep what a caller said of an item in place of what that caller said before.

        Args:
            kept: the item's record.
            request_id: of the request that was answered.
            item: its place in the request.
            key: name of the caller's key.
            said: `right`, `helpful`, `labels`, `answer`, `comment`, as far as they were said.

        Returns:
            Whether something was replaced; None if the record is gone meanwhile, and nothing was kept.
        """
        values = {"right": None, "helpful": None, "labels": None, "answer": None, "comment": None, **said}
        values |= {"record": kept.id, "time": _now()}
        mine = (FEEDBACK.c.request_id == request_id, FEEDBACK.c.item == item, FEEDBACK.c.key == key)
        with self.writing() as connection:
            self.lock(connection, shared=True)
            if connection.scalar(sa.select(RECORDS.c.id).where(RECORDS.c.id == kept.id)) is None:
                return None
            was_there = connection.scalar(sa.select(FEEDBACK.c.id).where(*mine)) is not None
            insert = (sqlite.insert if self._is_sqlite else postgresql.insert)(FEEDBACK)
            connection.execute(
                insert.values(request_id=request_id, item=item, key=key, **values).on_conflict_do_update(
                    index_elements=["request_id", "item", "key"], set_=values
                )
            )
        return was_there

    def read(self, request_id: str) -> list[dict[str, Any]]:
        """Return all records of a request, each with its `feedback`; times are UTC."""
        with self.reading() as connection:
            query = sa.select(RECORDS).where(RECORDS.c.request_id == request_id).order_by(RECORDS.c.id)
            found = [dict(row) for row in connection.execute(query).mappings()]
            of_them = FEEDBACK.c.record.in_([row["id"] for row in found])
            said = list(connection.execute(sa.select(FEEDBACK).where(of_them).order_by(FEEDBACK.c.id)).mappings())
        for row in found:
            row["time"] = row["time"].replace(tzinfo=UTC)
            row["feedback"] = [
                {**each, "time": each["time"].replace(tzinfo=UTC)} for each in said if each["record"] == row["id"]
            ]
        return found

    def is_there(self) -> bool:
        """Return whether there is a store; unlike all else, makes none.

        Raises:
            StoreError: it cannot be reached, or is none.
        """
        if self._is_sqlite and not Path(self._url.database or "").is_file():
            return False
        with _told(), self.engine.connect() as connection:
            return revision_of(connection) is not None

    def models(self) -> list[tuple[str, str, int]]:
        """Return name and version of each model that there are records of, and how many."""
        columns = (RECORDS.c.model, RECORDS.c.version)
        query = sa.select(*columns, sa.func.count()).where(RECORDS.c.shadow_of.is_(None))
        query = query.group_by(*columns).order_by(*columns)
        with self.reading() as connection:
            return [(model, version, count) for model, version, count in connection.execute(query)]

    def newest(
        self,
        model: str,
        last: int,
        *,
        version: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        shadow_of: str | None = None,
        features: int = 0,
    ) -> list[dict[str, Any]]:
        """Return a model's newest records, the newest first, each with its `feedback`; without texts and photos.

        Args:
            model: its name.
            last: at most so many.
            version: of this one alone.
            since: UTC without a zone; from then on.
            until: likewise; before then.
            shadow_of: what candidates answered silently beside this version, instead of what callers got.
            features: so many of the newest with `features`; the others have None.
        """
        wanted = [RECORDS.c.model == model]
        wanted += [RECORDS.c.shadow_of.is_(None) if shadow_of is None else RECORDS.c.shadow_of == shadow_of]
        wanted += [RECORDS.c.version == version] if version is not None else []
        wanted += [RECORDS.c.time >= since] if since is not None else []
        wanted += [RECORDS.c.time < until] if until is not None else []
        columns = [column for column in RECORDS.c if column.name not in _LARGE]
        order = (RECORDS.c.time.desc(), RECORDS.c.id.desc())
        with self.reading() as connection:
            query = sa.select(*columns).where(*wanted).order_by(*order).limit(last)
            found = [dict(row) for row in connection.execute(query).mappings()]
            some = sa.select(RECORDS.c.id, RECORDS.c.features).where(*wanted).order_by(*order)
            kept = {row.id: row.features for row in connection.execute(some.limit(min(features, last)))}
            said = sa.select(FEEDBACK).join(RECORDS, FEEDBACK.c.record == RECORDS.c.id).where(*wanted)
            feedback: dict[int, list[dict[str, Any]]] = {}
            for each in connection.execute(said.order_by(FEEDBACK.c.time, FEEDBACK.c.id)).mappings():
                feedback.setdefault(each["record"], []).append(dict(each))
        for row in found:
            row["features"] = kept.get(row["id"])
            row["feedback"] = feedback.get(row["id"], [])
        return found

    def forget(self, subject: str) -> Deleted:
        """Delete a subject's records with feedback and reviews, and remember its hash: nothing is kept of it again."""
        with self.writing() as connection:
            self.lock(connection, shared=False)
            insert = (sqlite.insert if self._is_sqlite else postgresql.insert)(FORGOTTEN)
            hashed = _hashed(connection, subject)
            connection.execute(insert.values(subject_hash=hashed, time=_now()).on_conflict_do_nothing())
            mine = sa.select(RECORDS.c.id).where(RECORDS.c.subject == subject)
            feedback = connection.execute(sa.delete(FEEDBACK).where(FEEDBACK.c.record.in_(mine))).rowcount
            connection.execute(sa.delete(REVIEWS).where(REVIEWS.c.record.in_(mine)))
            records = connection.execute(sa.delete(RECORDS).where(RECORDS.c.subject == subject)).rowcount
        if self._is_sqlite:
            self._overwrite()
        return Deleted(records, feedback)

    def is_forgotten(self, subjects: Sequence[str]) -> list[bool]:
        """Return for each subject whether it is to be forgotten, for those who make datasets of what was kept."""
        with self.reading() as connection:
            gone = set(connection.scalars(sa.select(FORGOTTEN.c.subject_hash)))
            return [_hashed(connection, subject) in gone for subject in subjects]

    def hashes(self, subjects: Sequence[str]) -> list[str]:
        """Return each subject's salted hash, which names nobody: the same in datasets and in `forgotten`."""
        with self.reading() as connection:
            return [_hashed(connection, subject) for subject in subjects]

    def forgotten(self) -> set[str]:
        """Return the salted hashes of all subjects that are to be forgotten."""
        with self.reading() as connection:
            return set(connection.scalars(sa.select(FORGOTTEN.c.subject_hash)))

    def sweep(self, before: datetime) -> int:
        """Delete records older than that, in UTC, with feedback and reviews; return how many."""
        deleted, count = 0, _SWEEP_ROWS
        while count == _SWEEP_ROWS:
            with self.writing() as connection:
                old = sa.select(RECORDS.c.id).where(RECORDS.c.time < before).order_by(RECORDS.c.time)
                ids = list(connection.scalars(old.limit(_SWEEP_ROWS)))
                if ids:
                    connection.execute(sa.delete(FEEDBACK).where(FEEDBACK.c.record.in_(ids)))
                    connection.execute(sa.delete(REVIEWS).where(REVIEWS.c.record.in_(ids)))
                    connection.execute(sa.delete(RECORDS).where(RECORDS.c.id.in_(ids)))
            count = len(ids)
            deleted += count
        return deleted

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with _told(), self.engine.connect() as connection:
            if self._revision(connection) != known_revisions()[0]:
                self._check(connection)
                connection.rollback()
                with self.writing():  # makes the tables, or brings them up to date
                    pass
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with _told(), self.engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            if self._revision(connection) != known_revisions()[0]:
                self._check(connection)
                if not self._is_sqlite:  # SQLite's transaction keeps all others out already
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK + 1)))
                    self._check(connection)
                migrate(connection)
            yield connection

    def _revision(self, connection: Connection) -> str | None:
        """Return the version of the store; at the first look of a connection without relying on any table."""
        if "is_known" not in connection.info:
            found = revision_of(connection)
            if found is not None:
                connection.info["is_known"] = True
            return found
        return connection.scalar(sa.select(VERSION.c.version_num))

    @staticmethod
    def _check(connection: Connection) -> None:
        found = revision_of(connection)
        if found is not None and found not in known_revisions():
            raise StoreError(
                "version",
                f"it is of version {found}, which this Percept does not know: it knows {known_revisions()[0]}. "
                "Update Percept, or name another store.",
            )

    def lock(self, connection: Connection, *, shared: bool) -> None:
        """Keep writing of a subject's records and forgetting it apart; SQLite's transactions are apart anyway."""
        if not self._is_sqlite:
            lock = sa.func.pg_advisory_xact_lock_shared if shared else sa.func.pg_advisory_xact_lock
            connection.execute(sa.select(lock(_LOCK)))

    def _overwrite(self) -> None:
        """Take what was deleted out of SQLite's log too, if nobody is reading it; else the next checkpoint does."""
        with suppress(SQLAlchemyError), self.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.exec_driver_sql("BEGIN")


@contextmanager
def _told() -> Iterator[None]:
    """Turn what a database says into a StoreError."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise StoreError(_reason(cause), f"{type(cause).__name__}: {_first_line(cause)}") from error
    except (OSError, CommandError) as error:
        raise StoreError("unavailable", f"{type(error).__name__}: {_first_line(error)}") from error


def _reason(cause: BaseException | None) -> Any:
    if isinstance(cause, sqlite3.Error):
        name = "_".join(str(getattr(cause, "sqlite_errorname", "")).split("_")[:2])
        return _SQLITE.get(name, "refused")
    code = getattr(cause, "sqlstate", None)
    if code is None:  # no connection, or a broken one
        return "unavailable"
    return _POSTGRESQL.get(code, "unavailable" if code[:2] in ("08", "28", "3D", "53", "57", "58") else "refused")


def _first_line(error: BaseException | None) -> str:
    line = next(iter(str(error).splitlines()), "")
    return re.sub(r"//[^@\s/]*@", "//", line)[:200]


def _hashed(connection: Connection, subject: str) -> str:
    salt = connection.scalar(sa.select(SALT.c.salt).limit(1))
    return hmac.new(str(salt).encode(), subject.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _sqlite_engine(url: URL) -> Engine:
    path = Path(url.database or "")
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_S}, json_serializer=_json, hide_parameters=True)

    @event.listens_for(engine, "do_connect")
    def make_private(*_: Any) -> None:
        with suppress(OSError):  # what is wrong then, connecting will say
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # we begin and commit, not Python's module
        record.info["file"] = _identity(path)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "checkout")
    def check_file(_: Any, record: Any, __: Any) -> None:
        if record.info.get("file") != _identity(path):
            raise DisconnectionError("the file is another one now")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _postgresql_engine(url: URL) -> Engine:
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={"connect_timeout": CONNECT_S, "tcp_user_timeout": 1000 * _STATEMENT_S},
        pool_pre_ping=True,
        pool_size=2,
        json_serializer=_json,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: Any) -> None:
        connection.autocommit = True
        connection.execute(f"SET lock_timeout = {round(1000 * BUSY_S)}")
        connection.execute(f"SET statement_timeout = {1000 * _STATEMENT_S}")
        connection.autocommit = False

    return engine
