"""A bundle measured on labelled photos, through the same predictor and runtime that serve it.

The data's labels are mapped to the bundle's by name; what the bundle does not know is named and left out, never counted
as wrong. Neighbours: `data` brings the photos, `predictor` tags them, `evaluation` measures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from shared.bundle.read import Bundle
from shared.errors import ConfigError, DataError
from shared.training import provenance
from vision.tagging.checking import Example, open_photo
from vision.tagging.data import TaggingData
from vision.tagging.evaluation import SourceView, evaluate, most_wrong
from vision.tagging.predictor import TagPredictor
from vision.tagging.taxonomy import UNKNOWN, Hierarchy, all_labels

SPLITS = ("test", "val", "train", "all")
SHEET_TAGS = 3


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Scored:
    """A split with what a bundle says of it."""

    examples: list[Example]
    """[N]; photos of whose labels the bundle knows none are not among them."""
    scores: np.ndarray
    """float64 [N, num_labels], calibrated and reconciled."""
    targets: np.ndarray
    """int8 [N, num_labels] in the order of the bundle's labels; 1 holds, 0 does not hold, -1 unknown."""
    unknown: dict[str, Counter[str]]
    """Set -> label that the bundle does not know -> photos of this split that have it."""
    left_out: int
    """Photos of which no label is known to the bundle."""


def score_photos(predictor: TagPredictor, data: TaggingData, split: str, *, batch_size: int | None = None) -> Scored:
    """Return what the predictor says of a split, with a progress bar.

    Args:
        predictor: with its runtime.
        data: photos; set up here. Its own preprocessing options are of no account: the bundle's are used.
        split: one of `SPLITS`.
        batch_size: photos in one call of the runtime; one for the CPU, where more win nothing, else `data.batch_size`.

    Raises:
        ConfigError: no such split.
        DataError: the split has no photo, or the bundle knows no label of its photos.
    """
    if split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}; came {split!r}.")
    data.setup()
    chosen = [e for name in (("train", "val", "test") if split == "all" else (split,)) for e in data.splits[name]]
    if not chosen:
        sizes = ", ".join(f"{name} {len(part)}" for name, part in data.splits.items())
        raise DataError(f"the split {split!r} has no photo ({sizes}). Choose another with --split.")
    known = set(predictor.labels)
    examples = [e for e in chosen if known.intersection(e.labels) or not e.labels]
    unknown = {source.name: Counter[str]() for source in data.sources}
    for example in chosen:
        unknown[data.sources[example.source].name].update(set(example.labels) - known)
    if not examples:
        raise DataError(
            f"the bundle knows none of the labels of these {len(chosen)} photos, such as "
            f"{', '.join(sorted(set(chosen[0].labels)))!r}; it knows {', '.join(predictor.labels[:5])}, … "
            "Map them with --data.source.label_names or choose another bundle."
        )
    own = [set(all_labels(source.labels, predictor.hierarchy.parents)) for source in data.sources]
    targets = np.stack([bundle_targets(data, e, predictor.hierarchy, own[e.source]) for e in examples])
    size = batch_size or (1 if predictor.runtime.device == "cpu" else data.batch_size)
    logits = np.stack(list(_logits(predictor, data, examples, size)))
    return Scored(
        examples=examples,
        scores=predictor.scores(logits),
        targets=targets,
        unknown={name: counts for name, counts in unknown.items() if counts},
        left_out=len(chosen) - len(examples),
    )


def split_warnings(bundle: Bundle, data: TaggingData) -> list[str]:
    """Return why the split may hold photos that the bundle was trained on, a line a set; sets are known by name."""
    entries = [source.summary() for source in data.sources]
    return provenance.split_warnings(bundle.config.provenance, entries, data.seed, data.shares)


def measure(scored: Scored, predictor: TagPredictor, data: TaggingData) -> dict[str, Any]:
    """Return `evaluate`'s metrics of the scored photos, at the bundle's thresholds."""
    index = predictor.hierarchy.index
    views = [
        SourceView(source.name, [index[label] for label in source.labels if label in index], source.is_single_label)
        for source in data.sources
    ]
    return evaluate(
        scored.scores,
        scored.targets,
        np.array([example.source for example in scored.examples]),
        views,
        predictor.hierarchy,
        np.array(predictor.thresholds),
    )


def wrong_photos(
    scored: Scored, predictor: TagPredictor, data: TaggingData, count: int
) -> list[tuple[Image.Image, str, str]]:
    """Return (photo, true tags, best tags with scores) of the most wrong photos, for a contact sheet."""
    found = []
    for row in most_wrong(scored.scores, scored.targets, count):
        example = scored.examples[row]
        best = np.argsort(-scored.scores[row], kind="stable")[:SHEET_TAGS]
        given = ", ".join(f"{predictor.labels[i]} {scored.scores[row, i]:.2f}" for i in best)
        found.append((data.open_image(example), ", ".join(example.labels), given))
    return found


def bundle_targets(data: TaggingData, example: Example, hierarchy: Hierarchy, own: set[str]) -> np.ndarray:
    """Return int8 [num_labels] in the bundle's labels: what the data says of a photo, and what follows from it.

    Args:
        hierarchy: the bundle's.
        own: the labels of the photo's set and those that stand above them in the bundle.
    """
    said = dict(zip(data.labels, data.targets(example).tolist(), strict=True))
    known = np.array([said.get(label, 0 if label in own else UNKNOWN) != UNKNOWN for label in hierarchy.labels])
    targets = hierarchy.targets([label for label in example.labels if label in hierarchy.index], known)
    targets[[label in said and said[label] == 1 for label in hierarchy.labels]] = 1
    return targets


def _logits(
    predictor: TagPredictor, data: TaggingData, examples: list[Example], batch_size: int
) -> Iterator[np.ndarray]:
    """Yield float32 [num_labels] for each photo; threads decode ahead, a batch or two of photos lie in memory."""

    def prepare(example: Example) -> np.ndarray:
        photo = open_photo(data.sources[example.source].read(example), predictor.preprocessor.resize_px)
        return predictor.preprocess(photo.pixels)

    waiting = iter(examples)
    with (
        ThreadPoolExecutor(max(1, data.num_workers)) as pool,
        tqdm(total=len(examples), desc="tagging", unit="photo") as bar,
    ):
        ahead = [pool.submit(prepare, example) for example in islice(waiting, 2 * batch_size + data.num_workers)]
        while ahead:
            batch, ahead = ahead[:batch_size], ahead[batch_size:]
            pixels = [future.result() for future in batch]
            ahead += [pool.submit(prepare, example) for example in islice(waiting, len(batch))]
            yield from predictor.infer(pixels)
            bar.update(len(batch))
