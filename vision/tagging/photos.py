"""Photos as the trainer takes them: pixels and targets of one, plain or augmented.

Neighbours: `data` makes batches of them, `streaming` reads them in the order of their files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import v2

from shared.training.seeding import seeded
from vision.images import ImagePreprocessor
from vision.tagging.checking import Example
from vision.tagging.taxonomy import UNKNOWN

if TYPE_CHECKING:
    from vision.tagging.data import TaggingData

Batch = dict[str, torch.Tensor]


class PlainPhotos(Dataset[Batch]):
    """Photos through the serving preprocessor and nothing else.

    An item is pixel_values float32 [3, S, S], targets float32 [num_labels] with NaN where unknown, source int64 [].
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
        return self.item(index, example, self.data.open_image(example))

    def item(self, index: int, example: Example, image: Image.Image) -> Batch:
        """Return what the network is given of a photo; see the class."""
        targets = self.data.targets(example)
        return {
            "pixel_values": torch.from_numpy(self.pixels(index, image)),
            "targets": torch.from_numpy(np.where(targets == UNKNOWN, np.nan, targets).astype(np.float32)),
            "source": torch.tensor(example.source),
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
