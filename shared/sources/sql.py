"""Databases by SQLAlchemy's URL and a query, read only and streamed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import sqlalchemy
from pydantic import Field
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from shared.errors import ConfigError, DataError
from shared.sources.steps import Done, Found, Secrets, SourceSpec, Step, check_no_secrets

STEP_ROWS = 10_000
_READS = re.compile(r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*(select|with|values|table|from)\b", re.IGNORECASE | re.DOTALL)
_READ_ONLY = {"postgresql": "SET TRANSACTION READ ONLY", "mysql": "SET SESSION TRANSACTION READ ONLY",
              "mariadb": "SET SESSION TRANSACTION READ ONLY", "sqlite": "PRAGMA query_only = ON"}  # fmt: skip
"""Dialect -> what makes the database itself refuse to write. SQLite's files are opened so, too."""
_DRIVERS = {"postgresql": "pip install 'percept[postgres]'"}


class SqlSpec(SourceSpec):
    """A query on a database."""

    kind: Literal["sql"]
    url: str
    """SQLAlchemy's, such as sqlite:///shop.db or ${DATABASE_URL}. A password comes from the environment."""
    query: str
    """Reads only; :name stands for a parameter."""
    parameters: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    key: str | None = None
    """A column that is different in every row and sorts them: if the command is killed, it goes on behind the last one
    that was kept. Without it, the query starts again."""
    max_rows: int = Field(default=50_000_000, gt=0)
    """A query that gives more is stopped: it may never end."""

    @property
    def place(self) -> str:
        try:
            return make_url(self.url).database or "database"
        except ArgumentError:  # also what the environment says
            return "database"


class SqlReader:
    """Reads what a query finds; a step has some thousand rows."""

    def __init__(self, spec: SqlSpec, secrets: Secrets, base: Path) -> None:
        if not _READS.match(spec.query):
            raise ConfigError(f"the query must begin with SELECT or WITH; it begins {spec.query.strip()[:40]!r}. "
                              "Nothing is ever written to a source.")  # fmt: skip
        self.spec, self.secrets = spec, secrets
        self.resumes = spec.key is not None
        self._parameters = {
            name: secrets.fill(value) if isinstance(value, str) else value for name, value in spec.parameters.items()
        }
        check_no_secrets(spec.url, spec.parameters)
        self._url = _parsed(secrets.fill(spec.url), base)

    def steps(self, done: Sequence[Done]) -> Iterator[Step]:
        """Yield the rows behind those that are done.

        Raises:
            DataError: the database cannot be reached, refuses the query, or dies; says how to go on.
        """
        number, after = len(done), done[-1].cursor if done else None
        try:
            engine = _engine(self._url)
            with engine.connect() as connection:
                _forbid_writing(engine, connection)
                result = connection.execution_options(stream_results=True, yield_per=STEP_ROWS).execute(
                    sqlalchemy.text(self._query(after, engine)), {**self._parameters, **self._after(after)}
                )
                names = list(result.keys())
                self._check(names)
                count = number * STEP_ROWS
                for rows in result.partitions(STEP_ROWS):
                    step = Step(key=f"rows {number}")
                    for row in rows:
                        found = dict(zip(names, row, strict=True))
                        step.found.append(Found(found, self._place(found, count)))
                        count += 1
                    if count > self.spec.max_rows:
                        raise DataError(f"the query gives more than {self.spec.max_rows:,} rows: raise max_rows, or "
                                        "correct the query.")  # fmt: skip
                    if self.spec.key is not None:
                        after = self._last(after, [found.row[self.spec.key] for found in step.found])
                        step.cursor = after
                    number += 1
                    yield step
        except SQLAlchemyError as error:
            raise DataError(f"the database {self.spec.url}: {self._reason(error)}") from error

    def _query(self, after: Any, engine: Engine) -> str:
        query = self.spec.query.strip().rstrip(";")
        if self.spec.key is None:
            return query
        key = engine.dialect.identifier_preparer.quote_identifier(self.spec.key)
        condition = "" if after is None else f" WHERE {key} > :collected_after"
        return f"SELECT * FROM ({query}\n) AS collected{condition} ORDER BY {key}"  # noqa: S608 the user's own query

    def _after(self, after: Any) -> Mapping[str, Any]:
        return {} if after is None else {"collected_after": after}

    def _check(self, names: Sequence[str]) -> None:
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"the query gives two columns called {twice!r}. Rename one with AS.")
        if self.spec.key is not None and self.spec.key not in names:
            raise DataError(f"the query gives no column {self.spec.key!r}, the key; it gives {', '.join(names)}.")

    def _last(self, before: Any, keys: Sequence[Any]) -> Any:
        for key in keys:
            if not isinstance(key, int | str):
                raise DataError(f"the key {self.spec.key!r} is {key!r} in a row; expected whole numbers or texts, and "
                                "in every row.")  # fmt: skip
            if before is not None and key == before:
                raise DataError(f"the key {self.spec.key!r} has {key!r} twice, so that nobody could go on behind it. "
                                "Name another column, or none.")  # fmt: skip
            before = key
        return before

    def _place(self, row: Mapping[str, Any], count: int) -> str:
        return f"row {count}" if self.spec.key is None else f"{self.spec.key} {row[self.spec.key]}"

    def _reason(self, error: SQLAlchemyError) -> str:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()
        going_on = (
            "it goes on behind the last row" if self.resumes else "it starts this query again; `key` would let it go on"
        )
        return f"{self.secrets.mask(said[0] if said else type(error).__name__)}. Run the command again: {going_on}."


def _parsed(url: str, base: Path) -> URL:
    try:
        found = make_url(url)
        found.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError("`url` is none of SQLAlchemy's; expected one such as sqlite:///shop.db or "
                          "postgresql+psycopg://user@host/name.") from error  # fmt: skip
    if found.drivername == "postgresql":  # psycopg 3 instead of 2, which nothing here installs
        found = found.set(drivername="postgresql+psycopg")
    database = found.database
    if found.get_backend_name() == "sqlite" and database not in (None, "", ":memory:"):
        assert database is not None
        if database.startswith("file:"):
            return found.set(query={**found.query, "mode": "ro", "uri": "true"})
        file_path = base / database
        if not file_path.is_file():
            raise ConfigError(f"there is no database {database}. Paths are below the folder of the spec.")
        file = file_path.resolve().as_uri()
        found = found.set(database=f"file:{file.removeprefix('file:')}", query={"mode": "ro", "uri": "true"})
    return found


def _engine(url: URL) -> Engine:
    try:
        return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    except ModuleNotFoundError as error:
        install = _DRIVERS.get(url.get_backend_name(), f"pip install {error.name}")
        raise ConfigError(
            f"{url.get_backend_name()} needs {error.name}, which is not installed. Run: {install}"
        ) from error


def _forbid_writing(engine: Engine, connection: Connection) -> None:
    statement = _READ_ONLY.get(engine.dialect.name)
    if statement is not None:
        connection.execute(sqlalchemy.text(statement))
