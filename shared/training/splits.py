"""What the tasks' data modules share: their sets of examples, and how these are divided into splits."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Protocol, TypeVar

from shared.errors import ConfigError, DataError

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}
"""What files and stored splits are called -> the split."""
T = TypeVar("T")


class LoadedSource(Protocol):
    """A set of examples that was read and checked."""

    name: str
    skipped: list[str]
    """What was left out and why, a line each."""

    @property
    def is_divided(self) -> bool:
        """Whether splits are taken from it by seed and shares, unless it brings its own."""

    def summary(self) -> dict[str, Any]:
        """Return what the model card says of the set: `name`, `fingerprint`, `examples`, …"""


class DataModule(Protocol):
    """What packing and evaluating need of a task's data module."""

    sources: Sequence[Any]
    splits: dict[str, list[Any]]
    shares: dict[str, float]
    seed: int

    def read(self) -> None:
        """Read, check and split the examples; done once."""

    def notes(self) -> dict[str, list[str]]:
        """Return what a run's report says of the data: file name -> lines."""


def read_sources(source: str | list[T], kind: Callable[[str], T], examples: str) -> list[T]:
    """Return the sets that `data.source` names.

    Raises:
        ConfigError: there is none.
    """
    if isinstance(source, str):
        return [kind(source)]
    if not source:
        raise ConfigError(f"data.source is an empty list: name at least one set of {examples}.")
    return list(source)


def skipped_lines(sources: Iterable[LoadedSource]) -> list[str]:
    """Return what was left out of the sets and why."""
    return [f"{source.name}: {line}" for source in sources for line in source.skipped]


def examples_of(splits: Mapping[str, list[T]], split: str) -> list[T]:
    """Return the examples of a split, or of "all"."""
    return [example for name in (SPLITS if split == "all" else (split,)) for example in splits[name]]


def read_stored_splits(path: str, read: Callable[[], Mapping[str, T]], what: str, forms: str) -> list[tuple[str, T]]:
    """Return (split, table) of what `datasets` loads; several stored splits may be the same one, such as val and dev.

    Args:
        path: as the user wrote it.
        read: loads it.
        what: what it should be, for the error message.
        forms: what may be given instead, for the error message.

    Raises:
        DataError: it cannot be read, or a split has an unknown name.
    """
    try:
        loaded = read()
    except DataError:
        raise
    except Exception as error:  # datasets raises many kinds, some of them its own dependencies'
        raise DataError(
            f"{path} cannot be read as {what} ({type(error).__name__}: {error}). Give {forms}, or a Hugging Face "
            "dataset name."
        ) from error
    unknown = [str(split) for split in loaded if str(split) not in SPLIT_NAMES]
    if unknown:
        raise DataError(f"{path} has a split {unknown[0]!r}; known are {', '.join(SPLIT_NAMES)}.")
    return [(SPLIT_NAMES[str(split)], table) for split, table in loaded.items()]


def split_in_name(file: str) -> str | None:
    """Return the split that a file is called after; None if it is called something else.

    >>> split_in_name("questions/dev-00000-of-00002.parquet"), split_in_name("latest.csv")
    ('val', None)
    """
    return SPLIT_NAMES.get(PurePath(file).stem.split("-")[0].lower())


def check_shares(val_share: float, test_share: float) -> None:
    """Refuse shares that leave nothing to train on.

    Raises:
        ConfigError: they add up to 1 or more, or one is less than 0.
    """
    if val_share < 0 or test_share < 0 or val_share + test_share >= 1:
        raise ConfigError(f"val_share and test_share must add up to less than 1, not {val_share} + {test_share}.")


def check_names(names: Iterable[str]) -> None:
    """Refuse two sets with the same name: reports tell them apart by it.

    Raises:
        ConfigError: names it.
    """
    (name, count), *_ = Counter(names).most_common(1)
    if count > 1:
        raise ConfigError(f"two sources are called {name!r}: give them different names.")


def stratified_share(strata: Sequence[str], share: float, rng: random.Random) -> set[int]:
    """Return the places of about `share` of the examples, in each stratum and in total.

    At least one example of each stratum stays; what a small stratum cannot give is not taken from the others.

    Args:
        strata: of each example; such as its label.
        share: of each stratum; what rounding leaves is carried over to the next.
        rng: decides which.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(strata):
        members[key].append(place)
    taken: set[int] = set()
    owed = 0.0
    for key in sorted(members):
        rng.shuffle(members[key])
        owed += share * len(members[key])
        count = min(round(owed), len(members[key]) - 1)
        owed = min(0.5, owed - count)
        taken.update(members[key][:count])
    return taken
