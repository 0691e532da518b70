"""Collections: every kind of source, mixed, with where each row is from; malformed rows; secrets; going on."""

from __future__ import annotations

import json
import sqlite3
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import yaml

from scripts.collect import read_photos
from shared.collecting.journal import journal_folder
from shared.collecting.run import Collected, collect
from shared.collecting.spec import read_spec
from shared.dataset.layout import FAILED, LEFT_OUT, PROVENANCE
from shared.errors import ConfigError, DataError
from shared.sources.steps import Secrets
from tests.shared.collecting.conftest import Site
from vision.images import PHOTO_SUFFIXES

CASES = Path(__file__).parents[1] / "sources"


def run(place: Path, *sources: dict[str, Any], out: str = "out", environment: dict[str, str] | None = None,
        restart: bool = False, **spec: Any) -> Collected:  # fmt: skip
    file = place / "spec.yaml"
    file.write_text(yaml.safe_dump({"name": "rows", "licence": "MIT", "sources": list(sources), **spec}))
    return collect(read_spec(file), place, place / out, photos=read_photos, photo_suffixes=PHOTO_SUFFIXES,
                   restart=restart, secrets=Secrets(environment or {}))  # fmt: skip


def rows(done: Collected, *, with_origin: bool = False) -> list[dict[str, Any]]:
    found = [row for _, batch in done.dataset.batches() for row in batch.to_pylist()]
    return found if with_origin else [{k: v for k, v in row.items() if k not in PROVENANCE} for row in found]


def left_out(done: Collected) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(done.dataset.path / LEFT_OUT).to_pylist()


def make_shop(file: Path, count: int = 5) -> None:
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, price REAL, photo BLOB)")
        database.executemany(
            "INSERT INTO orders VALUES (?, ?, ?, ?)", [(i, f"thing {i}", i / 4, b"\x00\xff") for i in range(count)]
        )
    database.close()


# Files


def test_a_table_becomes_a_dataset_whose_rows_say_where_they_are_from(tmp_path: Path):
    (tmp_path / "people.csv").write_text("name,zip\nAda,007\nBob,08\n")
    done = run(tmp_path, {"kind": "files", "path": "people.csv", "licence": "CC BY 4.0"})
    first, second = rows(done, with_origin=True)
    assert (first["name"], first["zip"]) == ("Ada", "007")
    assert (second["_source"], second["_place"], second["_licence"]) == (
        "files people.csv",
        "people.csv row 2",
        "CC BY 4.0",
    )
    assert first["_sha256"] != second["_sha256"]
    assert first["_time"].endswith("Z")
    assert not journal_folder(tmp_path / "out").exists()


def test_tables_of_all_kinds_in_a_folder_are_read_alike(tmp_path: Path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "a_train.csv").write_text("text;label\nhello, you;greet\n")
    (folder / "b_test.jsonl").write_text('{"text": "bye", "label": "part"}\nnot json\n')
    (folder / "nlu.yml").write_text("nlu:\n- intent: yes\n  examples: |\n    - sure\n")
    done = run(tmp_path, {"kind": "files", "path": "raw"}, max_left_out=0.5)
    assert rows(done) == [
        {"text": "hello, you", "label": "greet"},
        {"text": "sure", "label": "yes"},
        {"text": "bye", "label": "part"},
    ]
    assert done.dataset.info.splits == {"train": 2, "test": 1}
    [row] = left_out(done)
    assert row["_place"] == "raw/b_test.jsonl row 2"
    assert row["reason"].startswith("line 2 is not JSON")


def test_what_is_no_table_is_told_and_does_not_count_as_malformed(tmp_path: Path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.csv").write_text("n\n1\n")
    (tmp_path / "raw" / "scan.pdf").write_bytes(b"%PDF")
    done = run(tmp_path, {"kind": "files", "path": "raw"})
    assert rows(done) == [{"n": "1"}]
    assert [(each["_place"], each["reason"]) for each in left_out(done)] == [
        ("scan.pdf", "is neither a table nor a photo")
    ]


def test_columns_are_chosen_renamed_and_added(tmp_path: Path):
    (tmp_path / "rows.json").write_text(json.dumps([{"fields": {"title": "x"}, "n": 1}, {"fields": {}, "n": 2}]))
    source = {"kind": "files", "path": "rows.json", "columns": {"text": "fields.title"}, "add": {"language": "en"}}
    assert rows(run(tmp_path, source)) == [{"text": "x", "language": "en"}, {"text": None, "language": "en"}]
    with pytest.raises(DataError, match=r"no row has 'fields.name', which `columns` asks for"):
        run(tmp_path, source | {"columns": {"text": "fields.name"}}, out="other")


def test_squad_and_label_studio_are_known_by_their_form(tmp_path: Path):
    squad = {"data": [{"title": "T", "paragraphs": [{"context": "Ada wrote.", "qas": [
        {"id": "1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}]}]}]}  # fmt: skip
    choices = [{"result": [{"value": {"choices": [label]}}]} for label in ("good", "good", "bad")]
    tasks = [
        {"id": 1, "data": {"text": "fine"}, "annotations": choices},
        {"id": 2, "data": {"text": "so-so"}, "annotations": choices[1:]},
        {"id": 3, "data": {"text": "later"}, "annotations": [{"was_cancelled": True, "result": []}]},
    ]
    (tmp_path / "squad.json").write_text(json.dumps(squad))
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    done = run(tmp_path, {"kind": "files", "path": "*.json"}, max_left_out=0.9)
    question, task = rows(done)
    assert json.loads(question["answers"]) == {"text": ["Ada"], "answer_start": [0]}
    assert (task["text"], task["label"]) == ("fine", "good")
    assert [row["reason"] for row in left_out(done)] == [
        "its annotators disagree: good and bad",
        "has no annotation that was not skipped",
    ]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_archives_are_read_as_the_folders_they_are(tmp_path: Path, kind: str):
    (tmp_path / "a.csv").write_text("n\n1\n")
    archive = tmp_path / f"packed.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            packed.write(tmp_path / "a.csv", "deep/a.csv")
    else:
        with tarfile.open(archive, "w:gz") as packed_tar:
            packed_tar.add(tmp_path / "a.csv", "deep/a.csv")
    [row] = rows(run(tmp_path, {"kind": "files", "path": archive.name}), with_origin=True)
    assert (row["n"], row["_place"]) == ("1", f"packed.{kind}/deep/a.csv row 1")


def test_an_archive_never_writes_elsewhere_or_without_bounds(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as packed:
        packed.writestr("../../evil.csv", "n\n1\n")
    with pytest.raises(DataError, match=r"which would be outside of it"):
        run(tmp_path, {"kind": "files", "path": "evil.zip"})
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("big.csv", b"0" * (20 << 20))
    with pytest.raises(DataError, match=r"would be larger than 0.01 GB"):
        run(tmp_path, {"kind": "files", "path": "bomb.zip", "max_unpacked_gb": 0.01}, out="b")


def test_too_many_malformed_rows_end_it_and_a_few_do_not(tmp_path: Path):
    good = [json.dumps({"n": i}) for i in range(199)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*good, "broken"]))
    assert len(rows(run(tmp_path, {"kind": "files", "path": "rows.jsonl"}))) == 199
    (tmp_path / "rows.jsonl").write_text("\n".join([*good[:50], *["broken"] * 4]))
    with pytest.raises(DataError, match=r"4 of 54 rows are malformed, 7.4%; allowed are 1.0%"):
        run(tmp_path, {"kind": "files", "path": "rows.jsonl"}, out="other")


def test_three_malformed_rows_stop_no_small_file_and_a_file_of_nothing_else_does(tmp_path: Path):
    good = [json.dumps({"n": i}) for i in range(5)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*good, *["broken"] * 3]))
    done = run(tmp_path, {"kind": "files", "path": "rows.jsonl"})
    assert (len(rows(done)), len(left_out(done))) == (5, 3)
    (tmp_path / "rows.jsonl").write_text("broken")
    with pytest.raises(DataError, match=r"1 of 1 rows is malformed"):
        run(tmp_path, {"kind": "files", "path": "rows.jsonl"}, out="other")


def test_after_too_many_malformed_rows_a_higher_share_goes_on_and_other_changes_are_refused(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("a,b\n" + "1,2\n" * 5 + "1,2,3\n" * 4)
    source = {"kind": "files", "path": "rows.csv"}
    with pytest.raises(DataError) as stopped:
        run(tmp_path, source)
    assert "into quotation marks. Correct the source" in str(stopped.value)
    assert f"in the hidden folder {journal_folder(tmp_path / 'out')}" in str(stopped.value)
    with pytest.raises(ConfigError, match="only `max_left_out` and licences may change"):
        run(tmp_path, source | {"add": {"language": "en"}}, max_left_out=0.9)
    done = run(tmp_path, source | {"licence": "CC0"}, max_left_out=0.9)
    assert {row["_licence"] for row in rows(done, with_origin=True)} == {"CC0"}
    assert len(rows(done)) == 5


def test_a_wrong_column_name_is_told_with_the_columns_that_there_are(tmp_path: Path):
    (tmp_path / "rows.json").write_text(json.dumps([{"Beschreibung": "x", "fields": {"title": "y"}}]))
    source = {"kind": "files", "path": "rows.json"}
    with pytest.raises(DataError) as missed:
        run(tmp_path, source | {"columns": {"text": "Beschreibungen"}})
    assert (
        "no row has 'Beschreibungen', which `columns` asks for; did you mean 'Beschreibung'? "
        "The rows have 'Beschreibung', 'fields', 'fields.title'." in str(missed.value)
    )
    with pytest.raises(DataError, match=r"asks for\. The rows have"):
        run(tmp_path, source | {"columns": {"text": "qqq"}}, restart=True)


def test_a_file_that_cannot_be_read_is_named_and_tried_again(tmp_path: Path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "a.csv").write_text("n\n1\n")
    (folder / "b.xlsx").write_bytes(b"no workbook")
    done = run(tmp_path, {"kind": "files", "path": "raw"})
    assert done.failed == 1
    [failure] = [json.loads(line) for line in (done.dataset.path / FAILED).read_text().splitlines()]
    assert "raw/b.xlsx" in failure["place"]
    assert "cannot be read as a workbook" in failure["reason"]
    (folder / "b.xlsx").unlink()
    (folder / "b.csv").write_text("n\n2\n")
    done = run(tmp_path, {"kind": "files", "path": "raw"})
    assert done.failed == 0
    assert rows(done) == [{"n": "1"}, {"n": "2"}]
    assert not (done.dataset.path / FAILED).exists()


# Databases


def test_a_query_becomes_rows_with_their_types(tmp_path: Path):
    make_shop(tmp_path / "shop.db")
    source = {"kind": "sql", "url": "sqlite:///shop.db", "query": "SELECT * FROM orders WHERE id >= :least",
              "parameters": {"least": 3}}  # fmt: skip
    done = run(tmp_path, source)
    assert rows(done)[0] == {"id": 3, "item": "thing 3", "price": 0.75, "photo": b"\x00\xff"}
    assert len(done.dataset) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"query": "DELETE FROM orders"}, "must begin with SELECT or WITH"),
        ({"query": "SELECT 1 AS a, 2 AS a"}, "two columns called 'a'"),
        ({"query": "SELECT * FROM nowhere"}, "sqlite:///shop.db: no such table: nowhere"),
        ({"url": "sqlite:///none.db"}, "there is no database none.db"),
        ({"url": "shop.db"}, "is none of SQLAlchemy's"),
        ({"url": "postgresql://ada:geheim@127.0.0.1:1/x"}, "has a secret in 'url'"),
        ({"url": "${SHOP}"}, "the environment has no SHOP"),
        ({"key": "nowhere"}, "no column 'nowhere', the key|no such column"),
    ],
)
def test_what_a_database_cannot_do_is_said_in_a_line(tmp_path: Path, changes: dict[str, str], said: str):
    make_shop(tmp_path / "shop.db")
    source = {"kind": "sql", "url": "sqlite:///shop.db", "query": "SELECT * FROM orders"}
    with pytest.raises((ConfigError, DataError), match=said):
        run(tmp_path, source | changes)


def test_a_query_cannot_write(tmp_path: Path):
    make_shop(tmp_path / "shop.db")
    sneaky = "WITH gone AS (SELECT 1) DELETE FROM orders RETURNING id"
    with pytest.raises(DataError, match=r"readonly|read-only"):
        run(tmp_path, {"kind": "sql", "url": "sqlite:///shop.db", "query": sneaky})
    with sqlite3.connect(tmp_path / "shop.db") as database:
        assert database.execute("SELECT COUNT(*) FROM orders").fetchone() == (5,)
    database.close()


def test_a_database_that_dies_is_read_on_behind_the_last_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shared.sources.sql.STEP_ROWS", 10)
    make_shop(tmp_path / "shop.db", 45)
    source = {"kind": "sql", "url": "sqlite:///shop.db", "query": "SELECT id, item FROM orders", "key": "id"}
    real, taken = sqlite3.Cursor, []
    from shared.collecting import run as running

    take = running._Intake.take

    def dies(self: Any, step: Any, secrets: Any) -> None:
        take(self, step, secrets)
        taken.append(len(step.found))
        if len(taken) == 2:
            raise DataError("the connection is gone")

    monkeypatch.setattr(running._Intake, "take", dies)
    with pytest.raises(DataError, match="gone"):
        run(tmp_path, source)
    assert not (tmp_path / "out").exists()
    done = run(tmp_path, source)
    assert [row["id"] for row in rows(done)] == list(range(45))
    assert taken == [10, 10, 10, 10, 5]
    assert real is sqlite3.Cursor


# APIs


def serve_records(site: Site, count: int = 25, size: int = 10) -> None:
    records = [{"id": i, "name": {"first": f"n{i}"}} for i in range(count)]

    def answer(body: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json", **headers}, json.dumps(body).encode()

    def by_page(query: dict[str, str], _: Any) -> Any:
        start = (int(query["page"]) - 1) * size
        return answer({"data": records[start : start + size]})

    def by_offset(query: dict[str, str], _: Any) -> Any:
        return answer(records[int(query["offset"]) :][:size])

    def by_cursor(query: dict[str, str], _: Any) -> Any:
        start = int(query.get("cursor", 0))
        following = start + size if start + size < count else None
        return answer({"data": records[start : start + size], "meta": {"next": following}})

    def by_link(query: dict[str, str], _: Any) -> Any:
        page = int(query.get("page", 0))
        more = (page + 1) * size < count
        link = {"Link": f'</link?page={page + 1}>; rel="next"'} if more else {}
        return answer(records[page * size : (page + 1) * size], **link)

    def by_address(query: dict[str, str], _: Any) -> Any:
        page = int(query.get("p", 0))
        following = f"/address?p={page + 1}" if (page + 1) * size < count else None
        return answer({"data": records[page * size : (page + 1) * size], "next": following})

    site.pages |= {"/page": by_page, "/offset": by_offset, "/cursor": by_cursor, "/link": by_link,
                   "/address": by_address}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "paging", "records"),
    [
        ("page", {"by": "page"}, "data"),
        ("offset", {"by": "offset"}, ""),
        ("cursor", {"by": "cursor", "next": "meta.next"}, "data"),
        ("link", {"by": "link"}, ""),
        ("address", {"by": "address", "next": "next"}, "data"),
    ],
)
def test_every_paging_brings_every_record_once(tmp_path: Path, site: Site, path: str, paging: Any, records: str):
    serve_records(site)
    source = {"kind": "rest", "url": f"{site.url}/{path}", "paging": paging, "records": records,
              "columns": {"id": "id", "name": "name.first"}, "requests_per_second": 100}  # fmt: skip
    done = run(tmp_path, source)
    assert rows(done) == [{"id": i, "name": f"n{i}"} for i in range(25)]
    assert len(site.asked) == len(set(site.asked))


def test_a_secret_is_sent_and_never_written(tmp_path: Path, site: Site):
    def page(query: dict[str, str], headers: dict[str, str]) -> Any:
        status = 200 if headers.get("authorization") == "Bearer geheim42" and query["key"] == "other42" else 401
        return status, {}, json.dumps([{"echo": "no"}] if status == 200 else {"you sent": query}).encode()

    site.pages["/"] = page
    source = {"kind": "rest", "url": f"{site.url}/", "headers": {"Authorization": "Bearer ${TOKEN}"},
              "parameters": {"key": "${KEY}"}, "paging": {"by": "link"}}  # fmt: skip
    done = run(tmp_path, source, environment={"TOKEN": "geheim42", "KEY": "other42"})
    assert len(done.dataset) == 1
    for file in done.dataset.path.rglob("*.*"):
        assert b"geheim42" not in file.read_bytes()
        assert b"other42" not in file.read_bytes()
    with pytest.raises(DataError, match=r"answered 401.*\*\*\*.*Check the secret") as refused:
        run(tmp_path, source, out="o", environment={"TOKEN": "wrong42", "KEY": "other42"})
    assert "other42" not in str(refused.value)
    with pytest.raises(ConfigError, match="has a secret in 'Authorization'"):
        run(tmp_path, source | {"headers": {"Authorization": "Bearer geheim42"}}, out="p")


def test_an_api_that_goes_round_is_stopped(tmp_path: Path, site: Site):
    site.pages["/c"] = 200, {}, json.dumps({"data": [{"n": 1}], "next": "abc"}).encode()
    source = {"kind": "rest", "url": f"{site.url}/c", "records": "data", "requests_per_second": 100}
    with pytest.raises(DataError, match=r"it does not heed this paging|would go round for ever"):
        run(tmp_path, source | {"paging": {"by": "cursor", "next": "next"}})
    with pytest.raises(DataError, match=r"does not heed this paging"):
        run(tmp_path, source | {"paging": {"by": "page"}}, out="other")
    assert len(site.asked) <= 4


def test_an_api_that_is_busy_is_asked_again(tmp_path: Path, site: Site):
    answers = iter([(429, {"Retry-After": "0"}, b""), (503, {}, b""), (200, {}, b'[{"n": 1}]')])
    site.pages["/"] = lambda *_: next(answers)
    assert rows(run(tmp_path, {"kind": "rest", "url": f"{site.url}/"})) == [{"n": 1}]
    assert len(site.asked) == 3


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "did not answer with JSON"),
        (b'{"items": [], "count": 0}', "no list at 'data' of a page, which is an object with 'items', 'count'"),
    ],
)
def test_what_is_no_page_of_records_is_said(tmp_path: Path, site: Site, body: bytes, said: str):
    site.pages["/"] = 200, {}, body
    with pytest.raises(DataError, match=said):
        run(tmp_path, {"kind": "rest", "url": f"{site.url}/", "records": "data"})


# Web pages

PAGE = """<html lang="en"><head><title>{title}</title>{head}</head><body><nav><a href="/b">menu</a></nav>
<main><h1>{title}</h1><p>Some <b>bold</b> text.</p><script>no()</script>{body}</main>
<footer>foot</footer></body></html>"""


def page(title: str, body: str = "", head: str = "") -> str:
    return PAGE.format(title=title, body=body, head=head)


def test_a_crawl_stays_within_and_obeys(tmp_path: Path, site: Site):
    site.text("/robots.txt", "User-agent: percept-collect\nDisallow: /docs/secret\n")
    links = '<a href="b.html#x">b</a> <a href="secret/c.html">c</a> <a href="/elsewhere">d</a> <a href="e.html">e</a>'
    site.html("/docs/a.html", page("A", links))
    site.html("/docs/b.html", page("B", head='<link rel="license" href="https://example.org/by">'))
    site.html("/docs/secret/c.html", page("C"))
    site.html("/docs/e.html", page("E", head='<meta name="robots" content="noai">'))
    done = run(tmp_path, {"kind": "web", "start": f"{site.url}/docs/a.html", "pause_s": 0})
    first, second = rows(done, with_origin=True)
    assert (first["title"], first["text"], first["language"]) == ("A", "A\nSome bold text.\nb c d e", "en")
    assert (second["title"], second["_licence"]) == ("B", "https://example.org/by")
    assert {(row["_place"].rpartition("/")[2], row["reason"]) for row in left_out(done)} == {
        ("c.html", "robots.txt forbids it"),
        ("e.html", "asks not to be used for AI (noai)"),
    }
    assert "/docs/secret/c.html" not in site.asked
    assert "/elsewhere" not in site.asked


def test_a_sitemap_and_its_index_are_followed(tmp_path: Path, site: Site):
    space = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
    site.text("/index.xml", f"<sitemapindex {space}><sitemap><loc>{site.url}/map.xml</loc></sitemap></sitemapindex>")
    site.text(
        "/map.xml", f"<urlset {space}><url><loc>{site.url}/a</loc></url><url><loc>{site.url}/b</loc></url></urlset>"
    )
    site.html("/a", page("A"))
    site.html("/b", page("B"))
    done = run(tmp_path, {"kind": "web", "sitemap": f"{site.url}/index.xml", "pause_s": 0})
    assert [row["title"] for row in rows(done)] == ["A", "B"]


def test_while_robots_txt_cannot_be_had_nothing_is_visited(tmp_path: Path, site: Site):
    site.text("/robots.txt", "", status=501)
    site.html("/a", page("A"))
    with pytest.raises(DataError, match=r"no row was found"):
        run(tmp_path, {"kind": "web", "pages": [f"{site.url}/a"], "pause_s": 0})
    assert site.asked == ["/robots.txt"]


def test_a_trap_is_left(tmp_path: Path, site: Site):
    def endless(query: dict[str, str], _: Any) -> Any:
        day = int(query.get("day", 0))
        links = f'<a href="?day={day + 1}">next</a> <a href="deep/">deeper</a>'
        return 200, {"Content-Type": "text/html"}, page(f"day {day}", links).encode()

    for depth in range(8):
        site.pages["/cal/" + "deep/" * depth] = endless
    done = run(tmp_path, {"kind": "web", "start": f"{site.url}/cal/", "pause_s": 0, "max_pages": 500, "max_depth": 200})
    assert len(done.dataset) <= 3 * 51
    assert max(path.count("deep/") for path in site.asked) <= 2


def test_photos_come_with_what_the_page_says_of_them(tmp_path: Path, site: Site):
    figure = """<figure><img src="/p.png" alt="a red  thing"><figcaption>Red, <a rel="license" href="/by">BY</a>
    </figcaption></figure><img src="/none.png" alt="x">"""
    site.html("/a", page("A", figure))
    site.pages["/p.png"] = 200, {"Content-Type": "image/png"}, b"\x89PNG"
    done = run(tmp_path, {"kind": "web", "pages": [f"{site.url}/a"], "photos": True, "pause_s": 0})
    [row] = rows(done, with_origin=True)
    assert (row["image"], row["alt"]) == ({"bytes": b"\x89PNG", "path": "p.png"}, "a red thing")
    assert row["_licence"] == f"{site.url}/by"
    assert left_out(done)[0]["reason"] == "answered 404 with no kind"


def test_a_huge_page_is_named_and_the_others_are_read(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shared.sources.web.MAX_PAGE_BYTES", 5_000)
    site.html("/big", page("Big", "x" * 10_000))
    site.html("/a", page("A"))
    done = run(tmp_path, {"kind": "web", "pages": [f"{site.url}/big", f"{site.url}/a"], "pause_s": 0})
    assert [row["title"] for row in rows(done)] == ["A"]
    assert "is larger than" in json.loads((done.dataset.path / FAILED).read_text())["reason"]


# The hub


def test_a_data_set_of_the_hub_is_streamed_with_the_names_of_its_classes(tmp_path: Path):
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    table = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [1, 0]}, features=features)
    (tmp_path / "set").mkdir()
    table.to_parquet(tmp_path / "set" / "train.parquet")
    done = run(tmp_path, {"kind": "hub", "dataset": str(tmp_path / "set"), "max_rows": 1})
    assert rows(done) == [{"text": "x", "label": "good"}]


# All


def test_sources_are_mixed_and_their_columns_agree(tmp_path: Path, site: Site):
    (tmp_path / "a.csv").write_text("id,item\n1,one\n")
    make_shop(tmp_path / "shop.db", 1)
    site.pages["/"] = 200, {}, b'[{"id": 1.5, "item": null}]'
    done = run(
        tmp_path,
        {"kind": "sql", "url": "sqlite:///shop.db", "query": "SELECT id, item FROM orders", "split": "test"},
        {"kind": "rest", "url": f"{site.url}/"},
        {"kind": "files", "path": "a.csv"},
    )
    assert done.dataset.info.columns["id"] == "text"
    found = {row["_source"]: (row["id"], row["item"]) for row in rows(done, with_origin=True)}
    assert found == {
        "sql shop.db": ("0", "thing 0"),
        f"rest {site.url.removeprefix('http://')}/": ("1.5", None),
        "files a.csv": ("1", "one"),
    }
    assert done.dataset.info.splits == {"test": 1, "train": 2}


def test_datasets_are_joined_and_their_rows_stay_what_they_were(tmp_path: Path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"text\n{name}\n")
        run(tmp_path, {"kind": "files", "path": f"{name}.csv", "licence": f"licence {name}", "split": "test"}, out=name)
    done = run(tmp_path, {"kind": "files", "path": "a"}, {"kind": "files", "path": "b"}, out="both")
    assert [(row["text"], row["_source"], row["_licence"]) for row in rows(done, with_origin=True)] == [
        ("a", "files a.csv", "licence a"),
        ("b", "files b.csv", "licence b"),
    ]
    assert done.dataset.info.splits == {"test": 2}


def test_nobody_says_the_licence(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nobody says under which licence files a.csv may be used"):
        run(tmp_path, {"kind": "files", "path": "a.csv"}, licence=None)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"kind": "ftp"}, "ftp"),
        ({"kind": "files"}, "path: Field required"),
        ({"kind": "web", "pause_s": 1}, "say one of pages, sitemap and start"),
        ({"kind": "files", "path": "none.csv"}, r"there is nothing at none\.csv"),
    ],
)
def test_a_wrong_spec_is_refused_in_a_line(tmp_path: Path, source: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, source)


def test_a_dataset_is_not_edited_in_place(tmp_path: Path):
    (tmp_path / "a.csv").write_text("n\n1\n")
    source = {"kind": "files", "path": "a.csv"}
    run(tmp_path, source)
    with pytest.raises(ConfigError, match="is a dataset already"):
        run(tmp_path, source)
    (tmp_path / "a.csv").write_text("n\n2\n")
    assert rows(run(tmp_path, source, restart=True)) == [{"n": "2"}]


def test_a_column_of_our_own_name_is_set_aside(tmp_path: Path):
    (tmp_path / "a.csv").write_text("_source,n\nx,1\n")
    with pytest.raises(DataError, match=r"is one of our own: rename it with `columns`"):
        run(tmp_path, {"kind": "files", "path": "a.csv"})
