"""Sets of photos as people unpack and sort them: their splits, their labels and every class are kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import datasets
import pytest
from PIL import Image

from shared.errors import DataError
from tests.photos import jpeg, photo
from vision.tagging.data import split_examples
from vision.tagging.sources import Example, LoadedSource, Source, load_source

NUMBERS = iter(range(1_000_000))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def load(path: Path) -> LoadedSource:
    return load_source(Source(str(path)), 0, max_corrupt_share=0.0)


def put(folder: Path, label: str, count: int = 2) -> None:
    """Put photos into a folder, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in (next(NUMBERS) for _ in range(count)):
        (folder / f"{number:04}.jpg").write_bytes(jpeg(label, number))


def put_splits(root: Path, *splits: str) -> Path:
    for split in splits:
        for label in ("red", "blue"):
            put(root / split / label, label)
    return root


def of_splits(found: LoadedSource) -> Counter[str]:
    return Counter(example.split for example in found.examples)


def test_what_a_mac_packs_beside_the_splits_is_ignored(tmp_path: Path):
    root = put_splits(tmp_path / "set", "train", "valid", "test")
    for split in ("train", "valid", "test"):
        beside = root / "__MACOSX" / split / "red"
        beside.mkdir(parents=True)
        (beside / "._0001.jpg").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        ")
    found = load(root)
    assert of_splits(found) == {"train": 4, "val": 4, "test": 4}
    assert found.labels == ["blue", "red"]


def test_a_folder_without_photos_beside_the_splits_is_ignored(tmp_path: Path):
    root = put_splits(tmp_path / "set", "train", "valid", "test")
    (root / "annotations").mkdir()
    (root / "annotations" / "all.xml").write_text("<annotations/>")
    assert of_splits(load(root)) == {"train": 4, "val": 4, "test": 4}


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("Training", "Testing"), {"train": 4, "test": 4}),
        (("train", "eval"), {"train": 4, "val": 4}),
        (("seg_train/seg_train", "seg_test/seg_test"), {"train": 4, "test": 4}),
    ],
    ids=["Training-Testing", "train-eval", "seg_train"],
)
def test_usual_spellings_of_splits_are_known(tmp_path: Path, folders: tuple[str, ...], expected: dict[str, int]):
    found = load(put_splits(tmp_path / "set", *folders))
    assert of_splits(found) == expected
    assert found.labels == ["blue", "red"]


def test_the_label_of_nested_folders_is_the_outer_one(tmp_path: Path):
    for label in ("hat", "shoes"):
        for place in ("indoor", "outdoor"):
            put(tmp_path / "set" / label / place, "red")
    assert load(tmp_path / "set").labels == ["hat", "shoes"]


def test_class_folders_that_are_links_count(tmp_path: Path):
    (tmp_path / "set").mkdir()
    for label in ("red", "blue"):
        put(tmp_path / "elsewhere" / label, label)
        (tmp_path / "set" / label).symlink_to(tmp_path / "elsewhere" / label, target_is_directory=True)
    assert of_labels(load(tmp_path / "set")) == {"red": 2, "blue": 2}


def of_labels(found: LoadedSource) -> Counter[str]:
    return Counter(label for example in found.examples for label in example.labels)


@pytest.mark.parametrize(("suffix", "format_"), [(".tif", "TIFF"), (".tiff", "TIFF"), (".jfif", "JPEG")])
def test_photos_of_less_usual_kinds_are_read(tmp_path: Path, suffix: str, format_: str):
    for label in ("red", "blue"):
        folder = tmp_path / "set" / label
        folder.mkdir(parents=True)
        for number in range(2):
            picture: Image.Image = photo(label, number)
            picture.save(folder / f"{number}{suffix}", format_)
    assert of_labels(load(tmp_path / "set")) == {"red": 2, "blue": 2}


@pytest.mark.parametrize(
    "counts",
    [{"a": 95, "b": 5}, {"a": 60, "b": 4}, {"a": 5, "b": 5}, {"a": 1000, "b": 3}, {"b": 1000, "a": 3}],
    ids=lambda counts: ",".join(f"{label}={count}" for label, count in counts.items()),
)
def test_every_class_with_three_photos_reaches_validation_and_test(counts: dict[str, int]):
    labels = [label for label, count in counts.items() for _ in range(count)]
    examples = [Example(0, "train", row, (label,)) for row, label in enumerate(labels)]
    parts = split_examples(examples, val_share=0.1, test_share=0.1, seed=1)
    for name in ("train", "val", "test"):
        assert {example.labels[0] for example in parts[name]} == set(counts), name


def test_loose_photos_are_refused_with_what_is_expected(tmp_path: Path):
    put(tmp_path / "set", "red", count=4)
    with pytest.raises(DataError, match="label"):
        load(tmp_path / "set")


def test_unlabelled_test_photos_are_no_class(tmp_path: Path):
    for label in ("red", "blue"):
        put(tmp_path / "set" / "train" / label, label)
    put(tmp_path / "set" / "test", "green")
    assert load(tmp_path / "set").labels == ["blue", "red"]
