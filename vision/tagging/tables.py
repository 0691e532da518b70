"""Photos with their labels as tables: folders, metadata files, parquet and hub sets, read by `datasets`.

Neighbour: `sources` checks the rows and names the labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, cast

import datasets
import fsspec
import pyarrow.dataset

from shared.batch.inputs import is_uri
from shared.errors import DataError

SPLIT_NAMES = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}
_ROWS_AT_ONCE = 8
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}
Table: TypeAlias = "datasets.Dataset | datasets.IterableDataset"
"""The second kind is a stream: its rows are read one after the other, and none is kept."""


def load_tables(path: str, cache_dir: str | None, *, stream: bool = False) -> dict[str, Table]:
    """Return stored split -> table with an `image` column of (bytes, path).

    Args:
        path: a folder, a parquet file, the URI of one or of what lies above some, or the name of a hub set.
        cache_dir: where `datasets` copies what is not a stream.
        stream: do not copy.

    Raises:
        DataError: nothing is there, it cannot be read, or a split or the image column has a name that is not known.
    """
    place = Path(path).expanduser()
    load: dict[str, Any] = {"streaming": True} if stream else {"cache_dir": cache_dir}
    # A reader holds a few rows, and no whole row group.
    pages = pyarrow.dataset.ParquetFragmentScanOptions(use_buffered_stream=True, buffer_size=1 << 20, pre_buffer=False)
    parquet = load | {"batch_size": _ROWS_AT_ONCE, "fragment_scan_options": pages} if stream else load
    try:
        if is_uri(path):
            loaded = datasets.load_dataset("parquet", data_files=_stored_parquet_files(path), **parquet)
        elif place.is_dir() and not any(place.rglob("*.parquet")):
            if not any(p.suffix.lower() in PHOTO_SUFFIXES for p in place.rglob("*")):
                raise DataError(f"{path} holds no photos: expected class folders, metadata.jsonl, or parquet files.")
            files = _photo_files(place)
            loaded = datasets.load_dataset("imagefolder", data_dir=str(place), data_files=files, **load)
        elif place.exists():
            loaded = datasets.load_dataset("parquet", data_files=_parquet_files(place), **parquet)
        elif path.startswith((".", "/", "~")) or path.endswith("/"):
            raise DataError(f"{path} does not exist. Give a folder, a parquet file or a Hugging Face dataset name.")
        else:
            loaded = datasets.load_dataset(path, **load)
    except DataError:
        raise
    except Exception as error:  # datasets raises many kinds, some of them its own dependencies'
        raise DataError(
            f"{path} cannot be read as a set of photos ({type(error).__name__}: {error}). Give a folder of class "
            "folders, a folder with metadata.jsonl or metadata.csv, parquet files, or a Hugging Face dataset name."
        ) from error
    tables: dict[str, Table] = {}
    for split, table in cast("dict[str, Table]", loaded).items():
        known = SPLIT_NAMES.get(str(split))
        if known is None:
            raise DataError(f"{path} has a split {split!r}; known are {', '.join(SPLIT_NAMES)}.")
        tables[known] = _with_image_column(table, path)
    return tables


def _photo_files(place: Path) -> dict[str, list[str]]:
    """Return split -> patterns: a folder's own folders are splits only if all of them are named so.

    Left to itself, `datasets` looks for "test" or "train" anywhere in a name, and then leaves all other files out.
    """
    folders = [path.name for path in sorted(place.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if not folders or not all(name.lower() in SPLIT_NAMES for name in folders):
        return {"train": ["**"]}
    patterns: dict[str, list[str]] = {}
    for name in folders:
        patterns.setdefault(SPLIT_NAMES[name.lower()], []).append(f"{name}/**")
    return patterns


def _parquet_files(place: Path) -> dict[str, list[str]]:
    files = [place] if place.is_file() else sorted(place.rglob("*.parquet"))
    return _by_split(map(str, files))


def _stored_parquet_files(uri: str) -> dict[str, list[str]]:
    store, root = fsspec.core.url_to_fs(uri)
    names = [root] if root.endswith(".parquet") else sorted(store.glob(f"{root.rstrip('/')}/**/*.parquet"))
    if not names:
        raise DataError(f"{uri} holds no parquet files, the one form of photos that is read from a store.")
    return _by_split(store.unstrip_protocol(name) for name in names)


def _by_split(files: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in files:
        stem = PurePosixPath(file).stem.split("-")[0].lower()
        found.setdefault(stem if stem in SPLIT_NAMES else "train", []).append(file)
    return found


def _with_image_column(table: Table, path: str) -> Table:
    if table.features is None:
        raise DataError(f"{path} does not say which columns it has, as a stream must: set data.stream to false.")
    columns = [c for c, feature in table.features.items() if isinstance(feature, datasets.Image)]
    columns += [c for c in ("image", "img", "photo", "picture") if c in table.features and c not in columns]
    if not columns:
        raise DataError(f"{path} has no image column; its columns are {', '.join(table.features)}.")
    if columns[0] != "image":
        table = table.rename_column(columns[0], "image")
    table = table.cast_column("image", datasets.Image(decode=False))
    # By row groups where there are any: more to share among readers.
    return table.reshard() if isinstance(table, datasets.IterableDataset) else table
