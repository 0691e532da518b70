"""Collected photos: by folders, COCO, Pascal VOC and YOLO; what a dataset of them is good for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from scripts.main import main
from shared.errors import DataError
from tests.bundles import make_tagger_bundle
from tests.photos import class_folders, photo
from tests.shared.collecting.test_collect import left_out, rows, run

VOC = """<annotation><filename>{name}</filename><object><name>cat</name></object><object><name>dog</name></object>
<object><name>cat</name></object></annotation>"""


def write_photos(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        photo("red", seed, size=16).save(folder / name)


def labelled(place: Path, **spec: object) -> dict[str, object]:
    found = run(place, {"kind": "files", "path": "set"}, **spec)
    return {row["image"]["path"]: row["labels"] for row in rows(found)}


def test_class_folders_become_photos_with_labels(tmp_path: Path):
    class_folders(tmp_path / "photos", count=3)
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    done = run(tmp_path, {"kind": "files", "path": "photos"})
    found = rows(done)
    assert {row["label"] for row in found} == {
        folder.name for folder in (tmp_path / "photos").iterdir() if folder.is_dir()
    }
    first = found[0]
    assert first["image"]["bytes"] == (tmp_path / "photos" / first["label"] / first["image"]["path"]).read_bytes()
    assert [row["reason"] for row in left_out(done)] == ["files that are no photos"]


def test_loose_photos_have_no_label(tmp_path: Path):
    write_photos(tmp_path / "set", "a.png", "b.png")
    done = run(tmp_path, {"kind": "files", "path": "set"})
    assert [sorted(row) for row in rows(done)] == [["image"], ["image"]]


def test_coco_boxes_become_labels(tmp_path: Path):
    write_photos(tmp_path / "set" / "images", "a.png", "b.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}, {"id": 3, "file_name": "c.png"}],
        "categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": c} for c in (8, 7, 7)],
    }
    (tmp_path / "set" / "instances.json").write_text(json.dumps(content))
    assert labelled(tmp_path, max_left_out=0.5) == {"a.png": ["cat", "dog"], "b.png": []}


def test_a_coco_file_never_reads_photos_of_other_places(tmp_path: Path):
    write_photos(tmp_path / "set" / "images", "a.png")
    write_photos(tmp_path / "secret", "s.png")
    content = {
        "images": [{"id": 1, "file_name": "../secret/s.png"}, {"id": 2, "file_name": "a.png"}],
        "annotations": [],
    }
    (tmp_path / "set" / "instances.json").write_text(json.dumps(content))
    assert labelled(tmp_path, max_left_out=0.5) == {"a.png": []}


def test_voc_objects_become_labels_and_its_lists_splits(tmp_path: Path):
    write_photos(tmp_path / "set" / "JPEGImages", "a.png", "b.png")
    (tmp_path / "set" / "Annotations").mkdir()
    for name in "ab":
        (tmp_path / "set" / "Annotations" / f"{name}.xml").write_text(VOC.format(name=f"{name}.png"))
    (tmp_path / "set" / "Annotations" / "c.xml").write_text("<annotation")
    (tmp_path / "set" / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "set" / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    done = run(tmp_path, {"kind": "files", "path": "set"}, max_left_out=0.5)
    assert [row["labels"] for row in rows(done)] == [["cat", "dog"]] * 2
    assert done.dataset.info.splits == {"train": 1, "val": 1}
    assert left_out(done)[0]["reason"].startswith("is not XML")


def test_yolo_lines_become_labels_by_the_names_of_its_description(tmp_path: Path):
    for split in ("train", "val"):
        write_photos(tmp_path / "set" / "images" / split, f"{split}.png", f"{split}2.png")
        (tmp_path / "set" / "labels" / split).mkdir(parents=True)
        (tmp_path / "set" / "labels" / split / f"{split}.txt").write_text("1 0.5 0.5 1 1\n0 0.1 0.1 0.2 0.2\n")
    (tmp_path / "set" / "data.yaml").write_text("names: {0: cat, 1: dog}\n")
    (tmp_path / "set" / "labels" / "val" / "val2.txt").write_text("9 0.5 0.5 1 1\n")
    done = run(tmp_path, {"kind": "files", "path": "set"}, max_left_out=0.5)
    assert {row["image"]["path"]: row["labels"] for row in rows(done)} == {
        "train.png": ["cat", "dog"],
        "train2.png": [],
        "val.png": ["cat", "dog"],
    }
    assert done.dataset.info.splits == {"train": 2, "val": 1}
    assert "names the class '9', which data.yaml does not have" in left_out(done)[0]["reason"]


def test_an_empty_folder_is_refused(tmp_path: Path):
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="holds nothing that can be read"):
        labelled(tmp_path)


def test_a_dataset_is_shown_and_its_photos_are_tagged(tmp_path: Path):
    class_folders(tmp_path / "photos", count=2)
    path = run(tmp_path, {"kind": "files", "path": "photos"}).dataset.path
    shown = CliRunner().invoke(main, ["info", str(path)])
    assert shown.exit_code == 0
    assert "image (image), label (text)" in shown.output
    assert "as written" in shown.output
    assert json.loads(CliRunner().invoke(main, ["info", str(path), "--json"]).output)["name"] == "rows"
    bundle = make_tagger_bundle(tmp_path / "tagger").path
    words = ["batch", str(bundle), str(path), str(tmp_path / "tags"), "--workers", "1", "--keep", "label"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert f"{len(rows_of(path))} rows" in done.output


def rows_of(path: Path) -> list[object]:
    from shared.dataset.read import read_dataset

    return [row for _, batch in read_dataset(path).batches() for row in batch.to_pylist()]
