"""What a collection has so far, beside its place: each step is kept whole or not at all, whenever the process dies."""

from __future__ import annotations

import fcntl
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from shared.dataset.columns import Columns
from shared.errors import ConfigError, DataError
from shared.sources.steps import Done, SetAside, Step

_FILE = "journal.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS finished (source INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS steps (
    number INTEGER PRIMARY KEY, source INTEGER NOT NULL, key TEXT NOT NULL, belongs TEXT, cursor TEXT NOT NULL,
    columns TEXT NOT NULL, rows BLOB, count INTEGER NOT NULL, set_aside TEXT NOT NULL, failed TEXT,
    UNIQUE (source, key)
);
"""


@dataclass(frozen=True)
class Counts:
    """Of one source."""

    rows: int
    set_aside: int
    malformed: int
    """Of these."""
    failed: int


class Journal:
    """The steps of a collection that goes on."""

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self._connection, self.folder = connection, folder

    def meta(self, name: str, value: str) -> str:
        """Return what is written under a name; the value, if nothing is."""
        with self._connection as connection:
            connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
        found: str = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]
        return found

    def add(self, source: int, step: Step, table: pa.Table, columns: Columns) -> None:
        """Keep a step; it is on the disk when this returns."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        aside = [asdict(each) for each in step.set_aside]
        with self._connection as connection:
            connection.execute(
                "INSERT INTO steps (source, key, belongs, cursor, columns, rows, count, set_aside, failed)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (source, step.key, step.group, json.dumps(step.cursor), json.dumps(dict(columns)),
                 sink.getvalue().to_pybytes() if len(table) else None, len(table),
                 json.dumps(aside, default=str) if aside else "", step.failed),
            )  # fmt: skip

    def finish(self, source: int) -> None:
        """Note that nothing is behind the steps of a source."""
        with self._connection as connection:
            connection.execute("INSERT OR IGNORE INTO finished VALUES (?)", (source,))

    def is_finished(self, source: int) -> bool:
        return self._connection.execute("SELECT 1 FROM finished WHERE source = ?", (source,)).fetchone() is not None

    @property
    def is_new(self) -> bool:
        return self._connection.execute("SELECT 1 FROM meta").fetchone() is None

    def forget_all(self) -> None:
        """Forget everything, the spec too."""
        with self._connection as connection:
            for table in ("steps", "finished", "meta"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 names of our own

    def forget(self, source: int) -> None:
        """Forget the steps of a source that starts again."""
        with self._connection as connection:
            connection.execute("DELETE FROM steps WHERE source = ?", (source,))

    def forget_failed(self) -> int:
        """Forget the steps that failed and those that belong to them, to be tried again; return how many."""
        with self._connection as connection:
            connection.execute(
                "DELETE FROM finished WHERE source IN (SELECT source FROM steps WHERE failed IS NOT NULL)"
            )
            return connection.execute(
                "DELETE FROM steps WHERE failed IS NOT NULL OR (source, belongs) IN"
                " (SELECT source, belongs FROM steps WHERE failed IS NOT NULL AND belongs IS NOT NULL)"
            ).rowcount

    def done(self, source: int) -> list[Done]:
        """Return the steps of a source, in their order."""
        rows = self._connection.execute(
            "SELECT key, cursor FROM steps WHERE source = ? AND failed IS NULL ORDER BY number", (source,)
        )
        return [Done(key, json.loads(cursor)) for key, cursor in rows]

    def counts(self, source: int) -> Counts:
        rows, failed = self._connection.execute(
            "SELECT COALESCE(SUM(count), 0), COUNT(failed) FROM steps WHERE source = ?", (source,)
        ).fetchone()
        aside = list(self.set_aside(source))
        return Counts(rows, len(aside), sum(each.is_malformed for each in aside), failed)

    def columns(self) -> Iterator[dict[str, str]]:
        """Yield column -> kind of each step with rows."""
        for (columns,) in self._connection.execute(
            "SELECT columns FROM steps WHERE rows IS NOT NULL ORDER BY source, number"
        ):
            yield json.loads(columns)

    def tables(self) -> Iterator[tuple[int, pa.Table, Mapping[str, str]]]:
        """Yield (source, rows, column -> kind) of each step, source by source."""
        for source, rows, columns in self._connection.execute(
            "SELECT source, rows, columns FROM steps WHERE rows IS NOT NULL ORDER BY source, number"
        ):
            with pa.ipc.open_stream(rows) as stream:
                yield source, stream.read_all(), json.loads(columns)

    def set_aside(self, source: int) -> Iterator[SetAside]:
        for (written,) in self._connection.execute(
            "SELECT set_aside FROM steps WHERE source = ? AND set_aside != '' ORDER BY number", (source,)
        ):
            yield from (SetAside(**each) for each in json.loads(written))

    def failures(self, source: int) -> list[tuple[str, str]]:
        """Return (key, reason) of the steps that failed."""
        found = self._connection.execute(
            "SELECT key, failed FROM steps WHERE source = ? AND failed IS NOT NULL ORDER BY number", (source,)
        )
        return list(found)

    def delete(self) -> None:
        """Remove it from the disk."""
        self._connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def journal_folder(out: Path) -> Path:
    """Return where the journal of a collection to a folder is."""
    return out.with_name(f".{out.name}.collecting")


@contextmanager
def open_journal(out: Path) -> Iterator[Journal]:
    """Yield the journal of a collection to a folder, a new one if there is none.

    Raises:
        ConfigError: another process collects to the same folder, or nothing can be written there.
    """
    folder = journal_folder(out)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # addresses of next pages may be secret
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system releases it, however the process ends
            except BlockingIOError:
                raise ConfigError(
                    f"another process is collecting to {out}. Wait for it, or name another folder."
                ) from None
            connection = sqlite3.connect(folder / _FILE)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_SCHEMA)
                yield Journal(connection, folder)
            finally:
                connection.close()
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise ConfigError(f"nothing can be written beside {out}: {error.strerror}.") from error
    except (OSError, sqlite3.OperationalError) as error:  # a full disk
        raise DataError(f"{out} cannot be written: {error}. What was read is kept; make room and run the "
                        "command again: it goes on.") from error  # fmt: skip
