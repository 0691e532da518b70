"""Sets of photos that are larger than the disk: read in the order of their files, from where they lie, never copied.

What is needed out of that order, the photos that validate and test, is kept on disk before the first epoch. Each
process, and each worker of its loader, reads files of its own: `datasets` divides them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
import torch
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from shared.errors import DataError
from vision.tagging.photos import Batch, TrainingPhotos
from vision.tagging.sources import Example, LoadedSource, image_bytes, open_photo
from vision.tagging.tables import Table

if TYPE_CHECKING:
    from vision.tagging.data import TaggingData

logger = logging.getLogger(__name__)


def hold(sources: Sequence[LoadedSource], examples: Sequence[Example], cache_dir: str | None) -> None:
    """Keep these photos on disk, each under its digest; what an earlier run kept is not read again.

    Raises:
        DataError: one is not there any more.
    """
    for number, source in enumerate(sources):
        source.held = Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / "percept-held" / source.fingerprint[:16]
        source.held.mkdir(parents=True, exist_ok=True)
        missing: dict[str, set[str]] = {}
        for example in examples:
            if example.source == number:
                digest = source.digests[example.split, example.row]
                if not (source.held / digest).exists():
                    missing.setdefault(example.split, set()).add(digest)
        for split, digests in missing.items():
            wanted = len(digests)
            with tqdm(total=wanted, desc=f"keeping {split} photos of {source.name}", unit="photo") as bar:
                for digest, photo in _photos(source.tables[split]):
                    if digest in digests:
                        _write(source.held / digest, photo)
                        digests.remove(digest)
                        bar.update()
                    if not digests:
                        break
            if digests:
                raise DataError(f"{source.name} changed while it was read: {len(digests)} of {wanted} photos are gone.")


class StreamedPhotos(IterableDataset[Batch]):
    """An epoch of augmented training photos, as many as there are, each about once.

    Files come in another order each epoch, and their photos are mixed in a buffer. Where a worker has fewer photos than
    its share of the batches, it reads its files again. What comes follows from (seed, epoch, processes, workers).

    Args:
        data: the sets.
        examples: the photos to train on, once for each time that they are seen in an epoch.
        epoch: from 0.
    """

    def __init__(self, data: TaggingData, examples: Sequence[Example], epoch: int) -> None:
        self._data = data
        self._epoch = epoch
        self._photos = TrainingPhotos(data, examples, epoch)
        self._rank, self._world = (data.trainer.global_rank, data.trainer.world_size) if data.trainer else (0, 1)
        self.batch_size = max(1, min(data.batch_size, len(examples) // self._world))
        self._batches = max(1, len(examples) // self._world // self.batch_size)
        per_source = Counter(example.source for example in examples)
        self._weights = [per_source[number] for number in range(len(data.sources))]
        self._places: list[dict[str, int]] = [{} for _ in data.sources]
        for place, example in enumerate(examples):
            digest = data.sources[example.source].digests[example.split, example.row]
            self._places[example.source][digest] = place

    def __len__(self) -> int:
        return self._batches * self.batch_size

    def loader(self) -> DataLoader[Batch]:
        """Return the batches, read by no more workers than there are files for."""
        shards = [self._stream(number, 0).num_shards for number, weight in enumerate(self._weights) if weight]
        workers = min(self._data.num_workers, *shards)
        if workers < self._data.num_workers:
            logger.warning(
                "%d of %d workers read, for want of files or parquet row groups: write the set into more.",
                workers,
                self._data.num_workers,
            )
        return DataLoader(
            self,
            batch_size=self.batch_size,
            num_workers=workers,
            drop_last=True,
            pin_memory=torch.cuda.is_available(),
        )

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        batches = self._batches // workers + (number < self._batches % workers)
        return islice(self._mixed(number), batches * self.batch_size)

    def _mixed(self, worker: int) -> Iterator[Batch]:
        """Yield photos of all sets without end, in proportion to what each has."""
        rng = random.Random(f"{self._data.seed}-{self._epoch}-{self._rank}-{worker}")
        endless = [self._endless(number) for number in range(len(self._weights))]
        while True:
            place, photo = next(endless[rng.choices(range(len(endless)), self._weights)[0]])
            example = self._photos.examples[place % len(self._photos.examples)]
            image = open_photo(photo, self._data.preprocessor.resize_px).pixels
            yield self._photos.item(place, example, image)

    def _endless(self, source: int) -> Iterator[tuple[int, bytes]]:
        """Yield places and files of a set's training photos; each time round, the places are other numbers."""
        places = self._places[source]
        for turn in count():
            found = False
            for digest, photo in _photos(self._stream(source, turn)):
                if digest in places:
                    found = True
                    yield places[digest] + turn * len(self._photos.examples), photo
            if not found:
                raise DataError(
                    f"{self._data.sources[source].name}: no training photo lies in the files that one of the workers "
                    "reads. Lower data.num_workers, or do without data.stream."
                )

    def _stream(self, source: int, turn: int) -> datasets.IterableDataset:
        table = self._data.sources[source].tables["train"]
        assert isinstance(table, datasets.IterableDataset)
        seed = (self._data.seed * 1_000_003 + self._epoch) * 1_009 + turn
        mixed = table.select_columns(["image"]).reshard().shuffle(seed, buffer_size=self._data.shuffle_buffer)
        own: datasets.IterableDataset = split_dataset_by_node(mixed, rank=self._rank, world_size=self._world)
        return own


def _photos(table: Table) -> Iterator[tuple[str, bytes]]:
    """Yield the digest and the file of each photo that can be read."""
    for row in table:
        try:
            photo = image_bytes(row["image"])
        except OSError:
            continue
        yield hashlib.sha256(photo).hexdigest(), photo


def _write(file: Path, content: bytes) -> None:
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    unfinished.replace(file)
