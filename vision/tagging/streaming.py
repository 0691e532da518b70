"""Sets of photos that are larger than the disk: read in the order of their files, from where they are, never copied.

The photos that validate and test are needed out of that order; they are kept on disk before the first epoch. `datasets`
opens the files; who reads which, and the order of the photos, is decided here: its own buffer holds whole row groups,
and its own division reads everything in every process unless their number divides that of the files.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import datasets
import fsspec
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from shared.errors import DataError
from vision.tagging.sources import Example, LoadedSource, image_bytes

logger = logging.getLogger(__name__)
Batch = dict[str, torch.Tensor]
_FILES_AT_ONCE = 8
"""That a worker reads from in turns: files are often sorted by label."""
_ROWS_AT_ONCE = 8
_BUFFER_BYTES = 1 << 29
_EMPTY_TURNS = 3
"""After which a worker says that it has no photo; by chance none of several copies may have been taken."""


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
                for digest, photo in _photos(source.tables[split], source.broken):
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

    Files, or the row groups of parquet files, are divided among all workers of all processes, in another order each
    epoch. Each worker reads several at once and draws the next photo from a buffer. A worker that has fewer photos than
    its share of the batches reads them again. What comes follows from (seed, epoch, processes, workers).

    Args:
        sources: the sets.
        examples: the photos to train on, once for each time that they are seen in an epoch.
        item: makes what the network is given, from a photo's place and file.
        batch_size: photos in a step.
        shuffle_buffer: photos among which each worker draws the next one.
        seed: fixes the order.
        epoch: from 0.
        rank: of this process.
        world: number of processes.
    """

    def __init__(
        self,
        sources: Sequence[LoadedSource],
        examples: Sequence[Example],
        item: Callable[[int, bytes], Batch],
        *,
        batch_size: int,
        shuffle_buffer: int,
        seed: int,
        epoch: int,
        rank: int,
        world: int,
    ) -> None:
        self._sources = sources
        self._count = len(examples)
        self._item = item
        self._shuffle_buffer = shuffle_buffer
        self._seed, self._epoch = seed, epoch
        self._rank, self._world = rank, world
        self._batch_size = max(1, min(batch_size, self._count // world))
        self._batches = max(1, self._count // world // self._batch_size)
        per_source = Counter(example.source for example in examples)
        self._weights = [per_source[number] for number in range(len(sources))]
        self._places: list[dict[str, int]] = [{} for _ in sources]
        for place, example in enumerate(examples):
            digest = sources[example.source].digests[example.split, example.row]
            self._places[example.source][digest] = place

    def __len__(self) -> int:
        return self._batches * self._batch_size

    def loader(self, num_workers: int) -> DataLoader[Batch]:
        """Return the batches."""
        readers = self._world * max(1, num_workers)
        for source, weight in zip(self._sources, self._weights, strict=True):
            files = _train_table(source).num_shards
            if weight and files < readers and not self._epoch and not self._rank:
                logger.warning(
                    "%s has %d files or row groups for %d workers: some read the same one. Fewer workers, or parquet "
                    "files with more row groups, are read only once.",
                    source.name,
                    files,
                    readers,
                )
        return DataLoader(
            self,
            batch_size=self._batch_size,
            num_workers=num_workers,
            drop_last=True,
            pin_memory=torch.cuda.is_available(),
        )

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        if worker:
            fsspec.asyn.reset_lock()  # another process held it when this one was forked
        batches = self._batches // workers + (number < self._batches % workers)
        reader, readers = self._rank * workers + number, self._world * workers
        rng = random.Random(f"{self._seed}-{self._epoch}-{reader}-{readers}")
        for place, photo in islice(self._mixed(rng, reader, readers), batches * self._batch_size):
            yield self._item(place, photo)

    def _mixed(self, rng: random.Random, reader: int, readers: int) -> Iterator[tuple[int, bytes]]:
        """Yield places and files of all sets without end, in proportion to what each has."""
        endless = [self._endless(number, rng, reader, readers) for number in range(len(self._weights))]
        while True:
            yield next(rng.choices(endless, self._weights)[0])

    def _endless(self, source: int, rng: random.Random, reader: int, readers: int) -> Iterator[tuple[int, bytes]]:
        """Yield places and files of a set's training photos; each time round, the places are other numbers."""
        places, loaded = self._places[source], self._sources[source]
        parts = sum(weight > 0 for weight in self._weights)  # of the buffer, one a set
        for turn in count():
            order = random.Random(f"{self._seed}-{self._epoch}-{turn}-{source}")  # the same for all readers
            rows = _shared(_train_table(loaded), order, rng, reader, readers)
            # Of several copies of a photo any one is taken, and about one per turn.
            own = (
                (places[digest] + turn * self._count, photo)
                for digest, photo in _photos(rows, loaded.broken)
                if digest in places and rng.random() * loaded.copies.get(digest, 1) < 1
            )
            found = False
            for found_photo in _drawn(own, max(1, self._shuffle_buffer // parts), _BUFFER_BYTES // parts, rng):
                found = True
                yield found_photo
            if not found and turn > _EMPTY_TURNS:
                raise DataError(
                    f"{loaded.name}: the files that one of the workers reads have no training photo. Lower "
                    "data.num_workers, or do without data.stream."
                )


def _shared(
    table: datasets.IterableDataset, order: random.Random, rng: random.Random, reader: int, readers: int
) -> Iterator[dict[str, Any]]:
    """Yield one reader's rows, from a few of its files at once.

    Args:
        table: of all.
        order: puts the files in an order, the same for all readers.
        rng: the reader's own.
        reader: from 0.
        readers: how many there are. What is left when each has as many files as any other is shared: they take turns in
            its photos.
    """
    files = list(range(table.num_shards))
    order.shuffle(files)
    even = len(files) // readers * readers
    rows = [_rows_of(table, file) for file in files[reader:even:readers]]
    if rest := files[even:]:
        mine = reader % len(rest)
        rows.append(
            islice(_rows_of(table, rest[mine]), reader // len(rest), None, len(range(mine, readers, len(rest))))
        )
    waiting = iter(rows)
    open_files = list(islice(waiting, _FILES_AT_ONCE))
    while open_files:
        place = rng.randrange(len(open_files))
        row = next(open_files[place], None)
        if row is None:
            open_files[place : place + 1] = islice(waiting, 1)
        else:
            yield row


def _rows_of(table: datasets.IterableDataset, file: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of one file; `iter` over batches, unlike over rows, does not divide them among workers again."""
    for batch in table.shard(table.num_shards, file).iter(_ROWS_AT_ONCE):
        yield from ({"image": image} for image in batch["image"])


def _drawn(
    photos: Iterable[tuple[int, bytes]], most: int, most_bytes: int, rng: random.Random
) -> Iterator[tuple[int, bytes]]:
    """Yield all photos, the next one from any place of a buffer."""
    buffer: list[tuple[int, bytes]] = []
    held = 0
    for photo in photos:
        buffer.append(photo)
        held += len(photo[1])
        while len(buffer) >= most or held > most_bytes:
            place = rng.randrange(len(buffer))
            buffer[place], buffer[-1] = buffer[-1], buffer[place]
            drawn = buffer.pop()
            held -= len(drawn[1])
            yield drawn
    rng.shuffle(buffer)
    yield from buffer


def _train_table(source: LoadedSource) -> datasets.IterableDataset:
    table = source.tables["train"]
    assert isinstance(table, datasets.IterableDataset)
    return table.select_columns(["image"])


def _photos(rows: Iterable[dict[str, Any]], broken: int) -> Iterator[tuple[str, bytes]]:
    """Yield the digest and the file of each photo that can be read.

    Raises:
        OSError: more cannot be read than were broken before.
    """
    for row in rows:
        try:
            photo = image_bytes(row["image"])
        except OSError:
            if not broken:
                raise
            broken -= 1
            continue
        yield hashlib.sha256(photo).hexdigest(), photo


def _write(file: Path, content: bytes) -> None:
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    unfinished.replace(file)
