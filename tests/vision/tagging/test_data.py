from __future__ import annotations

import shutil
from collections import Counter

import datasets
import numpy as np
import pytest
import torch

from shared.errors import ConfigError, DataError
from tests.photos import class_folders
from vision.tagging.data import PlainPhotos, TaggingData, TrainingPhotos, split_examples
from vision.tagging.sources import Example, Source


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def data(tmp_path) -> TaggingData:
    found = TaggingData(str(class_folders(tmp_path / "photos")), image_size_px=32, train_size_px={0: 24, 2: 32})
    found.setup()
    return found


def two_sets(tmp_path, **options) -> TaggingData:
    class_folders(tmp_path / "warm", ["red", "grey"])
    class_folders(tmp_path / "cold", ["blue", "green"])
    (tmp_path / "taxonomy.yaml").write_text("red: colour\nblue: colour\ngreen: colour\n")
    found = TaggingData(
        [Source(str(tmp_path / "warm"), **options), Source(str(tmp_path / "cold"), repeat=2)],
        taxonomy=str(tmp_path / "taxonomy.yaml"),
        image_size_px=32,
    )
    found.setup()
    return found


def test_one_label_a_photo_is_seen_from_the_data(data: TaggingData):
    assert data.problem_type == "single_label_classification"
    assert data.labels == ["blue", "green", "red"]
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 29, "val": 3, "test": 4}


def test_several_sets_are_trained_together_with_unknown_labels(tmp_path):
    data = two_sets(tmp_path)
    assert data.problem_type == "multi_label_classification"
    assert data.labels == ["blue", "colour", "green", "grey", "red"]
    warm = next(e for e in data.splits["train"] if e.labels == ("red",))
    cold = next(e for e in data.splits["train"] if e.labels == ("blue",))
    assert data.targets(warm).tolist() == [-1, 1, -1, 0, 1]
    assert data.targets(cold).tolist() == [1, 1, 0, -1, -1]


def test_a_set_that_covers_all_says_no_to_the_labels_of_others(tmp_path):
    data = two_sets(tmp_path, covers="all", unknown=["green"], unknown_with={"colour": ["grey"]})
    warm = next(e for e in data.splits["train"] if e.labels == ("red",))
    grey = next(e for e in data.splits["train"] if e.labels == ("grey",))
    assert data.targets(warm).tolist() == [0, 1, -1, -1, 1]
    assert data.targets(grey).tolist() == [0, 0, -1, 1, 0]


def test_an_unknown_label_that_nobody_has_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="purple"):
        two_sets(tmp_path, covers="all", unknown=["purple"])


def test_repeat_shows_photos_more_often(tmp_path):
    data = two_sets(tmp_path)
    warm, cold = (sum(e.source == i for e in data.splits["train"]) for i in (0, 1))
    data.num_workers = 0
    assert len(data.train_dataloader().dataset) == warm + 2 * cold  # type: ignore[arg-type]


def test_validation_photos_pass_the_serving_preprocessor_and_nothing_else(data: TaggingData):
    example = data.splits["val"][0]
    item = PlainPhotos(data, [example])[0]
    np.testing.assert_array_equal(item["pixel_values"].numpy(), data.preprocessor(data.open_image(example)))
    assert item["targets"].sum() == 1


def test_augmentation_follows_from_seed_epoch_and_photo_alone(data: TaggingData):
    first = TrainingPhotos(data, data.splits["train"], epoch=2)
    again = TrainingPhotos(data, data.splits["train"], epoch=2)
    other = TrainingPhotos(data, data.splits["train"], epoch=3)
    later, earlier = first[5]["pixel_values"], first[4]["pixel_values"]
    torch.rand(3)
    assert torch.equal(again[4]["pixel_values"], earlier)
    assert torch.equal(again[5]["pixel_values"], later)
    assert not torch.equal(other[5]["pixel_values"], later)


def test_training_size_follows_the_epoch(data: TaggingData):
    shapes = [tuple(TrainingPhotos(data, data.splits["train"], e)[0]["pixel_values"].shape) for e in (0, 1, 2, 9)]
    assert shapes == [(3, 24, 24), (3, 24, 24), (3, 32, 32), (3, 32, 32)]


def test_the_balanced_sampler_draws_rare_labels_as_often(tmp_path):
    class_folders(tmp_path / "photos", ["red"], count=60)
    class_folders(tmp_path / "photos", ["blue"], count=6)
    data = TaggingData(str(tmp_path / "photos"), image_size_px=16, num_workers=0, balance="sampler", augment="none")
    data.setup()
    drawn = torch.cat([batch["targets"] for batch in data.train_dataloader()])
    assert 0.3 < drawn[:, 0].mean() < 0.7


def test_one_label_alone_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    class_folders(tmp_path / "photos" / "train", ["red"])
    with pytest.raises(DataError):
        TaggingData(str(tmp_path / "photos"), image_size_px=16).setup()


def test_shares_that_leave_nothing_to_train_on_are_refused():
    with pytest.raises(ConfigError, match="add up to less than 1"):
        TaggingData("photos", val_share=0.6, test_share=0.4)


def test_a_photo_of_two_sets_is_never_trained_on_in_one_and_tested_on_in_the_other(tmp_path):
    first = class_folders(tmp_path / "first", ["red", "grey"], count=40)
    shutil.copytree(first, tmp_path / "second")
    class_folders(tmp_path / "second", ["blue"], count=7)  # so that the second set is divided in another way
    data = TaggingData([Source(str(first)), Source(str(tmp_path / "second"))], image_size_px=32, seed=3)
    data.setup()
    digests = {
        name: {data.sources[e.source].digests[e.split, e.row] for e in part} for name, part in data.splits.items()
    }
    assert all(data.splits.values())
    assert not digests["test"] & (digests["train"] | digests["val"])
    assert not digests["val"] & digests["train"]


def test_without_a_validation_photo_the_run_does_not_start(tmp_path):
    data = TaggingData(str(class_folders(tmp_path / "photos")), image_size_px=32, val_share=0.0)
    data.setup()
    with pytest.raises(DataError, match="raise val_share"):
        data.train_dataloader()


EXAMPLES = [
    Example(0, "train", row, (label,)) for row, label in enumerate(["a"] * 100 + ["b"] * 30 + ["c"] * 5 + ["d"])
]


def test_shares_are_kept_in_each_label():
    parts = split_examples(EXAMPLES, val_share=0.1, test_share=0.2, seed=1)
    test = Counter(e.labels[0] for e in parts["test"])
    assert (test["a"], test["b"], test["c"]) == (20, 6, 1)
    assert len(parts["test"]) == 27
    assert len(parts["val"]) == 11


def test_every_photo_is_in_one_part():
    parts = split_examples(EXAMPLES, val_share=0.1, test_share=0.2, seed=1)
    assert sorted(e.row for part in parts.values() for e in part) == list(range(len(EXAMPLES)))


def test_the_seed_decides_and_nothing_else():
    first = split_examples(EXAMPLES, val_share=0.1, test_share=0.2, seed=1)
    assert first == split_examples(EXAMPLES, val_share=0.1, test_share=0.2, seed=1)
    assert first["test"] != split_examples(EXAMPLES, val_share=0.1, test_share=0.2, seed=2)["test"]


def test_the_test_part_does_not_depend_on_the_val_share():
    first = split_examples(EXAMPLES, val_share=0.1, test_share=0.2, seed=1)
    assert first["test"] == split_examples(EXAMPLES, val_share=0.3, test_share=0.2, seed=1)["test"]


def test_a_label_with_one_photo_stays_in_train():
    parts = split_examples(EXAMPLES, val_share=0.4, test_share=0.4, seed=3)
    assert any(e.labels == ("d",) for e in parts["train"])


def test_splits_that_the_data_brings_are_honoured():
    stored = [Example(0, "train", i, ("a",)) for i in range(20)] + [Example(0, "test", i, ("a",)) for i in range(3)]
    parts = split_examples(stored, val_share=0.1, test_share=0.5, seed=1)
    assert [len(parts[name]) for name in ("train", "val", "test")] == [18, 2, 3]


def test_labels_with_a_single_photo_take_nothing_from_others():
    singles = [Example(0, "train", i, (f"rare {i:03}",)) for i in range(300)]
    zebras = [Example(0, "train", 300 + i, ("zebra",)) for i in range(40)]
    parts = split_examples(singles + zebras, val_share=0.1, test_share=0.1, seed=1)
    assert Counter(e.labels[0] for e in parts["train"])["zebra"] == pytest.approx(32, abs=2)
