"""`percept evaluate`: labelled photos in, metrics out, through the runtime that serves."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from scripts.main import main
from shared.bundle.read import Bundle
from shared.bundle.seen import SPLITS_FILE, Seen, seen_file
from shared.bundle.write import rewrite_bundle
from tests.bundles import make_tagger_bundle
from vision.tagging.data import TaggingData

# What the tiny bundle calls a photo of this colour; "plane" is yellow: halfway between cat and dog.
COLOURS = {"cat": (230, 20, 20), "dog": (20, 230, 20), "car": (20, 20, 230), "plane": (230, 230, 20)}
PHOTOS = 6


def fill(folder: Path, labels: dict[str, str]) -> Path:
    """Class folders of photos; `labels` maps a folder's name to the colour of its photos."""
    for label, colour in labels.items():
        (folder / label).mkdir(parents=True)
        for i in range(PHOTOS):
            red, green, blue = COLOURS[colour]
            image = Image.new("RGB", (40 + i, 40), (red, green, blue))
            image.putpixel((0, 0), (i, sum(label.encode()) % 256, 0))  # no two photos are the same
            image.save(folder / label / f"{i}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return fill(tmp_path / "photos", {name: name for name in ("cat", "dog", "car")})


def evaluate(tmp_path: Path, bundle: Bundle, *args: str | Path) -> Result:
    fixed = ["evaluate", str(bundle.path), "--device", "cpu", "--data.cache_dir", str(tmp_path / "cache")]
    return CliRunner().invoke(main, [*fixed, *map(str, args)])


def report(result: Result) -> dict:
    assert result.exit_code == 0, result.output
    found: dict = json.loads(result.stdout)
    return found


def test_a_perfect_bundle_gets_full_marks(tmp_path: Path, tagger_bundle: Bundle, photos: Path):
    found = report(evaluate(tmp_path, tagger_bundle, "--data.source", photos, "--split", "all", "--json"))
    assert found["overall"]["examples"] == 3 * PHOTOS
    assert found["sources"]["photos"]["top1"] == 1.0
    assert found["overall"]["micro_f1"] == 1.0
    assert found["model"]["name"] == "tiny-tagger"
    assert (found["left_out"], found["unknown_labels"]) == (0, {})


def test_wrong_labels_are_counted_as_wrong(tmp_path: Path, tagger_bundle: Bundle):
    mixed = fill(tmp_path / "mixed", {"cat": "cat", "dog": "car", "car": "car"})
    found = report(evaluate(tmp_path, tagger_bundle, "--data.source", mixed, "--split", "all", "--json"))
    assert found["sources"]["mixed"]["top1"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["confusions"] == [{"source": "mixed", "label": "dog", "given": "car", "count": PHOTOS, "of": PHOTOS}]


def test_labels_that_the_bundle_does_not_know_are_named_and_left_out(tmp_path: Path, tagger_bundle: Bundle):
    folder = fill(tmp_path / "photos", {name: name for name in COLOURS})
    args = ("--data.source", folder, "--split", "all")
    found = report(evaluate(tmp_path, tagger_bundle, *args, "--json"))
    assert found["left_out"] == PHOTOS
    assert found["unknown_labels"] == {"photos": {"plane": PHOTOS}}
    assert found["overall"]["examples"] == 3 * PHOTOS
    text = evaluate(tmp_path, tagger_bundle, *args).stdout
    assert f"photos: the bundle does not know plane ({PHOTOS})" in text
    assert f"{PHOTOS} photos were left out" in text


def test_a_bundle_that_knows_none_of_the_labels_is_an_error(tmp_path: Path, photos: Path):
    bundle = make_tagger_bundle(tmp_path / "bundle", ("x", "y"))
    result = evaluate(tmp_path, bundle, "--data.source", photos, "--split", "all")
    assert result.exit_code == 2
    assert "the bundle knows none of the labels" in result.stderr


def test_the_data_section_of_a_training_yaml_is_taken_and_options_win(
    tmp_path: Path, tagger_bundle: Bundle, photos: Path
):
    settings = tmp_path / "fit.yaml"
    names = tmp_path / "names.yaml"
    names.write_text("cat: dog\ndog: cat\ncar: car\n")
    data = {
        "source": [{"path": str(photos), "name": "swapped", "label_names": str(names), "licence": None}],
        "train_size_px": {0: 96, 4: 128},
        "taxonomy": None,
        "test_share": 0.5,
    }
    settings.write_text(yaml.safe_dump({"trainer": {"max_epochs": 3}, "model": {"lr": 1}, "data": data}))
    found = report(evaluate(tmp_path, tagger_bundle, "-c", settings, "--json"))
    assert found["split"] == "test"
    assert found["overall"]["examples"] == 3 * PHOTOS // 2
    assert found["sources"]["swapped"]["top1"] == pytest.approx(1 / 3, abs=1e-4)
    fewer = report(evaluate(tmp_path, tagger_bundle, "-c", settings, "--data.test_share", "0.2", "--json"))
    assert fewer["overall"]["examples"] < found["overall"]["examples"]


def test_the_bundles_taxonomy_adds_parents_to_the_photos_labels(tmp_path: Path, photos: Path):
    bundle = make_tagger_bundle(tmp_path / "bundle", parents={"cat": ["animal"], "dog": ["animal"]})
    found = report(evaluate(tmp_path, bundle, "--data.source", photos, "--split", "all", "--json"))
    rows = {row["label"]: row for row in found["per_label"]}
    assert (rows["animal"]["support"], rows["animal"]["known"]) == (2 * PHOTOS, 3 * PHOTOS)
    assert found["sources"]["photos"]["parents_map"] == 1.0


def test_table_shows_sets_metrics_and_quality(tmp_path: Path, tagger_bundle: Bundle, photos: Path):
    text = evaluate(tmp_path, tagger_bundle, "--data.source", photos, "--split", "all").stdout
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines() if line}
    assert rows["photos"][1:5] == ["18", "3", "1.000", "-"]
    assert "quality 1.000" in text
    assert "ONNX Runtime" in text


def test_contact_sheet_shows_the_most_wrong_photos(tmp_path: Path, tagger_bundle: Bundle):
    mixed = fill(tmp_path / "mixed", {"cat": "cat", "dog": "car"})
    sheet = tmp_path / "sheet.png"
    args = ("--data.source", mixed, "--split", "all", "--contact-sheet", sheet)
    assert evaluate(tmp_path, tagger_bundle, *args).exit_code == 0
    image = Image.open(io.BytesIO(sheet.read_bytes())).convert("RGB")
    assert image.getpixel((100, 100)) == COLOURS["car"]  # called a dog: the worst comes first


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Name the data with --data.source or a YAML with -c"),
        (["--data.source", "nowhere"], "nowhere"),
        (["--data.sorce", "photos"], "--data.sorce"),
        (["--data.source", "photos", "--split", "exam"], "exam"),
        (["--data.source", "photos", "--data.batch_size", "many"], "batch_size"),
        (["-c", "missing.yaml"], "no recipe missing.yaml"),
        (["-c"], "'-c' requires an argument"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, tagger_bundle: Bundle, monkeypatch, args: list[str], message: str):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    result = evaluate(tmp_path, tagger_bundle, *args)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_yaml_without_a_data_section_is_refused(tmp_path: Path, tagger_bundle: Bundle):
    path = tmp_path / "model.yaml"
    path.write_text("model: {lr: 1}\n")
    result = evaluate(tmp_path, tagger_bundle, "-c", path)
    assert result.exit_code == 2
    assert "has no `data:` section" in result.stderr


def test_an_empty_split_lists_the_sizes_of_the_others(tmp_path: Path, tagger_bundle: Bundle, photos: Path):
    result = evaluate(tmp_path, tagger_bundle, "--data.source", photos, "--data.test_share", "0")
    assert result.exit_code == 2
    assert "the split 'test' has no photo (train 15, val 3, test 0)" in result.stderr


def test_help_lists_the_datas_settings():
    result = CliRunner().invoke(main, ["evaluate", "--help"])
    assert result.exit_code == 0
    assert "--data.source" in result.stdout
    assert "--split [test|val|train|all]" in result.stdout


def with_splits(bundle: Bundle, photos: Path, path: Path, name: str = "photos") -> Bundle:
    """The bundle as if it had been trained on these photos, divided with seed 42 and the usual shares."""
    data = TaggingData(str(photos))
    data.setup()
    entry = data.sources[0].summary() | {"name": name}
    provenance = bundle.config.provenance.model_copy(update={"dataset": [entry]})
    config = bundle.config.model_copy(update={"provenance": provenance})
    return rewrite_bundle(
        bundle, path, config, onnx=bundle.file("model.onnx"), files={SPLITS_FILE: seen_file(data.digests())}
    )


def test_the_training_s_own_test_part_is_measured_whole(tmp_path: Path, tagger_bundle: Bundle, photos: Path):
    bundle = with_splits(tagger_bundle, photos, tmp_path / "bundle")
    result = evaluate(tmp_path, bundle, "--data.source", photos, "--json")
    assert result.exit_code == 0, result.output
    assert "has seen" not in result.stderr
    assert json.loads(result.stdout)["overall"]["examples"] == 3


def test_what_was_trained_on_is_never_called_test(tmp_path: Path, tagger_bundle: Bundle, photos: Path):
    bundle = with_splits(tagger_bundle, photos, tmp_path / "bundle")
    result = evaluate(tmp_path, bundle, "--data.source", photos, "--split", "all", "--json")
    assert result.exit_code == 0, result.output
    assert (
        "of 18 photos, the bundle has seen 15: 12 it was trained on and 3 it was validated on. They are left out; the "
        "other 3 are measured." in result.stderr
    )
    assert json.loads(result.stdout)["overall"]["examples"] == 3
    assert json.loads(result.stdout)["split"] == "all"


def test_divided_in_another_way_what_was_held_back_then_is_measured(
    tmp_path: Path, tagger_bundle: Bundle, photos: Path
):
    bundle = with_splits(tagger_bundle, photos, tmp_path / "bundle")
    seen = Seen(bundle)
    data = TaggingData(str(photos), seed=7)
    data.setup()
    counts = Counter(seen.split_of(digest) for digest in data.digests()["test"])
    assert counts["train"], "else there is nothing to see"
    result = evaluate(tmp_path, bundle, "--data.source", photos, "--data.seed", "7", "--json")
    assert result.exit_code == 0, result.output
    assert f"{counts['train']} it was trained on" in result.stderr
    assert json.loads(result.stdout)["overall"]["examples"] == 3


def test_where_all_was_trained_on_nothing_is_measured(tmp_path: Path, tagger_bundle: Bundle, photos: Path):
    data = TaggingData(str(photos))
    data.setup()
    everything = {"train": [digest for digests in data.digests().values() for digest in digests]}
    bundle = rewrite_bundle(
        tagger_bundle, tmp_path / "bundle", tagger_bundle.config, onnx=tagger_bundle.file("model.onnx"),
        files={SPLITS_FILE: seen_file(everything)},
    )  # fmt: skip
    result = evaluate(tmp_path, bundle, "--data.source", photos)
    assert result.exit_code == 2
    assert "Nothing is left to measure" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_copy_of_the_training_data_under_another_name_is_known(tmp_path: Path, tagger_bundle: Bundle, photos: Path):
    bundle = with_splits(tagger_bundle, photos, tmp_path / "bundle", name="elsewhere")
    result = evaluate(tmp_path, bundle, "--data.source", photos, "--split", "all", "--json")
    assert "has seen 15" in result.stderr


def test_a_bundle_that_does_not_say_what_it_has_seen_warns(tmp_path: Path, tagger_bundle: Bundle, photos: Path):
    bundle = with_splits(tagger_bundle, photos, tmp_path / "bundle")
    files = {name: file for name, file in bundle.config.files.items() if name != SPLITS_FILE}
    (bundle.path / SPLITS_FILE).unlink()
    config = bundle.config.model_copy(update={"files": files})
    (bundle.path / "config.json").write_text(config.model_dump_json())
    result = evaluate(tmp_path, bundle, "--data.source", photos, "--json")
    assert result.exit_code == 0, result.output
    assert "photos: the bundle was trained on a set of this name and does not say on which part" in result.stderr
