"""What a folder of results is of: written once, compared when a run goes on, and locked while one is at it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.errors import ConfigError

PLAN = "_plan.json"
"""Readers of parquet folders pass over names that begin with an underscore or a dot."""


@dataclass(frozen=True)
class Plan:
    """All that the results depend on."""

    model: str
    version: str
    inputs: str
    """Their fingerprint."""
    rows: int
    shard_rows: int
    options: dict[str, Any]

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.rows // self.shard_rows)


def part(folder: Path, shard: int) -> Path:
    """Return the file of a shard.

    >>> part(Path("tags"), 7).name
    'part-00007.parquet'
    """
    return folder / f"part-{shard:05d}.parquet"


@contextmanager
def opened(folder: Path, plan: Plan) -> Iterator[list[int]]:
    """Give the shards that are missing, and keep other runs out of the folder; it is made where there is none.

    Raises:
        ConfigError: the folder holds something else, results of another run, or a run is at it.
    """
    file = folder / PLAN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} holds other files. Name a folder that is empty or not there yet.")
        with file.open("a+", encoding="utf-8") as stream:
            _lock(folder, stream.fileno())
            stream.seek(0)
            _agree(folder, plan, stream.read())
            if not stream.tell():
                stream.write(json.dumps(asdict(plan), ensure_ascii=False, indent=2) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            for left in folder.glob(".part-*"):  # of a run that was cut off
                left.unlink(missing_ok=True)
            yield [shard for shard in range(plan.shards) if not part(folder, shard).exists()]
    except (NotADirectoryError, FileExistsError, PermissionError) as error:
        raise ConfigError(f"results cannot be written to {folder}: {error.strerror}.") from error


def _lock(folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back by the system, however the run ends
    except BlockingIOError:
        raise ConfigError(f"another run is writing to {folder}. Wait for it, or name another folder.") from None


def _agree(folder: Path, plan: Plan, written: str) -> None:
    if not written:
        return
    try:
        found = json.loads(written)
    except ValueError as error:
        raise ConfigError(f"{folder / PLAN} is broken: {error}. Delete the folder and begin anew.") from error
    wanted = json.loads(json.dumps(asdict(plan)))
    differs = [name for name, value in wanted.items() if not isinstance(found, dict) or found.get(name) != value]
    if differs:
        raise ConfigError(
            f"{folder} has the results of another run: {', '.join(differs)} differ. Name another folder, or delete it."
        )
