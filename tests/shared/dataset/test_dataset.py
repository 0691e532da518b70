"""Datasets survive the trip to disk and back and open in other tools; a failed write costs nobody the older one."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import datasets
import duckdb
import pandas
import pyarrow.parquet
import pytest
from PIL import Image

from shared.dataset.columns import kinds_of, to_table, unified, widened
from shared.dataset.layout import CARD, INFO, LEFT_OUT, PROVENANCE
from shared.dataset.read import Dataset, is_dataset, read_dataset
from shared.dataset.write import write_dataset
from shared.errors import ConfigError, DataError

FROM = {"_source": "here", "_place": "row", "_time": "2026-11-30T00:00:00Z", "_licence": "MIT", "_sha256": "00"}


def write(path: Path, rows: list[dict], split: str = "train", **options) -> Dataset:
    rows = [{**row, **FROM} for row in rows]
    columns = kinds_of(rows)
    return write_dataset(path, [(split, to_table(rows, columns))], name="some rows", columns=columns,
                         history=options.pop("history", [{"step": "collect"}]), **options)  # fmt: skip


def read(dataset: Dataset) -> list[dict]:
    rows = [row for _, batch in dataset.batches() for row in batch.to_pylist()]
    return [{name: value for name, value in row.items() if name not in PROVENANCE} for row in rows]


def photo() -> dict:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(file, "PNG")
    return {"bytes": file.getvalue(), "path": "red.png"}


def test_what_is_written_reads_back_the_same(tmp_path: Path):
    rows = [
        {"text": "007", "n": 7, "x": 1.5, "when": date(2026, 1, 2), "at": datetime(2026, 1, 2, 3, 4, 5), "tags": ["a"]},
        {"text": "Grüße 🙂\n|", "n": None, "x": 2.0, "when": None, "at": None, "tags": []},
    ]
    found = write(tmp_path / "data", rows)
    assert read(found) == rows
    assert read_dataset(found.path).info == found.info
    assert found.info.splits == {"train": 2}
    assert len(found) == 2
    assert is_dataset(found.path)


def test_kinds_hold_the_cells_of_every_source_exactly():
    before, after = [{"a": 7, "b": 7, "c": "x", "d": 2**60}], [{"a": 7.5, "b": "seven", "d": 0.5, "e": {"k": [1]}}]
    columns = unified([kinds_of(before), kinds_of(after)])
    assert columns == {"a": "float", "b": "text", "c": "text", "d": "text", "e": "json"}
    kinds = kinds_of(before)
    assert widened(to_table(before, kinds), kinds, columns).to_pylist() == [
        {"a": 7.0, "b": "7", "c": "x", "d": str(2**60), "e": None}
    ]
    assert to_table(after, columns).to_pylist() == [{"a": 7.5, "b": "seven", "c": None, "d": "0.5", "e": '{"k": [1]}'}]


def test_decimals_are_numbers_where_a_float_is_exact_and_texts_where_not():
    assert kinds_of([{"a": Decimal("1.5"), "b": Decimal("0.10000000000000000000001")}]) == {"a": "float", "b": "text"}


def test_times_with_a_zone_are_kept_as_the_moment_they_are():
    rows = [{"at": datetime.fromisoformat("2026-01-02T03:04:05+02:00")}]
    [row] = to_table(rows, kinds_of(rows)).to_pylist()
    assert row["at"] == datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)


def test_other_tools_open_it(tmp_path: Path):
    path = write(tmp_path / "photos", [{"image": photo(), "label": "red"}]).path
    table = datasets.load_dataset(str(path), cache_dir=str(tmp_path / "cache"))["train"]
    assert table[0]["label"] == "red"
    assert table[0]["image"].size == (3, 2)
    assert pandas.read_parquet(path / "data")["label"].tolist() == ["red"]
    assert duckdb.read_parquet(f"{path}/data/*.parquet").project("label").fetchall() == [("red",)]


def test_splits_are_files_that_the_hub_finds(tmp_path: Path):
    rows = [{"text": str(i), **FROM} for i in range(3)]
    columns = kinds_of(rows)
    parts = [("train", to_table(rows[:1], columns)), ("test", to_table(rows[1:], columns))]
    found = write_dataset(tmp_path / "two", parts, name="two", columns=columns, history=[])
    loaded = datasets.load_dataset(str(found.path), cache_dir=str(tmp_path / "cache"))
    assert {name: len(table) for name, table in loaded.items()} == {"train": 1, "test": 2}
    assert [row["text"] for _, batch in found.batches("test", ["text"]) for row in batch.to_pylist()] == ["1", "2"]
    with pytest.raises(DataError, match="no split 'dev'; it has train, test"):
        next(found.batches("dev"))
    with pytest.raises(DataError, match="no column 'label'"):
        next(found.batches(columns=["label"]))


def test_the_same_rows_make_the_same_bytes_however_they_come(tmp_path: Path):
    rows = [{"text": f"row {i}", "n": i, **FROM} for i in range(50_000)]
    columns = kinds_of(rows)
    for name, size in (("one", 50_000), ("other", 777)):
        parts = (("train", to_table(rows[i : i + size], columns)) for i in range(0, len(rows), size))
        write_dataset(tmp_path / name, parts, name="rows", columns=columns, history=[])
    for file in sorted((tmp_path / "one").rglob("*.*")):
        assert file.read_bytes() == (tmp_path / "other" / file.relative_to(tmp_path / "one")).read_bytes(), file


def test_many_rows_are_several_files_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shared.dataset.write.FILE_ROWS", 40)
    monkeypatch.setattr("shared.dataset.write._GROUP_ROWS", 20)
    found = write(tmp_path / "rows", [{"n": i} for i in range(90)])
    assert [file.rows for file in found.info.files.values()] == [40, 40, 10]
    assert [row["n"] for row in read(found)] == list(range(90))


def test_a_failed_write_leaves_the_older_dataset_and_no_litter(tmp_path: Path):
    older = write(tmp_path / "data", [{"n": 1}])
    rows = [{"n": 2, **FROM}]

    def parts():
        yield "train", to_table(rows, kinds_of(rows))
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_dataset(older.path, parts(), name="new", columns=kinds_of(rows), history=[])
    assert read(read_dataset(older.path)) == [{"n": 1}]
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_a_changed_file_is_refused_by_name(tmp_path: Path):
    found = write(tmp_path / "data", [{"n": 1}])
    [file] = found.files()
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"train-00000\.parquet is not as it was written"):
        found.verify()
    file.unlink()
    with pytest.raises(DataError, match=r"has no data/train-00000\.parquet"):
        found.verify()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is no dataset: it has no dataset.json"),
        ("{}", "is broken: name: Field required"),
        ("{", "is broken"),
    ],
)
def test_what_is_no_dataset_is_refused(tmp_path: Path, content: str | None, said: str):
    if content is not None:
        (tmp_path / INFO).write_text(content)
    with pytest.raises(DataError, match=said):
        read_dataset(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path):
    found = write(tmp_path / "data", [{"n": 1}])
    info = json.loads((found.path / INFO).read_text())
    (found.path / INFO).write_text(json.dumps(info | {"format_version": 2}))
    with pytest.raises(DataError, match="has format 2; this version of Percept reads up to 1"):
        read_dataset(found.path)


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("work")
    with pytest.raises(ConfigError, match=r"holds files but no dataset\.json"):
        write(tmp_path, [{"n": 1}])
    assert (tmp_path / "thesis.txt").read_text() == "work"


def test_rows_without_provenance_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="rows without _source, _place"):
        write_dataset(tmp_path / "data", [], name="rows", columns={"n": "int"}, history=[])


def test_what_was_left_out_is_kept_with_its_reason(tmp_path: Path):
    left = {"_source": "here", "_place": "row 2", "step": "collect", "reason": "line 2 is not JSON", "row": None}
    found = write(tmp_path / "data", [{"n": 1}], left_out=[left], failed=[{"place": "page 3", "reason": "500"}])
    assert pyarrow.parquet.read_table(found.path / LEFT_OUT).to_pylist() == [left]
    card = (found.path / CARD).read_text()
    assert "1 rows were left out" in card
    assert "1 place could not be read" in card
