"""Bulk tagging: rows that name photos to rows of tags. Torch-free; `shared.batch` runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from shared.bundle.read import Bundle
from shared.errors import ConfigError
from shared.runtime.protocol import Runtime
from vision.tagging.files import find_photos, tag_files
from vision.tagging.predictor import TagPredictor

OPTIONS = ("top_k", "min_score")
_TAG = pa.struct([("label", pa.string()), ("score", pa.float64()), ("parents", pa.list_(pa.string()))])


class BatchTagger:
    """Tags photos; `options` are `top_k` and `min_score`, as for `TagPredictor.decide`."""

    schema = pa.schema([("file", pa.string()), ("tags", pa.list_(_TAG))])

    def __init__(self, bundle: Bundle, runtime: Runtime, options: dict[str, Any]) -> None:
        self._predictor = TagPredictor(bundle, runtime)
        self._options = options

    def answer(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return for each photo its name in the folder and its tags, or its error."""
        paths = [Path(row["__root__"]) / row["file"] for row in rows]
        return [
            {
                "file": row["file"].encode("utf-8", "replace").decode(),  # a name may hold what is no character
                "tags": None if found.error else [asdict(tag) for tag in found.tags],
                "error": found.error,
            }
            for row, found in zip(rows, tag_files(self._predictor, paths, **self._options), strict=True)
        ]


def photos_below(folder: Path) -> list[Path]:
    """Return the photos of a folder and below, sorted.

    Raises:
        ConfigError: it is no folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder. A tagger takes a folder of photos.")
    return list(find_photos([folder]))
