"""`percept compare`: bundles on the same examples, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from scripts.main import main
from shared.bundle.layout import ProblemType
from shared.errors import ConfigError
from shared.pages import render
from shared.project import PROJECT_ROOT
from shared.training.outcomes import Outcomes
from shared.tuning.comparing import Entry, compare
from shared.tuning.report import page_of
from tests.bundles import make_tagger_bundle
from tests.scripts.test_evaluate import fill

N = 400


def entry(name: str, values: np.ndarray, *, milliseconds: float = 1.0, labels: list[str] | None = None) -> Entry:
    rows = list(range(len(values)))
    outcomes = Outcomes(
        "right answers", "Silence counts as wrong.", EXAMPLES[: len(values)], values,
        [f"answer {i}" if value else None for i, value in enumerate(values)], np.where(values > 0, 0.9, np.nan),
        labels or ["even" if i % 2 == 0 else "odd" for i in rows], rows, "words", [f"example <{i}>" for i in rows],
    )  # fmt: skip
    return Entry(name, outcomes, milliseconds, 2.0)


EXAMPLES: list[object] = [object() for _ in range(N)]
GOOD = (np.arange(N) % 10 > 0).astype(float)
WORSE = (np.arange(N) % 4 > 0).astype(float)
ALIKE = np.where(np.arange(N) < 3, 1 - GOOD, GOOD)


def test_the_better_one_is_named_with_the_difference_and_its_interval():
    found = compare([entry("worse", WORSE), entry("good", GOOD)])
    assert [each["name"] for each in found["bundles"]] == ["good", "worse"]
    assert found["pairs"][0]["value"] == pytest.approx(0.15)
    assert found["verdict"].startswith(
        "good is better than worse: right answers 90.0 and 75.0 % (+15.0 points, 95 % interval"
    )
    assert found["verdict"].endswith(
        "If the two were equally good, a difference this large would come up less than once in 1,000."
    )
    even = next(part for part in found["parts"] if part["name"] == "even")
    assert (even["examples"], even["first"], even["second"]) == (N // 2, 0.8, 0.5)
    assert even["is_sure"]
    assert {each["label"] for each in found["apart"]} == {"even"}


def test_where_the_data_cannot_tell_it_says_so_and_what_would_take():
    found = compare([entry("slow", GOOD, milliseconds=9.0), entry("quick", ALIKE, milliseconds=3.0)])
    assert not found["pairs"][0]["is_sure"]
    assert "These 400 examples cannot tell" in found["verdict"]
    assert "points on" in found["verdict"]
    assert found["verdict"].endswith("quick is the fastest of them: 3.0 ms, against 9.0.")
    three = compare([entry("one", GOOD), entry("two", ALIKE), entry("bad", WORSE)])
    assert three["verdict"].startswith("one is ahead, and the data cannot tell it from two")
    assert "equally well" in compare([entry("one", GOOD), entry("two", GOOD)])["verdict"]


def test_where_they_differ_it_says_what_each_answered_and_how_sure_it_was():
    found = compare([entry("good", GOOD), entry("worse", WORSE)])
    assert found["is_right_or_wrong"]
    row = next(each for each in found["apart"] if each["text"] == "example <4>")
    assert row["first"] == {"answer": "answer 4", "confidence": 0.9, "value": 1.0}
    assert row["second"] == {"answer": None, "confidence": None, "value": 0.0}


def test_parts_with_few_examples_are_named():
    labels = ["login"] * 5 + ["invoice"] * 7 + [f"rare {i}" for i in range(8)] + ["other"] * (N - 20)
    found = compare([entry("good", GOOD, labels=labels), entry("worse", WORSE, labels=labels)])
    assert [part["name"] for part in found["parts"] if part["kind"] == "label"] == ["other"]
    assert found["not_shown"] == {
        "label": "10 labels with fewer than 10 examples are not shown: invoice 7, login 5, rare 0 1, rare 1 1, "
        "rare 2 1, rare 3 1, rare 4 1, rare 5 1 and 2 more"
    }
    few = compare([entry("good", GOOD[:12]), entry("worse", WORSE[:12])])
    assert few["not_shown"]["label"] == "2 labels with fewer than 10 examples are not shown: even 6, odd 6"
    assert few["not_shown"]["length"].startswith("4 lengths with fewer than 10 examples are not shown: 0 to ")


def test_with_three_bundles_the_chance_is_that_of_all_comparisons():
    found = compare([entry("one", GOOD), entry("two", ALIKE), entry("bad", WORSE)])
    said = {(pair["first"], pair["second"]): pair["sentence"] for pair in found["pairs"]}
    assert "would come up in one of the 3 comparisons less than once in 1,000." in said["one", "bad"]
    assert "come up in one of the 3 comparisons nearly always." in said["one", "two"]


def test_only_what_all_were_judged_on_counts():
    part = entry("part", GOOD[: N // 2])
    found = compare([part, entry("all", WORSE)])
    assert (found["examples"], found["left_out"]) == (N // 2, N // 2)
    with pytest.raises(ConfigError, match="two bundles or more"):
        compare([part])


def test_the_page_holds_what_was_found_and_no_text_of_it_ends_the_script():
    page = page_of({"split": "test", **compare([entry("good</script>", GOOD), entry("worse", WORSE)])})
    assert page.count("</script>") == 2
    assert "good&lt;/script&gt;" in page
    with pytest.raises(ValueError, match="not JSON compliant"):
        render("compare", "x", {"value": float("nan")}, "")


def run(tmp_path: Path, *args: str | Path) -> Result:
    fixed = ["--device", "cpu", "--data.cache_dir", str(tmp_path / "cache")]
    return CliRunner().invoke(main, ["compare", *map(str, args), *fixed])


def test_the_command_compares_photos_and_writes_a_page(tmp_path: Path):
    photos = fill(tmp_path / "photos", {"cat": "cat", "dog": "dog", "car": "car"})
    one = make_tagger_bundle(tmp_path / "one", name="one")
    other = make_tagger_bundle(tmp_path / "other", name="other")
    page = tmp_path / "compared.html"
    done = run(tmp_path, one.path, other.path, "--data.source", photos, "--split", "all", "-o", page)
    assert done.exit_code == 0, done.output
    assert "one and other answer all 18 examples equally well" in done.output
    assert "To give none is right where it has no label." in done.output
    assert f"{one.path} (one " in done.output
    assert "Percept compare" in page.read_text()
    told = json.loads(run(tmp_path, one.path, other.path, "--data.source", photos, "--split", "all", "--json").stdout)
    assert (told["examples"], told["bundles"][0]["value"]) == (18, 1.0)


def test_bundles_of_one_name_are_letters_with_their_folders(tmp_path: Path):
    photos = fill(tmp_path / "photos", {"cat": "cat", "dog": "dog", "sun": "plane"})
    one, other = (make_tagger_bundle(tmp_path / folder, name="same") for folder in ("one", "other"))
    done = run(tmp_path, one.path, other.path, "--data.source", photos, "--split", "all")
    assert done.exit_code == 0, done.output
    assert "A and B answer all 12 examples equally well" in done.output
    assert "A and B do not know the label of 6 photos (sun 6), left out for every bundle." in done.output
    told = json.loads(run(tmp_path, one.path, other.path, "--data.source", photos, "--split", "all", "--json").stdout)
    assert [(each["name"], each["folder"]) for each in told["bundles"]] == [
        ("A", str(one.path)),
        ("B", str(other.path)),
    ]
    assert any("sun 6" in note for note in told["notes"])


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification"])
def test_photos_that_get_other_tags_are_shown_with_them(tmp_path: Path, kind: ProblemType):
    photos = fill(tmp_path / "photos", {"cat": "cat", "dog": "dog", "car": "car"})
    one = make_tagger_bundle(tmp_path / "one", name="one", problem_type=kind)
    other = make_tagger_bundle(tmp_path / "other", ("dog", "cat", "car"), name="other", problem_type=kind)
    done = run(tmp_path, one.path, other.path, "--data.source", photos, "--split", "all", "--json")
    told = json.loads(done.stdout)
    assert {(row["label"], row["first"]["answer"], row["second"]["answer"]) for row in told["apart"]} == {
        ("cat", "cat", "dog"),
        ("dog", "dog", "cat"),
    }
    assert all(0.5 < row["second"]["confidence"] <= 1 for row in told["apart"])


def test_the_help_says_that_it_takes_bundles():
    assert "BUNDLE BUNDLE... [--data.OPTION VALUE]..." in CliRunner().invoke(main, ["compare", "--help"]).output


def test_mistakes_are_told_in_a_line(tmp_path: Path, tagger_bundle):
    alone = run(tmp_path, tagger_bundle.path, "--data.source", tmp_path)
    assert "name two bundles or more" in alone.output
    two = run(
        tmp_path,
        tagger_bundle.path,
        PROJECT_ROOT / "models" / "intent",
        "--data.source",
        fill(tmp_path / "p", {"cat": "cat"}),
    )
    assert "these are bundles for tagging and intent" in two.output
    folder = run(tmp_path, tagger_bundle.path, tagger_bundle.path, "--data.source", "x", "-o", tmp_path)
    assert "is a folder" in folder.output
