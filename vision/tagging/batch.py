"""Bulk tagging: rows that name photos to rows of tags. Torch-free; `shared.batch` runs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from shared.ahead import ahead
from shared.batch.inputs import CONTENT, FILE, ROOT, fetch, is_uri
from shared.bundle.read import Bundle
from shared.errors import ConfigError
from shared.runtime.protocol import Runtime
from vision.tagging.files import Photo, find_photos, tag_files
from vision.tagging.predictor import Tag, TagPredictor

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
        return [
            {
                "file": row[FILE].encode("utf-8", "replace").decode(),  # a name may hold what is no character
                "tags": None if found.error else [_tag(tag) for tag in found.tags],
                "error": found.error,
            }
            for row, found in zip(rows, tag_files(self._predictor, _photos(rows), **self._options), strict=True)
        ]


def _tag(tag: Tag) -> dict[str, Any]:
    # Not dataclasses.asdict, which copies deeply: 3 % of the time of a small photo.
    return {"label": tag.label, "score": tag.score, "parents": tag.parents}


class _Content:
    """A photo whose bytes are here already, or why they are not."""

    def __init__(self, content: bytes | OSError) -> None:
        self._content = content

    def read_bytes(self) -> bytes:
        if isinstance(self._content, OSError):
            raise self._content
        return self._content


def _photos(rows: Sequence[dict[str, Any]]) -> Iterator[Photo]:
    """Yield what `tag_files` reads, whatever the rows say of it; photos of a store are fetched ahead."""
    if rows and ROOT in rows[0] and is_uri(rows[0][ROOT]):
        yield from ahead(rows, _fetched)
        return
    for row in rows:
        yield _Content(row[CONTENT]) if CONTENT in row else Path(row[ROOT]) / row[FILE]


def _fetched(row: dict[str, Any]) -> _Content:
    try:
        return _Content(fetch(row[ROOT], row[FILE]))
    except OSError as error:
        return _Content(error)


def photos_below(folder: Path) -> list[Path]:
    """Return the photos of a folder and below, sorted.

    Raises:
        ConfigError: it is no folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder. A tagger takes a folder of photos.")
    return list(find_photos([folder]))
