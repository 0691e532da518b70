import csv
import gc
import io
import json
import shutil
from pathlib import Path

import datasets
import pytest
from PIL import Image

from shared.dataset.columns import to_table
from shared.dataset.layout import LEFT_OUT
from shared.dataset.write import write_dataset
from shared.errors import DataError
from tests.photos import class_folders, jpeg
from vision.images import open_photo
from vision.tagging.sources import LoadedSource, Source, load_source


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def load(path: Path | str, max_corrupt_share: float = 0.0, **options) -> LoadedSource:
    return load_source(Source(str(path), **options), 0, max_corrupt_share=max_corrupt_share)


def test_class_folders_give_one_label_each(tmp_path):
    found = load(class_folders(tmp_path / "photos", count=4))
    assert found.labels == ["blue", "green", "red"]
    assert found.is_single_label
    assert len(found.examples) == 12
    assert {e.split for e in found.examples} == {"train"}


def test_stored_splits_are_kept(tmp_path):
    for i, split in enumerate(("train", "val", "test")):
        for label in ("red", "blue"):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            (folder / "a.jpg").write_bytes(jpeg(label, i))
    found = load(tmp_path / "photos")
    assert sorted(e.split for e in found.examples) == ["test", "test", "train", "train", "val", "val"]


def test_metadata_jsonl_gives_several_labels(tmp_path):
    rows = [{"file_name": "a.jpg", "labels": ["red", "blue"]}, {"file_name": "b.jpg", "labels": ["red"]}]
    for number, row in enumerate(rows):
        (tmp_path / str(row["file_name"])).write_bytes(jpeg("red", number))
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found = load(tmp_path)
    assert not found.is_single_label
    assert [e.labels for e in found.examples] == [("blue", "red"), ("red",)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # datasets leaves metadata.csv open
def test_metadata_csv_gives_a_label(tmp_path):
    with (tmp_path / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["file_name", "label"], ["a.jpg", "red"], ["b.jpg", "blue"]])
    (tmp_path / "a.jpg").write_bytes(jpeg("red", 0))
    (tmp_path / "b.jpg").write_bytes(jpeg("blue", 0))
    assert [e.labels for e in load(tmp_path).examples] == [("red",), ("blue",)]
    gc.collect()  # so that the file is found here and not in another test


def test_parquet_with_an_image_column_is_read(tmp_path):
    table = datasets.Dataset.from_dict(
        {"image": [{"bytes": jpeg("red", 0), "path": None}, {"bytes": jpeg("blue", 0), "path": None}],
         "label": ["red", "blue"]}
    )  # fmt: skip
    table.to_parquet(tmp_path / "train.parquet")
    found = load(tmp_path / "train.parquet")
    assert found.labels == ["blue", "red"]
    assert found.read(found.examples[0]) == jpeg("red", 0)


def test_of_a_cleaned_dataset_the_rows_are_read_and_not_what_was_left_out(tmp_path):
    rows = [
        {
            "image": {"bytes": jpeg("red", n), "path": None},
            "label": "red",
            **dict.fromkeys(("_source", "_place", "_time", "_licence"), "x"),
        }
        | {"_sha256": f"{n:064}"}
        for n in range(6)
    ]
    columns = {"image": "image"} | dict.fromkeys(("label", *(n for n in rows[0] if n.startswith("_"))), "text")
    parts = [("train", to_table(rows[:4], columns)), ("test", to_table(rows[4:], columns))]
    gone = {"_source": "x", "_place": "row 9", "step": "decide", "reason": "decided: broken", "row": {"label": "red"}}
    write_dataset(tmp_path / "set", parts, name="set", columns=columns, history=[], left_out=[gone])
    found = load(tmp_path / "set")
    assert (tmp_path / "set" / LEFT_OUT).exists()
    assert sorted(example.split for example in found.examples) == ["test", "test", *["train"] * 4]
    assert found.labels == ["red"]


def test_label_names_rename_and_merge(tmp_path):
    folder = class_folders(tmp_path / "photos", count=2)
    (tmp_path / "names.yaml").write_text("red: warm\ngreen: cold\nblue: cold\n")
    assert load(folder, label_names=str(tmp_path / "names.yaml")).labels == ["cold", "warm"]


def test_a_label_without_a_name_is_named(tmp_path):
    folder = class_folders(tmp_path / "photos", count=2)
    (tmp_path / "names.yaml").write_text("red: warm\n")
    with pytest.raises(DataError, match=r"no entry for '(green|blue)'"):
        load(folder, label_names=str(tmp_path / "names.yaml"))


def test_corrupt_files_are_named_and_skipped(tmp_path):
    folder = class_folders(tmp_path / "photos", count=5)
    (folder / "red" / "000.jpg").write_bytes(jpeg("red", 0)[:300])
    (folder / "red" / "001.jpg").write_bytes(b"")
    found = load(folder, max_corrupt_share=0.2)
    assert len(found.examples) == 13
    assert len(found.skipped) == 2
    assert "000.jpg" in found.skipped[0]


def test_too_many_corrupt_files_stop_the_run(tmp_path):
    folder = class_folders(tmp_path / "photos", count=5)
    (folder / "red" / "000.jpg").write_bytes(b"not a photo")
    with pytest.raises(DataError, match=r"1 of 15 photos cannot be decoded(.|\n)*000\.jpg"):
        load(folder, max_corrupt_share=0.05)


def test_exact_duplicates_are_left_out_and_contradictions_named(tmp_path):
    folder = class_folders(tmp_path / "photos", count=3)
    shutil.copy(folder / "red" / "000.jpg", folder / "red" / "copy.jpg")
    shutil.copy(folder / "red" / "001.jpg", folder / "blue" / "copy.jpg")
    found = load(folder)
    assert len(found.examples) == 9
    assert any("labelled ('blue',) there" in line for line in found.skipped)


def test_the_fingerprint_follows_photos_and_labels_not_file_names(tmp_path):
    first = load(class_folders(tmp_path / "a", count=3))
    other = class_folders(tmp_path / "b", count=3)
    (other / "red" / "000.jpg").rename(other / "red" / "zzz.jpg")
    assert load(other).fingerprint == first.fingerprint
    (other / "red" / "zzz.jpg").rename(other / "blue" / "zzz.jpg")
    assert load(other).fingerprint != first.fingerprint


@pytest.mark.parametrize("path", ["/nowhere/at/all", "./nowhere", "nowhere/"])
def test_a_missing_folder_says_what_to_give(path: str):
    with pytest.raises(DataError, match=r"does not exist\. Give a folder"):
        load(path)


def test_a_folder_without_photos_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DataError, match="holds no photos"):
        load(tmp_path)


def test_split_words_in_the_names_of_photos_and_classes_mean_nothing(tmp_path):
    for label in ("bullet-train", "car", "test bench"):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for i, name in enumerate(("a.jpg", "test_1.jpg", "train_2.jpg")):
            (folder / name).write_bytes(jpeg("red", len(label) * 10 + i))
    found = load(tmp_path / "photos")
    assert found.labels == ["bullet-train", "car", "test bench"]
    assert len(found.examples) == 9
    assert {e.split for e in found.examples} == {"train"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as above
def test_several_labels_in_a_csv_cell_are_refused_instead_of_taken_for_one(tmp_path):
    (tmp_path / "metadata.csv").write_text('file_name,labels\na.jpg,"cat,sofa"\n')
    (tmp_path / "a.jpg").write_bytes(jpeg("red", 0))
    with pytest.raises(DataError, match="expected is a list"):
        load(tmp_path)
    gc.collect()


def test_a_photo_that_takes_more_memory_than_a_service_has_is_still_one_to_train_on():
    stream = io.BytesIO()
    Image.new("RGB", (5000, 4000)).save(stream, "WEBP", lossless=True, method=0)  # 320 MB to decode
    assert open_photo(stream.getvalue(), 64).width == 5000
