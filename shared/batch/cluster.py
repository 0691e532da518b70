"""Ray computes the shards on the machines of a cluster. Neighbour: `pool` computes them in processes here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, cast

from shared.batch.pool import cores
from shared.batch.shards import Done, Job, Shard, Worker
from shared.errors import BatchError


class Cluster:
    """Actors of Ray Data, on machines that all see the bundle, the inputs and the output.

    Args:
        address: as `ray.init` takes it; "local" starts a cluster on this machine.
        actors: how many at most, of one core each; one a core of this machine if not given.
    """

    def __init__(self, address: str, actors: int | None = None) -> None:
        self._address = address
        self._actors = actors or cores()

    def answer(self, job: Job, shards: Iterable[Shard], count: int) -> Iterator[Done]:
        """Yield what came of each shard, in whatever order they are done.

        Args:
            job: with paths as the machines of the cluster see them.
            shards: all of them are taken at once: Ray keeps them.
            count: how many they are.

        Raises:
            BatchError: Ray ended the run.
        """
        import ray
        import ray.data

        ray.init(address=self._address, log_to_driver=False, ignore_reinit_error=True)
        try:
            items = [
                {"shard": number, "first": first, "rows": json.dumps(rows, default=str)}
                for number, first, rows in shards
            ]
            found = ray.data.from_items(items, override_num_blocks=count).map(
                cast("Any", _RayWorker),  # Ray's types know functions only
                fn_constructor_args=[job],
                compute=ray.data.ActorPoolStrategy(size=min(self._actors, count)),
                num_cpus=1,
            )
            for row in found.iter_rows():
                yield Done(row["shard"], row["rows"], row["errors"])
        except ray.exceptions.RayError as error:
            raise BatchError(f"Ray ended the run: {error}. What was done is kept: the same command goes on.") from error
        finally:
            ray.shutdown()


class _RayWorker:
    """An actor of Ray Data."""

    def __init__(self, job: Job) -> None:
        self._worker = Worker(job)

    def __call__(self, item: dict[str, Any]) -> dict[str, int]:
        done = self._worker(item["shard"], item["first"], json.loads(item["rows"]))
        return {"shard": done.shard, "rows": done.rows, "errors": done.errors}
