"""What the tasks' data modules share: their sets of examples, and how these are divided into splits."""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pytorch_lightning import LightningDataModule

from shared.errors import ConfigError, DataError
from shared.sources.splits import GUARDED, SPLITS, splits_in

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class LoadedSet:
    """A set of examples that was read and checked; each task adds its examples, and `counts` of them."""

    name: str
    options: Any
    """The task's `Source`, with at least `licence` and `origin`."""
    fingerprint: str = ""
    """SHA-256 over every example with its labels."""
    skipped: list[str] = field(default_factory=list)
    """What was left out and why, one line each."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> how much was left out for it."""
    notes: list[str] = field(default_factory=list)
    """How the set was understood, where that could be wrong, one line each."""

    def skip(self, reason: str, line: str) -> None:
        """Note that something is left out: the reason is counted, the line names it."""
        self.skipped.append(line)
        self.left_out[reason] += 1

    @property
    def is_divided(self) -> bool:
        """Whether splits are taken from it by seed and shares, unless it brings its own."""
        return True

    def counts(self) -> dict[str, int]:
        """Return how many `examples` there are, and of which kinds."""
        raise NotImplementedError

    def summary(self) -> dict[str, Any]:
        """Return what the model card says of the set."""
        return {
            "name": self.name,
            **self.counts(),
            "fingerprint": self.fingerprint,
            "licence": self.options.licence,
            "origin": self.options.origin,
            "skipped": len(self.skipped),
        }


class TaskData(LightningDataModule):
    """Sets of examples, read once and divided into splits; a task says how.

    Args:
        options: of each set.
        val_share: share of a set that validates, if it brings no validation split.
        test_share: share held back for the final test, if it brings no test split.
        seed: fixes every random choice.
        cache_dir: where `datasets` keeps its tables.

    Raises:
        ConfigError: there is no set, or the shares leave nothing to train on.
    """

    def __init__(
        self, options: Sequence[Any], *, val_share: float, test_share: float, seed: int, cache_dir: str | None
    ) -> None:
        super().__init__()
        if not options:
            raise ConfigError("data.source is an empty list: name at least one set.")
        if any(not str(each.path).strip() for each in options):
            raise ConfigError("data.source is empty: name a file, a folder or a Hugging Face dataset.")
        if val_share < 0 or test_share < 0 or val_share + test_share >= 1:
            raise ConfigError(f"val_share and test_share must add up to less than 1, not {val_share} + {test_share}.")
        self.options = options
        self.shares = {"val_share": val_share, "test_share": test_share}
        self.seed = seed
        self.cache_dir = cache_dir
        self.sources: list[Any] = []
        self.splits: dict[str, list[Any]] = {}

    def load(self, options: Any, index: int) -> LoadedSet:
        """Return a set, read and checked."""
        raise NotImplementedError

    def divide(self, source: Any) -> dict[str, list[Any]]:
        """Return split -> examples of a set; splits that it brings stay."""
        raise NotImplementedError

    def arrange(self) -> None:
        """Divide the examples of all sets anew, in place; for what trains on parts of them, such as folds."""

    def settle(self) -> None:
        """Check the splits of all sets together, and take from them what else the task must know."""
        raise NotImplementedError

    def digest(self, example: Any) -> str:
        """Return the SHA-256, in hexadecimal, of what makes an example the same as another; labels do not count."""
        raise NotImplementedError

    def digests(self) -> dict[str, list[str]]:
        """Return split -> the digests of its examples."""
        return {split: [self.digest(example) for example in part] for split, part in self.splits.items()}

    def divide_as(self, split_of: Callable[[str], str | None]) -> int:
        """Put each example into the split where its digest was before; return how many were in none and are left out.

        Args:
            split_of: from a digest to the split, or None.
        """
        examples = sorted(examples_of(self.splits, "all"), key=lambda e: (e.source, getattr(e, "row", 0)))  # as read
        self.splits = {name: [] for name in SPLITS}
        for example in examples:
            split = split_of(self.digest(example))
            if split is not None:
                self.splits[split].append(example)
        return len(examples) - sum(map(len, self.splits.values()))

    def setup(self, stage: str | None = None) -> None:
        """Read, check and split the examples; done once, whatever the stage."""
        self.read()

    def read(self) -> None:
        """Read, check and split the examples; done once."""
        if self.splits:
            return
        self.sources = [self.load(options, i) for i, options in enumerate(self.options)]
        check_names(source.name for source in self.sources)
        self.splits = {name: [] for name in SPLITS}
        for source in self.sources:
            for name, part in self.divide(source).items():
                self.splits[name] += part
        self.arrange()
        self.settle()
        for source in self.sources:
            for line in source.notes:
                logger.warning("%s: %s", source.name, line)
            if source.left_out:
                reasons = "; ".join(f"{count:,} {reason}" for reason, count in source.left_out.most_common())
                logger.warning("%s: left out %d: %s", source.name, source.left_out.total(), reasons)
        for line in self._unmeasured():
            logger.warning(line)

    def sizes(self) -> str:
        """Return the names of the sets and how many examples each split has, in one line."""
        counts = ", ".join(f"{name} {len(part):,}" for name, part in self.splits.items())
        return f"{' + '.join(source.name for source in self.sources)}: {counts}"

    def ties(self, example: Any) -> Sequence[str]:
        """Return what an example has in common with those that it must not be divided from; by default its digest."""
        return (self.digest(example),)

    def photo(self, example: Any) -> bytes | None:
        """Return the file of an example that is a photo; None if it is none."""
        return None

    def nearly(self, example: Any) -> str | None:
        """Return what near-copies of an example have in common with it; None if nothing is looked at."""
        return None

    def strata(self, example: Any) -> Sequence[str]:
        """Return the labels of an example that every split should have."""
        return ()

    def _unmeasured(self) -> Iterable[str]:
        """Yield a line for each held-out split that lacks labels which are trained."""
        trained = {label for example in self.splits["train"] for label in self.strata(example)}
        for split in ("val", "test"):
            found = {label for example in self.splits[split] for label in self.strata(example)}
            missing = sorted(trained - found)
            if found and missing:
                shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
                yield (
                    f"{len(missing)} of {len(trained)} labels have no example in {split}, so nothing is measured of "
                    f"them there ({shown}): three examples of a label are the least"
                )

    def drop_leaks(self, key: Callable[[Any], str], leaked: Callable[[Any, str], str]) -> None:
        """Keep what is in several splits in the most guarded one: test, then val, then train.

        Args:
            key: of an example, the same for equal ones.
            leaked: from an example that is left out and the split that keeps it to a line about it.
        """
        seen: dict[str, str] = {}
        for name in GUARDED:
            kept = []
            for example in self.splits[name]:
                first = seen.setdefault(key(example), name)
                if first == name:
                    kept.append(example)
                else:
                    self.sources[example.source].skip(f"also in {first}", leaked(example, first))
            self.splits[name] = kept

    def notes(self) -> dict[str, list[str]]:
        """Return what a run's report says of the data: file name -> lines."""
        return {"skipped": [f"{source.name}: {line}" for source in self.sources for line in source.skipped]}


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
    splits = splits_in(map(str, loaded))
    unknown = [str(split) for split in loaded if str(split) not in splits]
    if unknown:
        raise DataError(f"{path} has a split {unknown[0]!r}; known are train, validation and test.")
    return [(splits[str(split)], table) for split, table in loaded.items()]


def check_names(names: Iterable[str]) -> None:
    """Refuse two sets with the same name: reports tell them apart by it.

    Raises:
        ConfigError: names it.
    """
    (name, count), *_ = Counter(names).most_common(1)
    if count > 1:
        raise ConfigError(f"two sources are called {name!r}: give them different names.")


def whole_groups(
    examples: Sequence[T], group: Callable[[T], str], share: float, rng: random.Random
) -> tuple[list[T], list[T]]:
    """Return (taken, left): about `share` of the groups, at least one, and never all of them.

    Args:
        examples: of all groups.
        group: what is never divided, such as a passage with all of its questions.
        share: of the groups.
        rng: decides which.
    """
    groups: dict[str, list[T]] = defaultdict(list)
    for example in examples:
        groups[group(example)].append(example)
    keys = sorted(groups)
    rng.shuffle(keys)
    chosen = set(keys[: min(max(1, round(share * len(keys))), len(keys) - 1)])
    taken = [example for key in keys if key in chosen for example in groups[key]]
    return taken, [example for key in keys if key not in chosen for example in groups[key]]


def stratified_share(strata: Sequence[str], share: float, rng: random.Random, *, stay: int = 1) -> set[int]:
    """Return the places of about `share` of the examples, in each stratum and in total.

    A stratum of more than `stay` gives at least one; what a small one gives too much or too little, the others hardly
    make up for.

    Args:
        strata: of each example, such as its label.
        share: of each stratum; what rounding leaves is carried over to the next.
        rng: decides which, and in which order the strata come.
        stay: so many of each stratum stay at least.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(strata):
        members[key].append(place)
    keys = sorted(members)
    rng.shuffle(keys)
    taken: set[int] = set()
    owed = 0.0
    for key in keys:
        rng.shuffle(members[key])
        owed += share * len(members[key])
        most = max(0, len(members[key]) - stay)
        count = min(max(1, round(owed)), most)
        owed = max(-0.5, min(0.5, owed - count))
        taken.update(members[key][:count])
    return taken
