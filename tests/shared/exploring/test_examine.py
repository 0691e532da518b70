"""Explorations find what was put wrong into a dataset, and nothing else; the page shows it."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageEnhance, ImageOps

from scripts.main import main
from shared.dataset.columns import kinds_of, to_table
from shared.dataset.read import Dataset
from shared.dataset.write import write_dataset
from shared.errors import ConfigError, DataError
from shared.exploring.examine import PAIRED_COLUMNS, SHOWN_COLUMNS, Examined, examine
from shared.exploring.eyes import Eyes
from shared.exploring.findings import read_findings
from shared.exploring.labels import check_labels, nearest
from shared.exploring.photos import ALIKE, aligned_correlation, look
from shared.exploring.report import FINDINGS, PAGE, write_report
from shared.exploring.rows import load_rows
from tests.browser import launched
from tests.photos import class_folders

SUBJECTS = ("ferry", "bill", "weather")
WORDS = ["".join(letters) for letters in product("bdfklmprst", "aeiou", "bdfklmprst", "aeiou")]


def utterances(count: int = 60) -> list[dict[str, Any]]:
    draw = random.Random(0)
    rows = []
    for i in range(count):
        first, second, *rest = draw.sample(WORDS, 6)
        rows.append({"text": f"{first} {second} {SUBJECTS[i % 3]} {' '.join(rest)}", "label": SUBJECTS[i % 3]})
    return rows


def dataset(path: Path, rows: list[dict[str, Any]], splits: list[str] | None = None) -> Dataset:
    splits = splits or ["train"] * len(rows)
    whole = [
        {**row, "_source": "s", "_place": f"row {i}", "_time": "t", "_licence": "MIT", "_sha256": f"{i:064}"}
        for i, row in enumerate(rows)
    ]
    columns = kinds_of(whole)
    parts = [(split, to_table([row], columns)) for row, split in zip(whole, splits, strict=True)]
    return write_dataset(path, parts, name="a set", columns=columns, history=[])


def by_subject(texts: Any) -> np.ndarray:
    """Features that know the subject, and little else."""
    rng = np.random.default_rng(0)
    found = np.array([[float(subject in text) for subject in SUBJECTS] for text in texts])
    return np.hstack([3 * found, rng.normal(0, 0.2, (len(texts), 8))]).astype(np.float32)


def explored(
    path: Path, rows: list[dict[str, Any]], splits: list[str] | None = None, eyes: Any = by_subject
) -> Examined:
    return examine(load_rows(dataset(path, rows, splits)), eyes and Eyes("subjects", of_texts=eyes))


def kinds(found: Examined) -> dict[str, int]:
    return dict(Counter(each.kind for each in found.findings))


def test_nothing_is_wrong_with_what_is_right(tmp_path: Path):
    assert kinds(explored(tmp_path / "d", utterances())) == {}


def test_copies_contradictions_and_leaks_are_found(tmp_path: Path):
    rows = utterances()
    rows += [dict(rows[0]), {"text": rows[3]["text"].upper() + "!", "label": "bill"}, dict(rows[6])]
    splits = [*["train"] * 62, "test"]
    found = {each.kind: each for each in explored(tmp_path / "d", rows, splits, eyes=None).findings}
    assert (found["duplicate"].row, found["duplicate"].other) == (60, 0)
    assert (found["contradiction"].row, found["contradiction"].given) == (61, "bill")
    assert (found["leak"].row, found["leak"].other) == (6, 62), "the one in train may go, the one in test stays"
    assert found["leak"].message == "is in train, and as #62 in test"
    assert set(found) == {"duplicate", "contradiction", "leak"}


def test_the_rows_without_the_majoritys_label_are_the_contradictions_and_all_rows_of_a_tie(tmp_path: Path):
    texts = dict.fromkeys(("one thing", "another thing"))
    rows = [
        {"text": text, "label": label} for text, labels in zip(texts, ("abb", "cd"), strict=True) for label in labels
    ]
    done = explored(tmp_path / "d", rows, eyes=None)
    found = done.findings
    assert any(note.startswith("no label has the majority among the copies of 1 text.") for note in done.notes)
    told = [(each.row, each.other, each.suggested) for each in found if each.kind == "contradiction"]
    assert told == [(0, 1, "b"), (3, 4, None), (4, 3, None)]
    assert [(each.row, each.other) for each in found if each.kind == "duplicate"] == [(2, 1)]


def test_a_missing_label_is_one_finding_with_the_label_of_its_copy(tmp_path: Path):
    rows = [*utterances(), {"text": utterances()[6]["text"], "label": None}, {"text": "something else", "label": None}]
    found = [each for each in explored(tmp_path / "d", rows, eyes=None).findings if each.row >= 60]
    assert [(each.kind, each.row, each.suggested) for each in found] == [
        ("contradiction", 60, "ferry"), ("missing", 61, None)
    ]  # fmt: skip
    assert found[0].message == "has no label; its copy #6 is “ferry”"


def test_spellings_of_a_label_are_found_and_taken_for_one_label(tmp_path: Path):
    rows = utterances()
    for row in (0, 3):
        rows[row]["label"] = "Ferry "
    rows.append({"text": rows[0]["text"], "label": "ferry"})
    done = explored(tmp_path / "d", rows)
    found = [(each.kind, each.row, each.given, each.suggested) for each in done.findings]
    assert found == [("duplicate", 60, None, None), *(("label_spelling", row, "Ferry ", "ferry") for row in (0, 3))]
    assert done.page["labels"]["choices"] == ["ferry", "bill", "weather"]


def test_numbers_that_are_texts_are_looked_at_as_numbers(tmp_path: Path):
    rows = [{"text": f"thing {i}", "price": f"{i}.5", "code": f"00{i}", "flag": str(i % 2), "x": f"{i},5"}
            for i in range(12)]  # fmt: skip
    rows.append({"text": "thing none", "price": "n/a", "code": "-", "flag": "", "x": "1,0"})
    done = explored(tmp_path / "d", rows, eyes=None)
    assert {each["name"] for each in done.page["columns"] if "numbers" in each} == {"price", "text: words"}
    assert "price: its numbers are texts, and are looked at as numbers." in done.notes
    told = [(each.row, each.column, each.given) for each in done.findings if each.kind == "missing"]
    assert told == [(12, "price", "n/a"), (12, "code", "-")]


def test_labels_and_texts_may_be_none(tmp_path: Path):
    rows = [*utterances(), {"text": "none", "label": "none"}, {"text": "a thing", "label": "N/A"}]
    told = [(each.row, each.column) for each in explored(tmp_path / "d", rows, eyes=None).findings]
    assert told == [(61, "label")]


def test_wrong_labels_are_first_in_the_queue(tmp_path: Path):
    rows = utterances()
    for row in (4, 20):
        rows[row]["label"] = "weather" if rows[row]["label"] != "weather" else "bill"
    errors = [each for each in explored(tmp_path / "d", rows).findings if each.kind == "label_error"]
    assert {each.row for each in errors[:2]} == {4, 20}
    assert {each.suggested for each in errors[:2]} == {"bill", "weather"} & {each.suggested for each in errors[:2]}
    assert errors[0].message.startswith("is ")


def test_nearly_the_same_texts_are_pairs(tmp_path: Path):
    rows = [*utterances(), {"text": utterances()[9]["text"] + "x", "label": "ferry"}]
    eyes = lambda texts: by_subject([t.rstrip("x") for t in texts]).round(0) + 0.01  # noqa: E731 both are the same to it
    found = [each for each in explored(tmp_path / "d", rows, eyes=eyes).findings if each.kind == "near_duplicate"]
    assert (60, 9) in {(each.row, each.other) for each in found}


def test_missing_labels_texts_and_personal_data_are_told(tmp_path: Path):
    rows = [*utterances(), {"text": "mail ada@example.org", "label": None}, {"text": " ", "label": "bill"}]
    found = {each.kind + str(each.row): each for each in explored(tmp_path / "d", rows, eyes=None).findings}
    assert {"personal_data60", "missing60", "missing61"} <= set(found)
    assert "ada@example.org" not in found["personal_data60"].message


def test_blank_cells_are_missing_values(tmp_path: Path):
    rows: list[dict[str, Any]] = [*utterances(), {"text": "one more", "label": ""}, {"text": "two more", "label": " "}]
    for row in rows:
        row["source"] = "" if row["text"].endswith("more") else "chat"
    done = explored(tmp_path / "d", rows, eyes=None)
    assert [each.row for each in done.findings if each.kind == "missing"] == [60, 61]
    assert {each["name"]: each["missing"] for each in done.page["columns"]}.items() >= {"label": 2, "source": 2}.items()
    assert "" not in {label for label, *_ in done.page["labels"]["counts"]}


def test_photos_with_an_empty_list_of_labels_lack_nothing(tmp_path: Path):
    rows = [*utterances(), {"text": "nothing of it", "label": None}]
    rows = [{"text": row["text"], "labels": [row["label"]] if row["label"] else []} for row in rows]
    assert kinds(explored(tmp_path / "d", rows, eyes=None)) == {}


def test_nan_is_missing_and_infinite_numbers_are_told(tmp_path: Path):
    numbers = [*map(float, range(20)), float("nan"), float("inf"), float("-inf")]
    rows = [{"x": x, "y": -x, "never": float("inf"), "label": "ab"[i % 2]} for i, x in enumerate(numbers)]
    done = explored(tmp_path / "d", rows, eyes=None)
    write_report(tmp_path / "out", done)
    x = next(each for each in done.page["columns"] if each["name"] == "x")
    assert (x["missing"], x["numbers"]["count"], x["numbers"]["quartiles"][4]) == (1, 20, 19)
    assert "x: 2 of its numbers are infinite or beyond 1e+150. Its statistics leave them out." in done.notes
    assert any(note.startswith("never: 23 of its numbers are infinite") for note in done.notes)
    pearson = next(each for each in done.page["dependences"] if each["measure"] == "Pearson")
    assert (pearson["value"], pearson["n"]) == (pytest.approx(-1), 20)


def test_of_many_columns_some_are_paired_and_shown_and_the_page_says_so(tmp_path: Path):
    draw = random.Random(0)
    rows = [
        {"lacking": draw.random() if i else None, **{f"c{j}": draw.random() for j in range(60)}, "label": "ab"[i % 2]}
        for i in range(12)
    ]
    page = explored(tmp_path / "d", rows, eyes=None).page
    paired = {each[side] for each in page["dependences"] for side in ("one", "other")}
    assert len(paired) == PAIRED_COLUMNS
    assert "label" in paired
    assert "lacking" not in paired
    assert len(page["table"]["columns"]) == 1 + SHOWN_COLUMNS
    assert page["table"]["columns"][-1] == "label"
    assert all(len(row) == 2 + SHOWN_COLUMNS for row in page["table"]["rows"])
    assert len(page["columns"]) == 62
    assert [note for note in page["notes"] if f"{PAIRED_COLUMNS} of 62 columns: label, and those" in note]
    assert [note for note in page["notes"] if f"{SHOWN_COLUMNS} of 62 columns: label, and the first others" in note]


def test_features_that_know_nothing_of_the_labels_are_not_believed():
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="labels cannot be checked"):
        check_labels(rng.normal(size=(200, 8)), rng.integers(0, 2, 200))
    with pytest.raises(DataError, match="at least two"):
        check_labels(rng.normal(size=(20, 8)), np.zeros(20, dtype=int))


def test_the_nearest_are_those_of_all_pairs():
    features = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    rows, found = nearest(features, 4)
    np.testing.assert_array_equal(rows, np.argsort(-cosines, axis=1)[:, :4])
    np.testing.assert_allclose(found, -np.sort(-cosines, axis=1)[:, :4], rtol=1e-5)


# Photos


def scene(seed: int, size: int = 160) -> Image.Image:
    """A picture of smooth blotches and some edges; no two seeds are alike."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (7, 7, 3), dtype=np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    for _ in range(6):
        x, y, w = rng.integers(0, size - 40, 3)
        small.paste(
            tuple(int(c) for c in rng.integers(0, 255, 3)), (int(x), int(y), int(x) + 20 + int(w) % 20, int(y) + 30)
        )
    return small


def as_bytes(photo: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    photo.save(file, "JPEG", **{"quality": 92, **options})
    return file.getvalue()


CHANGES = {
    "jpeg": lambda p: Image.open(io.BytesIO(as_bytes(p, quality=30))),
    "smaller": lambda p: p.resize((80, 80)),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.25),
    "mirrored": ImageOps.mirror,
    "cropped": lambda p: p.crop((14, 10, 150, 152)),
    "turned": lambda p: p.rotate(6, Image.Resampling.BICUBIC).crop((16, 16, 144, 144)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_photo_is_known_again(change: str):
    found = []
    for seed in range(6):
        one, other = look(as_bytes(scene(seed))), look(as_bytes(CHANGES[change](scene(seed))))
        assert not isinstance(one, str)
        assert not isinstance(other, str)
        found.append(aligned_correlation(one.grey, other.grey))
    assert sum(likeness >= ALIKE for likeness in found) >= 5, found


def test_other_photos_are_not_taken_for_copies():
    greys = [found.grey for seed in range(8) if not isinstance(found := look(as_bytes(scene(seed))), str)]
    assert max(aligned_correlation(a, b) for i, a in enumerate(greys) for b in greys[:i]) < ALIKE


def test_photos_are_looked_at_and_broken_ones_named(tmp_path: Path):
    photos = [as_bytes(scene(seed)) for seed in range(12)]
    rows: list[dict[str, Any]] = [
        {"image": {"bytes": p, "path": "p.jpg"}, "label": "ab"[i % 2]} for i, p in enumerate(photos)
    ]
    rows += [{"image": {"bytes": b"broken", "path": "b.jpg"}, "label": "a"}, dict(rows[0]),
             {"image": {"bytes": as_bytes(ImageOps.mirror(scene(3))), "path": "m.jpg"}, "label": "b"}]  # fmt: skip

    def see(found: Any) -> np.ndarray:
        return np.stack([np.ones(4) for _ in found]).astype(np.float32)

    done = examine(load_rows(dataset(tmp_path / "d", rows)), Eyes("see", of_photos=see))
    found = {(each.kind, each.row) for each in done.findings}
    assert {("broken", 12), ("duplicate", 13)} <= found
    assert ("near_duplicate", 14) in found or ("near_duplicate", 3) in found
    assert {each["name"] for each in done.page["columns"]} >= {"brightness", "contrast", "sharpness", "width"}
    assert done.page["photos"]["sheets"][0][0] == "a"
    assert len(done.page["thumbs"]) >= 12


def test_class_folders_are_looked_at_with_the_starter(tmp_path: Path):
    class_folders(tmp_path / "photos", count=6)
    done = CliRunner().invoke(main, ["explore", str(tmp_path / "photos"), str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / PAGE).read_text()
    assert "percept-tagger" in page
    assert '"averages":{"' in page


# The page


def test_the_page_needs_nothing_but_itself_and_no_text_becomes_code(tmp_path: Path):
    rows = [*utterances(), {"text": "</script><script>alert(1)</script>", "label": "<b>bill"}]
    write_report(tmp_path / "out", explored(tmp_path / "d", rows))
    page = (tmp_path / "out" / PAGE).read_text()
    assert page.count("</script>") == 2
    assert "default-src 'none'" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    content = page.split('id="data">')[1].split("</script>")[0]
    assert json.loads(content)["rows"] == 61
    assert read_findings(tmp_path / "out" / FINDINGS)


def test_a_folder_of_something_else_is_not_overwritten(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("work")
    with pytest.raises(ConfigError, match="holds something else than an exploration"):
        write_report(tmp_path, explored(tmp_path.parent / "d2", utterances(), eyes=None))


def test_the_command_looks_at_a_plain_table_with_the_starter(tmp_path: Path):
    lines = [f"{row['text']},{row['label']}" for row in utterances()]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines, lines[0]]))
    done = CliRunner().invoke(main, ["explore", str(tmp_path / "rows.csv"), str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "1 duplicate" in done.output
    assert "percept-encoder" in (tmp_path / "out" / PAGE).read_text()
    again = CliRunner().invoke(main, ["explore", str(tmp_path / "none.csv"), str(tmp_path / "out")])
    assert again.exit_code == 2
    assert "there is nothing at" in again.output


def test_in_a_table_no_column_of_words_makes_rows_copies(tmp_path: Path):
    lines = [f"{row['text']},{row['label']},{number}" for number, row in enumerate(utterances() * 2)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label,minutes", *lines]))
    command = ["explore", str(tmp_path / "rows.csv"), str(tmp_path / "out"), "--table"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "120 rows: nothing looks wrong" in done.output
    named = CliRunner().invoke(main, [*command, "--text", "text"])
    assert "60 duplicates" in named.output


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with launched(tmp_path_factory.mktemp("profile")) as context:
        yield context


@pytest.mark.browser
@pytest.mark.parametrize("size", [10, 60])
def test_the_page_draws_itself_without_an_error(tmp_path: Path, size: int, browser: Any):
    rows = utterances(size)
    rows[1]["label"] = "weather"
    write_report(tmp_path / "out", explored(tmp_path / "d", [*rows, dict(rows[0])]))
    page = browser.new_page()
    page.set_viewport_size({"width": 390, "height": 800})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "out" / PAGE).as_uri())
    page.get_by_role("button", name="copies 1").click()
    page.get_by_role("list", name="Findings").press("a")
    assert "1 decision so far" in page.inner_text("#findings")
    page.get_by_label("Filter rows").fill("ferry")
    assert page.locator("#rows table tr").count() > 2
    page.get_by_label("Group by").select_option(label="Group by label")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert errors == []


def opened(browser: Any, tmp_path: Path, done: Examined, width: int = 1280) -> Any:
    write_report(tmp_path / "out", done)
    page = browser.new_page()
    page.set_viewport_size({"width": width, "height": 800})
    page.goto((tmp_path / "out" / PAGE).as_uri())
    page.evaluate("localStorage.clear()")
    page.reload()
    return page


def decided(page: Any) -> list[dict[str, Any]]:
    return page.evaluate("Object.values(decisions)")


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_columns_of_numbers_are_shown_beside_each_other_by_how_they_rise_together(
    tmp_path: Path, width: int, browser: Any
):
    draw = random.Random(0)
    rows = [{"up": n, "down": -n, "noise": draw.random(), "name": f"row {n}"} for n in range(60)]
    page = opened(browser, tmp_path, explored(tmp_path / "d", rows, eyes=None), width)
    table = page.locator(".correlations table tr").all_inner_texts()
    cells = [line.split("\t") for line in table]
    assert [line[0] for line in cells[1:]] == ["1 up", "2 down", "3 noise"]
    assert cells[1][1:3] == ["", "-1.00"]
    assert cells[2][1] == "-1.00"
    assert abs(float(cells[3][1])) < 0.5
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.browser
def test_two_columns_of_numbers_need_no_table_of_their_own(tmp_path: Path, browser: Any):
    rows = [{"up": n, "down": -n, "name": f"row {n}"} for n in range(60)]
    page = opened(browser, tmp_path, explored(tmp_path / "d", rows, eyes=None))
    assert page.locator("#dependences").count() == 1
    assert page.locator(".correlations").count() == 0


def copies() -> list[dict[str, Any]]:
    rows = [*utterances(), *({"text": utterances()[i]["text"], "label": "weather"} for i in (0, 1))]
    return [*rows, *(dict(rows[i]) for i in (0, 1)), {"text": utterances()[5]["text"], "label": None}]


@pytest.mark.browser
def test_keys_work_without_a_click_but_not_in_a_field(tmp_path: Path, browser: Any):
    page = opened(browser, tmp_path, explored(tmp_path / "d", copies(), eyes=None))
    assert page.get_by_role("button", name="Save decisions.jsonl").is_disabled()
    page.keyboard.press("a")
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert [each["action"] for each in decided(page)] == ["drop", "keep"]
    assert page.get_by_role("button", name="Save decisions.jsonl").is_enabled()
    page.get_by_label("Filter rows").press("a")
    page.get_by_role("button", name="contradictions").click()
    page.get_by_label("Another label").first.press("a")
    assert len(decided(page)) == 2
    page.close()


@pytest.mark.browser
def test_a_row_has_one_decision_in_all_lists_and_any_label(tmp_path: Path, browser: Any):
    rows = copies()
    rows[60]["text"] += " and mail ada@example.org"
    rows[0]["text"] = rows[62]["text"] = rows[60]["text"]
    page = opened(browser, tmp_path, explored(tmp_path / "d", rows, eyes=None))
    page.get_by_role("button", name="contradictions").click()
    page.get_by_label("Another label for row 60").select_option(label="bill")
    assert [(each["row"], each["action"], each["value"]) for each in decided(page)] == [(60, "relabel", "bill")]
    page.get_by_role("button", name="personal data").click()
    row = page.get_by_role("listitem").filter(has_text="row 60 ·")
    assert "Decided under contradictions: Label “bill”" in row.inner_text()
    row.get_by_role("button", name="Redact").click()
    assert [(each["row"], each["action"]) for each in decided(page)] == [(60, "redact")]
    page.get_by_role("button", name="contradictions").click()
    page.get_by_role("listitem").filter(has_text="row 60 ·").get_by_role("button", name="Keep").click()
    assert {each["action"] for each in decided(page)} == {"redact", "keep"}
    page.close()


@pytest.mark.browser
def test_all_that_is_shown_is_accepted_after_a_second_click(tmp_path: Path, browser: Any):
    page = opened(browser, tmp_path, explored(tmp_path / "d", copies(), eyes=None))
    page.get_by_role("button", name="contradictions").click()
    page.get_by_role("button", name="Accept all shown").click()
    assert decided(page) == []
    page.get_by_role("button", name="Really accept 3?").click()
    assert sorted((each["row"], each["value"]) for each in decided(page)) == [
        (60, "ferry"), (61, "bill"), (64, "weather")
    ]  # fmt: skip
    assert page.get_by_role("button", name="Accept all shown").is_disabled()
    page.close()


@pytest.mark.browser
def test_near_copies_are_kept_in_one_split_and_the_map_says_who_is_on_it(tmp_path: Path, browser: Any):
    rows = [*utterances(), {"text": utterances()[9]["text"] + "x", "label": "ferry"}, {"text": " ", "label": "bill"}]
    eyes = lambda texts: by_subject([t.rstrip("x") for t in texts]).round(0) + 0.01  # noqa: E731 both are the same to it
    page = opened(browser, tmp_path, explored(tmp_path / "d", rows, eyes=eyes), width=390)
    page.get_by_role("button", name="nearly copies").click()
    page.get_by_role("button", name="Keep in one split").first.click()
    assert [(each["action"], len(each["value"])) for each in decided(page)] == [("together", 64)]
    assert page.get_by_role("button", name="Leave out").count()
    said = page.inner_text("#map")
    assert "(t-SNE)" in said
    assert "1 row without a text is not on it." in said
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()


@pytest.mark.browser
def test_figures_of_dependences_are_seen_on_a_narrow_screen(tmp_path: Path, browser: Any):
    rows = [{"name of a column": n, "another long name of it": -n + n % 3, "label": "ab"[n % 2]} for n in range(40)]
    page = opened(browser, tmp_path, explored(tmp_path / "d", rows, eyes=None), width=390)
    last = page.locator("#dependences tr").nth(1).locator("td").last.bounding_box()
    assert last is not None
    assert last["x"] + last["width"] <= 390
    assert page.evaluate(
        "[...document.querySelectorAll('#dependences .scroll')].every((e) => e.scrollWidth <= e.clientWidth)"
    )
    page.close()
