"""`percept batch BUNDLE INPUTS OUTPUT`: processes a folder of photos or a table in bulk, into parquet files."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts import options as shared_options

if TYPE_CHECKING:
    from shared.batch.inputs import Inputs
    from shared.batch.processes import Processes


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one per core if not given.")
@click.option(
    "--shard-rows", type=click.IntRange(min=1), help="Rows per file; a 64th of all, between 32 and 1,024, if not given."
)
@click.option("--top-k", type=click.IntRange(min=1), help="The most tags, or intents of a ranking.")
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    help="The lowest score of a tag; each label's own threshold if not given.",
)
@click.option("--text", "text_column", help="Column of the utterances or questions [text, question].")
@click.option("--context", "context_column", help="Column of the texts to find the answers in [context].")
@click.option("--image", "image_column", help="Column of a parquet file that has the photos [image].")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Copy this column of the table to the output.")
@click.option(
    "--ray", metavar="ADDRESS", help="Compute on this Ray cluster, which must be able to read all three paths."
)
@shared_options.device
def command(
    bundle: Path,
    inputs: str,
    output: Path,
    workers: int | None,
    shard_rows: int | None,
    top_k: int | None,
    min_score: float | None,
    text_column: str | None,
    context_column: str | None,
    image_column: str | None,
    keep: tuple[str, ...],
    ray: str | None,
    device: str,
) -> None:
    """Run BUNDLE on all INPUTS and write parquet files into the folder OUTPUT.

    A tagger takes a folder of photos, a prefix of an object store such as s3://bucket/photos, or a parquet file with a
    column of photos. Intents and answers take a table: CSV, TSV, JSON lines or parquet. An input that cannot be
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
        columns = {"text": text_column, "context": context_column, "image": image_column}
        options, found = _asked(task.name, inputs, columns, keep, top_k=top_k, min_score=min_score, ray=ray)
        paths = {"bundle": bundle.resolve(), "output": output.resolve()}
        job = Job(task, device=device, options=options, keep=keep, **paths)
        done = run_batch(job, found, processes, shard_rows=shard_rows)
    before = f", {done.done_before} of them before" if done.done_before else ""
    click.echo(f"{done.rows} rows{before}, {done.errors} with an error now, in {output}")


def _asked(
    task: str,
    inputs: str,
    columns: dict[str, str | None],
    keep: tuple[str, ...],
    *,
    top_k: int | None,
    min_score: float | None,
    ray: str | None,
) -> tuple[dict[str, Any], Inputs]:
    """Return the options and the inputs for the task; refuse what is not for it."""
    from shared.batch.inputs import table_inputs
    from shared.errors import ConfigError

    text, context, image = columns["text"], columns["context"], columns["image"]
    if task == "tagging":
        _refuse(task, text=text, context=context)
        return {"top_k": top_k, "min_score": min_score}, _photos(inputs, image, keep, ray)
    if task == "intent":
        _refuse(task, context=context, min_score=min_score, image=image)
        options: dict[str, Any] = {"text": text or "text", "top_k": top_k}
        return options, table_inputs(Path(inputs), [options["text"], *keep])
    if task == "qa":
        _refuse(task, top_k=top_k, min_score=min_score, image=image)
        options = {"text": text or "question", "context": context or "context"}
        return options, table_inputs(Path(inputs), [options["text"], options["context"], *keep])
    raise ConfigError(f"percept batch cannot run a bundle for {task}.")


def _photos(inputs: str, column: str | None, keep: tuple[str, ...], ray: str | None) -> Inputs:
    from shared.batch.inputs import is_uri, parquet_photos, photo_inputs, stored_photos
    from shared.errors import ConfigError
    from vision.tagging.offline import PHOTO_SUFFIXES, photos_below

    if inputs.endswith(".parquet") and not is_uri(inputs):
        if ray:
            raise ConfigError(
                "--ray cannot read photos from a parquet file: put them into a folder or an object store."
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
