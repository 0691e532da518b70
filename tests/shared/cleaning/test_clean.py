"""Plans: each step by itself, replayed to the same bytes, applied to new data; what was found is gone afterwards."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import yaml
from click.testing import CliRunner
from sklearn.feature_extraction.text import TfidfVectorizer

from scripts.eyes import eyes_for
from scripts.main import main
from shared.cleaning.plan import _PARTS, Decision, Missing, Plan, read_plan
from shared.cleaning.propose import propose
from shared.cleaning.run import FITTED, Cleaned, clean
from shared.dataset.layout import LEFT_OUT
from shared.dataset.read import Dataset
from shared.errors import ConfigError
from shared.exploring.eyes import Eyes
from shared.exploring.findings import Finding
from shared.exploring.texts import words_of
from shared.project import PROJECT_ROOT
from tests.shared.exploring.test_examine import as_bytes, dataset, explored, kinds, scene, utterances


def run(
    tmp_path: Path, found: Dataset, *steps: dict[str, Any], out: str = "out", decisions: Any = (), **plan: Any
) -> Cleaned:
    fitted, eyes = plan.pop("fitted", None), plan.pop("eyes", eyes_for)
    file = tmp_path / "plan.yaml"
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(each) + "\n" for each in decisions))
    content = {"fingerprint": found.info.fingerprint, "steps": list(steps), **plan}
    file.write_text(yaml.safe_dump(content | ({"decisions": "d.jsonl"} if decisions else {})))
    return clean(found, *read_plan(file), tmp_path / out, eyes, fitted=fitted)


def column(done: Cleaned, name: str) -> list[Any]:
    return [row[name] for _, batch in done.dataset.batches(columns=[name]) for row in batch.to_pylist()]


def left_out(done: Cleaned) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(done.dataset.path / LEFT_OUT).to_pylist()


def numbers(tmp_path: Path, values: list[Any], splits: list[str] | None = None, name: str = "n") -> Dataset:
    return dataset(tmp_path / "in", [{name: value} for value in values], splits)


def test_copies_are_dropped_and_the_guarded_one_is_kept(tmp_path: Path):
    rows = [{"text": "hello"}, {"text": "Hello! "}, {"text": "bye"}, {"text": "hello"}]
    found = dataset(tmp_path / "in", rows, ["train", "train", "train", "test"])
    done = run(tmp_path, found, {"step": "drop_duplicates", "by": ["text"]})
    assert column(done, "text") == ["bye", "hello"]
    assert done.dataset.info.splits == {"train": 1, "test": 1}
    assert [(each["step"], each["reason"]) for each in left_out(done)] == [
        ("drop_duplicates", "is the same as row 3")
    ] * 2
    assert json.loads(left_out(done)[1]["row"]) == {"text": "Hello! "}
    exact = run(tmp_path, found, {"step": "drop_duplicates", "by": ["text"], "loosely": False, "keep": "none"}, out="b")
    assert column(exact, "text") == ["Hello! ", "bye"]


def test_decisions_are_kept_by_content_and_told(tmp_path: Path):
    found = dataset(tmp_path / "in", [{"text": f"mail a{i}@example.org", "label": "x"} for i in range(4)])
    decisions = [
        {"sha256": f"{0:064}", "action": "drop", "kind": "label_error"},
        {"sha256": f"{1:064}", "action": "relabel", "column": "label", "value": "y"},
        {"sha256": f"{2:064}", "action": "redact", "column": "text"},
        {"sha256": f"{3:064}", "action": "drop", "row": 99},
    ]
    done = run(tmp_path, found, {"step": "decide"}, decisions=decisions)
    assert column(done, "label") == ["y", "x", "x"]
    assert column(done, "text")[1] == "mail [e-mail]"
    assert left_out(done)[0]["reason"] == "decided: label error"
    assert done.dataset.info.history[-1]["decisions"]["count"] == 4


def test_labels_are_merged_renamed_and_dropped(tmp_path: Path):
    found = dataset(tmp_path / "in", [{"label": label} for label in "aabbbcd"])
    done = run(tmp_path, found, {"step": "merge_labels", "names": {"a": "A", "b": "A"}},
               {"step": "drop_labels", "labels": ["c"], "fewer_than": 2})  # fmt: skip
    assert column(done, "label") == ["A"] * 5
    assert [each["reason"] for each in left_out(done)] == ["has the label 'c'", "only 1 row has the label 'd'"]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"how": "drop"}, [1.0, 3.0, 8.0, 1.0, 100.0]),
        ({"how": "constant", "value": 0.5}, [1.0, 3.0, 0.5, 8.0, 1.0, 100.0]),
        ({"how": "median"}, [1.0, 3.0, 2.0, 8.0, 1.0, 100.0]),
        ({"how": "most_frequent"}, [1.0, 3.0, 1.0, 8.0, 1.0, 100.0]),
    ],
)
def test_missing_values_are_filled_from_the_training_split_alone(tmp_path: Path, how: dict[str, Any], expected: Any):
    found = numbers(tmp_path, [1.0, 3.0, None, 8.0, 1.0, 100.0], ["train"] * 5 + ["test"])
    assert column(run(tmp_path, found, {"step": "missing", "column": "n", **how}), "n") == expected


def test_outliers_are_dropped_or_clipped(tmp_path: Path):
    found = numbers(tmp_path, [*range(1, 10), 1000, -500])
    dropped = run(tmp_path, found, {"step": "outliers", "column": "n", "how": "drop", "reach": 3})
    assert column(dropped, "n") == list(range(1, 10))
    assert "n is not between" in left_out(dropped)[0]["reason"]
    clipped = run(tmp_path, found, {"step": "outliers", "column": "n", "how": "clip", "least": 0, "most": 9}, out="b")
    assert column(clipped, "n") == [*range(1, 10), 9, 0]


def test_texts_are_normalised_redacted_and_limited(tmp_path: Path):
    found = dataset(tmp_path / "in", [{"text": "  Cafe\u0301  AT ada@example.org "}, {"text": "one"}])
    done = run(tmp_path, found, {"step": "normalise_text", "lower": True}, {"step": "redact"},
               {"step": "limits", "column": "text", "measure": "words", "least": 2})  # fmt: skip
    assert column(done, "text") == ["caf\u00e9 at [e-mail]"]
    assert left_out(done)[0]["reason"] == "text has 1 word; allowed are 2 to inf"


def test_the_language_is_added_where_it_is_clear(tmp_path: Path):
    found = dataset(tmp_path / "in", [{"text": "when does the shop open on sundays"}, {"text": "hello"}])
    assert column(run(tmp_path, found, {"step": "language"}), "text_language") == ["en", None]


def test_small_photos_are_left_out_and_the_others_keep_every_byte(tmp_path: Path):
    photos = [as_bytes(scene(seed, size)) for seed, size in ((0, 160), (1, 60), (2, 160))]
    found = dataset(tmp_path / "in", [{"image": {"bytes": p, "path": "p.jpg"}, "label": "a"} for p in photos])
    done = run(tmp_path, found, {"step": "limits", "column": "image", "measure": "pixels", "least": 100})
    assert [each["bytes"] for each in column(done, "image")] == [photos[0], photos[2]]
    assert left_out(done)[0]["reason"] == "image has 60 pixels; allowed are 100 to inf"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"how": "down"}, {"a": 2, "b": 2}),
        ({"how": "up"}, {"a": 6, "b": 6}),
        ({"how": "down", "to": 4}, {"a": 4, "b": 2}),
    ],
)
def test_labels_are_balanced_in_the_training_split_alone(tmp_path: Path, how: dict[str, Any], expected: dict[str, int]):
    found = dataset(tmp_path / "in", [{"label": label} for label in "aaaaaabbaaa"], ["train"] * 8 + ["test"] * 3)
    done = run(tmp_path, found, {"step": "balance", **how})
    labels = [row["label"] for _, batch in done.dataset.batches("train") for row in batch.to_pylist()]
    assert Counter(labels) == expected
    assert done.dataset.info.splits["test"] == 3


def test_weights_even_the_labels_out(tmp_path: Path):
    found = dataset(tmp_path / "in", [{"label": label} for label in "aaab"])
    assert column(run(tmp_path, found, {"step": "balance", "how": "weights"}), "weight") == [2 / 3] * 3 + [2.0]


def test_splits_are_stratified_and_divide_no_group(tmp_path: Path):
    rows = [{"text": f"t{i // 2}", "label": "abc"[i % 3], "user": i // 5} for i in range(300)]
    found = dataset(tmp_path / "in", rows)
    near = [{"sha256": f"{i:064}", "action": "together", "value": f"{0:064}"} for i in range(1, 8)]
    step = {
        "step": "split",
        "shares": {"train": 0.7, "val": 0.1, "test": 0.2},
        "stratify": "label",
        "together": ["text"],
    }
    done = run(tmp_path, found, step, decisions=near)
    assert done.dataset.info.splits == pytest.approx({"train": 210, "val": 30, "test": 60}, abs=4)
    where: dict[str, set[str]] = {}
    for split, batch in done.dataset.batches():
        for row in batch.to_pylist():
            where.setdefault(row["text"], set()).add(split)
    assert all(len(splits) == 1 for splits in where.values())
    assert len({next(iter(where[f"t{i}"])) for i in range(4)}) == 1
    for split, total in done.dataset.info.splits.items():
        counts = Counter(row["label"] for _, batch in done.dataset.batches(split) for row in batch.to_pylist())
        assert max(counts.values()) - min(counts.values()) <= 3, (split, total)


@pytest.mark.parametrize(("rows_each", "expected"), [(4, (160, 20, 20)), (2, (80, 10, 10))])
def test_shares_hold_although_each_label_has_few_rows(tmp_path: Path, rows_each: int, expected: tuple[int, int, int]):
    found = dataset(tmp_path / "in", [{"label": f"l{i % 50}"} for i in range(50 * rows_each)])
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    done = run(tmp_path, found, {"step": "split", "shares": shares, "stratify": "label"})
    assert done.dataset.info.splits == dict(zip(shares, expected, strict=True))
    in_training = [row["label"] for _, batch in done.dataset.batches("train") for row in batch.to_pylist()]
    assert set(Counter(in_training).values()) == {rows_each - 1, rows_each}


def test_all_near_copies_of_a_row_stay_with_it(tmp_path: Path):
    found = dataset(tmp_path / "in", [{"n": i} for i in range(60)])
    digest = "{:064}".format
    pairs = [(digest(3 * i), digest(3 * i + j)) for i in range(15) for j in (1, 2)]
    pairs += [(digest(row), "a name") for row in range(50, 60)]
    near = [{"sha256": one, "action": "together", "value": other} for one, other in pairs]
    done = run(tmp_path, found, {"step": "split", "shares": {"train": 0.5, "test": 0.5}}, decisions=near)
    split_of = {row["n"]: split for split, batch in done.dataset.batches() for row in batch.to_pylist()}
    assert all(split_of[3 * i] == split_of[3 * i + 1] == split_of[3 * i + 2] for i in range(15))
    assert len({split_of[row] for row in range(50, 60)}) == 1
    assert set(split_of.values()) == {"train", "test"}
    with pytest.raises(ConfigError, match="`together` needs a `value`"):
        run(tmp_path, found, {"step": "decide"}, decisions=[{"sha256": digest(1), "action": "together"}])


def test_numbers_that_stand_for_nothing_become_missing_and_are_filled(tmp_path: Path):
    found = numbers(tmp_path, [1, 2, 9999, None, 3, 9999], ["train"] * 5 + ["test"])
    emptied = {"step": "outliers", "column": "n", "how": "empty", "most": 100}
    assert column(run(tmp_path, found, emptied, out="empty"), "n") == [1, 2, None, None, 3, None]
    filled = run(tmp_path, found, emptied, {"step": "missing", "column": "n", "how": "median"})
    assert column(filled, "n") == [1, 2, 2, 2, 3, 2]
    assert len(filled.dataset) == 6


def days(*numbers: int) -> list[dict[str, Any]]:
    return [{"day": f"2026-11-{number:02}", "n": number} for number in numbers]


def by_day(shares: dict[str, float], **more: Any) -> dict[str, Any]:
    return {"step": "split", "shares": shares, "by": "day", **more}


def split_of_days(done: Cleaned) -> dict[int, str]:
    return {row["n"]: split for split, batch in done.dataset.batches() for row in batch.to_pylist()}


def test_the_past_trains_and_what_came_later_tests_whatever_the_order_of_the_rows(tmp_path: Path):
    found = dataset(tmp_path / "in", days(7, 3, 10, 1, 9, 5, 2, 8, 4, 6))
    done = run(tmp_path, found, by_day({"train": 0.6, "val": 0.2, "test": 0.2}))
    assert split_of_days(done) == {**dict.fromkeys(range(1, 7), "train"), 7: "val", 8: "val", 9: "test", 10: "test"}
    by_number = run(tmp_path, found, by_day({"train": 0.5, "test": 0.5}) | {"by": "n"}, out="n")
    assert split_of_days(by_number) == {n: "train" if n <= 5 else "test" for n in range(1, 11)}


def test_a_moment_is_never_divided_and_new_data_are_divided_at_the_same_moment(tmp_path: Path):
    step = by_day({"train": 0.5, "test": 0.5})
    found = dataset(tmp_path / "in", days(1, 2, 3, 3, 3, 3, 4, 5))
    done = run(tmp_path, found, step)
    assert done.dataset.info.splits == {"train": 2, "test": 6}
    new = dataset(tmp_path / "new", days(2, 3, 9))
    again = run(tmp_path, new, step, out="again", fitted=done.dataset.path)
    assert split_of_days(again) == {2: "train", 3: "test", 9: "test"}


def test_no_row_can_be_split_by_time(tmp_path: Path):
    found = dataset(tmp_path / "in", days(1, 2, 3))
    none = {"step": "limits", "column": "n", "measure": "value", "least": 9}
    with pytest.raises(ConfigError, match="leaves no row"):
        run(tmp_path, found, none, by_day({"train": 0.5, "test": 0.5}))


def test_times_with_a_zone_are_ordered_by_when_they_are(tmp_path: Path):
    times = ["2026-11-30T12:00+03:00", "2026-11-30T10:00+00:00", "2026-11-30T09:30", "2026-11-30T23:00"]
    found = dataset(tmp_path / "in", [{"day": time, "n": place} for place, time in enumerate(times)])
    done = run(tmp_path, found, by_day({"train": 0.5, "test": 0.5}))
    assert split_of_days(done) == {0: "train", 2: "train", 1: "test", 3: "test"}


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        (days(1, 2), {"stratify": "n"}, "`stratify` and `together` cannot hold"),
        ([*days(1, 2), {"day": None, "n": 3}], {}, "a row has no 'day'.*how: drop"),
        ([*days(1, 2), {"day": "soon", "n": 3}], {}, "'soon' in it; expected a time"),
        (days(4, 4, 4), {}, "no row is left for train: too many rows have the same 'day'"),
    ],
)
def test_a_split_by_time_that_cannot_be_made_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], more: dict[str, Any], said: str
):
    found = dataset(tmp_path / "in", rows)
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, found, by_day({"train": 0.5, "test": 0.5}, **more))


def test_features_are_learned_from_the_training_split_and_applied_to_new_data(tmp_path: Path):
    rows = [
        {"n": float(i), "kind": "ab"[i % 2], "text": f"word{i % 3} and word", "at": "2026-11-30T12:30"}
        for i in range(8)
    ]
    steps = [
        {"step": "length"},
        {"step": "time_parts", "column": "at"},
        {"step": "discretise", "column": "n", "bins": 2},
        {"step": "standardise", "columns": ["n"]},
        {"step": "one_hot", "column": "kind"},
        {"step": "tfidf", "words": 4},
        {"step": "select", "drop": ["at", "text"]},
    ]
    found = dataset(tmp_path / "in", rows, ["train"] * 6 + ["test"] * 2)
    done = run(tmp_path, found, *steps)
    assert column(done, "n") == pytest.approx((np.arange(8) - 2.5) / np.std(range(6)))
    assert column(done, "n_bin") == [0, 0, 0, 1, 1, 1, 1, 1]
    assert column(done, "kind=a") == [1, 0] * 4
    assert column(done, "text_words") == [3] * 8
    assert (column(done, "at_weekday")[0], column(done, "at_hour")[0]) == (0, 12)
    assert done.dataset.info.columns["tfidf"] == "floats"
    assert "text" not in done.dataset.info.columns
    reference = TfidfVectorizer(analyzer=words_of, max_features=4).fit([row["text"] for row in rows[:6]])
    order = np.argsort(reference.get_feature_names_out())
    expected = reference.transform([row["text"] for row in rows]).toarray()[:, order]
    np.testing.assert_allclose(column(done, "tfidf"), expected, atol=1e-6)
    new = dataset(tmp_path / "new", [{"n": 100.0, "kind": "c", "text": "word1", "at": "2026-12-01"}], ["test"])
    again = run(tmp_path, new, *steps, out="again", fitted=done.dataset.path)
    assert column(again, "n") == pytest.approx([(100 - 2.5) / np.std(range(6))])
    assert (column(again, "kind=a"), column(again, "kind=b")) == ([0], [0])
    assert (again.dataset.path / FITTED).read_bytes() == (done.dataset.path / FITTED).read_bytes()
    with pytest.raises(ConfigError, match="the training split has no 'n' to learn from"):
        run(tmp_path, new, *steps[2:], out="none")


def test_texts_and_photos_get_a_column_of_what_a_model_makes_of_them(tmp_path: Path):
    rows = [{"text": "Where is my card?"}, {"text": None}, {"text": "where is my card"}, {"text": "Goodbye"}]
    found = dataset(tmp_path / "in", rows)
    done = run(tmp_path, found, {"step": "embed"}, {"step": "drop_labels", "column": "text", "labels": ["Goodbye"]})
    one, none, same = column(done, "embedding")
    assert done.dataset.info.columns["embedding"] == "floats"
    assert (len(one), none) == (384, None)
    assert np.dot(one, same) > 0.95
    photos = [{"image": {"bytes": as_bytes(scene(i)), "path": f"{i}.png"}} for i in range(2)]
    seen = run(tmp_path, dataset(tmp_path / "photos", photos), {"step": "embed", "column": "image"}, out="seen")
    assert len(column(seen, "embedding")[0]) == 1280

    def other(bundle: Path | None, *, photos: bool) -> Eyes:
        return Eyes("other 2", of_texts=lambda texts: np.ones((len(texts), 2)))

    with pytest.raises(ConfigError, match="other 2 would look now"):
        run(tmp_path, found, {"step": "embed"}, out="new", fitted=done.dataset.path, eyes=other)
    with pytest.raises(ConfigError, match="texts need one for embedding or intent"):
        run(tmp_path, found, {"step": "embed", "bundle": str(PROJECT_ROOT / "models" / "qa")}, out="new")
    with pytest.raises(ConfigError, match="no model is there"):
        run(tmp_path, found, {"step": "embed"}, out="new", eyes=lambda _, **__: None)


def test_the_same_plan_on_the_same_data_makes_the_same_bytes(tmp_path: Path):
    found = dataset(tmp_path / "in", [*utterances(), utterances()[0]])
    steps = [
        {"step": "drop_duplicates", "by": ["text"]},
        {"step": "balance", "how": "up", "to": 25},
        {"step": "split", "shares": {"train": 0.8, "test": 0.2}, "stratify": "label"},
        {"step": "tfidf"},
    ]
    one, other = (run(tmp_path, found, *steps, out=name).dataset.path for name in ("one", "other"))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) >= 5
    for file in files:
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


def test_other_data_are_refused_with_what_they_are(tmp_path: Path):
    found, other = numbers(tmp_path, [1, 2]), dataset(tmp_path / "other", [{"n": 3}])
    with pytest.raises(ConfigError, match=r"was made for data with the fingerprint .*; .* \(1 row, columns n"):
        run(tmp_path, other, {"step": "missing", "column": "n", "how": "drop"}, fingerprint=found.info.fingerprint)
    with pytest.raises(ConfigError, match="not edited in place"):
        run(tmp_path, found, {"step": "missing", "column": "n", "how": "drop"}, out="in")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"step": "polish"}, "polish"),
        ({"step": "missing", "column": "n", "how": "constant"}, "`value` belongs to"),
        ({"step": "missing", "column": "m", "how": "drop"}, "the plan names the column 'm'; there are n"),
        ({"step": "split", "shares": {"train": 0.5}}, "must add up to 1"),
        ({"step": "outliers", "column": "n", "how": "drop"}, "say least or most, or reach"),
        ({"step": "standardise", "columns": ["n"]}, "has 'x' in it, which is no number"),
        ({"step": "limits", "column": "n", "measure": "characters", "least": 99}, "leaves no row"),
        ({"step": "merge_labels", "column": "_source", "names": {}}, "the plan names the column '_source'"),
    ],
)
def test_a_wrong_plan_is_refused_in_a_line(tmp_path: Path, step: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, numbers(tmp_path, ["x", "y"]), step)


def test_a_line_of_decisions_that_is_wrong_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"d\.jsonl line 1: action"):
        run(tmp_path, numbers(tmp_path, [1]), {"step": "decide"}, decisions=[{"sha256": "x", "action": "burn"}])


def test_what_was_found_is_gone_after_the_proposed_plan(tmp_path: Path):
    rows = utterances()
    rows += [
        dict(rows[0]),
        {"text": rows[3]["text"], "label": "bill"},
        dict(rows[6]),
        {"text": "a@example.org x", "label": None},
    ]
    splits = [*["train"] * 62, "test", "train"]
    found = dataset(tmp_path / "in", rows, splits)
    before = explored(tmp_path / "again", rows, splits, eyes=None)
    assert set(kinds(before)) == {"duplicate", "contradiction", "leak", "personal_data", "missing"}
    invoke = CliRunner().invoke
    made = invoke(main, ["clean", str(found.path), "--propose", str(tmp_path / "plan.yaml")])
    assert made.exit_code == 0, made.output
    done = invoke(main, ["clean", str(found.path), str(tmp_path / "out"), "--plan", str(tmp_path / "plan.yaml")])
    assert done.exit_code == 0, done.output
    looked = invoke(main, ["explore", str(tmp_path / "out"), str(tmp_path / "page")])
    assert looked.exit_code == 0, looked.output
    gone = {json.loads(line)["kind"] for line in (tmp_path / "page" / "findings.jsonl").read_text().splitlines()}
    assert not gone & {"duplicate", "contradiction", "leak", "personal_data", "missing"}
    twice = invoke(main, ["clean", str(found.path), "--propose", str(tmp_path / "plan.yaml")])
    assert "exists already, and may have been edited" in twice.output


def test_a_persons_decisions_go_before_what_is_proposed(tmp_path: Path):
    rows = [*utterances(), {"text": utterances()[3]["text"], "label": "bill"}]
    found = dataset(tmp_path / "in", rows)
    decisions = tmp_path / "decisions.jsonl"
    decisions.write_text(Decision(sha256=f"{60:064}", action="keep", kind="contradiction").model_dump_json() + "\n")
    file = tmp_path / "plan.yaml"
    made = CliRunner().invoke(main, ["clean", str(found.path), "--propose", str(file), "--decisions", str(decisions)])
    assert made.exit_code == 0, made.output
    plan, decided = read_plan(file)
    said = [(each.sha256, each.action) for each in decided if each.kind == "contradiction"]
    assert said == [(f"{60:064}", "keep"), (f"{3:064}", "drop")]
    assert "1 decision of yours, 1 proposed" in made.output
    assert [step.step for step in plan.steps] == ["decide"]


def proposed(tmp_path: Path, found: Dataset, decisions: Sequence[dict[str, Any]] = ()) -> tuple[Plan, Cleaned]:
    """Return the plan that is proposed, and what comes of it."""
    file, said = tmp_path / "proposed.yaml", tmp_path / "decisions.jsonl"
    said.write_text("".join(json.dumps(each) + "\n" for each in decisions))
    own = ["--decisions", str(said)] if decisions else []
    made = CliRunner().invoke(main, ["clean", str(found.path), "--propose", str(file), *own])
    assert made.exit_code == 0, made.output
    plan, decided = read_plan(file)
    return plan, clean(found, plan, decided, tmp_path / "out", eyes_for)


def test_the_label_of_the_majority_is_proposed_to_the_others(tmp_path: Path):
    rows = [{"text": "where is it", "label": label} for label in "abb"]
    _, done = proposed(tmp_path, dataset(tmp_path / "in", rows))
    assert column(done, "label") == ["b"]
    assert [each["step"] for each in done.dataset.info.history] == ["decide", "drop_duplicates"]


def test_what_a_person_kept_is_left_as_it_is(tmp_path: Path):
    texts = ["hello there", "hello there", "hello there", "mail ada@example.org", "mail bob@example.org"]
    found = dataset(tmp_path / "in", [{"text": text, "label": "a"} for text in texts])
    kept = [(1, "duplicate"), (3, "personal_data")]
    decisions = [{"sha256": f"{row:064}", "row": row, "action": "keep", "kind": kind} for row, kind in kept]
    plan, done = proposed(tmp_path, found, decisions)
    assert [step.step for step in plan.steps] == ["decide", "drop_duplicates", "redact"]
    assert column(done, "text") == ["hello there", "hello there", "mail ada@example.org", "mail [e-mail]"]


def test_a_missing_value_and_an_outlier_that_a_person_kept_are_left(tmp_path: Path):
    found = dataset(tmp_path / "in", [{"n": n, "m": 1.0 if n else None} for n in (1.0, None, None, 99.0, 99.0)])
    kept = [(1, "missing", "n"), (2, "missing", "m"), (3, "outlier", "n")]
    decisions = [{"sha256": f"{row:064}", "action": "keep", "kind": kind, "column": name} for row, kind, name in kept]
    steps = ({"step": "missing", "column": "n", "how": "constant", "value": 0},
             {"step": "outliers", "column": "n", "how": "drop", "most": 9})  # fmt: skip
    assert column(run(tmp_path, found, *steps, decisions=decisions), "n") == [1.0, None, 0.0, 99.0]


def test_only_the_row_that_was_decided_about_counts_as_decided(tmp_path: Path):
    found = dataset(tmp_path / "in", [{"text": "mail ada@example.org"}] * 2)
    finding = Finding("personal_data", 1, "the same", 1.0, "has e-mail in it", column="text")
    keep = Decision(sha256="the same", action="keep", kind="personal_data", row=0)
    plan, lines = propose(found, [finding], [keep], ["train"] * 2, "text")
    assert [step["step"] for step in plan["steps"]] == ["decide", "redact"]
    assert lines == [keep.model_dump(exclude_none=True)]
    of_all = Decision(sha256="the same", action="keep")
    assert propose(found, [finding], [of_all], ["train"] * 2, "text")[0]["steps"] == [{"step": "decide"}]


def test_each_column_that_lacks_values_gets_a_step(tmp_path: Path):
    rows = [{"text": "one thing", "label": "a"}, {"text": " ", "label": "b"}, {"text": "two things", "label": ""}]
    plan, done = proposed(tmp_path, dataset(tmp_path / "in", rows))
    assert {step.column for step in plan.steps if isinstance(step, Missing)} == {"text", "label"}
    assert column(done, "text") == ["one thing"]


def test_texts_in_lists_are_redacted_and_columns_without_texts_are_refused(tmp_path: Path):
    rows = [{"text": ["mail ada@example.org", "bye"], "label": "a", "n": 1}, {"text": [" A  b "], "label": "a", "n": 2}]
    found = dataset(tmp_path / "in", rows)
    done = run(tmp_path, found, {"step": "redact"}, {"step": "normalise_text", "lower": True})
    assert column(done, "text") == [["mail [e-mail]", "bye"], ["a b"]]
    decided = [{"sha256": f"{0:064}", "action": "redact", "column": "text"}]
    assert column(run(tmp_path, found, {"step": "decide"}, decisions=decided), "text")[0] == ["mail [e-mail]", "bye"]
    with pytest.raises(ConfigError, match="'n' cannot be redacted: expected texts or lists of texts, came '1'"):
        run(tmp_path, found, {"step": "redact", "columns": ["n"]})


def test_labels_in_lists_are_dropped_and_made_columns(tmp_path: Path):
    rows = [{"label": label} for label in (["cat", "dog"], ["dog"], ["dog", "dog", "emu"], [], None)]
    found = dataset(tmp_path / "in", rows)
    done = run(tmp_path, found, {"step": "drop_labels", "labels": ["cat"], "fewer_than": 2})
    assert column(done, "label") == [["dog"], [], None]
    assert [each["reason"] for each in left_out(done)] == ["has the label 'cat'", "only 1 row has the label 'emu'"]
    hot = run(tmp_path, found, {"step": "one_hot", "column": "label"})
    assert column(hot, "label=dog") == [1, 1, 1, 0, 0]
    assert [name for name in hot.dataset.info.columns if "=" in name] == ["label=dog", "label=cat", "label=emu"]
    filled = run(tmp_path, found, {"step": "missing", "column": "label", "how": "most_frequent"})
    assert column(filled, "label")[3:] == [["cat", "dog"]] * 2


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"step": "missing", "column": "n", "how": "median"}, [1.0, 2.0, 3.0, 2.0]),
        ({"step": "missing", "column": "n", "how": "drop"}, [1.0, 3.0]),
        ({"step": "standardise", "columns": ["n"]}, [-1.0, None, 1.0, None]),
        ({"step": "outliers", "column": "n", "how": "drop", "reach": 3}, [1.0, None, 3.0, None]),
        ({"step": "limits", "column": "n", "measure": "value", "least": 2}, [3.0]),
        ({"step": "length", "column": "n"}, [1.0, None, 3.0, None]),
    ],
)
def test_nan_is_a_missing_value(tmp_path: Path, step: dict[str, Any], expected: list[float | None]):
    assert column(run(tmp_path, numbers(tmp_path, [1.0, math.nan, 3.0, None]), step), "n") == expected


def test_nan_is_neither_a_category_nor_a_label(tmp_path: Path):
    found = numbers(tmp_path, [1.0, math.nan, 1.0, None])
    steps = ({"step": "one_hot"}, {"step": "drop_labels", "fewer_than": 2}, {"step": "balance", "how": "weights"})
    done = run(tmp_path, found, *({**step, "column": "n"} for step in steps))
    assert [name for name in done.dataset.info.columns if not name.startswith("_")] == ["n", "n=1.0", "weight"]
    assert column(done, "weight") == [1.0] * 4


def test_nothing_is_learned_from_infinite_numbers_but_they_are_outliers(tmp_path: Path):
    found = numbers(tmp_path, [1.0, 2.0, 3.0, math.inf, -math.inf])
    with pytest.raises(ConfigError, match=r"'n' has infinite numbers in .*: \{step: outliers"):
        run(tmp_path, found, {"step": "standardise", "columns": ["n"]})
    clipped = run(tmp_path, found, {"step": "outliers", "column": "n", "how": "clip", "reach": 1})
    assert column(clipped, "n") == [1.0, 2.0, 3.0, 3.5, 0.5]
    with pytest.raises(ConfigError, match="'nan' in it, which is no number"):
        run(tmp_path, numbers(tmp_path, ["1", "nan"]), {"step": "standardise", "columns": ["n"]}, out="new")


def test_blank_texts_are_missing_values(tmp_path: Path):
    found = numbers(tmp_path, ["", "a", "", " ", "a"], name="label")
    filled = run(tmp_path, found, {"step": "missing", "column": "label", "how": "most_frequent"})
    assert column(filled, "label") == ["a"] * 5
    kept = run(tmp_path, found, {"step": "drop_labels", "fewer_than": 2})
    assert len(kept.dataset) == 5
    as_text = numbers(tmp_path, ["1", "", "3"])
    assert column(run(tmp_path, as_text, {"step": "standardise", "columns": ["n"]}, out="n"), "n") == [-1.0, None, 1.0]


def test_texts_of_nothing_but_punctuation_are_the_same_only_if_they_are_equal(tmp_path: Path):
    found = dataset(tmp_path / "in", [{"text": text} for text in ("?", "!", "", " ", "?", "Hi!", "hi")])
    done = run(tmp_path, found, {"step": "drop_duplicates", "by": ["text"]})
    assert column(done, "text") == ["?", "!", "", " ", "Hi!"]


@pytest.mark.parametrize(
    ("cells", "value", "expected", "kind"),
    [
        ([["cat"], ["dog"]], "cat + dog", ["cat", "dog"], "texts"),
        ([["cat"], ["salt + pepper"]], "salt + pepper", ["salt + pepper"], "texts"),
        ([["cat"], []], "", [], "texts"),
        ([0, 2], "1", 1, "int"),
        ([0, 2], 1.0, 1, "int"),
        ([0.5, 2.0], "1.5", 1.5, "float"),
        ([True, False], "False", False, "bool"),
        (["0", "2"], 1, "1", "text"),
        ([0, 2], "many", "many", "text"),
    ],
)
def test_a_decided_label_keeps_the_kind_of_its_column(
    tmp_path: Path, cells: list[Any], value: Any, expected: Any, kind: str
):
    found = numbers(tmp_path, cells, name="label")
    decisions = [{"sha256": f"{0:064}", "action": "relabel", "column": "label", "value": value}]
    done = run(tmp_path, found, {"step": "decide"}, decisions=decisions)
    assert (column(done, "label")[0], done.dataset.info.columns["label"]) == (expected, kind)


def test_merged_labels_keep_the_kind_of_their_column(tmp_path: Path):
    done = run(tmp_path, numbers(tmp_path, [0, 1], name="label"), {"step": "merge_labels", "names": {"1": "2"}})
    assert (column(done, "label"), done.dataset.info.columns["label"]) == ([0, 2], "int")


def test_decisions_about_no_row_are_told_and_refused_if_all_are(tmp_path: Path):
    found = numbers(tmp_path, [1, 2])
    lost = [{"sha256": "ab" * 32, "action": "drop"}, {"sha256": f"{1:064}", "row": 0, "action": "drop"}]
    here = {"sha256": f"{0:064}", "action": "drop"}
    with pytest.raises(ConfigError, match=r"none of the 2 decisions is about a row of .* which has no abababababab"):
        run(tmp_path, found, {"step": "decide"}, decisions=lost)
    done = run(tmp_path, found, {"step": "decide"}, decisions=[*lost, here])
    assert done.unmatched == 2
    assert done.dataset.info.history[-1]["details"] == "2 rows -> 1; 2 of 3 decisions are about no row"
    command = ["clean", str(found.path), str(tmp_path / "again"), "--plan", str(tmp_path / "plan.yaml")]
    assert "2 of 3 decisions are about no row of" in CliRunner().invoke(main, command).output
    run(tmp_path, found, {"step": "standardise", "columns": ["n"]}, out="fitted")
    assert (
        run(tmp_path, found, {"step": "standardise", "columns": ["n"]}, decisions=[here, here], out="b").unmatched == 0
    )


def test_decisions_are_not_looked_for_in_new_data(tmp_path: Path):
    step = {"step": "standardise", "columns": ["n"]}
    fitted = run(tmp_path, numbers(tmp_path, [1, 2, 3]), step, out="fitted").dataset.path
    new = numbers(tmp_path, [2])
    done = run(tmp_path, new, step, decisions=[{"sha256": "ab" * 32, "action": "drop"}], fitted=fitted)
    assert (column(done, "n"), done.unmatched) == ([0.0], 0)


@pytest.mark.parametrize(
    ("cells", "bounds", "expected", "kind"),
    [
        (["99", "5", ""], {"most": 10}, [10.0, 5.0, None], "float"),
        ([-5, 3], {"least": 1.5}, [1.5, 3.0], "float"),
        ([-5, 2**60 + 1], {"least": 1}, [1, 2**60 + 1], "long"),
        ([0.5, None], {"least": 1}, [1.0, None], "float"),
    ],
)
def test_clipped_numbers_are_inside_the_range(
    tmp_path: Path, cells: list[Any], bounds: dict[str, float], expected: list[Any], kind: str
):
    done = run(tmp_path, numbers(tmp_path, cells), {"step": "outliers", "column": "n", "how": "clip", **bounds})
    assert (column(done, "n"), done.dataset.info.columns["n"]) == (expected, kind)


@pytest.mark.parametrize(
    "step",
    [
        {"step": "standardise", "columns": ["n", "n"]},
        {"step": "drop_duplicates", "by": ["n", "n"]},
        {"step": "redact", "columns": ["n", "n"]},
        {"step": "normalise_text", "columns": ["n", "n"]},
        {"step": "select", "drop": ["n", "n"]},
        {"step": "split", "shares": {"train": 1.0}, "together": ["n", "n"]},
    ],
)
def test_a_column_that_is_named_twice_is_refused(tmp_path: Path, step: dict[str, Any]):
    with pytest.raises(ConfigError, match="the column 'n' is named twice"):
        run(tmp_path, numbers(tmp_path, [1.0, 2.0]), step)


def test_a_column_called_weight_is_not_overwritten(tmp_path: Path):
    found = dataset(tmp_path / "in", [{"label": label, "weight": 70.5} for label in "aab"])
    weights = {"step": "balance", "how": "weights"}
    with pytest.raises(ConfigError, match=r"a column 'weight' already, .* Rename it"):
        run(tmp_path, found, weights)
    done = run(tmp_path, found, {"step": "select", "drop": ["weight"]}, weights, weights)
    assert column(done, "weight") == [0.75, 0.75, 1.5]


def test_copies_are_rows_with_the_same_content_as_it_is_now(tmp_path: Path):
    photos = [as_bytes(scene(seed)) for seed in (0, 1, 0)]
    rows = [{"image": {"bytes": photo, "path": f"{i}.jpg"}, "text": " Hi"[i % 2 :]} for i, photo in enumerate(photos)]
    rows.append({"image": None, "text": None})
    found = dataset(tmp_path / "in", [*rows, dict(rows[3])])
    by_all = {"step": "drop_duplicates", "loosely": False}
    done = run(tmp_path, found, {"step": "normalise_text"}, by_all)
    assert [each and each["path"] for each in column(done, "image")] == ["0.jpg", "1.jpg", None, None]
    without = run(tmp_path, found, {"step": "normalise_text"}, {"step": "select", "drop": ["image"]}, by_all)
    assert column(without, "text") == ["Hi", None, None]


def test_a_column_of_the_same_name_is_not_overwritten_by_a_new_one(tmp_path: Path):
    found = dataset(tmp_path / "in", [{"text": "a b", "text_words": "mine"}])
    with pytest.raises(ConfigError, match="a column 'text_words' already"):
        run(tmp_path, found, {"step": "length"})
    done = run(tmp_path, found, {"step": "select", "drop": ["text_words"]}, {"step": "length"})
    assert column(done, "text_words") == [2]


def test_the_most_frequent_date_stays_a_date(tmp_path: Path):
    days = [date(2026, 11, 30), date(2026, 11, 30), date(2026, 12, 1), None]
    found = dataset(tmp_path / "in", [{"day": day, "text": str(i)} for i, day in enumerate(days)])
    fill = {"step": "missing", "column": "day", "how": "most_frequent"}
    done = run(tmp_path, found, fill)
    assert column(done, "day")[-1] == date(2026, 11, 30)
    again = run(tmp_path, dataset(tmp_path / "new", [{"day": None, "text": "x"}, {"day": days[2], "text": "y"}]), fill,
                out="again", fitted=done.dataset.path)  # fmt: skip
    assert column(again, "day") == days[1:3]


def digest(row: int) -> str:
    return f"{row:064}"


def finding(kind: str, row: int, **more: Any) -> Finding:
    other = more.get("other")
    return Finding(kind, row, digest(row), 1.0, "", other_sha256=None if other is None else digest(other), **more)


def lines_of(found: Dataset, findings: list[Finding], decisions: Sequence[Decision] = (), splits: Any = None) -> Any:
    _, lines = propose(found, findings, decisions, splits or ["train"] * len(found), "text")
    return [(each["row"], each["action"], each.get("value")) for each in lines[len(decisions) :]]


def test_nothing_survives_of_copies_whose_labels_have_no_majority(tmp_path: Path):
    rows = [{"text": "where is it", "label": label} for label in "abab"] + [{"text": "other", "label": "c"}]
    plan, done = proposed(tmp_path, dataset(tmp_path / "in", rows))
    assert column(done, "text") == ["other"]
    assert [step.step for step in plan.steps] == ["decide"]
    again = CliRunner().invoke(main, ["clean", str(tmp_path / "in"), "--propose", str(tmp_path / "again.yaml")])
    assert "4 decisions proposed" in again.output
    assert "1 text or photo with several labels and no majority: 4 rows of theirs" in again.output


@pytest.mark.parametrize(
    ("decision", "dropped"),
    [
        ({"action": "relabel", "column": "label", "value": "A"}, []),
        ({"action": "drop"}, []),
        ({"action": "keep", "kind": "contradiction"}, [0]),
    ],
)
def test_of_a_tie_that_a_person_settled_only_what_still_disagrees_is_dropped(
    tmp_path: Path, decision: dict[str, Any], dropped: list[int]
):
    found = dataset(tmp_path / "in", [{"text": "where is it", "label": label} for label in "ab"])
    tie = [finding("contradiction", row, other=1 - row, column="label", given="ab"[row]) for row in (0, 1)]
    lines = lines_of(found, tie, [Decision(sha256=digest(1), row=1, **decision)])
    assert lines == [(row, "drop", None) for row in dropped]


def test_a_persons_decision_about_a_row_wins_over_all_that_is_proposed_for_it(tmp_path: Path):
    found = numbers(tmp_path, [0, 1, 2], name="text")
    findings = [
        finding("leak", 1, other=0),
        finding("contradiction", 2, other=0, column="label", given="b", suggested="a"),
    ]
    said = [Decision(sha256=digest(0), row=0, action="relabel", value="z", kind="label_error"),
            Decision(sha256=digest(2), row=2, action="redact", kind="personal_data")]  # fmt: skip
    assert lines_of(found, findings, said, ["train", "test", "train"]) == []
    assert lines_of(found, findings, (), ["train", "test", "train"]) == [(0, "drop", None), (2, "relabel", "a")]


def test_a_row_that_is_proposed_to_be_dropped_is_not_relabelled_too(tmp_path: Path):
    found = numbers(tmp_path, [0, 1], name="text")
    findings = [
        finding("contradiction", 0, other=1, column="label", given="b", suggested="a"),
        finding("near_leak", 1, other=0),
    ]
    assert lines_of(found, findings, (), ["train", "test"]) == [(0, "drop", None)]


@pytest.mark.parametrize(
    ("two", "said"),
    [
        (
            ({"action": "relabel", "value": "a"}, {"action": "relabel", "value": "b"}),
            "relabel as “a” and relabel as “b”",
        ),
        (
            ({"action": "relabel", "value": "a"}, {"action": "drop", "kind": "missing"}),
            r"relabel as “a” and drop \(miss",
        ),
    ],
)
def test_decisions_that_contradict_each_other_are_refused(tmp_path: Path, two: Any, said: str):
    found = numbers(tmp_path, ["a", "b"], name="label")
    decisions = [{"sha256": digest(1), "row": 1, **each} for each in two]
    with pytest.raises(ConfigError, match=f"two decisions about row 1 .* contradict each other: {said}"):
        run(tmp_path, found, {"step": "decide"}, decisions=decisions)
    plan = Plan.model_validate({"fingerprint": found.info.fingerprint, "steps": [{"step": "decide"}]})
    with pytest.raises(ConfigError, match="contradict each other"):
        clean(found, plan, [Decision(**each) for each in decisions], tmp_path / "out", eyes_for)
    of_others = [decisions[0], {**decisions[1], "row": 0}, {**decisions[0], "action": "keep"}]
    run(tmp_path, found, {"step": "decide"}, decisions=of_others)


def test_a_file_without_decisions_is_refused(tmp_path: Path):
    found, empty = numbers(tmp_path, ["a"]), tmp_path / "decisions.jsonl"
    empty.write_text("\n")
    command = ["clean", str(found.path), "--propose", str(tmp_path / "plan.yaml"), "--decisions", str(empty)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    assert "decisions.jsonl has no decisions; expected one in each line" in " ".join(done.output.split())


def test_another_dataset_is_replaced_only_if_that_is_said(tmp_path: Path):
    found, other = numbers(tmp_path, [1, 2]), dataset(tmp_path / "other", [{"n": 3}])
    plan, step = tmp_path / "plan.yaml", {"step": "missing", "column": "n", "how": "drop"}
    run(tmp_path, found, step)
    run(tmp_path, found, step)
    with pytest.raises(ConfigError, match=r"out has another dataset, a set with 2 rows, which no plan made of .*other"):
        run(tmp_path, other, step)
    command = ["clean", str(other.path), str(tmp_path / "out"), "--plan", str(plan)]
    assert CliRunner().invoke(main, command).exit_code == 2
    done = CliRunner().invoke(main, [*command, "--replace"])
    assert "1 row (1 train) in" in done.output


def test_a_missing_label_is_taken_from_its_copies(tmp_path: Path):
    rows = [{"text": "where is it", "label": label} for label in ("a", None)] + [{"text": "bye", "label": None}]
    _, done = proposed(tmp_path, dataset(tmp_path / "in", rows))
    assert (column(done, "text"), column(done, "label")) == (["where is it"], ["a"])


def test_spellings_of_a_label_are_merged_before_anything_else(tmp_path: Path):
    labels = ["invoice", "invoice", "Invoice", "delivery", "Delivery ", "delivery", "C", "C#", "-1", "1"]
    found = dataset(tmp_path / "in", [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)])
    plan, done = proposed(tmp_path, found)
    assert plan.steps[0].model_dump(exclude={"step"}) == {
        "column": "label", "names": {"Invoice": "invoice", "Delivery ": "delivery"}
    }  # fmt: skip
    assert column(done, "label") == ["invoice"] * 3 + ["delivery"] * 3 + labels[6:]
    keep = {"sha256": digest(2), "action": "keep", "kind": "label_spelling"}
    kept = run(tmp_path, found, {"step": "merge_labels", "names": {"Invoice": "invoice"}}, out="b", decisions=[keep])
    assert column(kept, "label")[2] == "Invoice"


def test_spellings_of_labels_in_lists_are_merged(tmp_path: Path):
    labels = [["cat", "dog"], ["cat"], ["Cat", "dog"], []]
    plan, done = proposed(
        tmp_path, dataset(tmp_path / "in", [{"text": f"t {i}", "label": v} for i, v in enumerate(labels)])
    )
    assert plan.steps[0].model_dump()["names"] == {"Cat": "cat"}
    assert column(done, "label") == [["cat", "dog"], ["cat"], ["cat", "dog"], []]


def test_cells_that_only_look_missing_are_left_by_the_plan(tmp_path: Path):
    plan, done = proposed(tmp_path, dataset(tmp_path / "in", [{"text": f"t {n}", "label": "a", "n": n} for n in
                                                              ("1", "N/A", "", "3")]))  # fmt: skip
    assert [step.step for step in plan.steps] == ["normalise_text"]
    assert column(done, "n") == ["1", "N/A", "", "3"]


def test_an_unknown_key_is_told_with_those_that_are_known(tmp_path: Path):
    found = numbers(tmp_path, [1])
    with pytest.raises(
        ConfigError, match=r"unknown key 'colum' in the step missing \(number 2\); permitted are step, col"
    ):
        run(tmp_path, found, {"step": "decide"}, {"step": "missing", "colum": "n", "how": "drop"})
    with pytest.raises(ConfigError, match="unknown key 'stepz'; permitted are fingerprint, name"):
        run(tmp_path, found, {"step": "decide"}, stepz=1)
    with pytest.raises(ConfigError, match="line 1: unknown key 'labl'; permitted are sha256, action"):
        run(tmp_path, found, {"step": "decide"}, decisions=[{"sha256": "x", "action": "drop", "labl": 1}])


def test_each_step_has_an_example_that_is_read():
    said = (PROJECT_ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", said, re.DOTALL)]
    examples = next(block for block in blocks if isinstance(block, list) and "step" in block[0])
    steps = Plan.model_validate({"fingerprint": "x", "steps": examples}).steps
    assert {step.step for step in steps} == set(_PARTS) - {"Plan", "Decision"}
