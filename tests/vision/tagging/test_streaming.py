"""Sets that are streamed: what is kept, what an epoch shows, and that the same is learned from as without streaming."""

from __future__ import annotations

import hashlib
import random
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from shared.errors import ConfigError, DataError
from tests.photos import jpeg, parquet_files
from vision.tagging.data import TaggingData
from vision.tagging.sources import Source, image_bytes
from vision.tagging.streaming import _drawn, _photos, _shared, _train_table


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def load(path: object, **options: Any) -> TaggingData:
    given = {"image_size_px": 32, "batch_size": 8, "num_workers": 0, "augment": "none", "shuffle_buffer": 16}
    data = TaggingData([Source(str(path))], **(given | options))
    data.setup()
    return data


def shown(data: TaggingData, rank: int = 0, world: int = 1, epoch: int = 0) -> Counter[str]:
    """Return how often an epoch shows each photo; what is shown is told by its pixels."""
    data.trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank, world_size=world)  # type: ignore[assignment]
    return Counter(
        hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
        for batch in data.train_dataloader()
        for pixels in batch["pixel_values"]
    )


@pytest.fixture
def set_of_photos(tmp_path: Path) -> Path:
    return parquet_files(tmp_path / "set")


def test_what_is_streamed_is_what_is_read_otherwise(set_of_photos: Path, tmp_path: Path, cache: Path):
    plain, streamed = load(set_of_photos), load(set_of_photos, stream=True)
    assert streamed.sources[0].fingerprint == plain.sources[0].fingerprint
    assert streamed.splits == plain.splits
    for name in ("val", "test"):
        pairs = zip(plain.plain_dataloader(name), streamed.plain_dataloader(name), strict=True)
        assert all(torch.equal(a["pixel_values"], b["pixel_values"]) for a, b in pairs)
    uri = load((tmp_path / "set").as_uri(), stream=True)
    assert uri.splits == plain.splits


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 2), (9, 0), (2, 0), (3, 0), (2, 2), (7, 2)])
def test_an_epoch_shows_the_training_photos_and_no_others(set_of_photos: Path, world: int, workers: int):
    data = load(set_of_photos, stream=True, num_workers=workers)
    train = len(data.splits["train"])
    parts = [shown(data, rank, world) for rank in range(world)]
    assert {part.total() for part in parts} == {train // world // 8 * 8}, "or processes would wait for each other"
    held_out = {
        hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
        for loader in (data.plain_dataloader("val"), data.plain_dataloader("test"))
        for batch in loader
        for pixels in batch["pixel_values"]
    }
    everything = sum(parts, Counter())
    assert not held_out & everything.keys()
    # Workers have files of their own, of which one may have a few photos fewer than its share of the batches.
    assert len(everything) > 0.8 * everything.total()


def test_order_changes_with_the_epoch_and_follows_from_the_seed(set_of_photos: Path):
    data = load(set_of_photos, stream=True)

    def order(epoch: int) -> list[float]:
        data.trainer = SimpleNamespace(current_epoch=epoch, global_rank=0, world_size=1)  # type: ignore[assignment]
        return [float(pixels.mean()) for batch in data.train_dataloader() for pixels in batch["pixel_values"]]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert sorted(order(0)) != order(0)


def test_targets_and_augmentation_are_those_of_the_photo(set_of_photos: Path):
    data = load(set_of_photos, stream=True, augment="crop")
    for batch in data.train_dataloader():
        # Each photo has mostly the colour of its label: the strongest channel says which it is.
        strongest = batch["pixel_values"].mean(dim=(2, 3)).argmax(dim=1)
        named = [("red", "green", "blue")[channel] for channel in strongest]
        assert [data.labels[int(row.argmax())] for row in batch["targets"]] == named


def test_several_sets_come_in_proportion(tmp_path: Path):
    few, many = parquet_files(tmp_path / "few", 1, 30), parquet_files(tmp_path / "many", 3, 60, "part-{}.parquet")
    data = TaggingData(
        [Source(str(few), repeat=2), Source(str(many))], image_size_px=32, batch_size=8, num_workers=0, stream=True
    )
    data.setup()
    sources = torch.cat([batch["source"] for batch in data.train_dataloader()])
    examples = Counter(example.source for example in data.splits["train"])
    expected = 2 * examples[0] / (2 * examples[0] + examples[1])
    assert abs(float((sources == 0).float().mean()) - expected) < 0.12


def test_only_what_validates_and_tests_and_measures_int8_is_kept(tmp_path: Path, cache: Path, monkeypatch):
    monkeypatch.setattr("vision.tagging.data.REPRESENTATIVE_PHOTOS", 5)
    data = load(parquet_files(tmp_path / "set"), stream=True)
    kept = list(cache.rglob("percept-held/*/*"))
    assert list(cache.rglob("*.arrow")) == []
    assert len(kept) == len(data.splits["val"]) + len(data.splits["test"]) + 5
    before = {file: file.stat().st_mtime_ns for file in kept}
    load(tmp_path / "set", stream=True)
    assert {file: file.stat().st_mtime_ns for file in kept} == before
    source = data.sources[0]
    names = {file.name for file in kept}
    unkept = [e for e in data.splits["train"] if source.digests[e.split, e.row] not in names]
    with pytest.raises(DataError, match=r"set data\.stream to false"):
        data.open_image(unkept[0])


def test_stored_splits_of_a_stream_are_kept(tmp_path: Path):
    parquet_files(tmp_path / "set", 2)
    parquet_files(tmp_path / "set", 1, 40, "validation-{}.parquet")
    data = load(tmp_path / "set", stream=True)
    # Ten of the 40 are photos of no training file; the others stand in both, and count where they validate.
    assert {name: len(part) for name, part in data.splits.items()}["val"] == 40
    digests = {name: {data.sources[0].digests[e.split, e.row] for e in part} for name, part in data.splits.items()}
    assert not digests["val"] & digests["train"]
    assert shown(data).total() == len(data.splits["train"]) // 8 * 8


def test_what_a_stream_cannot_do_is_said(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"data\.balance"):
        TaggingData("photos", stream=True, balance="sampler")
    with pytest.raises(ConfigError, match=r"data\.shuffle_buffer"):
        TaggingData("photos", stream=True, shuffle_buffer=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no parquet files"):
        load((tmp_path / "empty").as_uri(), stream=True)


def test_a_photo_that_is_gone_before_it_is_kept_is_named(set_of_photos: Path, monkeypatch):
    load(set_of_photos, stream=True)
    for file in Path(datasets.config.HF_DATASETS_CACHE).rglob("percept-held/*/*"):
        file.unlink()
    monkeypatch.setattr("vision.tagging.streaming._photos", lambda *_: iter([]))
    with pytest.raises(DataError, match="changed while it was read"):
        load(set_of_photos, stream=True)


def test_pixels_of_a_streamed_photo_are_those_of_the_plain_one(set_of_photos: Path):
    plain, streamed = load(set_of_photos), load(set_of_photos, stream=True)
    wanted = {
        hashlib.sha256(np.ascontiguousarray(plain.preprocessor(plain.open_image(e))).tobytes()).hexdigest()
        for e in plain.splits["train"]
    }
    assert shown(streamed).keys() <= wanted


def test_alone_an_epoch_shows_each_photo_once(set_of_photos: Path):
    data = load(set_of_photos, stream=True, batch_size=1)
    times = shown(data)
    assert (len(times), set(times.values())) == (len(data.splits["train"]), {1})


@pytest.mark.parametrize("readers", [1, 2, 5, 12, 13, 30])
def test_readers_share_all_rows_evenly(set_of_photos: Path, readers: int):
    table = _train_table(load(set_of_photos, stream=True).sources[0])
    assert table.num_shards == 12
    parts = [
        [row["image"]["bytes"] for row in _shared(table, random.Random(3), random.Random(reader), reader, readers)]
        for reader in range(readers)
    ]
    rows = [row for part in parts for row in part]
    assert (len(rows), len(set(rows))) == (120, 120)
    assert max(map(len, parts)) <= 2 * min(map(len, parts))


def test_a_photo_that_lies_there_often_is_not_shown_more_often(tmp_path: Path):
    folder = parquet_files(tmp_path / "set", 2)
    copy = {"image": {"bytes": jpeg("grey", 0), "path": None}, "label": "red"}
    rows = pa.Table.from_pylist([copy] * 200)
    pyarrow.parquet.write_table(rows, folder / "train-again.parquet", row_group_size=20)
    data = load(folder, stream=True, val_share=0.1, test_share=0.0, batch_size=1)
    assert sum(count for _, count in shown(data).most_common(1)) <= 8
    assert len(shown(data)) > 0.85 * len(data.splits["train"])


def test_photos_in_an_archive_are_read(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "photo.zip", "w") as archive:
        archive.writestr("red/1.jpg", jpeg("red", 1))
    assert image_bytes({"bytes": None, "path": f"zip://red/1.jpg::{tmp_path / 'photo.zip'}"}) == jpeg("red", 1)


def test_a_store_that_goes_away_is_no_broken_photo():
    gone = [{"image": {"bytes": None, "path": "/nowhere/1.jpg"}}]
    assert list(_photos(gone, broken=1)) == []
    with pytest.raises(FileNotFoundError):
        list(_photos(gone, broken=0))


def test_the_buffer_holds_so_many_photos_and_so_many_bytes():
    read = 0

    def photos() -> Iterator[tuple[int, bytes]]:
        nonlocal read
        for number in range(40):
            read += 1
            yield number, b"x" * 10

    for most, most_bytes, held in ((8, 10_000, 8), (1000, 65, 7)):
        read = 0
        drawn = []
        for place, _ in _drawn(photos(), most, most_bytes, random.Random(1)):
            assert read - len(drawn) <= held
            drawn.append(place)
        assert sorted(drawn) == list(range(40))
        assert drawn != sorted(drawn)
