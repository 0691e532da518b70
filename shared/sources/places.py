"""Files of all kinds as rows: tables, photos, Rasa's and SQuAD's forms, annotations; in folders and archives too."""

from __future__ import annotations

import bz2
import errno
import glob
import gzip
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field

from shared.errors import ConfigError, DataError
from shared.sources import annotated
from shared.sources.files import walk
from shared.sources.rasa import RASA_SUFFIXES, has_examples, read_rasa
from shared.sources.splits import splits_in
from shared.sources.squad import squad_rows
from shared.sources.steps import Done, Found, SetAside, SourceSpec, Step
from shared.sources.stored import DATASET, has_split_column, split_column, splits_of, table_files
from shared.sources.tables import ERROR, SUFFIXES, TableForm, as_text, open_table, read_json
from shared.sources.tagged import TAGGED_SUFFIXES, read_tagged

STEP_ROWS = 5_000
STEP_PHOTOS = 50
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_PACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_MAX_ENTRIES = 2_000_000
_OF_DATASETS = (DATASET, "README.md", "left_out.parquet", "failed.jsonl", "fitted.json")
_COPY_BYTES = 1 << 20
_BROKEN = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError, EOFError,
           RuntimeError, zlib.error, lzma.LZMAError)  # fmt: skip
"""What readers of foreign formats raise at a file that is cut off or not what it is called."""
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


@dataclass(frozen=True)
class _Note:
    """What was recognised of a file and could be wrong."""

    text: str


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
            places = self._places(stack)
            named = splits_in(sorted({place.stem for place, _ in places if place.is_file()}), are_files=True)
            for place, shown in places:
                yield from self._place_steps(place, shown, before, named.get(place.stem) if place.is_file() else None)

    def _places(self, stack: ExitStack) -> list[tuple[Path, str]]:
        path = Path(self.spec.path).expanduser()
        pattern = str(path if path.is_absolute() else self.base / path)
        found = [Path(pattern)]
        if not found[0].exists():
            found = sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207 Path.glob takes no absolute ones
        if not found:
            raise ConfigError(f"there is nothing at {self.spec.path}. Paths are below the folder of the spec.")
        places = []
        for place in found:
            shown = place.relative_to(self.base).as_posix() if place.is_relative_to(self.base) else place.name
            if place.is_file() and place.name.lower().endswith(_ARCHIVES):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="percept-unpacked-")))
                unpack(place, folder, int(self.spec.max_unpacked_gb * (1 << 30)))
                places.append((folder, shown))
            else:
                places.append((place, shown))
        return places

    def _place_steps(
        self, place: Path, shown: str, before: dict[str, dict[str, Any]], split: str | None
    ) -> Iterator[Step]:
        for name, stat, items, size in self._units(place, shown, split):
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
                step.notes = [item.text for item in taken if isinstance(item, _Note)]
                step.found = [item for item in taken if isinstance(item, Found)]
                step.set_aside = [item for item in taken if isinstance(item, SetAside)]
                rows += len(taken)
                step.cursor = {"file": name, "stat": stat, "rows": rows, "is_whole": len(taken) < size}
                yield step
                if len(taken) < size:
                    return
        except (DataError, OSError, *_BROKEN) as error:
            said = str(error) if isinstance(error, DataError | OSError) else (
                f"{name} cannot be read: it is damaged, or not what it is called ({type(error).__name__}: {error})"
            )  # fmt: skip
            cursor = {"file": name, "stat": stat, "rows": rows, "is_whole": False}
            yield Step(key=f"{name}#{rows}", failed=said, cursor=cursor, group=name)

    def _units(self, place: Path, shown: str, split: str | None) -> Iterator[tuple[str, Any, Iterator[Any], int]]:
        """Yield (name, what changes with the content, rows and what is none, how many of these make a step)."""
        if place.is_dir():
            whole = self._folder(place)
            if whole is not None:
                yield shown, None, whole, STEP_PHOTOS
                return
        suffixes = (*SUFFIXES, *RASA_SUFFIXES, *TAGGED_SUFFIXES)
        files = table_files(place, suffixes) if place.is_dir() else [place]
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
        split_of: dict[Path, str | None] = {place: split}
        if place.is_dir():
            split_of = dict.fromkeys(files)
            examples = [file for file in files if file.suffix.lower() in RASA_SUFFIXES and has_examples(file)]
            for alike in ([file for file in files if file.suffix.lower() not in RASA_SUFFIXES], examples):
                if alike and not self.spec.split:
                    split_of |= splits_of(place, alike)
        for file in files:
            relative = file.relative_to(place).as_posix() if place.is_dir() else ""
            name = f"{shown}/{relative}" if relative else shown
            stat = [file.stat().st_size, file.stat().st_mtime_ns]
            yield name, stat, self._file(file, name, split_of[file]), STEP_ROWS

    def _folder(self, place: Path) -> Iterator[Any] | None:
        """Return the rows of a folder that is one set as a whole; None where each file is a table."""
        if annotated.is_voc(place):
            return annotated.voc_rows(place)
        if annotated.is_yolo(place):
            return annotated.yolo_rows(place, self.photo_suffixes)
        found = [file for file in walk(place) if file.suffix.lower() in (".json", *self.photo_suffixes)]
        if not any(file.suffix.lower() in self.photo_suffixes for file in found):
            return None
        marked = [file for file in found if file.suffix.lower() == ".json"]
        coco = {file: content for file in marked if annotated.is_coco(content := read_json(file))}
        tables = [file for file in table_files(place) if file.suffix.lower() != ".json" and file.stem != "metadata"]
        if tables and not coco:
            raise DataError(f"{place.name} holds photos and tables, such as {tables[0].name}: collect one of these, "
                            f"with a path such as {place.name}/{tables[0].name}, or move the tables away.")  # fmt: skip
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

    def _file(self, file: Path, name: str, split: str | None) -> Iterator[Any]:
        if file.suffix.lower() in self.photo_suffixes:
            yield Found({"image": {"bytes": file.read_bytes(), "path": file.name}}, name, split)
        elif file.suffix.lower() in RASA_SUFFIXES:
            yield from self._rasa(file, name, split)
        elif file.suffix.lower() in TAGGED_SUFFIXES:
            for named, rows in read_tagged(file).splits.items():
                yield from (Found(row, f"{name} example {i}", split or named) for i, row in enumerate(rows, start=1))
        elif file.suffix.lower() in _PACKED:
            yield from self._packed(file, name, split)
        else:
            yield from self._table(file, name, split)

    def _rasa(self, file: Path, name: str, split: str | None) -> Iterator[Any]:
        if not has_examples(file):
            yield SetAside(name, "has no section `nlu:`, so no examples of intents", is_malformed=False)
            return
        stored = read_rasa(file)
        yield from map(_Note, stored.notes)
        if stored.synonyms or stored.lookups:
            yield _Note(f"{name}: synonyms and lookups are not collected; train on the file itself for them")
        for named, rows in stored.splits.items():
            for number, row in enumerate(rows, start=1):
                yield Found(row, f"{name} example {number}", split or named)
        for reason, line in stored.left_out:
            yield SetAside(name, f"{reason}: {line}")

    def _packed(self, file: Path, name: str, split: str | None) -> Iterator[Any]:
        with tempfile.TemporaryDirectory(prefix="percept-unpacked-") as folder:
            unpacked = Path(folder, file.stem)
            with _PACKED[file.suffix.lower()](file, "rb") as packed, unpacked.open("wb") as plain:
                _copy(packed, plain, int(self.spec.max_unpacked_gb * (1 << 30)), file.name)
            yield from self._file(
                unpacked, name, split or splits_in([unpacked.stem], are_files=True).get(unpacked.stem)
            )

    def _table(self, file: Path, name: str, split: str | None) -> Iterator[Any]:
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
                yield from (Found(row, f"{name} question {row.get('id') or i}", split) for i, row in enumerate(rows))
                return
        table = open_table(file, self.spec.table)
        yield from map(_Note, table.notes)
        may_split = split is None and has_split_column(table.columns)
        column, meaning = split_column(file, table.rows()) if may_split else (None, {})
        is_of_dataset = (file.parent.parent / DATASET).is_file()
        for number, row in enumerate(table.rows(), start=1):
            if ERROR in row:
                yield SetAside(f"{name} row {number}", str(row[ERROR]), {k: v for k, v in row.items() if k != ERROR})
            else:
                named = meaning.get(as_text(row.get(column))) if column is not None else None
                yield Found(row, f"{name} row {number}", named or split, is_of_dataset=is_of_dataset)


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
    except (zipfile.BadZipFile, tarfile.TarError, *_BROKEN) as error:
        raise DataError(f"{archive.name} cannot be unpacked: {error}. Pack it again, without a password.") from error


def _check_entries(archive: Path, entries: Sequence[tuple[str, int]], max_bytes: int, count: int = 0) -> None:
    if max(count, len(entries)) > _MAX_ENTRIES:
        raise DataError(f"{archive.name} holds more than {_MAX_ENTRIES:,} files.")
    if sum(size for _, size in entries) > max_bytes:
        raise DataError(f"{archive.name} would be larger than {max_bytes / (1 << 30):.3g} GB. Raise max_unpacked_gb.")
    twice = next((name for name, count in Counter(name for name, _ in entries).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{archive.name} holds two files called {twice!r}: only one could be read. Rename one of them.")
    for name, _ in entries:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{archive.name} has a file {name!r}, which would be outside of it.")


def _put(packed: Any, folder: Path, name: str, max_bytes: int, shown: str) -> int:
    target = folder.joinpath(*PurePosixPath(name.replace("\\", "/")).parts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        opened = target.open("wb")
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(f"{shown} has {name!r} as a file and as a folder. Pack it again.") from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise DataError(f"{shown} has a file whose name is too long for this disk: {name[:60]!r}….") from error
    with opened as plain:
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
