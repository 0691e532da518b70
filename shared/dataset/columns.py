"""Rows of any origin to Arrow tables with one kind per column. Nothing is rounded, cut or guessed.

Where two sources disagree about a column, it takes the narrower kind that holds both exactly, and text if there is
none: 7 and 7.5 are numbers, 7 and "seven" are texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from types import NoneType
from typing import Any

import pyarrow as pa

from shared.sources.tables import Row, as_text

KINDS: dict[str, pa.DataType] = {
    "empty": pa.string(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "long": pa.int64(),
    "float": pa.float64(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
    "utc": pa.timestamp("us", tz="UTC"),
    "text": pa.string(),
    "json": pa.string(),
    "texts": pa.list_(pa.string()),
    "floats": pa.list_(pa.float32()),
    "binary": pa.binary(),
    "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
}
"""Kind of a column -> its Arrow type. `long` are whole numbers that a float cannot hold, `utc` times with a zone,
`json` objects and mixed lists as JSON text; an image is stored as Hugging Face's datasets store it."""
Columns = Mapping[str, str]
"""Column -> kind."""
_EXACT = 2**53
"""Whole numbers up to this are exact as float64."""
_WIDER = {
    frozenset(("int", "long")): "long",
    frozenset(("int", "float")): "float",
    frozenset(("texts", "text")): "json",
}


def kind_of(value: Any) -> str:
    """Return the kind of a cell.

    >>> [kind_of(cell) for cell in (None, True, 7, 2**60, 7.5, "7", ["a"], [1, "a"], {"a": 1})]
    ['empty', 'bool', 'int', 'long', 'float', 'text', 'texts', 'json', 'json']
    """
    return next((kind for cls, kind in _KIND_OF.items() if isinstance(value, cls)), lambda _: "text")(value)


def _kind_of_int(value: int) -> str:
    return "int" if abs(value) <= _EXACT else "long" if -(2**63) <= value < 2**63 else "text"


def _kind_of_decimal(value: Decimal) -> str:
    return "float" if value.is_finite() and Decimal(repr(float(value))) == value else "text"


def _kind_of_dict(value: Mapping[str, Any]) -> str:
    return "image" if set(value) == {"bytes", "path"} and isinstance(value["bytes"], bytes) else "json"


def _kind_of_list(value: Sequence[Any]) -> str:
    return "texts" if all(isinstance(each, str) for each in value) else "json"


_KIND_OF: dict[Any, Callable[[Any], str]] = {
    NoneType: lambda _: "empty",
    bool: lambda _: "bool",  # before int, of which it is one
    int: _kind_of_int,
    float: lambda _: "float",
    Decimal: _kind_of_decimal,
    datetime: lambda value: "time" if value.tzinfo is None else "utc",  # before date, likewise
    date: lambda _: "date",
    (bytes, bytearray, memoryview): lambda _: "binary",
    dict: _kind_of_dict,
    (list, tuple): _kind_of_list,
}


def kinds_of(rows: Iterable[Row]) -> dict[str, str]:
    """Return column -> kind of some rows, in the order in which the columns come."""
    found: dict[str, str] = {}
    for row in rows:
        for name, value in row.items():
            kind = kind_of(value)
            before = found.get(name)
            if before != kind:
                found[name] = kind if before is None else wider(before, kind)
    return found


def wider(one: str, other: str) -> str:
    """Return the kind that holds the cells of both exactly.

    >>> wider("int", "float"), wider("long", "float"), wider("empty", "date"), wider("date", "bool")
    ('float', 'text', 'date', 'text')
    """
    if other in (one, "empty"):
        return one
    if one == "empty":
        return other
    if "json" in (one, other):
        return "json"
    return _WIDER.get(frozenset((one, other)), "text")


def unified(all_columns: Iterable[Columns]) -> dict[str, str]:
    """Return column -> kind that holds the cells of all."""
    found: dict[str, str] = {}
    for columns in all_columns:
        for name, kind in columns.items():
            found[name] = wider(found[name], kind) if name in found else kind
    return found


def schema_of(columns: Columns) -> pa.Schema:
    """Return the Arrow schema; Hugging Face's datasets read from it which columns are images."""
    images = {name: {"_type": "Image"} for name, kind in columns.items() if kind == "image"}
    metadata = {b"huggingface": json.dumps({"info": {"features": images}}).encode()} if images else None
    return pa.schema([(name, KINDS[kind]) for name, kind in columns.items()], metadata=metadata)


def to_table(rows: Sequence[Row], columns: Columns) -> pa.Table:
    """Return the rows as a table with these columns; what a row does not have is null."""
    arrays = [pa.array([_as(kind, row.get(name)) for row in rows], type=KINDS[kind]) for name, kind in columns.items()]
    return pa.Table.from_arrays(arrays, schema=schema_of(columns))


def widened(table: pa.Table, before: Columns, columns: Columns) -> pa.Table:
    """Return a table of the kinds `before` with the kinds `columns`, which hold its cells."""
    arrays = []
    for name, kind in columns.items():
        if name not in before or before[name] == "empty":
            arrays.append(pa.nulls(len(table), KINDS[kind]))
        elif KINDS[before[name]] == KINDS[kind]:
            arrays.append(table.column(name))
        else:
            cells = table.column(name).to_pylist()
            arrays.append(pa.array([_as(kind, cell) for cell in cells], type=KINDS[kind]))
    return pa.Table.from_arrays(arrays, schema=schema_of(columns))


def _as(kind: str, value: Any) -> Any:
    make = _MAKE.get(kind)
    return value if value is None or make is None else make(value)


def _written(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return _json(value) if isinstance(value, bytes | bytearray | memoryview | dict | list | tuple) else as_text(value)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    return bytes(value).hex() if isinstance(value, bytes | bytearray | memoryview) else as_text(value)


_MAKE: dict[str, Callable[[Any], Any]] = {
    "text": _written,
    "json": _json,
    "float": float,
    "binary": bytes,
    "utc": lambda value: value.astimezone(UTC),
}
