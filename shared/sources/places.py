"""Files of all kinds as rows: tables, photos, Rasa's and SQuAD's forms, annotations; in folders and archives too."""

from __future__ import annotations

import bz2
import glob
import gzip
import lzma
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field

from shared.errors import ConfigError, DataError
from shared.sources import annotated
from shared.sources.files import walk
from shared.sources.rasa import RASA_SUFFIXES, is_rasa, read_rasa
from shared.sources.splits import splits_in
from shared.sources.squad import squad_rows
from shared.sources.steps import Done, Found, SetAside, SourceSpec, Step
from shared.sources.stored import DATASET, table_files
from shared.sources.tables import ERROR, SUFFIXES, TableForm, as_text, open_table, read_json

STEP_ROWS = 5_000
STEP_PHOTOS = 50
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_PACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_MAX_ENTRIES = 2_000_000
_OF_DATASETS = (DATASET, "README.md", "left_out.parquet", "failed.jsonl", "fitted.json")
_COPY_BYTES = 1 << 20
PhotoFolder = Callable[[Path], tuple[Iterator[tuple[Path, str, list[str] | None]], list[tuple[str, str]]]]
"""A folder -> its photos as (file, split, labels), and (reason, file) of what is none."""


class FilesSpec(SourceSpec):
    """Files on this machine."""

    kind: Literal["files"]
    path: str
    """A file, a folder, a pattern such as raw/*.csv, or an archive (zip, tar); below the spec's folder if relative."""
    table: TableForm = Field(default_factory=TableForm)
    """How text files are written, where that cannot be recognised."""
    max_unpacked_gb: float = Field(default=20.0, gt=0)
    """Of an archive: a larger one is refused."""

    @property
    def place(self) -> str:
        return self.path


class FilesReader:
    """Reads files; a step is some of a file's rows, and a file that was read in part is read on."""

    resumes = True

    def __init__(self, spec: FilesSpec, base: Path, photos: PhotoFolder, photo_suffixes: Sequence[str]) -> None:
        self.spec, self.base, self.photos, self.photo_suffixes = spec, base, photos, tuple(photo_suffixes)

    def steps(self, done: Sequence[Done]) -> Iterator[Step]:
        """Yield the rows behind those that are done.

        Raises:
            ConfigError: there is nothing at the path.
            DataError: a file is another than when the first part of it was read.
        """
        before: dict[str, dict[str, Any]] = {each.cursor["file"]: each.cursor for each in done}
        with ExitStack() as stack:
            for place, shown in self._places(stack):
                yield from self._place_steps(place, shown, before)

    def _places(self, stack: ExitStack) -> Iterator[tuple[Path, str]]:
        path = Path(self.spec.path).expanduser()
        pattern = str(path if path.is_absolute() else self.base / path)
        found = [Path(pattern)]
        if not found[0].exists():
            found = sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207 Path.glob takes no absolute ones
        if not found:
            raise ConfigError(f"there is nothing at {self.spec.path}. Paths are below the folder of the spec.")
        for place in found:
            shown = place.relative_to(self.base).as_posix() if place.is_relative_to(self.base) else place.name
            if place.is_file() and place.name.lower().endswith(_ARCHIVES):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="percept-unpacked-")))
                unpack(place, folder, int(self.spec.max_unpacked_gb * (1 << 30)))
                yield folder, shown
            else:
                yield place, shown

    def _place_steps(self, place: Path, shown: str, before: dict[str, dict[str, Any]]) -> Iterator[Step]:
        for name, stat, items, size in self._units(place, shown):
            cursor = before.get(name)
            if cursor is not None and cursor["stat"] != stat:
                raise DataError(f"{name} was changed since the collection began. Start again with --restart.")
            if cursor is not None and cursor["is_whole"]:
                continue
            yield from self._unit_steps(name, stat, items, size, int(cursor["rows"]) if cursor else 0)

    def _unit_steps(self, name: str, stat: Any, items: Iterator[Any], size: int, rows: int) -> Iterator[Step]:
        try:
            skipped = sum(1 for _ in islice(items, rows))
            if skipped < rows:
                raise DataError(f"{name} has fewer rows than before. Start again with --restart.")
            while True:
                taken = list(islice(items, size))
                step = Step(key=f"{name}#{rows}", group=name)
                step.found = [item for item in taken if isinstance(item, Found)]
                step.set_aside = [item for item in taken if isinstance(item, SetAside)]
                rows += len(taken)
                step.cursor = {"file": name, "stat": stat, "rows": rows, "is_whole": len(taken) < size}
                yield step
                if len(taken) < size:
                    return
        except (DataError, OSError) as error:
            cursor = {"file": name, "stat": stat, "rows": rows, "is_whole": False}
            yield Step(key=f"{name}#{rows}", failed=str(error), cursor=cursor, group=name)

    def _units(self, place: Path, shown: str) -> Iterator[tuple[str, Any, Iterator[Any], int]]:
        """Yield (name, what changes with the content, rows and what is none, how many of these make a step)."""
        if place.is_dir():
            whole = self._folder(place)
            if whole is not None:
                yield shown, None, whole, STEP_PHOTOS
                return
        files = table_files(place, (*SUFFIXES, *RASA_SUFFIXES)) if place.is_dir() else [place]
        if place.is_dir():
            files += sorted(file for file in walk(place) if file.suffix.lower() in _PACKED)
        others = [f for f in walk(place) if f not in files and f.name not in _OF_DATASETS] if place.is_dir() else []
        if files and others:
            names = [file.relative_to(place).as_posix() for file in others]
            aside = (SetAside(name, "is neither a table nor a photo", is_malformed=False) for name in names)
            yield f"{shown}/", names, aside, STEP_ROWS
        if not files:
            raise DataError(
                f"{shown} holds nothing that can be read: expected photos, or tables ({', '.join(SUFFIXES)})."
            )
        for file in files:
            relative = file.relative_to(place).as_posix() if place.is_dir() else ""
            name = f"{shown}/{relative}" if relative else shown
            stat = [file.stat().st_size, file.stat().st_mtime_ns]
            yield name, stat, self._file(file, name), STEP_ROWS

    def _folder(self, place: Path) -> Iterator[Any] | None:
        """Return the rows of a folder that is one set as a whole; None where each file is a table."""
        if annotated.is_voc(place):
            return annotated.voc_rows(place)
        if annotated.yolo_file(place) is not None and (place / "labels").is_dir():
            return annotated.yolo_rows(place, self.photo_suffixes)
        found = [file for file in walk(place) if file.suffix.lower() in (".json", *self.photo_suffixes)]
        if not any(file.suffix.lower() in self.photo_suffixes for file in found):
            return None
        marked = [file for file in found if file.suffix.lower() == ".json"]
        coco = {file: content for file in marked if annotated.is_coco(content := read_json(file))}
        if coco:
            return (item for file, content in coco.items() for item in annotated.coco_rows(file, content))
        return self._photos(place)

    def _photos(self, place: Path) -> Iterator[Any]:
        photos, left_out = self.photos(place)
        for file, split, labels in photos:
            name = file.relative_to(place).as_posix()
            row: dict[str, Any] = {"image": {"bytes": file.read_bytes(), "path": file.name}}
            if labels is not None and len(labels) == 1:
                row["label"] = labels[0]
            elif labels is not None:
                row["labels"] = labels
            yield Found(row, name, split)
        for reason, name in left_out:
            yield SetAside(name, reason, is_malformed=(place / name).suffix.lower() in self.photo_suffixes)

    def _file(self, file: Path, name: str) -> Iterator[Any]:
        if file.suffix.lower() in self.photo_suffixes:
            yield Found({"image": {"bytes": file.read_bytes(), "path": file.name}}, name)
        elif file.suffix.lower() in RASA_SUFFIXES:
            yield from self._rasa(file, name)
        elif file.suffix.lower() in _PACKED:
            yield from self._packed(file, name)
        else:
            yield from self._table(file, name)

    def _rasa(self, file: Path, name: str) -> Iterator[Any]:
        if not is_rasa(file):
            raise DataError(f"{name} is not Rasa's training data.")
        stored = read_rasa(file)
        for split, rows in stored.splits.items():
            for number, row in enumerate(rows, start=1):
                yield Found(row, f"{name} example {number}", _split_named(file) or split)
        for reason, line in stored.left_out:
            yield SetAside(name, f"{reason}: {line}")

    def _packed(self, file: Path, name: str) -> Iterator[Any]:
        with tempfile.TemporaryDirectory(prefix="percept-unpacked-") as folder:
            unpacked = Path(folder, file.stem)
            with _PACKED[file.suffix.lower()](file, "rb") as packed, unpacked.open("wb") as plain:
                _copy(packed, plain, int(self.spec.max_unpacked_gb * (1 << 30)), file.name)
            yield from self._file(unpacked, name)

    def _table(self, file: Path, name: str) -> Iterator[Any]:
        if file.suffix.lower() not in SUFFIXES:
            raise DataError(f"{name} is no file that can be read: expected photos, or tables ({', '.join(SUFFIXES)}).")
        if file.suffix.lower() == ".json":
            content = read_json(file)
            if annotated.is_label_studio(content):
                yield from annotated.label_studio_rows(file, content)
                return
            if annotated.is_coco(content):
                yield from annotated.coco_rows(file, content)
                return
            rows = squad_rows(file, content)
            if rows is not None:
                split = _split_named(file)
                yield from (Found(row, f"{name} question {row.get('id') or i}", split) for i, row in enumerate(rows))
                return
        table = open_table(file, self.spec.table)
        split = _split_named(file)
        for number, row in enumerate(table.rows(), start=1):
            if ERROR in row:
                yield SetAside(f"{name} row {number}", str(row[ERROR]), {k: v for k, v in row.items() if k != ERROR})
            else:
                yield Found(row, f"{name} row {number}", _split_in(row) or split)


def unpack(archive: Path, folder: Path, max_bytes: int) -> None:
    """Unpack a zip or tar file: files below the folder alone, no links, and no more than so many bytes.

    Raises:
        DataError: it is broken, too large, or has files that would be elsewhere.
    """
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as opened:
                entries = [entry for entry in opened.infolist() if not entry.is_dir()]
                _check_entries(archive, [(entry.filename, entry.file_size) for entry in entries], max_bytes)
                left = max_bytes
                for entry in entries:
                    with opened.open(entry) as packed:
                        left -= _put(packed, folder, entry.filename, left, archive.name)
        else:
            with tarfile.open(archive) as opened_tar:
                left = max_bytes
                for count, member in enumerate(opened_tar, start=1):
                    _check_entries(archive, [(member.name, member.size)], left, count)
                    content = opened_tar.extractfile(member) if member.isfile() else None
                    if content is not None:
                        left -= _put(content, folder, member.name, left, archive.name)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, lzma.LZMAError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{archive.name} cannot be unpacked: {error}. Pack it again, without a password.") from error


def _check_entries(archive: Path, entries: Sequence[tuple[str, int]], max_bytes: int, count: int = 0) -> None:
    if max(count, len(entries)) > _MAX_ENTRIES:
        raise DataError(f"{archive.name} holds more than {_MAX_ENTRIES:,} files.")
    if sum(size for _, size in entries) > max_bytes:
        raise DataError(f"{archive.name} would be larger than {max_bytes / (1 << 30):.3g} GB. Raise max_unpacked_gb.")
    for name, _ in entries:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{archive.name} has a file {name!r}, which would be outside of it.")


def _put(packed: Any, folder: Path, name: str, max_bytes: int, shown: str) -> int:
    target = folder.joinpath(*PurePosixPath(name.replace("\\", "/")).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as plain:
        return _copy(packed, plain, max_bytes, shown)


def _copy(packed: Any, plain: Any, max_bytes: int, shown: str) -> int:
    """Copy what is unpacked; headers may say less than there is."""
    size = 0
    while chunk := packed.read(_COPY_BYTES):
        size += len(chunk)
        if size > max_bytes:
            raise DataError(f"{shown} would be larger than {max_bytes / (1 << 30):.3g} GB. Raise max_unpacked_gb.")
        plain.write(chunk)
    return size


def _split_named(file: Path) -> str | None:
    return splits_in([file.stem], are_files=True).get(file.stem)


def _split_in(row: dict[str, Any]) -> str | None:
    named = as_text(row.get("split"))
    return splits_in([named]).get(named) if named else None
