"""Tags for photos on disk, one file after the other; a bad file is named and does not stop the others. Torch-free.

Neighbour: `predictor` does the tagging; `percept predict` prints what comes out here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from shared.bundle.read import Bundle
from shared.errors import ConfigError, InputError
from shared.runtime.protocol import Runtime
from shared.task import Predicted, PredictOptions
from vision.images import decode_image
from vision.tagging.predictor import Tag, TagPredictor

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
GPU_BATCH = 32
"""Photos in one call on a GPU; on a CPU convolutions win nothing from batching."""


class Photo(Protocol):
    """A `Path`, or what is read as one."""

    def read_bytes(self) -> bytes:
        """Return the whole file, or raise OSError."""
        ...


PhotoT = TypeVar("PhotoT", bound=Photo)


@dataclass(frozen=True)
class TaggedFile(Generic[PhotoT]):
    """What came of one file: tags, or the reason why there are none."""

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
    """Yield files as they are named, and the photos in folders and below them, sorted, hidden ones left out."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for file in sorted(path.rglob("*")):
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            if file.suffix.lower() in PHOTO_SUFFIXES and file.is_file() and not hidden:
                yield file


def tag_files(
    predictor: TagPredictor, paths: Iterable[PhotoT], *, top_k: int | None = None, min_score: float | None = None
) -> Iterator[TaggedFile[PhotoT]]:
    """Yield one result a file, in their order.

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
        logits = iter(predictor.infer(pixels) if pixels else [])
        for path, found in zip(chunk, prepared, strict=True):
            if isinstance(found, str):
                yield TaggedFile(path, error=found)
            else:
                tags: Sequence[Tag] = predictor.decide(next(logits), top_k=top_k, min_score=min_score)
                yield TaggedFile(path, tuple(tags))


def _prepare(predictor: TagPredictor, path: Photo) -> np.ndarray | str:
    """Return float32 [3, size, size], or why the file is no photo."""
    try:
        photo = decode_image(path.read_bytes(), target_size_px=predictor.preprocessor.resize_px)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except InputError as error:
        return str(error)
    return predictor.preprocess(photo.pixels)
