"""What a source may do by mischance or on purpose: nothing is misread, lost, doubled, leaked or without bounds."""

from __future__ import annotations

import gzip
import json
import sqlite3
import time
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from shared.collecting.journal import journal_folder
from shared.collecting.spec import read_spec
from shared.dataset.layout import FAILED
from shared.errors import ConfigError, DataError
from shared.sources.polite import Visitor
from shared.sources.rasa import without_entities
from tests.photos import jpeg
from tests.shared.collecting.conftest import Site
from tests.shared.collecting.test_collect import left_out, rows, run


def splits(done: Any) -> dict[str, str]:
    """Text -> split."""
    return {row["text"]: split for split, batch in done.dataset.batches() for row in batch.to_pylist()}


def write(folder: Path, **files: str) -> None:
    for name, content in files.items():
        file = folder / name.replace("__", "/").replace("_csv", ".csv").replace("_yml", ".yml").replace(
            "_json", ".json"
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


# Databases


@pytest.mark.parametrize("url", ["sqlite:///w.db", "sqlite:///file:{folder}/w.db?uri=true"])
def test_no_query_deletes_rows_of_the_source(tmp_path: Path, url: str):
    with sqlite3.connect(tmp_path / "w.db") as database:
        database.execute("CREATE TABLE t AS SELECT 1 AS id UNION SELECT 2")
    source = {"kind": "sql", "url": url.format(folder=tmp_path)}
    with pytest.raises(DataError, match=r"readonly|read-only|query_only"):
        run(tmp_path, {**source, "query": "WITH x AS (SELECT 1) DELETE FROM t RETURNING id"})
    assert sqlite3.connect(tmp_path / "w.db").execute("SELECT count(*) FROM t").fetchone() == (2,)
    done = run(tmp_path, {**source, "query": "SELECT id FROM t -- all of them", "key": "id"}, out="more")
    assert rows(done) == [{"id": 1}, {"id": 2}]
    with pytest.raises(DataError, match="more than 1 rows"):
        run(tmp_path, {**source, "query": "SELECT id FROM t", "max_rows": 1}, out="less")


# Secrets


@pytest.mark.parametrize(
    "source",
    [
        {"kind": "rest", "url": "http://ada:hunter22@h.example/x"},
        {"kind": "rest", "url": "http://h.example/x?token=hunter22"},
        {"kind": "rest", "url": "http://h.example/x", "parameters": {"apiKey": "hunter22"}},
        {"kind": "rest", "url": "http://h.example/x", "headers": {"X-Auth-Token": "hunter22"}},
        {"kind": "rest", "url": "http://h.example/x", "headers": {"Api-Key": "hunter22"}},
        {"kind": "web", "pages": ["https://ada:hunter22@h.example/x"]},
        {"kind": "sql", "url": "postgresql://ada@h.example/db?password=hunter22", "query": "SELECT 1"},
        {"kind": "sql", "url": "postgresql://ada:hunter%2022@h.example/db", "query": "SELECT 1"},
    ],
)
def test_a_secret_in_a_spec_is_refused_without_being_said(tmp_path: Path, source: dict[str, Any]):
    with pytest.raises(ConfigError, match="has a secret in") as error:
        run(tmp_path, source)
    assert "hunter" not in str(error.value)


def test_a_secret_that_the_server_says_again_is_kept_nowhere(tmp_path: Path, site: Site):
    secret = "s3cr+t/key=99"

    def page(query: dict[str, str], headers: dict[str, str]) -> Any:
        assert query["api_key"] == secret
        number = int(query.get("page", "1"))
        again = f"{site.url}/a?page={number + 1}&api_key=s3cr%2Bt%2Fkey%3D99" if number < 3 else None
        body = {"items": [{"text": f"row {number}", "echo": headers["authorization"]}], "next": again}
        return 200, {}, json.dumps(body).encode()

    site.pages["/a"] = page
    source = {
        "kind": "rest", "url": f"{site.url}/a", "parameters": {"api_key": "${TOKEN}"}, "records": "items",
        "headers": {"Authorization": "Bearer ${TOKEN}"}, "paging": {"by": "address", "next": "next"},
    }  # fmt: skip
    done = run(tmp_path, source, environment={"TOKEN": secret})
    assert [row["text"] for row in rows(done)] == ["row 1", "row 2", "row 3"]
    assert {row["echo"] for row in rows(done)} == {"Bearer ***"}
    site.pages["/a"] = lambda query, _: (200, {}, json.dumps({"items": [{"text": query.get("page", "1")}],
                                         "next": f"{site.url}/a?page=2&api_key={secret}"}).encode())  # fmt: skip
    with pytest.raises(DataError, match="as the next page again") as error:
        run(tmp_path, source, environment={"TOKEN": secret}, out="round")
    assert "s3cr" not in str(error.value)
    kept = [*(tmp_path / "out").rglob("*"), *journal_folder(tmp_path / "round").rglob("*")]
    assert len(kept) > 4
    for file in kept:
        assert not file.is_file() or b"s3cr" not in file.read_bytes(), file


def test_what_is_meant_for_https_is_not_sent_over_http():
    import httpx

    seen: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((str(request.url), request.headers.get("authorization")))
        if request.url.scheme == "https":
            return httpx.Response(302, headers={"location": "http://api.example.org/x"})
        return httpx.Response(200, stream=httpx.ByteStream(b"{}"))

    visitor = Visitor({"Authorization": "Bearer x"}, pause_s=0)
    visitor._client = httpx.Client(transport=httpx.MockTransport(answer))
    visitor.get("https://api.example.org/x")
    assert seen == [("https://api.example.org/x", "Bearer x"), ("http://api.example.org/x", None)]


# Splits


def test_folders_and_files_that_are_called_after_splits_are_these(tmp_path: Path):
    write(tmp_path, fs__train__part1_csv="text\na\n", fs__test__part1_csv="text\nb\n")
    assert splits(run(tmp_path, {"kind": "files", "path": "fs"})) == {"a": "train", "b": "test"}
    write(tmp_path, de__train_csv="text\na\n", de__dev_csv="text\nb\n", de__eval_csv="text\nc\n")
    expected = {"a": "train", "b": "val", "c": "test"}
    assert splits(run(tmp_path, {"kind": "files", "path": "de"}, out="de2")) == expected
    assert splits(run(tmp_path, {"kind": "files", "path": "de/*.csv"}, out="de3")) == expected
    write(tmp_path, my_test_2_csv="text\na\n")
    assert splits(run(tmp_path, {"kind": "files", "path": "my_test_2.csv"}, out="one")) == {"a": "test"}


def test_a_column_of_splits_is_understood_or_refused(tmp_path: Path):
    write(tmp_path, a_csv="text,Subset\nx,training\ny,dev\nz,eval\n", b_csv="text,split\nx,train\ny,holdout\n")
    assert splits(run(tmp_path, {"kind": "files", "path": "a.csv"})) == {"x": "train", "y": "val", "z": "test"}
    with pytest.raises(DataError, match="'holdout', which is none of train, validation and test"):
        run(tmp_path, {"kind": "files", "path": "b.csv"}, out="b")


# Rows that no file can hold


def test_one_strange_value_is_set_aside_or_kept_and_the_others_are_read(tmp_path: Path):
    lines = ['{"text": "bad \\ud83d"}', '{"text": "big", "n": 73786976294838206464}', '{"text": "fine", "n": 1}',
             '{"text": "deep", "d": ' + "[" * 400 + "]" * 400 + "}"]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    done = run(tmp_path, {"kind": "files", "path": "a.jsonl"}, max_left_out=0.5)
    assert {row["text"]: row["n"] for row in rows(done)} == {"big": "73786976294838206464", "fine": "1", "deep": None}
    assert "half a character" in left_out(done)[0]["reason"]


def test_the_columns_of_a_dataset_are_believed_in_a_dataset_alone(tmp_path: Path):
    write(tmp_path, a_csv="text,_source,_place,_time,_licence,_sha256\nx,me,here,now,CC0,00\n")
    with pytest.raises(DataError, match="is one of our own"):
        run(tmp_path, {"kind": "files", "path": "a.csv"})


# Pages


def test_a_broken_page_fails_alone(tmp_path: Path, site: Site):
    site.html("/odd", "<p>odd</p>")
    site.pages["/odd"] = 200, {"Content-Type": "text/html; charset=utf8mb4"}, b"<p>odd</p>"
    site.html("/base", '<base href="http://[bad"><a rel=license href="http://[bad">x</a><p>based</p>')
    site.html("/good", "<p>good</p>")
    pages = [f"{site.url}/{name}" for name in ("odd", "base", "good")]
    done = run(tmp_path, {"kind": "web", "pages": pages, "pause_s": 0})
    assert [row["text"].splitlines()[-1] for row in rows(done)] == ["odd", "based", "good"]
    for source in ({"kind": "web", "pages": ["http://[bad"]}, {"kind": "rest", "url": "http://[bad"}):
        with pytest.raises(ConfigError, match="is no address"):
            run(tmp_path, source, out="bad")


def test_a_photo_that_many_pages_show_is_fetched_once(tmp_path: Path, site: Site):
    site.html("/a", '<img src="/l.png">' * 40 + '<img src="/m.png">')
    site.html("/b", '<img src="/l.png">')
    for name in "lm":
        site.pages[f"/{name}.png"] = 200, {"Content-Type": "image/png"}, name.encode()
    pages = [f"{site.url}/a", f"{site.url}/b"]
    done = run(tmp_path, {"kind": "web", "pages": pages, "photos": True, "pause_s": 0})
    assert [row["image"]["path"] for row in rows(done)] == ["l.png", "m.png"]
    assert site.asked.count("/l.png") == 1


def test_a_body_that_is_packed_twice_is_refused(tmp_path: Path, site: Site):
    twice = gzip.compress(gzip.compress(b"0" * 50_000_000))
    site.pages["/a"] = 200, {"Content-Encoding": "gzip, gzip"}, twice
    with pytest.raises(DataError, match="packed as 'gzip, gzip'"):
        run(tmp_path, {"kind": "rest", "url": f"{site.url}/a"})
    site.pages["/b"] = 200, {"Content-Encoding": "gzip"}, gzip.compress(b"0" * 70_000_000)
    with pytest.raises(DataError, match="larger than 64 MB"):
        run(tmp_path, {"kind": "rest", "url": f"{site.url}/b"}, out="b")
    site.pages["/c"] = 200, {"Content-Encoding": "gzip"}, gzip.compress(b'[{"text": "fine"}]')
    assert rows(run(tmp_path, {"kind": "rest", "url": f"{site.url}/c"}, out="c")) == [{"text": "fine"}]


# Bombs


def test_small_bombs_cost_little(tmp_path: Path):
    started = time.monotonic()
    for text in ("[a][{" * 100_000, "[" * 500_000, "[a](" * 100_000):
        assert without_entities(text) == text
    bomb = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]\n" for i in range(12))
    (tmp_path / "nlu.yml").write_text(f"{bomb}nlu:\n- intent: *a11\n  examples: |\n    - x\n")
    with pytest.raises(DataError, match="an intent is"):
        run(tmp_path, {"kind": "files", "path": "nlu.yml"})
    spec = tmp_path / "bomb.yaml"
    spec.write_text(f"{bomb}name: *a11\n")
    with pytest.raises(ConfigError):
        read_spec(spec)
    assert time.monotonic() - started < 20


def test_a_workbook_with_a_cell_far_away_is_refused_and_the_command_lives(tmp_path: Path):
    book = tmp_path / "far.xlsx"
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default '
        'Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override '
        'PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.'
        'main+xml"/></Types>',
        "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"'
        "  "
        'Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
        'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="S" '
        'sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" '
        'Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        '<sheetData><row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'
        "</sheetData></worksheet>",
    }
    with zipfile.ZipFile(book, "w") as packed:
        for name, content in parts.items():
            packed.writestr(name, content)
    with pytest.raises(DataError, match="takes more than 4 GB"):
        run(tmp_path, {"kind": "files", "path": "far.xlsx"})


# Annotations


def test_yolo_with_a_folder_for_each_split_is_read(tmp_path: Path):
    for split, label in (("train", "0"), ("valid", "1")):
        for kind in ("images", "labels"):
            (tmp_path / "yolo" / split / kind).mkdir(parents=True)
        (tmp_path / "yolo" / split / "images" / "a.jpg").write_bytes(jpeg("red", int(label)))
        (tmp_path / "yolo" / split / "labels" / "a.txt").write_text(f"{label} 0.5 0.5 1 1\n")
    (tmp_path / "yolo" / "data.yaml").write_text("names: [cat, dog]\n")
    done = run(tmp_path, {"kind": "files", "path": "yolo"})
    found = [(split, row["labels"]) for split, batch in done.dataset.batches() for row in batch.to_pylist()]
    assert found == [("train", ["cat"]), ("val", ["dog"])]
    (tmp_path / "yolo" / "data.yaml").write_text("names: cat\n")
    with pytest.raises(DataError, match="`names` is 'cat'"):
        run(tmp_path, {"kind": "files", "path": "yolo"}, out="no")


def test_coco_and_label_studio_say_what_they_do_not_understand(tmp_path: Path):
    (tmp_path / "coco").mkdir()
    for name in ("a", "b"):
        (tmp_path / "coco" / f"{name}.jpg").write_bytes(jpeg("red", ord(name)))
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}, "c.jpg"],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": "1"}, {"image_id": 2, "category_id": 9}, None],
    }
    (tmp_path / "coco" / "instances_val2017.json").write_text(json.dumps(content))
    done = run(tmp_path, {"kind": "files", "path": "coco"}, max_left_out=1.0)
    assert [(split, row["labels"]) for split, batch in done.dataset.batches() for row in batch.to_pylist()] == [
        ("val", ["cat"])
    ]
    assert [row["reason"] for row in left_out(done)] == [
        "is None; expected an object",
        "is marked with the category 9, which `categories` does not have",
        "is 'c.jpg'; expected an object",
    ]
    task = {
        "id": 1,
        "data": {"text": "x", "label": "old"},
        "annotations": [{"result": [{"value": {"choices": "New"}}]}],
    }
    (tmp_path / "ls.json").write_text(json.dumps([task]))
    assert rows(run(tmp_path, {"kind": "files", "path": "ls.json"}, out="ls")) == [
        {"text": "x", "label_in_data": "old", "label": "New"}
    ]


# Tables


def test_no_column_and_no_file_is_lost_without_a_word(tmp_path: Path):
    write(tmp_path, a_csv="text,,,label\nhi,A,B,x\n")
    assert rows(run(tmp_path, {"kind": "files", "path": "a.csv"})) == [
        {"text": "hi", "column 2": "A", "column 3": "B", "label": "x"}
    ]
    table = pa.table([pa.array([1]), pa.array([2])], names=["x", "x"])
    pyarrow.parquet.write_table(table, tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="two columns called 'x'"):
        run(tmp_path, {"kind": "files", "path": "twice.parquet"}, out="twice")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as packed:
        packed.writestr("a.csv", "text\none\n")
        with pytest.warns(UserWarning, match="Duplicate name"):
            packed.writestr("a.csv", "text\ntwo\n")
    with pytest.raises(DataError, match=r"two files called 'a.csv'"):
        run(tmp_path, {"kind": "files", "path": "z.zip"}, out="zip")
    (tmp_path / "mixed").mkdir()
    write(tmp_path, mixed__data_csv="text\nx\n")
    (tmp_path / "mixed" / "logo.jpg").write_bytes(jpeg("red", 1))
    with pytest.raises(DataError, match="holds photos and tables"):
        run(tmp_path, {"kind": "files", "path": "mixed"}, out="mixed2")


def test_times_keep_their_nanoseconds(tmp_path: Path):
    exact = pa.array([1_000_000_000_000_000_001], pa.timestamp("ns"))
    round_ = pa.array([1_000_000_000_000_001_000], pa.timestamp("ns"))
    pyarrow.parquet.write_table(pa.table({"exact": exact, "round": round_}), tmp_path / "t.parquet", version="2.6")
    (row,) = rows(run(tmp_path, {"kind": "files", "path": "t.parquet"}))
    assert row["exact"] == "2001-09-09 01:46:40.000000001"
    assert row["round"] == datetime(2001, 9, 9, 1, 46, 40, 1)


def test_what_was_recognised_is_told(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes("text\ncaf\xe9\n".encode("cp1252"))
    done = run(tmp_path, {"kind": "files", "path": "a.csv"})
    assert any("cp1252" in note for note in done.notes)


def test_quoted_cells_may_go_on_where_the_spec_says_so(tmp_path: Path):
    write(
        tmp_path, a_csv='id,address\n1,"Flat 2, York"\n2,"Flat 3\n4 Low Rd, York"\n', b_csv='a,text\n1,he said, "no"\n'
    )
    with pytest.raises(DataError, match="quotes: double"):
        run(tmp_path, {"kind": "files", "path": "a.csv"})
    sure = {"kind": "files", "path": "a.csv", "table": {"quotes": "double"}}
    assert rows(run(tmp_path, sure, out="sure"))[1] == {"id": "2", "address": "Flat 3\n4 Low Rd, York"}
    write(tmp_path, c_csv='a,text\n  1,"x, ""y"""\n2,z\n')
    assert rows(run(tmp_path, {"kind": "files", "path": "c.csv"}, out="c")) == [
        {"a": "  1", "text": 'x, "y"'}, {"a": "2", "text": "z"},
    ]  # fmt: skip


# Broken files


def test_broken_files_are_named_in_a_line(tmp_path: Path):
    whole = gzip.compress(b"text\n" + b"hello\n" * 2000)
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad.csv.gz").write_bytes(whole[:20] + b"\xff" * 20 + whole[40:])
    (tmp_path / "bad.csv.xz").write_bytes(b"no archive at all")
    (tmp_path / "deep.yml").write_text("nlu: " + "[" * 20_000)
    for number, name in enumerate(("cut.csv.gz", "bad.csv.gz", "bad.csv.xz", "deep.yml")):
        with pytest.raises(DataError, match=name.partition(".")[0]):
            run(tmp_path, {"kind": "files", "path": name}, out=f"out{number}")
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as packed:
        packed.writestr("a.csv", "text\n1\n")
        packed.writestr("a.csv/b.csv", "text\n2\n")
    with pytest.raises(DataError, match="as a file and as a folder"):
        run(tmp_path, {"kind": "files", "path": "both.zip"}, out="both")
    with zipfile.ZipFile(tmp_path / "long.zip", "w") as packed:
        packed.writestr("n" * 300 + ".csv", "text\n1\n")
    with pytest.raises(DataError, match="too long for this disk"):
        run(tmp_path, {"kind": "files", "path": "long.zip"}, out="long")


def test_stories_beside_examples_are_no_failure(tmp_path: Path):
    write(tmp_path, r__nlu_yml="nlu:\n- intent: hi\n  examples: |\n    - hello\n", r__stories_yml="stories: []\n")
    done = run(tmp_path, {"kind": "files", "path": "r"})
    assert rows(done) == [{"text": "hello", "label": "hi"}]
    assert not (done.dataset.path / FAILED).exists()
    assert [row["reason"] for row in left_out(done)] == ["has no section `nlu:`, so no examples of intents"]


def test_the_folder_that_one_is_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, a_csv="text\nx\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="Name a new folder"):
        run(tmp_path, {"kind": "files", "path": "a.csv"}, out=".")
