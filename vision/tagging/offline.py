"""Tags outside of a service: for photos on the command line, and for folders and stores in bulk. Torch-free.

A photo that cannot be read is named and does not stop the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from shared.batch.inputs import CONTENT, FILE, ROOT, ahead, fetch, is_uri
from shared.bundle.read import Bundle
from shared.errors import ConfigError, InputError
from shared.runtime.protocol import Runtime
from shared.sources.files import walk
from shared.task import Predicted, PredictOptions
from vision.images import PHOTO_SUFFIXES, open_photo
from vision.tagging.predictor import FEATURES, Tag, TagPredictor

OPTIONS = ("top_k", "min_score")
_TAG = pa.struct([("label", pa.string()), ("score", pa.float64()), ("parents", pa.list_(pa.string()))])
GPU_BATCH = 32
"""Photos in one call on a GPU; on a CPU convolutions are no faster in batches."""


class Photo(Protocol):
    """A `Path`, or something that is read like one."""

    def read_bytes(self) -> bytes:
        """Return the whole file, or raise OSError."""
        ...


PhotoT = TypeVar("PhotoT", bound=Photo)


@dataclass(frozen=True)
class TaggedFile(Generic[PhotoT]):
    """The tags of one file, or why there are none."""

    path: PhotoT
    tags: tuple[Tag, ...] = ()
    error: str | None = None


def predict(bundle: Bundle, runtime: Runtime, inputs: Sequence[str], options: PredictOptions) -> Iterator[Predicted]:
    """Yield what `percept predict` prints for each photo.

    Args:
        bundle: a tagger.
        runtime: of the bundle.
        inputs: files, and folders of photos.
        options: all but the context.

    Raises:
        ConfigError: there is no photo, or a context was given.
    """
    if options.context is not None:
        raise ConfigError("--context is for questions; a tagger takes photos.")
    predictor = TagPredictor(bundle, runtime)
    seen = 0
    for result in tag_files(
        predictor, find_photos(map(Path, inputs)), top_k=options.top_k, min_score=options.min_score
    ):
        seen += 1
        said = {"error": result.error} if result.error else {"tags": [asdict(tag) for tag in result.tags]}
        tags = ", ".join(f"{tag.label} {tag.score:.2f}" for tag in result.tags) or "(no tag)"
        text = f"{result.path}: {result.error}" if result.error else f"{result.path}  {tags}"
        yield Predicted({"file": str(result.path), **said}, text)
    if not seen:
        raise ConfigError(f"no photo was found in {', '.join(inputs)}.")


def find_photos(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield files as they are named, and the photos in folders and below them, sorted, as training finds them."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        yield from sorted(file for file in walk(path) if file.suffix.lower() in PHOTO_SUFFIXES)


def photos_below(folder: Path) -> list[Path]:
    """Return the photos of a folder and below, sorted.

    Raises:
        ConfigError: it is not a folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder. A tagger takes a folder of photos.")
    return list(find_photos([folder]))


def tag_files(
    predictor: TagPredictor, paths: Iterable[PhotoT], *, top_k: int | None = None, min_score: float | None = None
) -> Iterator[TaggedFile[PhotoT]]:
    """Yield one result per file, in their order.

    Args:
        predictor: with its runtime.
        paths: files; one that cannot be read or decoded yields its error.
        top_k: at most so many tags; None for all.
        min_score: the least score; None for each label's own threshold.
    """
    waiting = iter(paths)
    size = 1 if predictor.runtime.device == "cpu" else GPU_BATCH
    while chunk := list(islice(waiting, size)):
        prepared = [_prepare(predictor, path) for path in chunk]
        pixels = [found for found in prepared if isinstance(found, np.ndarray)]
        outputs = iter(predictor.infer(pixels) if pixels else [])
        for path, found in zip(chunk, prepared, strict=True):
            if isinstance(found, str):
                yield TaggedFile(path, error=found)
            else:
                tags: Sequence[Tag] = predictor.decide(next(outputs), top_k=top_k, min_score=min_score)
                yield TaggedFile(path, tuple(tags))


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
                "file": row[FILE].encode("utf-8", "replace").decode(),  # a name may have bytes that are no character
                "tags": None if found.error else [_tag(tag) for tag in found.tags],
                "error": found.error,
            }
            for row, found in zip(rows, tag_files(self._predictor, _photos(rows), **self._options), strict=True)
        ]


def _prepare(predictor: TagPredictor, path: Photo) -> np.ndarray | str:
    """Return float32 [3, size, size], or why the file is not a photo."""
    try:
        photo = open_photo(path.read_bytes(), predictor.preprocessor.resize_px)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except InputError as error:
        return str(error)
    return predictor.preprocess(photo.pixels)


def _tag(tag: Tag) -> dict[str, Any]:
    # Not dataclasses.asdict, which copies deeply: 3 % of the time of a small photo.
    return {"label": tag.label, "score": tag.score, "parents": tag.parents}


class _Content:
    """A photo whose bytes were read already, or why they could not be."""

    def __init__(self, content: bytes | OSError) -> None:
        self._content = content

    def read_bytes(self) -> bytes:
        if isinstance(self._content, OSError):
            raise self._content
        return self._content


def _photos(rows: Sequence[dict[str, Any]]) -> Iterator[Photo]:
    """Yield what `tag_files` reads; photos of a store are fetched ahead."""
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


def best_tags(bundle: Bundle, runtime: Runtime, photos: Sequence[bytes]) -> list[str | None]:
    """Return the best tag of each photo; None where it gets none, or cannot be read."""
    predictor = TagPredictor(bundle, runtime)
    named = tag_files(predictor, map(_Content, tqdm(photos, desc="naming photos")), top_k=1, min_score=None)
    return [found.tags[0].label if found.tags else None for found in named]


def photo_features(bundle: Bundle, runtime: Runtime, photos: Sequence[bytes]) -> np.ndarray:
    """Return what the network makes of photos before it names them, float32 [N, D]; zeros where one cannot be read.

    Raises:
        ConfigError: the bundle has no features.
    """
    found = np.zeros((len(photos), bundle.output_size(FEATURES)), dtype=np.float32)
    predictor = TagPredictor(bundle, runtime)

    def read(content: bytes) -> np.ndarray | None:
        try:
            return predictor.preprocess(open_photo(content, predictor.preprocessor.resize_px).pixels)
        except InputError:
            return None

    for row, pixels in enumerate(ahead(photos, read)):
        if pixels is not None:
            found[row] = predictor.infer([pixels])[0][FEATURES]
    return found
