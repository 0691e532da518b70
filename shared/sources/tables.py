"""The one reader of tables: CSV, TSV, Excel and OpenDocument sheets, JSON, JSON lines and parquet.

Cells of text files and sheets are text, as a person sees them: 007 stays 007, and None, NA and true are words. What the
reader had to recognise (separator, character set, sheet) is in the table's `notes`; where a guess could be wrong it
stops and names the setting.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet

from shared.errors import ConfigError, DataError
from shared.sources.charsets import find_charset, marked_charset
from shared.sources.sheets import read_sheets

Row = dict[str, Any]
ERROR = "__error__"
"""Key of a row that could not be read; the value says why."""
SHEETS = (".xlsx", ".xls", ".xlsb", ".ods")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", *SHEETS)
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SAMPLE_ROWS = 50
_END_MARKS = " .!?…"
csv.field_size_limit(2**31 - 1)  # 128 KiB otherwise, which a document in a cell may well have


@dataclass(frozen=True)
class TableForm:
    """How a table is written, where that cannot be recognised.

    Args:
        delimiter: between the cells of a text file, such as ";" or "tab".
        encoding: character set of a text file, such as cp1252.
        quotes: "none" if quotation marks in a text file are text like any other, "double" if each one opens or closes
            a cell; if not given, a cell that may have swallowed rows is refused.
        sheet: of a workbook; the first that has rows if none is given.
    """

    delimiter: str | None = None
    encoding: str | None = None
    quotes: Literal["double", "none"] | None = None
    sheet: str | None = None


@dataclass(frozen=True)
class Table:
    """A table that was opened and looked at."""

    path: Path
    columns: list[str] | None
    """None for JSON lines, where each row has its own."""
    rows: Callable[[], Iterator[Row]]
    """Reads them from the first one; raises DataError."""
    notes: list[str] = field(default_factory=list)
    """What was recognised and could be wrong, one line each."""

    def checked_rows(self) -> Iterator[Row]:
        """Yield the rows; raises DataError at one that cannot be read."""
        for row in self.rows():
            if ERROR in row:
                raise DataError(f"{self.path}: {row[ERROR]}")
            yield row


def open_table(path: Path, form: TableForm | None = None) -> Table:
    """Return the table, of which only as much was read as is needed to recognise its form.

    Args:
        path: a file whose name ends in one of `SUFFIXES`.
        form: how it is written, where the user says so.

    Raises:
        ConfigError: the kind of file, the delimiter, the encoding or the sheet is unknown.
        DataError: it cannot be read, or its form cannot be recognised.
    """
    form = form or TableForm()
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path} is not a table that can be read; expected {', '.join(SUFFIXES)}.")
    try:
        if suffix == ".parquet":
            return _open_parquet(path)
        if suffix in SHEETS:
            return _open_sheet(path, form)
        if suffix in (".jsonl", ".ndjson"):  # each line is read for itself: one that is broken does not stop the others
            encoding = _encoding(path, form)[0] if form.encoding else marked_charset(path) or "utf-8"
            return Table(path, None, lambda: _json_lines(path, encoding))
        encoding, notes = _encoding(path, form)
        if suffix == ".json":
            return _open_json(path, encoding, notes)
        return _open_delimited(path, form, encoding, notes)
    except UnicodeError as error:
        raise DataError(f"{path} is not {form.encoding or 'text'}: {error}. Set `encoding`.") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; None where it is not JSON as a whole, such as JSON lines.

    Raises:
        DataError: it is nested too deeply, or its character set cannot be told.
    """
    try:
        return json.loads(path.read_text(encoding=find_charset(path)[0]))
    except RecursionError as error:
        raise DataError(f"{path} is not JSON that can be read: it is nested too deeply.") from error
    except (OSError, ValueError):
        return None


def as_text(value: Any) -> str | None:
    """Return a cell as text; None if it is empty.

    Where some of a column's whole numbers are missing, pandas stores all as floating-point numbers.

    >>> as_text("007"), as_text(7), as_text(7.0), as_text(True), as_text(" "), as_text(float("nan"))
    ('007', '7', '7', 'true', None, None)
    """
    if value is None:
        return None
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, bool):
        return "true" if value else "false"  # as JSON and parquet's own tools write it
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value).strip() or None


def normalised(text: str) -> str:
    """Return a text without case, punctuation at the end and extra blanks: the same for equal utterances.

    >>> normalised("  What's  ON?") == normalised("what's on")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(_END_MARKS)


def _encoding(path: Path, form: TableForm) -> tuple[str, list[str]]:
    if form.encoding is None:
        return find_charset(path)
    try:
        codecs.lookup(form.encoding)
    except LookupError:
        raise ConfigError(
            f"there is no encoding {form.encoding!r}. Excel on Windows writes cp1252 in Western Europe; others are "
            "utf-8, utf-16, latin-1, cp1250, cp1251, shift_jis."
        ) from None
    return form.encoding, []


# Text files


def _open_delimited(path: Path, form: TableForm, encoding: str, notes: list[str]) -> Table:
    quoting = csv.QUOTE_NONE if form.quotes == "none" else csv.QUOTE_MINIMAL
    with path.open(encoding=encoding, newline="") as lines:
        sample = list(islice(lines, 4 * _SAMPLE_ROWS))
    separator = _separator(path, form, sample, quoting)
    dialect: dict[str, Any] = {"delimiter": separator, "quoting": quoting, "strict": True}
    dialect["skipinitialspace"] = quoting != csv.QUOTE_NONE and _has_blanks_before_quotes(sample, separator)
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    if form.delimiter is None and separator != usual:
        notes = [*notes, f"{path}: the cells are separated by {_SEPARATORS[separator]}s"]
    first = next(_records(path, encoding, dialect), None)
    columns = [] if first is None else _header(path, first[1])
    is_sure = form.quotes is not None
    return Table(path, columns, lambda: _delimited_rows(path, encoding, dialect, columns, is_sure=is_sure), notes)


def _separator(path: Path, form: TableForm, sample: Sequence[str], quoting: Any) -> str:
    """Return what separates the cells: what the user says, or what cuts the header and the first rows alike."""
    if form.delimiter is not None:
        separator = {name: mark for mark, name in _SEPARATORS.items()}.get(form.delimiter, form.delimiter)
        separator = separator.replace("\\t", "\t")
        if len(separator) != 1 or separator in '"\r\n':
            raise ConfigError(f"the delimiter must be one character or {', '.join(_SEPARATORS.values())}; came "
                              f"{form.delimiter!r}.")  # fmt: skip
        return separator
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    widths = {mark: _widths(sample, mark, quoting) for mark in _SEPARATORS}
    able = [mark for mark, found in widths.items() if found and found[0] > 1]
    if len(able) > 1:  # such as `text;label` with a comma in a name of a column
        even = [mark for mark in able if len(set(widths[mark])) == 1]
        able = even or able
    if len(able) < 2 or (usual in able and (usual == "\t" or len(set(widths[usual])) == 1)):
        return usual if not able or usual in able else able[0]
    seen = " or ".join(_SEPARATORS[mark] for mark in able)
    raise DataError(
        f"{path}: its cells could be separated by {seen}; the first line is {sample[0].strip()[:80]!r}. Say which: "
        f"`delimiter: {_SEPARATORS[able[0]]}`."
    )


def _has_blanks_before_quotes(sample: Sequence[str], separator: str) -> bool:
    """Whether cells are written as `a, "b, c"`: rows are only as wide as the header if the blank is no text."""
    if not any(f'{separator} "' in line for line in sample):
        return False
    as_text_, as_form = (_widths(sample, separator, csv.QUOTE_MINIMAL, skips_blanks=skips) for skips in (False, True))
    return sum(width != as_form[0] for width in as_form) < sum(width != as_text_[0] for width in as_text_)


def _widths(sample: Sequence[str], separator: str, quoting: Any, *, skips_blanks: bool = True) -> list[int]:
    """Return the number of cells of the first rows; none where they cannot be cut so."""
    rows: list[int] = []
    try:
        for row in csv.reader(sample, delimiter=separator, quoting=quoting, skipinitialspace=skips_blanks):
            if row and len(rows) < _SAMPLE_ROWS:
                rows.append(len(row))
    except csv.Error:
        pass  # what was read before it decides
    return rows


def _records(path: Path, encoding: str, dialect: dict[str, Any]) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield (line of the file, cells, the record's lines).

    Raises:
        DataError: names the line.
    """
    taken: list[str] = []
    start = 1
    try:
        with path.open(encoding=encoding, newline="") as file:

            def lines() -> Iterator[str]:
                for line in file:
                    taken.append(line)
                    yield line.replace("\0", "")

            for cells in csv.reader(lines(), **dialect):
                yield start, cells, taken
                start += len(taken)
                taken.clear()
    except csv.Error as error:
        upto = f" to {start + len(taken) - 1}" if len(taken) > 1 else ""
        raise DataError(
            f"{path} line {start}: a quotation mark opens a cell that does not end where a cell may end (lines "
            f"{start}{upto}: {error}). It begins {_shown(taken)}. Remove it, double it inside a quoted cell, or set "
            "`quotes: none` if they are text like any other."
        ) from error
    except UnicodeError as error:
        raise DataError(f"{path} is not {encoding} after line {start}: {error}. Set `encoding`.") from error


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    columns = [cell.strip() for cell in cells]
    while columns and not columns[-1]:
        columns.pop()
    if columns.count("") > 1:
        columns = [name or f"column {place}" for place, name in enumerate(columns, start=1)]
    twice = next((name for name in columns if name and columns.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has two columns called {twice!r}. Rename or remove one of them.")
    return columns


def _delimited_rows(
    path: Path, encoding: str, dialect: dict[str, Any], columns: list[str], *, is_sure: bool
) -> Iterator[Row]:
    plain = {**dialect, "quoting": csv.QUOTE_NONE}
    for line, cells, lines in islice(_records(path, encoding, dialect), 1, None):
        is_odd = len(lines) > 1 and len(columns) > 1 and not is_sure
        if is_odd and all(len(c) == len(columns) for c in csv.reader(lines, **plain)):
            raise DataError(
                f"{path} line {line}: a quotation mark opens a cell that goes on to line {line + len(lines) - 1}, but "
                f"each of these lines could be a row of its own. It begins {_shown(lines)}. Set `quotes: double` if "
                "the cell does go on, or `quotes: none` if quotation marks are text like any other."
            )
        if not any(cell.strip() for cell in cells):
            continue
        if any(cell.strip() for cell in cells[len(columns) :]):
            yield {
                ERROR: f"line {line}: {len(cells)} cells, but there are {len(columns)} columns ({', '.join(columns)}): "
                f"{' | '.join(cells)[:120]!r}. Put a cell that has the separator in it into quotation marks."
            }
            continue
        yield dict(zip(columns, cells, strict=False))


def _shown(lines: Sequence[str]) -> str:
    return repr(lines[0].strip()[:80]) if lines else "at the end"


# Sheets


def _open_sheet(path: Path, form: TableForm) -> Table:
    sheets = read_sheets(path)
    if form.sheet is not None and form.sheet not in sheets:
        raise ConfigError(f"{path} has no sheet {form.sheet!r}; it has {', '.join(sheets)}.")
    filled = [(name, cells) for name, cells in sheets.items() if len(cells) > 1 and form.sheet in (None, name)]
    if not filled:
        return Table(path, [], lambda: iter(()))
    notes = []
    if len(filled) > 1:
        others = ", ".join(name for name, _ in filled[1:])
        notes.append(f"{path}: the sheet {filled[0][0]} is read, {others} is not; `sheet` chooses another")
    columns = _header(path, filled[0][1][0])
    return Table(path, columns, lambda: _sheet_rows(columns, filled[0][1]), notes)


def _sheet_rows(columns: list[str], cells: Sequence[Sequence[str]]) -> Iterator[Row]:
    for number, texts in enumerate(cells[1:], start=2):
        if any(text.strip() for text in texts[len(columns) :]):
            yield {ERROR: f"row {number} has a cell without a column name: {texts[len(columns) :]}."}
            continue
        if any(text.strip() for text in texts):
            yield dict(zip(columns, texts, strict=False))


# JSON and parquet


def _open_json(path: Path, encoding: str, notes: list[str]) -> Table:
    text = path.read_text(encoding=encoding)
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise DataError(f"{path} is nested too deeply.") from error
    except ValueError as error:
        first = next((line for line in text.splitlines() if line.strip()), "")
        if isinstance(_json_row(first, 1).get(ERROR), str):
            raise DataError(f"{path} is not JSON: {error}. Expected a list of objects, or one object per line.") from (
                error
            )
        return Table(path, None, lambda: _json_lines(path, encoding), notes)
    rows = content.get("data") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} holds {_kind(content)}. Expected a list of objects, alone or under `data`.")
    return Table(path, None, lambda: iter([dict(row) for row in rows]), notes)


def _kind(content: Any) -> str:
    if isinstance(content, dict):
        return f"an object with {', '.join(map(repr, islice(content, 5))) or 'nothing'}"
    return f"a {type(content).__name__}" if not isinstance(content, list) else "a list with other values than objects"


def _json_lines(path: Path, encoding: str) -> Iterator[Row]:
    opened: IO[Any] = path.open("rb") if encoding == "utf-8" else path.open(encoding=encoding)
    try:
        with opened as lines:
            yield from (_json_row(line, number) for number, line in enumerate(lines, 1) if line.strip())
    except UnicodeError as error:
        raise DataError(f"{path} is not {encoding}: {error}. Set `encoding`.") from error


def _json_row(line: str | bytes, number: int) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {ERROR: f"line {number} is not JSON: {error}"}
    return row if isinstance(row, dict) else {ERROR: f"line {number} must be an object; got {type(row).__name__}."}


def _open_parquet(path: Path) -> Table:
    schema = pyarrow.parquet.read_schema(path)
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has two columns called {twice!r}. Rename or remove one of them.")
    names = _class_names(schema)
    return Table(path, list(schema.names), lambda: _parquet_rows(path, names))


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return column -> names of its class labels, as Hugging Face's datasets keep them in the file."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: kind["names"] for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _parquet_rows(path: Path, names: dict[str, list[str]]) -> Iterator[Row]:
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024):
            for row in _exact(batch).to_pylist():
                for column, labels in names.items():
                    if row.get(column) is not None and 0 <= row[column] < len(labels):
                        row[column] = labels[row[column]]
                yield row


def _exact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows with times in nanoseconds as Python can hold them: microseconds where they are exact, or text."""
    for place, field_ in enumerate(batch.schema):
        if pa.types.is_timestamp(field_.type) and field_.type.unit == "ns":
            column = batch.column(place)
            try:
                column = column.cast(pa.timestamp("us", tz=field_.type.tz))
            except pa.ArrowInvalid:
                column = column.cast(pa.string())
            batch = batch.set_column(place, field_.name, column)
    return batch
