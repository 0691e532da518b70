"""Annotated photos and texts of other tools as rows: COCO, Pascal VOC, YOLO and Label Studio's export.

Boxes and outlines become tags: a photo has the label of everything that was marked in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lxml import etree

from shared.errors import DataError, shown
from shared.sources.files import walk
from shared.sources.splits import splits_in
from shared.sources.steps import Found, SetAside
from shared.sources.tables import Row, as_text

Item = Found | SetAside
_YOLO_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_PHOTO_FOLDERS = ("", "images", "JPEGImages", "../images", "../JPEGImages", "../../images")


def is_coco(content: Any) -> bool:
    """Whether this is COCO's JSON."""
    return isinstance(content, dict) and all(isinstance(content.get(k), list) for k in ("images", "annotations"))


def coco_rows(file: Path, content: Mapping[str, Any]) -> Iterator[Item]:
    """Yield a row of image and labels for each image.

    Source: https://cocodataset.org/#format-data
    """
    categories = [each for each in content.get("categories") or () if isinstance(each, dict)]
    names = {as_text(each.get("id")): str(each["name"]) for each in categories if "name" in each}
    labels: dict[str | None, set[str]] = {}
    unknown: dict[str | None, str] = {}
    for number, each in enumerate(content["annotations"]):
        if not isinstance(each, dict):
            yield SetAside(f"{file.name} annotation {number}", f"is {shown(each)}; expected an object")
            continue
        image_id, category = as_text(each.get("image_id")), as_text(each.get("category_id"))
        if category in names:
            labels.setdefault(image_id, set()).add(names[category])
        else:
            unknown[image_id] = f"is marked with the category {category}, which `categories` does not have"
    split = _split_of(file.stem)
    for number, image in enumerate(content["images"]):
        if not isinstance(image, dict):
            yield SetAside(f"{file.name} image {number}", f"is {shown(image)}; expected an object")
            continue
        name, image_id = str(image.get("file_name") or ""), as_text(image.get("id"))
        place = f"{file.name}: {name or image_id}"
        photo = _photo(file.parent, name)
        if photo is None:
            yield SetAside(place, f"its photo {name!r} is not below {file.parent.name} or beside it", image)
        elif image_id in unknown:
            yield SetAside(place, unknown[image_id], image)
        else:
            yield Found({"image": photo, "labels": sorted(labels.get(image_id, ()))}, place, split)


def is_voc(root: Path) -> bool:
    """Whether a folder has Pascal VOC's Annotations."""
    return any((root / "Annotations").glob("*.xml")) if root.is_dir() else False


def voc_rows(root: Path) -> Iterator[Item]:
    """Yield a row of image and labels for each file in Annotations.

    Source: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/
    """
    split_of = _voc_splits(root)
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    for file in sorted((root / "Annotations").glob("*.xml")):
        try:
            tree = etree.fromstring(file.read_bytes(), parser)
        except etree.XMLSyntaxError as error:
            yield SetAside(file.name, f"is not XML: {error}")
            continue
        name = (tree.findtext("filename") or "").strip() or f"{file.stem}.jpg"
        photo = _photo(root / "Annotations", name) or _photo(root / "Annotations", f"{file.stem}{Path(name).suffix}")
        if photo is None:
            yield SetAside(file.name, f"its photo {name!r} is not in JPEGImages")
            continue
        labels = {(each.findtext("name") or "").strip() for each in tree.iterfind("object")} - {""}
        yield Found({"image": photo, "labels": sorted(labels)}, file.name, split_of.get(file.stem))


def yolo_file(root: Path) -> Path | None:
    """Return the YAML of a YOLO folder, which has the names of the classes; None if there is none."""
    return next((root / name for name in _YOLO_FILES if (root / name).is_file()), None) if root.is_dir() else None


def is_yolo(root: Path) -> bool:
    """Whether a folder has YOLO's description and folders of labels, at its top or in one folder for each split."""
    return yolo_file(root) is not None and any(place.is_dir() for place in root.rglob("labels"))


def yolo_rows(root: Path, photo_suffixes: Sequence[str]) -> Iterator[Item]:
    """Yield a row of image and labels for each photo below `images`; one without a file in `labels` has none.

    Source: https://docs.ultralytics.com/datasets/detect/

    Raises:
        DataError: the YAML has no names.
    """
    description = yolo_file(root)
    assert description is not None
    try:
        content = yaml.safe_load(description.read_text(encoding="utf-8"))
        classes = content["names"]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise DataError(f"{description} has no `names` of classes, as YOLO's description has.") from error
    listed = classes.items() if isinstance(classes, dict) else enumerate(classes) if isinstance(classes, list) else ()
    names = {str(i): name for i, name in listed}
    wrong = next((name for name in names.values() if not isinstance(name, str | int)), None)
    if not names or wrong is not None:
        raise DataError(f"{description}: `names` is {shown(classes if wrong is None else wrong)}; expected a list of "
                        "the classes' names, or number: name.")  # fmt: skip
    names = {i: str(name) for i, name in names.items()}
    for photo in walk(root):
        relative = photo.relative_to(root)
        if photo.suffix.lower() not in photo_suffixes or "images" not in relative.parts:
            continue
        parts = list(relative.parts)
        place = len(parts) - 1 - parts[::-1].index("images")
        parts[place] = "labels"
        marks = root.joinpath(*parts).with_suffix(".txt")
        try:
            lines = marks.read_text(encoding="utf-8").split("\n") if marks.is_file() else []
            labels = {names[line.split()[0]] for line in lines if line.strip()}
        except (KeyError, UnicodeDecodeError) as error:
            named = marks.relative_to(root)
            yield SetAside(str(relative), f"{named} names the class {error}, which {description.name} does not have")
            continue
        split = next((found for part in relative.parts[:-1] if (found := _split_of(part))), None)
        yield Found({"image": _read(photo), "labels": sorted(labels)}, str(relative), split)


def is_label_studio(content: Any) -> bool:
    """Whether this is Label Studio's JSON export."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(each, dict) and isinstance(each.get("data"), dict) for each in content[:5])
        and any("annotations" in each for each in content[:5])
    )


def label_studio_rows(file: Path, tasks: Sequence[Any]) -> Iterator[Item]:
    """Yield a row of each task's data with its label or labels; spans as they are.

    Of several people's annotations the most frequent counts; where none is, the task is set aside.

    Source: https://labelstud.io/guide/export#Label-Studio-JSON-format-of-annotated-tasks
    """
    several = any(len(chosen) > 1 for task in tasks for chosen, _ in _annotations(task))
    for number, task in enumerate(tasks):
        place = f"{file.name} task {task.get('id', number)}" if isinstance(task, dict) else f"{file.name} task {number}"
        found = _annotations(task)
        if not found:
            yield SetAside(place, "has no annotation that was not skipped", task)
            continue
        votes = Counter(chosen for chosen, _ in found).most_common(2)
        if len(votes) > 1 and votes[0][1] == votes[1][1]:
            said = " and ".join(", ".join(labels) or "nothing" for labels, _ in votes)
            yield SetAside(place, f"its annotators disagree: {said}", task)
            continue
        chosen = votes[0][0]
        row: Row = dict(task["data"])
        for name in ("label", "labels"):
            if name in row:  # what the data said before anybody annotated it
                row[f"{name}_in_data"] = row.pop(name)
        photo = _photo(file.parent, Path(str(row["image"])).name) if isinstance(row.get("image"), str) else None
        if photo is not None:
            row["image"] = photo
        if several:
            row["labels"] = list(chosen)
        else:
            row["label"] = chosen[0] if chosen else None
        spans = next(spans for labels, spans in found if labels == chosen)
        if spans:
            row["spans"] = spans
        yield Found(row, place)


def _annotations(task: Any) -> list[tuple[tuple[str, ...], list[Any]]]:
    """Return (labels, spans) of each annotation that counts; of those marked as the truth alone, if any is."""
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        return []
    annotations = [each for each in task.get("annotations") or () if isinstance(each, dict)]
    kept = [each for each in annotations if not each.get("was_cancelled")]
    kept = [each for each in kept if each.get("ground_truth")] or kept
    found = []
    for each in kept:
        labels: list[str] = []
        spans = []
        for result in each.get("result") or ():
            value = result.get("value") if isinstance(result, dict) else None
            if not isinstance(value, dict):
                continue
            if "start" in value:
                spans.append(value)
            for key in ("choices", "rectanglelabels", "polygonlabels", "brushlabels", "labels"):
                if key != "labels" or "start" not in value:
                    given = value.get(key) or ()
                    given = given if isinstance(given, list | tuple) else [given]
                    labels += [text for each_label in given if (text := as_text(each_label))]
        found.append((tuple(sorted(set(labels))), spans))
    return found


def _photo(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the photo of that name in the places where these formats have them; never one outside of the set."""
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    return next((_read(folder / place / name) for place in _PHOTO_FOLDERS if (folder / place / name).is_file()), None)


def _read(photo: Path) -> dict[str, Any]:
    return {"bytes": photo.read_bytes(), "path": photo.name}


def _split_of(name: str) -> str | None:
    return splits_in([name], are_files=True).get(name)


def _voc_splits(root: Path) -> dict[str, str]:
    found = {}
    for split in ("train", "val", "test"):
        file = root / "ImageSets" / "Main" / f"{split}.txt"
        if file.is_file():
            found.update(
                {line.split()[0]: split for line in file.read_text("utf-8", "replace").splitlines() if line.strip()}
            )
    return found
