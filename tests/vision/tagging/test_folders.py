"""Folders of photos: the user's splits are kept and labels are the outer folders, or the run says what it sees."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from shared.errors import DataError
from vision.tagging.folders import PhotoFolder, read_folder


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"photo")
    return root


def found_in(folder: PhotoFolder, root: Path) -> dict[str, tuple[str, list[str] | None]]:
    return {str(photo.path.relative_to(root)): (photo.split, photo.labels) for photo in folder.photos}


def reasons(folder: PhotoFolder) -> Counter[str]:
    return Counter(reason for reason, _ in folder.left_out)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "valid", "test"),
        ("Training", "Validation", "Testing"),
        ("TRAIN", "dev", "TEST"),
        ("train", "eval", "testing"),
        ("train", "dev", "eval"),
        ("train_set", "val_set", "test_set"),
        ("seg_train", "seg_val", "seg_test"),
        ("1-train", "2-val", "3-test"),
        ("set/images/train", "set/images/val", "set/images/test"),
        ("train/train", "val/val", "test/test"),
        ("train2017", "val2017", "test2017"),
    ],
)
def test_splits_are_known_in_their_usual_spellings(tmp_path: Path, train: str, val: str, test: str):
    names = [f"{split}/{label}/1.jpg" for split in (train, val, test) for label in ("cat", "dog")]
    folder = read_folder(make(tmp_path, *names))
    assert Counter((photo.split, *(photo.labels or ())) for photo in folder.photos) == Counter(
        (split, label) for split in ("train", "val", "test") for label in ("cat", "dog")
    )
    assert len(folder.notes) == 1
    assert folder.notes[0].startswith("splits: train from")


def test_splits_below_the_classes_are_kept(tmp_path: Path):
    names = [f"{label}/{split}/1.jpg" for label in ("cat", "dog") for split in ("train", "test")]
    assert found_in(read_folder(make(tmp_path, *names)), tmp_path) == {
        "cat/train/1.jpg": ("train", ["cat"]), "cat/test/1.jpg": ("test", ["cat"]),
        "dog/train/1.jpg": ("train", ["dog"]), "dog/test/1.jpg": ("test", ["dog"])}  # fmt: skip


def test_splits_below_only_some_of_the_classes_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="dog has photos outside of them"):
        read_folder(make(tmp_path, "cat/train/1.jpg", "cat/test/2.jpg", "dog/3.jpg"))


@pytest.mark.parametrize("names", [("cat", "dog", "test"), ("cat", "dog", "train"), ("cat", "validation")])
def test_a_folder_called_like_a_split_among_classes_is_refused(tmp_path: Path, names: tuple[str, ...]):
    with pytest.raises(DataError, match=f"the folder {names[-1]} is called like the split"):
        read_folder(make(tmp_path, *(f"{name}/1.jpg" for name in names)))


def test_classes_with_the_word_for_a_split_in_them_are_classes(tmp_path: Path):
    folder = read_folder(make(tmp_path, "test tube/1.jpg", "train station/2.jpg", "eval kit/3.jpg"))
    assert {photo.split for photo in folder.photos} == {"train"}
    assert sorted(label for photo in folder.photos for label in photo.labels or ()) == [
        "eval kit", "test tube", "train station"]  # fmt: skip


def test_unlabelled_photos_beside_the_splits_are_left_out_and_counted(tmp_path: Path):
    root = make(
        tmp_path, "seg_train/seg_train/sea/1.jpg", "seg_train/seg_train/ice/2.jpg", "seg_test/seg_test/sea/3.jpg",
        "seg_test/seg_test/ice/4.jpg", "seg_pred/seg_pred/5.jpg",
    )  # fmt: skip
    folder = read_folder(make(root, "seg_pred/6.jpg"))
    assert Counter(photo.split for photo in folder.photos) == {"train": 2, "test": 2}
    assert reasons(folder) == {"photos outside of the splits": 2}


def test_an_unlabelled_test_split_is_said_to_be_nothing(tmp_path: Path):
    folder = read_folder(make(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "test/3.jpg"))
    assert {photo.split for photo in folder.photos} == {"train"}
    assert reasons(folder) == {"photos without a class folder": 1}
    assert "the photos in test have no label" in folder.notes[0]


def test_one_class_alone_in_a_split_is_known_by_the_others(tmp_path: Path):
    folder = read_folder(
        make(tmp_path, "train/cat/in/1.jpg", "train/dog/in/2.jpg", "test/cat/in/3.jpg", "test/cat/out/4.jpg")
    )
    assert {tuple(photo.labels or ()) for photo in folder.photos if photo.split == "test"} == {("cat",)}


def test_folders_below_the_classes_say_nothing_and_that_is_said(tmp_path: Path):
    names = [f"{label}/{place}/1.jpg" for label in ("hat", "shoes") for place in ("indoor", "outdoor")]
    folder = read_folder(make(tmp_path, *names))
    assert {label for photo in folder.photos for label in photo.labels or ()} == {"hat", "shoes"}
    assert "hat/indoor" in folder.notes[0]


def test_a_link_that_leads_back_up_ends(tmp_path: Path):
    make(tmp_path / "set", "cat/1.jpg", "dog/2.jpg")
    (tmp_path / "set" / "cat" / "up").symlink_to(tmp_path / "set", target_is_directory=True)
    assert len(read_folder(tmp_path / "set").photos) == 2


def test_what_is_no_photo_is_left_out_by_its_reason(tmp_path: Path):
    names = (
        "cat/1.jpg",
        "dog/1.JPEG",
        "dog/2.cr2",
        "dog/3.svg",
        "notes.txt",
        "cat/.hidden.jpg",
        "__MACOSX/cat/._1.jpg",
    )
    folder = read_folder(make(tmp_path, *names, "cat/Thumbs.db", "cat/.ipynb_checkpoints/1.jpg"))
    assert sorted(photo.path.name for photo in folder.photos) == ["1.JPEG", "1.jpg"]
    assert reasons(folder) == {
        "raw photos, which must be developed first": 1,
        "pictures of a kind that is not read": 1,
        "files that are no photos": 1,
    }


def test_a_folder_of_what_cannot_be_read_says_what_it_holds(tmp_path: Path):
    with pytest.raises(DataError, match="2 raw photos"):
        read_folder(make(tmp_path, "cat/1.nef", "dog/2.cr2"))


@pytest.mark.parametrize("metadata", ["train/metadata.csv", "metadata.csv"])
def test_metadata_says_the_labels_and_folders_the_splits(tmp_path: Path, metadata: str):
    root = make(tmp_path, "train/1.jpg", "train/2.jpg", "test/3.jpg", "test/4.jpg")
    if metadata == "metadata.csv":
        lines = ["train/1.jpg,007", "train/2.jpg,None", "test/3.jpg,007"]
    else:
        lines = ["1.jpg,007", "2.jpg,None", "9.jpg,007"]
        (root / "test/metadata.csv").write_text("file_name,label\n3.jpg,007\n")
    (root / metadata).write_text("\n".join(["file_name,label", *lines]))
    folder = read_folder(root)
    assert found_in(folder, root) == {
        "train/1.jpg": ("train", ["007"]),
        "train/2.jpg": ("train", ["None"]),
        "test/3.jpg": ("test", ["007"]),
    }
    assert reasons(folder)["photos that metadata does not name"] == 1
    assert reasons(folder)["named in metadata, but not there"] == (metadata != "metadata.csv")


def test_a_column_of_metadata_says_the_splits(tmp_path: Path):
    root = make(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    rows = [{"file_name": f"{n}.jpg", "labels": ["a", "b"][: n % 2 + 1], "split": s}
            for n, s in ((1, "train"), (2, "validation"), (3, "test"))]  # fmt: skip
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert found_in(read_folder(root), root) == {
        "1.jpg": ("train", ["a", "b"]), "2.jpg": ("val", ["a"]), "3.jpg": ("test", ["a", "b"])}  # fmt: skip
