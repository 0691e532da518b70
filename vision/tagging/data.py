"""The Lightning data module of tagging: sets of photos in, batches of pixels and targets out.

Training photos are augmented as decoded images and then normalised by the serving preprocessor; validation photos pass
through the serving preprocessor and nothing else. Every random choice follows from (seed, epoch, photo), so that a
resumed run sees what the uninterrupted one would have seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, RandomSampler, Sampler, WeightedRandomSampler

from shared.bundle.layout import ProblemType
from shared.errors import ConfigError, DataError
from shared.training.splits import check_names, check_shares
from vision.images import ImagePreprocessor
from vision.tagging.checking import Example, open_photo
from vision.tagging.photos import Batch, PlainPhotos, TrainingPhotos
from vision.tagging.sources import LoadedSource, Source, load_source
from vision.tagging.splits import split_examples
from vision.tagging.streaming import StreamedPhotos, hold
from vision.tagging.taxonomy import Hierarchy, all_labels, read_taxonomy

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
REPRESENTATIVE_PHOTOS = 256


class TaggingData(LightningDataModule):
    """Photos for the tagger.

    Args:
        source: a folder of class folders, a folder with metadata.jsonl or metadata.csv, a parquet file or folder, the
            URI of parquet files in an object store, the name of a Hugging Face dataset, or a list of such sets with
            their options.
        taxonomy: YAML or JSON file that maps labels to their parents; parents become labels of their own.
        image_size_px: side of the square that the network sees when it serves.
        train_size_px: side while training; one value, or epoch -> side from then on; `image_size_px` if not given.
        crop_pct: share of the short side that the centre crop keeps when serving.
        resample: "bilinear" or "bicubic".
        batch_size: photos in a step.
        num_workers: processes that decode and augment.
        val_share: share of the training photos that validates, where the data brings no validation split.
        test_share: share of the training photos held back for the final test, where the data brings no test split.
        max_corrupt_share: a larger share of broken files stops the run.
        augment: "trivial" for TrivialAugment with crops and flips, "crop" for crops and flips, "none".
        crop_scale: least share of the photo's area that a random crop keeps.
        balance: "none", or "sampler" to draw photos of rare labels more often.
        seed: fixes splits, order and augmentation.
        cache_dir: where `datasets` keeps its tables; its own default if not given.
        stream: read training photos in the order of their files, from where they lie, and copy none: for sets that are
            larger than the disk. Those that validate and test are kept in `cache_dir`.
        shuffle_buffer: photos of a stream, as files, among which each process draws the next one.
    """

    def __init__(
        self,
        source: str | list[Source],
        taxonomy: str | None = None,
        image_size_px: int = 224,
        train_size_px: int | dict[int, int] | None = None,
        crop_pct: float = 0.95,
        resample: Literal["bilinear", "bicubic"] = "bilinear",
        batch_size: int = 32,
        num_workers: int = 2,
        val_share: float = 0.1,
        test_share: float = 0.1,
        max_corrupt_share: float = 0.01,
        augment: Literal["trivial", "crop", "none"] = "trivial",
        crop_scale: float = 0.35,
        balance: Literal["none", "sampler"] = "none",
        seed: int = 42,
        cache_dir: str | None = None,
        stream: bool = False,
        shuffle_buffer: int = 1000,
    ) -> None:
        super().__init__()
        check_shares(val_share, test_share)
        self.options = [Source(source)] if isinstance(source, str) else list(source)
        if not self.options:
            raise ConfigError("data.source is an empty list: name at least one set of photos.")
        if stream and balance != "none":
            raise ConfigError(
                "data.balance draws photos by their labels, which a stream cannot: leave out one of the two."
            )
        if shuffle_buffer < 1:
            raise ConfigError(f"data.shuffle_buffer must be 1 or more; came {shuffle_buffer}.")
        self.preprocessor = ImagePreprocessor(image_size_px, crop_pct, resample, IMAGENET_MEAN, IMAGENET_STD)
        self.train_size_px = train_size_px if isinstance(train_size_px, dict) else {0: train_size_px or image_size_px}
        self.taxonomy_path = taxonomy
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.shares = {"val_share": val_share, "test_share": test_share}
        self.max_corrupt_share = max_corrupt_share
        self.augment = augment
        self.crop_scale = crop_scale
        self.balance = balance
        self.seed = seed
        self.cache_dir = cache_dir
        self.stream = stream
        self.shuffle_buffer = shuffle_buffer
        self.sources: list[LoadedSource] = []
        self.splits: dict[str, list[Example]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read, check and split the photos; done once, whatever the stage."""
        if self.splits:
            return
        self.sources = [
            load_source(
                options, i, max_corrupt_share=self.max_corrupt_share, cache_dir=self.cache_dir, stream=self.stream
            )
            for i, options in enumerate(self.options)
        ]
        check_names(source.name for source in self.sources)
        parents = read_taxonomy(Path(self.taxonomy_path)) if self.taxonomy_path else {}
        self.labels = all_labels((label for source in self.sources for label in source.labels), parents)
        self.hierarchy = Hierarchy(self.labels, parents)
        self.label_parents = self.hierarchy.parents
        single = len(self.sources) == 1 and self.sources[0].is_single_label and not self.label_parents
        self.problem_type: ProblemType = "single_label_classification" if single else "multi_label_classification"
        if single and len(self.labels) < 2:
            raise DataError(
                f"only one label was found ({self.labels[0]!r}); a tagger needs at least two to tell apart."
            )
        self.known = [self._known(source) for source in self.sources]
        self.splits = {"train": [], "val": [], "test": []}
        for source in self.sources:
            for name, part in split_examples(source.examples, **self.shares, seed=self.seed).items():
                self.splits[name] += part
        self._drop_leaks()
        if self.stream:
            hold(self.sources, [*self.splits["val"], *self.splits["test"], *representative(self)], self.cache_dir)

    def _drop_leaks(self) -> None:
        """Of a photo that lies in two sets, leave out what would be trained on here and tested on there."""
        seen: dict[str, str] = {}
        for name in ("test", "val", "train"):
            kept = []
            for example in self.splits[name]:
                source = self.sources[example.source]
                digest = source.digests[example.split, example.row]
                if seen.setdefault(digest, name) == name:
                    kept.append(example)
                else:
                    source.skipped.append(f"{example.split} row {example.row}: in another set's {seen[digest]} part")
            self.splits[name] = kept

    def _known(self, source: LoadedSource) -> np.ndarray:
        """bool [num_labels]: labels of which this set says whether they hold."""
        unknown = set(source.options.unknown)
        with_labels = {name for key, names in source.options.unknown_with.items() for name in (key, *names)}
        strangers = (unknown | with_labels) - set(self.labels)
        if strangers:
            raise ConfigError(f"{source.name}: `unknown` names labels that nobody has: {sorted(strangers)[:5]}")
        own = set(all_labels(source.labels, self.label_parents))
        covered = set(self.labels) if source.options.covers == "all" else own
        return np.array([label in covered - unknown for label in self.labels])

    def targets(self, example: Example) -> np.ndarray:
        """Return int8 [num_labels]: 1 holds, 0 does not, -1 unknown."""
        known = self.known[example.source]
        unknown_with = self.sources[example.source].options.unknown_with
        if unknown_with:
            known = known.copy()
            for label in all_labels(example.labels, self.label_parents):
                known[[self.hierarchy.index[name] for name in unknown_with.get(label, ())]] = False
        return self.hierarchy.targets(example.labels, known)

    def open_image(self, example: Example) -> Image.Image:
        """Return the photo as RGB, decoded as the service would."""
        return open_photo(self.sources[example.source].read(example), self.preprocessor.resize_px).pixels

    def size_at(self, epoch: int) -> int:
        """Return the training side in pixels at an epoch.

        >>> TaggingData("photos", train_size_px={0: 96, 4: 128}).size_at(5)
        128
        """
        return self.train_size_px[max((e for e in self.train_size_px if e <= epoch), default=min(self.train_size_px))]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return this epoch's batches; the trainer asks anew each epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        examples = [e for e in self.splits["train"] for _ in range(self.sources[e.source].options.repeat)]
        if not examples:
            raise DataError("no photo is left to train on: lower val_share and test_share or add photos.")
        if not self.splits["val"]:
            raise DataError(
                "no photo validates, so that no checkpoint could be chosen and no score calibrated: raise val_share "
                "above 0 or add photos, two a label at least."
            )
        if self.stream:
            return StreamedPhotos(self, examples, epoch).loader()
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        sampler: Sampler[int] = RandomSampler(examples, generator=generator)
        if self.balance == "sampler":
            support = Counter(label for e in examples for label in e.labels)
            weights = [1.0 / min((support[label] for label in e.labels), default=len(examples)) for e in examples]
            sampler = WeightedRandomSampler(weights, len(examples), generator=generator)
        photos = TrainingPhotos(self, examples, epoch)
        return DataLoader(
            photos,
            batch_size=min(self.batch_size, len(examples)),
            sampler=sampler,
            num_workers=self.num_workers,
            drop_last=True,  # a last batch of one photo would upset batch norm
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation photos, as the service would see them."""
        return self._plain_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the photos held back, as the service would see them."""
        return self._plain_loader("test")

    def _plain_loader(self, split: str) -> DataLoader[Batch]:
        photos = PlainPhotos(self, self.splits[split])
        return DataLoader(photos, batch_size=self.batch_size, num_workers=self.num_workers)


def representative(data: TaggingData) -> list[Example]:
    """Return some training photos of all sets."""
    examples = data.splits["train"]
    return examples[:: max(1, len(examples) // REPRESENTATIVE_PHOTOS)][:REPRESENTATIVE_PHOTOS]


def representative_batches(data: TaggingData, preprocessor: ImagePreprocessor) -> Iterator[np.ndarray]:
    """Yield float32 [N, 3, S, S] of training photos as a service sees them; int8 measures them."""
    chosen = representative(data)
    for start in range(0, len(chosen), data.batch_size):
        part = chosen[start : start + data.batch_size]
        photos = [open_photo(data.sources[e.source].read(e), preprocessor.resize_px) for e in part]
        yield np.stack([preprocessor(photo.pixels) for photo in photos])
