"""Data sets of the Hugging Face hub, streamed: nothing is kept but what becomes a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal

from pydantic import Field

from shared.errors import DataError
from shared.sources.splits import splits_in
from shared.sources.steps import Done, Found, SourceSpec, Step

STEP_ROWS = 1_000
STEP_PHOTOS = 50


class HubSpec(SourceSpec):
    """A data set of the hub."""

    kind: Literal["hub"]
    dataset: str
    """Its name, or a folder."""
    configuration: str | None = None
    revision: str | None = None
    """A commit: without it, the hub's newest version is read, and may be another one tomorrow."""
    splits: list[str] | None = None
    """As the hub calls them; all if not given."""
    max_rows: int | None = Field(default=None, gt=0)
    """Of each split."""

    @property
    def place(self) -> str:
        return self.dataset


class HubReader:
    """Reads a data set; a step has some hundred rows."""

    resumes = True

    def __init__(self, spec: HubSpec) -> None:
        self.spec = spec

    def steps(self, done: Sequence[Done]) -> Iterator[Step]:
        """Yield the rows behind those that are done.

        Raises:
            DataError: the data set or a split cannot be had.
        """
        import datasets

        before: dict[str, int] = {}
        for each in done:
            before[each.cursor["split"]] = each.cursor["rows"]
        spec = self.spec
        try:
            found = datasets.load_dataset(spec.dataset, spec.configuration, revision=spec.revision, streaming=True)
            unknown = [split for split in spec.splits or () if split not in found]
            if unknown:
                raise DataError(f"{spec.dataset} has no split {unknown[0]!r}; it has {', '.join(found)}.")
            for split in spec.splits or list(found):
                table, names = _plain(found[split], datasets)
                has_photos = any(isinstance(kind, datasets.Image) for kind in (table.features or {}).values())
                rows = iter(table.skip(before.get(split, 0)))
                size = STEP_PHOTOS if has_photos else STEP_ROWS
                yield from self._split_steps(split, rows, names, size, before.get(split, 0))
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            said = str(error).strip().splitlines()
            raise DataError(f"the data set {spec.dataset} cannot be read: {said[0] if said else error!r}. Check its "
                            "name and the connection, and run the command again: it goes on.") from error  # fmt: skip

    def _split_steps(
        self, split: str, rows: Iterator[Any], names: dict[str, list[str]], size: int, count: int
    ) -> Iterator[Step]:
        known = splits_in([split]).get(split, "train")
        most = self.spec.max_rows
        while True:
            taken = list(islice(rows, size if most is None else min(size, most - count)))
            if not taken:
                return
            step = Step(key=f"{split}#{count}")
            for row in taken:
                named = {name: _named(value, names.get(name)) for name, value in row.items()}
                step.found.append(Found(named, f"{split} row {count}", known))
                count += 1
            step.cursor = {"split": split, "rows": count}
            yield step


def _plain(table: Any, datasets: Any) -> tuple[Any, dict[str, list[str]]]:
    """Return the table with photos as bytes, and column -> names of its classes."""
    features = table.features or {}
    for name, kind in features.items():
        if isinstance(kind, datasets.Image | datasets.Audio):
            table = table.cast_column(name, type(kind)(decode=False))
    return table, {name: kind.names for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)}


def _named(value: Any, names: list[str] | None) -> Any:
    return names[value] if names is not None and isinstance(value, int) and 0 <= value < len(names) else value
