"""`percept batch BUNDLE INPUTS OUTPUT`: processes a folder of photos or a table in bulk, into parquet files."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.options import device, min_score

if TYPE_CHECKING:
    from shared.batch.inputs import Inputs
    from shared.batch.processes import Processes

_FORM = {"delimiter", "encoding", "quotes", "sheet"}
_OPTIONS_OF = {
    "tagging": {"image", "min_score", "top_k"},
    "intent": {"text", "top_k", *_FORM},
    "qa": {"context", "text", *_FORM},
    "answer-writer": {"context", "text", *_FORM},
    "embedding": {"text", *_FORM},
}
"""Task -> the options that only some tasks take."""


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one per core if not given.")
@click.option(
    "--shard-rows", type=click.IntRange(min=1), help="Rows per file; a 64th of all, between 32 and 1,024, if not given."
)
@click.option("--top-k", type=click.IntRange(min=1), help="The most tags, or intents of a ranking.")
@min_score
@click.option("--text", metavar="COLUMN", help="Column of the utterances, texts or questions [text, question].")
@click.option(
    "--context",
    metavar="COLUMN",
    help="Column of the texts with the answers [context]; for a writer, these are between **.",
)
@click.option("--image", metavar="COLUMN", help="Column of a parquet file that has the photos [image].")
@click.option("--delimiter", metavar="MARK", help="Between the cells of a text file: a character, or tab, semicolon …")
@click.option("--encoding", metavar="NAME", help="Character set of a text file, such as cp1252.")
@click.option("--quotes", type=click.Choice(["double", "none"]), help="none: quotation marks are text like any other.")
@click.option("--sheet", metavar="NAME", help="Sheet of a workbook; the first that has rows if not given.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Copy this column of the table to the output.")
@click.option(
    "--ray", metavar="ADDRESS", help="Compute on this Ray cluster, which must be able to read all three paths."
)
@device
def command(
    bundle: Path,
    inputs: str,
    output: Path,
    workers: int | None,
    shard_rows: int | None,
    keep: tuple[str, ...],
    ray: str | None,
    device: str,
    **given: Any,
) -> None:
    """Run BUNDLE on all INPUTS and write parquet files into the folder OUTPUT.

    A tagger takes a folder of photos, a prefix of an object store such as s3://bucket/photos, a parquet file with a
    column of photos, or a dataset of `percept collect`. Intents, answers, writers and encoders take a dataset or a
    table: CSV, TSV, Excel, JSON, JSON lines or parquet, read as `percept fit` reads it. An input that cannot be
    processed becomes a row with its error. If the command is stopped or killed, run it again: it continues.
    """
    if ray:
        from shared.batch.processes import Cluster

        computing: AbstractContextManager[Processes] = nullcontext(Cluster(ray, workers))
    else:
        from shared.batch.processes import Pool

        computing = Pool(workers)  # first of all, so that it is ready when the inputs are known
    with computing as processes:
        from scripts.tasks import find_task
        from shared.batch.run import run_batch
        from shared.batch.shards import Job
        from shared.bundle.read import read_bundle

        task = find_task(read_bundle(bundle).config.task)
        options, found = _prepare(task.name, inputs, keep, ray, given)
        job = Job(task, bundle.resolve(), device, output.resolve(), options, keep)
        done = run_batch(job, found, processes, shard_rows=shard_rows)
    before = f", {done.done_before} of them before" if done.done_before else ""
    click.echo(f"{done.rows} rows{before}, {done.errors} with an error now, in {output}")


def _prepare(
    task: str, inputs: str, keep: tuple[str, ...], ray: str | None, given: Mapping[str, Any]
) -> tuple[dict[str, Any], Inputs]:
    """Return the task's own options, and its inputs; refuse options that it does not take."""
    from shared.batch.inputs import table_inputs
    from shared.errors import ConfigError
    from shared.sources.tables import TableForm

    if task not in _OPTIONS_OF:
        raise ConfigError(f"percept batch cannot run a bundle for {task}.")
    _refuse(task, **{name: value for name, value in given.items() if name not in _OPTIONS_OF[task]})
    if task == "tagging":
        options = {"top_k": given["top_k"], "min_score": given["min_score"]}
        return options, _photos(inputs, given["image"], keep, ray)
    if task in ("intent", "embedding"):
        columns = {"text": given["text"] or "text"}
        options = {"top_k": given["top_k"]} if task == "intent" else {}
    else:
        columns, options = {"text": given["text"] or "question", "context": given["context"] or "context"}, {}
    form = TableForm(**{name: given[name] for name in _FORM if given[name] is not None})
    return columns | options, table_inputs(Path(inputs), [*columns.values(), *keep], form)


def _photos(inputs: str, column: str | None, keep: tuple[str, ...], ray: str | None) -> Inputs:
    from shared.batch.inputs import is_uri, parquet_photos, photo_inputs, stored_photos
    from shared.dataset.read import is_dataset
    from shared.errors import ConfigError
    from vision.images import PHOTO_SUFFIXES
    from vision.tagging.offline import photos_below

    if not is_uri(inputs) and (inputs.endswith(".parquet") or is_dataset(Path(inputs))):
        if ray:
            raise ConfigError(
                "--ray cannot read photos from a parquet file or a dataset: put them into a folder or an object store."
            )
        return parquet_photos(Path(inputs), column or "image", keep)
    _refuse("photos that are files", keep=keep, image=column)
    if is_uri(inputs):
        return stored_photos(inputs, PHOTO_SUFFIXES)
    return photo_inputs(Path(inputs), photos_below(Path(inputs)))


def _refuse(task: str, **given: object) -> None:
    from shared.errors import ConfigError

    for name, value in given.items():
        if value:
            raise ConfigError(f"--{name.replace('_', '-')} is not for {task}.")
