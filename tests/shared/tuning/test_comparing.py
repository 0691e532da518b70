"""`percept compare`: bundles on the same examples, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from scripts.main import main
from shared.errors import ConfigError
from shared.pages import render
from shared.project import PROJECT_ROOT
from shared.training.outcomes import Outcomes
from shared.tuning.comparing import Entry, compare
from shared.tuning.report import page_of
from tests.bundles import make_tagger_bundle
from tests.scripts.test_evaluate import fill

N = 400


def entry(name: str, values: np.ndarray, *, milliseconds: float = 1.0, examples: list[object] | None = None) -> Entry:
    rows = list(range(len(values)))
    outcomes = Outcomes(
        "accuracy", EXAMPLES[: len(values)] if examples is None else examples, values, np.full(len(values), 0.9),
        ["even" if i % 2 == 0 else "odd" for i in rows], rows, "words", [f"example <{i}>" for i in rows],
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
        "good is better than worse: accuracy 90.0 and 75.0 % (+15.0 points, 95 % interval"
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
    assert "Percept compare" in page.read_text()
    told = json.loads(run(tmp_path, one.path, other.path, "--data.source", photos, "--split", "all", "--json").stdout)
    assert (told["examples"], told["bundles"][0]["value"]) == (18, 1.0)


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
