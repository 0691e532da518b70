"""Photos with their labels as tables: folders, metadata files, parquet and hub sets, read by `datasets`.

Neighbour: `sources` checks the rows and names the labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import datasets

from shared.errors import DataError

SPLIT_NAMES = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}


def load_tables(path: str, cache_dir: str | None) -> dict[str, datasets.Dataset]:
    """Return stored split -> table with an `image` column of (bytes, path).

    Raises:
        DataError: nothing is there, it cannot be read, or a split or the image column has a name that is not known.
    """
    place = Path(path).expanduser()
    try:
        if place.is_dir() and not any(place.rglob("*.parquet")):
            if not any(p.suffix.lower() in PHOTO_SUFFIXES for p in place.rglob("*")):
                raise DataError(f"{path} holds no photos: expected class folders, metadata.jsonl, or parquet files.")
            files = _photo_files(place)
            loaded = datasets.load_dataset("imagefolder", data_dir=str(place), data_files=files, cache_dir=cache_dir)
        elif place.exists():
            loaded = datasets.load_dataset("parquet", data_files=_parquet_files(place), cache_dir=cache_dir)
        elif path.startswith((".", "/", "~")) or path.endswith("/"):
            raise DataError(f"{path} does not exist. Give a folder, a parquet file or a Hugging Face dataset name.")
        else:
            loaded = datasets.load_dataset(path, cache_dir=cache_dir)
    except DataError:
        raise
    except Exception as error:  # datasets raises many kinds, some of them its own dependencies'
        raise DataError(
            f"{path} cannot be read as a set of photos ({type(error).__name__}: {error}). Give a folder of class "
            "folders, a folder with metadata.jsonl or metadata.csv, parquet files, or a Hugging Face dataset name."
        ) from error
    tables: dict[str, datasets.Dataset] = {}
    for split, table in cast("dict[str, datasets.Dataset]", loaded).items():
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
    by_split: dict[str, list[str]] = {}
    for file in files:
        stem = file.stem.split("-")[0].lower()
        by_split.setdefault(stem if stem in SPLIT_NAMES else "train", []).append(str(file))
    return by_split


def _with_image_column(table: datasets.Dataset, path: str) -> datasets.Dataset:
    columns = [c for c, feature in table.features.items() if isinstance(feature, datasets.Image)]
    columns += [c for c in ("image", "img", "photo", "picture") if c in table.features and c not in columns]
    if not columns:
        raise DataError(f"{path} has no image column; its columns are {', '.join(table.features)}.")
    if columns[0] != "image":
        table = table.rename_column(columns[0], "image")
    return table.cast_column("image", datasets.Image(decode=False))
