"""One reader of tables: cells are text, and what cannot be told for sure is said with the setting that decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet
import pytest

from shared.errors import ConfigError, DataError
from shared.sources.tables import ERROR, TableForm, as_text, open_table

LABELS = ["007", "7", "1", "01", "2.0", "true", "True", "None", "NA", "null", "nan", "1e3", "-", "2026-11-29", "1,5"]


def read(path: Path, **form: Any) -> list[dict[str, Any]]:
    return list(open_table(path, TableForm(**form)).checked_rows())


def put(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


@pytest.mark.parametrize(("suffix", "mark"), [(".csv", ","), (".csv", ";"), (".csv", "|"), (".tsv", "\t")])
def test_cells_are_text_as_they_are_written(tmp_path: Path, suffix: str, mark: str):
    lines = [f'text {n}{mark}"{label}"' for n, label in enumerate(LABELS)]
    rows = read(put(tmp_path / f"t{suffix}", "\n".join([f"text{mark}label", *lines])))
    assert [row["label"] for row in rows] == LABELS


def test_cells_of_a_workbook_are_text_as_it_shows_them(tmp_path: Path):
    workbook = openpyxl.Workbook()
    for row in [("text", "label"), ("a", "007"), ("b", 7), ("c", 7.5), ("d", True), ("e", None), (8, "None")]:
        workbook.active.append(row)
    workbook.save(tmp_path / "t.xlsx")
    labels = [(row["text"], row["label"]) for row in read(tmp_path / "t.xlsx")]
    assert labels == [("a", "007"), ("b", "7"), ("c", "7.5"), ("d", "TRUE"), ("e", ""), ("8", "None")]


def test_of_several_sheets_the_first_with_rows_is_read_and_the_others_are_named(tmp_path: Path):
    workbook = openpyxl.Workbook()
    for name, label in (("This year", "a"), ("Last year", "b")):
        sheet = workbook.create_sheet(name)
        sheet.append(("text", "label"))
        sheet.append(("hello", label))
    workbook.save(tmp_path / "t.xlsx")
    found = open_table(tmp_path / "t.xlsx")
    assert [row["label"] for row in found.rows()] == ["a"]
    assert "Last year is not" in found.notes[0]
    assert [row["label"] for row in read(tmp_path / "t.xlsx", sheet="Last year")] == ["b"]
    with pytest.raises(ConfigError, match="it has Sheet, This year, Last year"):
        read(tmp_path / "t.xlsx", sheet="Next year")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("schöne Grüße, bis später", "cp1252"),
        ("l’été où ça coûte cher", "cp1252"),
        ("mañana, señor", "latin-1"),
        ("på fredag, så ses vi", "cp1252"),
        ("jeg rører på ærter", "cp1252"),
    ],
)
def test_western_text_is_read_as_cp1252_with_a_note(tmp_path: Path, text: str, encoding: str):
    found = open_table(put(tmp_path / "t.csv", f'text,label\n"{text}",a\n', encoding))
    assert [row["text"] for row in found.rows()] == [text]
    assert "cp1252" in found.notes[0]
    assert "line 2" in found.notes[0]
    assert "`encoding`" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("příliš žluťoučký kůň", "cp1250"),
        ("zażółć gęślą jaźń", "cp1250"),
        ("İyi günler ağabey", "cp1254"),
        ("Добрый день", "cp1251"),
        ("こんにちは", "shift_jis"),
        ("schöne Grüße", "cp850"),
        ("Tschüß et à bientôt", "mac-roman"),
    ],
)
def test_other_charsets_are_refused_with_the_line_and_the_setting(tmp_path: Path, text: str, encoding: str):
    path = put(tmp_path / "t.csv", f"text,label\nhello,a\n{text},b\n", encoding)
    with pytest.raises(DataError, match=r"line 3.*`encoding: cp1252`"):
        open_table(path)
    assert read(path, encoding=encoding)[1]["text"] == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_told_by_its_mark_or_its_zeros(tmp_path: Path, encoding: str):
    path = put(tmp_path / "t.csv", "text,label\nschön,a\nBonjour,b\n", encoding)
    assert [row["text"] for row in read(path)] == ["schön", "Bonjour"]


def test_a_separator_that_is_unusual_is_noted(tmp_path: Path):
    found = open_table(put(tmp_path / "t.csv", "text;label\nhello, you;a\nhi;b\n"))
    assert [row["text"] for row in found.rows()] == ["hello, you", "hi"]
    assert found.notes == [f"{tmp_path / 't.csv'}: the cells are separated by semicolons"]


def test_where_two_separators_would_do_the_user_is_asked(tmp_path: Path):
    path = put(tmp_path / "t.csv", "text;label|note\na;b|c\nd;e|f\n")
    with pytest.raises(DataError, match=r"semicolon or bar.*`delimiter: semicolon`"):
        open_table(path)
    assert list(read(path, delimiter="bar")[0]) == ["text;label", "note"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('text,label\nhi,a\n"open,b\nho,c\n', 3),  # never closed
        ('text,label\n"open,b\nho,c\nsize 5",d\nhu,e\n', 2),  # closed three lines on, where a cell may end
        ('text,label\nhi,a\n"open" then,b\n', 3),  # goes on behind the quotation mark
    ],
)
def test_a_stray_quotation_mark_is_named_by_its_line(tmp_path: Path, content: str, line: int):
    path = put(tmp_path / "t.csv", content)
    with pytest.raises(DataError, match=rf"line {line}: a quotation mark.*`quotes: none`"):
        read(path)
    assert all(len(row) == 2 for row in read(path, quotes="none"))


def test_a_cell_of_several_lines_is_read(tmp_path: Path):
    path = put(tmp_path / "t.csv", 'text,label\n"Dear all,\n\nthank you, and bye",a\nhi,b\n')
    assert [row["text"] for row in read(path)] == ["Dear all,\n\nthank you, and bye", "hi"]


def test_a_document_in_a_cell_is_read(tmp_path: Path):
    path = put(tmp_path / "t.csv", f"text,label\n{'word ' * 100_000},a\n")
    assert len(read(path)[0]["text"]) == 500_000


def test_a_cell_too_many_is_named_by_its_line(tmp_path: Path):
    path = put(tmp_path / "t.csv", "text,label\nhi,a\nho, ho,b\n")
    with pytest.raises(DataError, match=r"line 3: 3 cells, but there are 2 columns \(text, label\)"):
        read(path)


def test_empty_cells_behind_the_last_column_and_empty_lines_are_nothing(tmp_path: Path):
    assert read(put(tmp_path / "t.csv", "text,label,,\nhi,a,,\n\n,,,\nho,b\n")) == [
        {"text": "hi", "label": "a"}, {"text": "ho", "label": "b"}]  # fmt: skip


def test_two_columns_of_one_name_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="two columns called 'label'"):
        open_table(put(tmp_path / "t.csv", "text,label,label\na,b,c\n"))


@pytest.mark.parametrize("content", [[{"text": "a", "label": 1}], {"version": 2, "data": [{"text": "a", "label": 1}]}])
def test_json_is_read_as_a_list_alone_or_under_data(tmp_path: Path, content: Any):
    assert read(put(tmp_path / "t.json", json.dumps(content), "utf-8-sig")) == [{"text": "a", "label": 1}]


def test_json_lines_in_a_json_file_are_read(tmp_path: Path):
    assert len(read(put(tmp_path / "t.json", '{"text": "a"}\n{"text": "b"}\n'))) == 2


@pytest.mark.parametrize("content", ["{", '{"text": {"0": "a"}}', "[1, 2]", "3"])
def test_other_json_is_refused_with_what_is_expected(tmp_path: Path, content: str):
    with pytest.raises(DataError, match="Expected a list of objects"):
        read(put(tmp_path / "t.json", content))


def test_a_broken_line_of_json_lines_spoils_no_other(tmp_path: Path):
    rows = list(open_table(put(tmp_path / "t.jsonl", b'{"text": "a"}\n{"te\n\xff\n{"text": "b"}\n')).rows())
    assert [ERROR in row for row in rows] == [False, True, True, False]


def test_parquet_gives_class_labels_by_name_and_whole_numbers_as_such(tmp_path: Path):
    table = pa.table({"text": ["a", "b"], "label": [1, 0], "code": [7.0, None]})
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    rows = read(tmp_path / "t.parquet")
    assert [row["label"] for row in rows] == ["yes", "no"]
    assert [as_text(row["code"]) for row in rows] == ["7", None]


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.jsonl"])
@pytest.mark.parametrize(("encoding", "said"), [("utf-16", "Set `encoding`"), ("no-such", "there is no encoding")])
def test_an_encoding_that_the_file_has_not_is_said_in_one_line(tmp_path: Path, name: str, encoding: str, said: str):
    path = put(tmp_path / name, '{"text": "Gr\u00fc\u00dfe", "label": "a"}\n')
    with pytest.raises((ConfigError, DataError), match=said):
        read(path, encoding=encoding)


@pytest.mark.parametrize("delimiter", ['"', "\n", "ab", ""])
def test_what_cannot_separate_cells_is_refused(tmp_path: Path, delimiter: str):
    with pytest.raises(ConfigError, match="must be one character"):
        read(put(tmp_path / "t.csv", "text,label\na,b\n"), delimiter=delimiter)
