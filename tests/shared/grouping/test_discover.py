"""`percept discover`: rows without a label become groups with names, a plan and a dataset."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scripts.main import main
from shared.dataset.layout import LEFT_OUT
from shared.dataset.read import read_dataset
from shared.grouping.report import GROUPS, NAMED, PAGE, PLAN
from shared.project import PROJECT_ROOT
from tests.photos import class_folders
from tests.shared.exploring.test_examine import dataset

KNOWN = {
    "weather": ["will it rain {}", "is it sunny {}", "how warm is it {}", "what is the forecast {}"],
    "music": ["play a song {}", "turn the music up {}", "skip this track {}", "play some jazz {}"],
}
NEW = {
    "card": [
        "my bank card is blocked {}",
        "unblock my credit card {}",
        "why was my card declined {}",
        "order a new card {}",
    ],
    "flight": [
        "book a flight to paris {}",
        "i want to fly to rome {}",
        "find me a plane ticket {}",
        "cheap flights {}",
    ],
}
WHEN = ("today", "tomorrow", "please", "now", "this week", "on monday", "at noon")


def table(path: Path, *, with_labels: bool = True) -> Path:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for groups, known in ((KNOWN, with_labels), (NEW, False)):
            for label, forms in groups.items():
                rows.writerows([form.format(when), label if known else ""] for form in forms for when in WHEN)
        rows.writerow(["zebra stripes quantum", ""])
    return path


def discover(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["discover", *map(str, args)])


def groups(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / GROUPS).read_text().splitlines()]


def test_rows_without_a_label_become_groups_and_a_dataset(tmp_path: Path):
    out = tmp_path / "out"
    done = discover(table(tmp_path / "t.csv"), out)
    assert done.exit_code == 0, done.output
    found = groups(out)
    members = {each["name"]: set(each["rows"]) for each in found}
    cards, flights = set(range(56, 84)), set(range(84, 112))
    assert all(rows <= cards or rows <= flights for rows in members.values()), members
    assert sum(map(len, members.values())) > 40
    assert all(each["nearest"] in KNOWN for each in found)
    made = read_dataset(out / NAMED)
    labels = {row["label"] for _, batch in made.batches(columns=["label"]) for row in batch.to_pylist()}
    assert labels == {*KNOWN, *members}
    assert (out / NAMED / LEFT_OUT).is_file()
    assert (out / PAGE).read_text().count("</script>") == 2
    decisions = out / "plan.decisions.jsonl"
    renamed = [json.loads(line) for line in decisions.read_text().splitlines()]
    for each in renamed:  # what the page writes
        each["value"] = "flights" if each.get("value") in members and each["row"] in flights else each.get("value")
    decisions.write_text("".join(json.dumps(each) + "\n" for each in renamed))
    again = CliRunner().invoke(main, ["clean", str(out / "rows"), str(tmp_path / "named"), "--plan", str(out / PLAN)])
    assert again.exit_code == 0, again.output
    assert "flights" in {
        row["label"] for _, batch in read_dataset(tmp_path / "named").batches() for row in batch.to_pylist()
    }
    assert discover(tmp_path / "t.csv", out).exit_code == 0  # an earlier discovery is replaced


def test_labels_of_other_rows_and_a_given_number_of_groups(tmp_path: Path):
    known = dataset(tmp_path / "known", [{"text": form.format(when), "label": label} for label, forms in KNOWN.items()
                                         for form in forms for when in WHEN])  # fmt: skip
    rows = [{"text": form.format(when)} for forms in NEW.values() for form in forms for when in WHEN]
    out = tmp_path / "out"
    done = discover(dataset(tmp_path / "new", rows).path, out, "--known", known.path, "--groups", "2")
    assert done.exit_code == 0, done.output
    assert "56 rows: 2 groups, 0 rows in none" in done.output
    assert {row["label"] for _, batch in read_dataset(out / NAMED).batches() for row in batch.to_pylist()} == {
        each["name"] for each in groups(out)
    }


def test_where_all_rows_have_a_label_the_agreement_is_measured(tmp_path: Path):
    rows = [{"text": form.format(when), "label": label} for label, forms in {**KNOWN, **NEW}.items() for form in forms
            for when in WHEN]  # fmt: skip
    done = discover(dataset(tmp_path / "in", rows).path, tmp_path / "out", "--groups", "4")
    assert done.exit_code == 0, done.output
    assert "nmi" in done.output
    assert "accuracy" in done.output


def test_an_intent_bundle_sorts_out_what_fits(tmp_path: Path):
    texts = [f"what is the weather like in paris {when}" for when in WHEN]
    texts += [f"my hamster ate the blue crayons {when}" for when in WHEN]
    texts += [f"the choir sings old sea shanties {when}" for when in WHEN]
    found = dataset(tmp_path / "in", [{"text": text} for text in texts])
    out = tmp_path / "out"
    done = discover(found.path, out, "--bundle", PROJECT_ROOT / "models" / "intent", "--groups", "2")
    assert done.exit_code == 0, done.output
    assert "fit a label that the model knows" in done.output
    labels = [row["label"] for _, batch in read_dataset(out / NAMED).batches() for row in batch.to_pylist()]
    assert labels[:7].count("weather") >= 5
    assert "weather" not in labels[7:]


def test_photos_are_grouped_too(tmp_path: Path):
    photos = class_folders(tmp_path / "photos", count=10)
    out = tmp_path / "out"
    done = discover(photos, out, "--groups", "3")
    assert done.exit_code == 0, done.output
    assert "accuracy 1.000" in done.output
    assert "data:image/jpeg;base64" in (out / PAGE).read_text() or '"thumbs":{"0"' in (out / PAGE).read_text()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["t.csv", "out"], "1 rows have no label"),
        (["far.csv", "out", "--least", "40"], "no group was found"),
        (["t.csv", "full"], "something else than a discovery"),
        (["none.csv", "out"], "there is nothing at"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path: Path, args: list[str], said: str):
    (tmp_path / "t.csv").write_text("text,label\nhello,a\nbye,b\nmore,\n")
    (tmp_path / "far.csv").write_text("text\n" + "".join(f"word{i} thing{i * i}\n" for i in range(30)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    done = discover(*(tmp_path / name for name in args[:2]), *args[2:])
    assert done.exit_code == 2
    assert said in done.output
