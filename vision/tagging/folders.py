"""Folders of photos: which files are photos, which split each is in, and what its label is.

The names of folders say it, as in torchvision's ImageFolder and Hugging Face's imagefolder, and in the forms that sets
are found in: splits above classes or below them, folders around the set, folders below the classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import DataError
from shared.sources.files import walk
from shared.sources.splits import splits_in
from shared.sources.tables import Row, as_text, open_table
from vision.images import PHOTO_SUFFIXES, UNREADABLE_SUFFIXES

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_IGNORED_FILES = frozenset({"thumbs.db", "desktop.ini", *METADATA})
Folders = tuple[str, ...]
"""The folders that a photo is in, from the set's own down."""


@dataclass(frozen=True)
class Photo:
    """A file and what its folders, or a metadata file, say of it."""

    path: Path
    split: str
    labels: list[str] | None
    """None if nothing says it."""


@dataclass
class PhotoFolder:
    """A set of photos in a folder."""

    photos: list[Photo] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """(reason, line) of each file that is not used."""
    notes: list[str] = field(default_factory=list)
    """How the folders were understood, one line each."""


def is_photo_folder(place: Path) -> bool:
    """Whether this is a folder without parquet files that hold the photos themselves."""
    return place.is_dir() and not any(file.suffix == ".parquet" and file.name not in METADATA for file in walk(place))


def read_folder(root: Path) -> PhotoFolder:
    """Return the photos of a folder with their splits and labels.

    Raises:
        DataError: there is no photo, or it cannot be told which folders are splits and which are labels.
    """
    found = PhotoFolder()
    files, metadata = [], []
    for file in walk(root):
        suffix = file.suffix.lower()
        if suffix in PHOTO_SUFFIXES:
            files.append(file)
        elif file.name in METADATA:
            metadata.append(file)
        elif suffix in UNREADABLE_SUFFIXES:
            found.left_out.append((UNREADABLE_SUFFIXES[suffix], str(file.relative_to(root))))
        elif file.name.lower() not in _IGNORED_FILES:
            found.left_out.append(("files that are no photos", str(file.relative_to(root))))
    if not files:
        seen = ", ".join(f"{count} {reason}" for reason, count in Counter(r for r, _ in found.left_out).items())
        raise DataError(
            f"{root} holds no photos that can be read ({seen or 'nothing at all'}): expected class folders, "
            "metadata.jsonl, or parquet files."
        )
    files.sort(key=str)  # the seed's meaning depends on the order
    names = {file: file.relative_to(root).parts[:-1] for file in files}
    if metadata:
        _by_metadata(root, names, metadata, found)
    else:
        _by_folders(root, names, found)
    return found


def _by_folders(root: Path, names: Mapping[Path, Folders], found: PhotoFolder) -> None:
    depth, splits, strangers = _split_level(root, list(names.values()))
    below: dict[Path, Folders] = {}
    split_of: dict[Path, str] = {}
    for file, folders in names.items():
        if splits and (len(folders) <= depth or folders[depth] in strangers):
            found.left_out.append(("photos outside of the splits", str(file.relative_to(root))))
            continue
        split_of[file] = splits[folders[depth]] if splits else "train"
        below[file] = folders[depth + bool(splits) :]
    levels = _label_levels(
        {split: [below[f] for f in below if split_of[f] == split] for split in set(split_of.values())}
    )
    inner = {} if splits else _inner_splits(root, [(f[levels["train"] :]) for f in below.values()])
    labelled: list[tuple[Path, str, str, Folders]] = []
    for file, folders in below.items():
        rest = folders[levels[split_of[file]] :]
        if not rest:
            found.left_out.append(("photos without a class folder", str(file.relative_to(root))))
        else:
            split = inner[rest[1]] if inner else split_of[file]
            labelled.append((file, split, rest[0], rest[1 + bool(inner) :]))
    if not labelled:
        raise DataError(
            f"{root}: all {len(names)} photos are loose. Put those of each label into a folder called like it, or add "
            "a metadata.jsonl with file_name and label."
        )
    found.photos += [Photo(file, split, [label]) for file, split, label, _ in labelled]
    found.notes += _told(splits or inner, [split for _, split, _, _ in labelled])
    deeper = sorted({"/".join((label, *rest)) for _, _, label, rest in labelled if rest})
    if deeper:
        found.notes.append(
            f"labels are the {len({label for _, _, label, _ in labelled})} folders such as {labelled[0][2]!r}; the "
            f"{len(deeper)} folders below them ({', '.join(deeper[:3])}{', …' if len(deeper) > 3 else ''}) say nothing"
        )


def _split_level(root: Path, dirs: Sequence[Folders]) -> tuple[int, dict[str, str], set[str]]:
    """Return the depth of the folders that are splits, folder -> split, and folders beside them without a label.

    Raises:
        DataError: a folder is called like a split, and others beside it have photos of their own.
    """
    depth = 0
    while True:
        firsts = {folders[depth] for folders in dirs if len(folders) > depth}
        splits = splits_in(sorted(firsts))
        others = firsts - set(splits)
        if splits and not others:
            return depth, splits, set()
        if splits:
            has_labels = {name: _has_labels(dirs, depth, name) for name in firsts}
            if not any(has_labels[name] for name in others) and any(has_labels[name] for name in splits):
                return depth, splits, others
            raise DataError(
                f"{root}: the folder {'/'.join((*dirs[0][:depth], min(splits)))} is called like the split "
                f"{splits[min(splits)]!r}, but beside it there are photos in {', '.join(sorted(others)[:5])} too. "
                "If it is a label, rename it (`label_names` can rename the label back); if it is a split, move the "
                "others into a folder called train."
            )
        if len(firsts) != 1 or any(len(folders) <= depth + 1 for folders in dirs):
            return 0, {}, set()
        depth += 1


def _has_labels(dirs: Sequence[Folders], depth: int, name: str) -> bool:
    """Whether a folder has several folders of photos below it."""
    below = {folders[depth + 1 :] for folders in dirs if folders[depth : depth + 1] == (name,)}
    return len(below - {()}) > 1


def _label_levels(groups: Mapping[str, Sequence[Folders]]) -> dict[str, int]:
    """Return split -> depth of the first folder that has others beside it; that is the label."""
    main = max(groups, key=lambda split: (split == "train", len(groups[split])), default=None)
    if main is None:
        return {}
    levels = {main: _first_with_siblings(groups[main])}
    labels = {folders[levels[main]] for folders in groups[main] if len(folders) > levels[main]}
    for split, dirs in groups.items():
        if split != main:  # one label alone in a split has no sibling there, and is known by the others
            deepest = max(map(len, dirs))
            levels[split] = max(
                range(max(1, deepest)),
                key=lambda depth: sum(len(f) > depth and f[depth] in labels for f in dirs),
            )
    return levels


def _first_with_siblings(dirs: Sequence[Folders]) -> int:
    depth = 0
    while len({folders[depth : depth + 1] for folders in dirs}) == 1 and all(len(f) > depth + 1 for f in dirs):
        depth += 1
    return depth


def _inner_splits(root: Path, dirs: Sequence[Folders]) -> dict[str, str]:
    """Return folder -> split where each label's folder holds splits; nothing where it holds anything else.

    Raises:
        DataError: some hold splits and others do not.
    """
    seconds = {folders[1] for folders in dirs if len(folders) > 1}
    splits = splits_in(sorted(seconds))
    if len(set(splits.values())) < 2:
        return {}
    plain = sorted({f[0] for f in dirs if f and (len(f) < 2 or f[1] not in splits)})
    if not plain:
        return splits
    raise DataError(
        f"{root}: some labels have folders {', '.join(splits)}, but {', '.join(plain[:5])} has photos outside of them. "
        "Put all photos of a label into such folders, or none."
    )


def _told(splits: Mapping[str, str], used: Iterable[str]) -> list[str]:
    if not splits:
        return []
    counts = Counter(used)
    parts = []
    for split in ("train", "val", "test"):
        folders = sorted(name for name, meant in splits.items() if meant == split)
        if folders and counts[split]:
            parts.append(f"{split} from {', '.join(folders)} ({counts[split]:,})")
        elif folders:
            parts.append(f"nothing for {split}: the photos in {', '.join(folders)} have no label")
    return [f"splits: {'; '.join(parts)}"]


def _by_metadata(root: Path, names: Mapping[Path, Folders], metadata: Sequence[Path], found: PhotoFolder) -> None:
    """Read the labels in metadata files as Hugging Face's imagefolder has them: `file_name` is relative to the file."""
    depth, splits, strangers = _split_level(root, list(names.values())) if _has_split_folders(names) else (0, {}, set())
    waiting = dict(names)
    used = []
    for table in map(open_table, metadata):
        found.notes += table.notes
        for number, row in enumerate(table.checked_rows(), start=1):
            name = as_text(row.get("file_name"))
            if name is None:
                raise DataError(f"{table.path} row {number} has no `file_name`; its columns are {', '.join(row)}.")
            file = table.path.parent / name
            folders = waiting.pop(file, None)
            if folders is None:
                reason = "named twice in metadata" if file in names else "named in metadata, but not there"
                found.left_out.append((reason, name))
                continue
            split = _stored_split(row, table.path, number)
            if split is None and splits and len(folders) > depth and folders[depth] not in strangers:
                split = splits[folders[depth]]
            used.append(split or "train")
            found.photos.append(Photo(file, split or "train", _labels_in(row, table.path)))
    found.left_out += [("photos that metadata does not name", str(file.relative_to(root))) for file in waiting]
    if not used:
        raise DataError(f"{root}: {metadata[0].name} names no photo that is there.")
    found.notes += _told(splits, used)


def _has_split_folders(names: Mapping[Path, Folders]) -> bool:
    firsts = {folders[0] for folders in names.values() if folders}
    return bool(firsts) and set(splits_in(sorted(firsts))) == firsts


def _stored_split(row: Row, table: Path, number: int) -> str | None:
    stored = as_text(row.get("split"))
    if stored is None:
        return None
    split = splits_in([stored]).get(stored)
    if split is None:
        raise DataError(f"{table} row {number}: the split {stored!r} is none of train, validation and test.")
    return split


def _labels_in(row: Row, table: Path) -> list[str] | None:
    """Return the labels of a row of metadata; None if it says nothing."""
    if "labels" in row:
        value = row["labels"]
        if isinstance(value, str) and value.strip():
            raise DataError(
                f"{table}: `labels` holds the text {value!r}; expected is a list. A CSV file cannot hold lists: use "
                "metadata.jsonl, or call the column `label` if each photo has one."
            )
        return None if not isinstance(value, list) else [text for each in value if (text := as_text(each)) is not None]
    if "label" not in row:
        raise DataError(f"{table} has no column `label` or `labels`; its columns are {', '.join(row)}.")
    label = as_text(row["label"])
    return None if label is None else [label]
