"""`percept predict`: photos in, tags out; a bad file is named and does not stop the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from scripts.main import main
from shared.bundle.read import Bundle
from tests.bundles import make_tagger_bundle
from tests.pictures import truncated_jpeg

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """red.png, sub/green.jpg, sub/deep/blue.PNG, and what is no photo."""
    places = {"red": "red.png", "green": "sub/green.jpg", "blue": "sub/deep/blue.PNG"}
    for name, place in places.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), COLOURS[name]).save(tmp_path / place)
    (tmp_path / "notes.txt").write_text("not a photo")
    (tmp_path / ".hidden.png").write_bytes(b"")
    return tmp_path


def predict(bundle: Bundle, *args: str | Path) -> Result:
    return CliRunner().invoke(main, ["predict", str(bundle.path), "--device", "cpu", *map(str, args)])


def lines(result: Result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_folders_are_searched_and_each_photo_gets_its_tags(tagger_bundle: Bundle, photos: Path):
    result = predict(tagger_bundle, photos)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"{photos}/red.png  cat 0.98",
        f"{photos}/sub/deep/blue.PNG  car 0.98",
        f"{photos}/sub/green.jpg  dog 0.98",
    ]


def test_json_has_an_object_a_line_with_scores_and_parents(tmp_path: Path, photos: Path):
    bundle = make_tagger_bundle(tmp_path / "bundle", parents={"cat": ["animal"], "animal": ["thing"]})
    [found] = lines(predict(bundle, photos / "red.png", "--json", "--top-k", "1"))
    assert found["file"] == f"{photos}/red.png"
    [tag] = found["tags"]
    assert tag["label"] == "cat"
    assert tag["score"] == pytest.approx(0.982, abs=1e-3)
    assert tag["parents"] == ["animal", "thing"]


def test_bad_files_are_named_do_not_stop_the_others_and_set_the_exit_status(tagger_bundle: Bundle, photos: Path):
    bad = {"truncated.jpg": truncated_jpeg(), "empty.png": b"", "text.jpg": b"hello"}
    for name, content in bad.items():
        (photos / name).write_bytes(content)
    result = predict(tagger_bundle, *(photos / name for name in bad), photos / "missing.png", photos / "red.png")
    assert result.exit_code == 1
    assert result.stdout == f"{photos}/red.png  cat 0.98\n"
    errors = result.stderr.splitlines()
    assert [line.split(":")[0] for line in errors[:-1]] == [f"{photos}/{name}" for name in (*bad, "missing.png")]
    assert errors[-1] == "4 of 5 inputs could not be answered."


def test_bad_files_are_errors_in_json_too(tagger_bundle: Bundle, photos: Path):
    result = predict(tagger_bundle, photos / "missing.png", photos / "red.png", "--json")
    assert result.exit_code == 1
    missing, red = lines(result)
    assert "cannot be read: No such file" in missing["error"]
    assert red["tags"][0]["label"] == "cat"


def test_min_score_replaces_the_thresholds(tagger_bundle: Bundle, photos: Path):
    [found] = lines(predict(tagger_bundle, photos / "red.png", "--json", "--min-score", "0"))
    assert [tag["label"] for tag in found["tags"]] == ["cat", "dog", "car"]


def test_a_photo_without_a_tag_is_a_normal_answer(tagger_bundle: Bundle, tmp_path: Path):
    Image.new("RGB", (40, 30), "gray").save(tmp_path / "grey.png")
    result = predict(tagger_bundle, tmp_path / "grey.png")
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path}/grey.png  (no tag)\n"


def test_a_folder_without_photos_is_an_error(tagger_bundle: Bundle, tmp_path: Path):
    result = predict(tagger_bundle, tmp_path)
    assert result.exit_code == 2
    assert f"no photo was found in {tmp_path}" in result.stderr


def test_no_file_is_a_usage_error(tagger_bundle: Bundle):
    result = predict(tagger_bundle)
    assert result.exit_code == 2
    assert "Missing argument" in result.stderr
