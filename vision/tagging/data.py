"""The Lightning data module of tagging: sets of photos in, batches of pixels and targets out.

Training photos are augmented as decoded images and then normalised by the serving preprocessor; validation photos go
through the serving preprocessor and nothing else. Every random choice follows from (seed, epoch, photo), so that a
resumed run sees what the uninterrupted one would have seen.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler, WeightedRandomSampler
from torchvision.transforms import v2

from shared.bundle.layout import ProblemType
from shared.errors import ConfigError, DataError
from shared.training.data import TaskData, stratified_share
from shared.training.module import seeded
from vision.images import ImagePreprocessor, open_photo
from vision.tagging.sources import Example, LoadedSource, Source, load_source
from vision.tagging.streaming import StreamedPhotos, hold
from vision.tagging.taxonomy import UNKNOWN, Hierarchy, all_labels, read_taxonomy

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
REPRESENTATIVE_PHOTOS = 256
Batch = dict[str, torch.Tensor]


class TaggingData(TaskData):
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
        num_workers: number of processes that decode and augment.
        val_share: share of the training photos that validates, where the data brings no validation split.
        test_share: share of the training photos held back for the final test, where the data brings no test split.
        max_corrupt_share: a larger share of broken files stops the run.
        augment: "trivial" for TrivialAugment with crops and flips, "crop" for crops and flips, "none".
        crop_scale: least share of the photo's area that a random crop keeps.
        balance: "none", or "sampler" to draw photos of rare labels more often.
        seed: fixes splits, order and augmentation.
        cache_dir: where `datasets` keeps its tables; its own default if not given.
        stream: read training photos in the order of their files, from where they are, and copy none: for sets that are
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
        options = [Source(source)] if isinstance(source, str) else source
        super().__init__(options, val_share=val_share, test_share=test_share, seed=seed, cache_dir=cache_dir)
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
        self.max_corrupt_share = max_corrupt_share
        self.augment = augment
        self.crop_scale = crop_scale
        self.balance = balance
        self.stream = stream
        self.shuffle_buffer = shuffle_buffer

    def load(self, options: Source, index: int) -> LoadedSource:
        """Return a set, each photo looked at once."""
        return load_source(
            options, index, max_corrupt_share=self.max_corrupt_share, cache_dir=self.cache_dir, stream=self.stream
        )

    def strata(self, example: Example) -> Sequence[str]:
        """Return the photo's own labels."""
        return example.labels

    def digest(self, example: Example) -> str:
        """Return the digest of the photo's file."""
        source: LoadedSource = self.sources[example.source]
        return source.digests[example.split, example.row]

    def divide(self, source: LoadedSource) -> dict[str, list[Example]]:
        """Return split -> photos, as `split_examples` does."""
        return split_examples(source.examples, **self.shares, seed=self.seed)

    def settle(self) -> None:
        """Bring all labels into one hierarchy, drop photos that several splits share, and keep what a stream cannot."""
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
        self.drop_leaks(
            self.digest,
            lambda e, kept: f"{e.split} row {e.row}: in another set's {kept} part",
        )
        if self.stream:
            hold(self.sources, [*self.splits["val"], *self.splits["test"], *representative(self)], self.cache_dir)

    def _known(self, source: LoadedSource) -> np.ndarray:
        """Return bool [num_labels]: the labels that this set knows to hold or not."""
        unknown = set(source.options.unknown)
        with_labels = {name for key, names in source.options.unknown_with.items() for name in (key, *names)}
        strangers = (unknown | with_labels) - set(self.labels)
        if strangers:
            raise ConfigError(f"{source.name}: `unknown` names labels that no set has: {sorted(strangers)[:5]}")
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

    def photo(self, example: Example) -> bytes:
        """Return the photo's file."""
        content: bytes = self.sources[example.source].read(example)
        return content

    def open_image(self, example: Example) -> Image.Image:
        """Return the photo as RGB, decoded as the service would."""
        return open_photo(self.photo(example), self.preprocessor.resize_px).pixels

    def size_at(self, epoch: int) -> int:
        """Return the training side in pixels at an epoch.

        >>> TaggingData("photos", train_size_px={0: 96, 4: 128}).size_at(5)
        128
        """
        return self.train_size_px[max((e for e in self.train_size_px if e <= epoch), default=min(self.train_size_px))]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return this epoch's batches; the trainer asks again each epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        examples = [e for e in self.splits["train"] for _ in range(self.sources[e.source].options.repeat)]
        if not examples:
            raise DataError("no photo is left to train on: lower val_share and test_share or add photos.")
        if not self.splits["val"]:
            raise DataError(
                "no photo validates, so that no checkpoint could be chosen and no score calibrated: raise val_share "
                "above 0 or add photos, two a label at least."
            )
        photos = TrainingPhotos(self, examples, epoch)
        if self.stream:
            return self._streamed(photos, epoch)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        sampler: Sampler[int] = RandomSampler(examples, generator=generator)
        if self.balance == "sampler":
            support = Counter(label for e in examples for label in e.labels)
            weights = [1.0 / min((support[label] for label in e.labels), default=len(examples)) for e in examples]
            sampler = WeightedRandomSampler(weights, len(examples), generator=generator)
        return DataLoader(
            photos,
            batch_size=min(self.batch_size, len(examples)),
            sampler=sampler,
            num_workers=self.num_workers,
            drop_last=True,  # a last batch of one photo would upset batch norm
            pin_memory=torch.cuda.is_available(),
        )

    def _streamed(self, photos: TrainingPhotos, epoch: int) -> DataLoader[Batch]:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        streamed = StreamedPhotos(
            self.sources,
            photos.examples,
            photos.of_file,
            batch_size=self.batch_size,
            shuffle_buffer=self.shuffle_buffer,
            seed=self.seed,
            epoch=epoch,
            rank=rank,
            world=world,
        )
        return streamed.loader(self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation photos, as the service would see them."""
        return self.plain_dataloader("val")

    def plain_dataloader(self, split: str) -> DataLoader[Batch]:
        """Return the photos of a split, as the service would see them."""
        photos = PlainPhotos(self, self.splits[split])
        return DataLoader(photos, batch_size=self.batch_size, num_workers=self.num_workers)


def representative(data: TaggingData) -> list[Example]:
    """Return a few hundred training photos of all sets."""
    examples = data.splits["train"]
    return examples[:: max(1, len(examples) // REPRESENTATIVE_PHOTOS)][:REPRESENTATIVE_PHOTOS]


class PlainPhotos(Dataset[Batch]):
    """Photos through the serving preprocessor and nothing else.

    An item is pixel_values float32 [3, S, S], targets float32 [num_labels] with NaN where unknown, source int64 [] and
    row int64 [], the place among the examples.
    """

    def __init__(self, data: TaggingData, examples: Sequence[Example]) -> None:
        self.data = data
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def pixels(self, index: int, image: Image.Image) -> np.ndarray:
        """Return float32 [3, S, S]."""
        return self.data.preprocessor(image)

    def __getitem__(self, index: int) -> Batch:
        example = self.examples[index]
        return self._item(index, example, self.data.open_image(example))

    def of_file(self, index: int, content: bytes) -> Batch:
        """Return the item of a photo that was read already; past the end, indices start again, augmented otherwise."""
        example = self.examples[index % len(self.examples)]
        return self._item(index, example, open_photo(content, self.data.preprocessor.resize_px).pixels)

    def _item(self, index: int, example: Example, image: Image.Image) -> Batch:
        targets = self.data.targets(example)
        return {
            "pixel_values": torch.from_numpy(self.pixels(index, image)),
            "targets": torch.from_numpy(np.where(targets == UNKNOWN, np.nan, targets).astype(np.float32)),
            "source": torch.tensor(example.source),
            "row": torch.tensor(index),
        }


class TrainingPhotos(PlainPhotos):
    """Photos with this epoch's augmentation, at this epoch's size."""

    def __init__(self, data: TaggingData, examples: Sequence[Example], epoch: int) -> None:
        super().__init__(data, examples)
        self.epoch = epoch
        size = data.size_at(epoch)
        steps: list[Any] = []
        if data.augment == "trivial":
            # On the decoded photo, before it is cropped and resized: small photos are cheap to distort.
            steps += [v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR, fill=[124, 116, 104])]
        steps += [v2.RandomResizedCrop((size, size), scale=(data.crop_scale, 1.0), antialias=True)]
        steps += [v2.RandomHorizontalFlip()]
        self.transform = v2.Compose(steps) if data.augment != "none" else None
        self.plain = ImagePreprocessor.from_config({**data.preprocessor.to_config(), "size": size})

    def pixels(self, index: int, image: Image.Image) -> np.ndarray:
        """Return float32 [3, S, S]."""
        if self.transform is None:
            return self.plain(image)
        with seeded(hash((self.data.seed, self.epoch, index))):
            return self.plain.normalise(self.transform(image))


def split_examples(
    examples: Sequence[Example], *, val_share: float, test_share: float, seed: int
) -> dict[str, list[Example]]:
    """Return split -> examples.

    Photos stored in a split stay there. Of those stored in "train", `test_share` go to test and `val_share` to val,
    each only where the data brings no such split. The division is stratified by the rarest label of each photo: a label
    of three photos has one in each split, and a single photo stays in train.
    """
    splits: dict[str, list[Example]] = {"train": [], "val": [], "test": []}
    for example in examples:
        splits[example.split].append(example)
    pool = splits["train"]
    # Order of taking matters for the seed's meaning: the test part is the same whatever the val share is.
    for name, share in (("test", test_share), ("val", val_share)):
        if not splits[name] and share > 0 and pool:
            stay = 2 if name == "test" and val_share > 0 and not splits["val"] else 1  # one to validate, one to learn
            splits[name], pool = _take(pool, share, random.Random(f"{seed}-{name}"), stay)
    splits["train"] = pool
    return splits


def _take(
    examples: Sequence[Example], share: float, rng: random.Random, stay: int
) -> tuple[list[Example], list[Example]]:
    """Return (taken, left), stratified by the rarest label of each photo."""
    support = Counter(label for example in examples for label in example.labels)
    strata = [min(e.labels, key=lambda label: (support[label], label), default="") for e in examples]
    taken = stratified_share(strata, share, rng, stay=stay)
    return [examples[i] for i in sorted(taken)], [e for i, e in enumerate(examples) if i not in taken]
