"""`percept batch BUNDLE INPUTS OUTPUT`: a folder of photos or a table, answered in bulk, into parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from shared.batch.inputs import Inputs


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one a core if not given.")
@click.option(
    "--shard-rows", type=click.IntRange(min=1), help="Rows of one file; a 64th of all, 32 to 1,024, if not given."
)
@click.option("--top-k", type=click.IntRange(min=1), help="At most so many tags, or intents of a ranking.")
@click.option("--min-score", type=click.FloatRange(0, 1), help="Of tags; each label's threshold if not given.")
@click.option("--text", "text_column", help="Column of the utterance or question [text, question].")
@click.option("--context", "context_column", help="Column that answers are looked for in [context].")
@click.option("--image", "image_column", help="Column of a parquet file that holds the photos [image].")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Put this column of the table beside the answers.")
@click.option("--ray", metavar="ADDRESS", help="Compute on this Ray cluster; it must see all three paths.")
@click.option(
    "--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]), help="What computes."
)
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
    """Ask BUNDLE of all INPUTS and write parquet files into the folder OUTPUT.

    A tagger takes a folder of photos, a prefix of an object store such as s3://bucket/photos, or a parquet file with a
    column of photos; intents and answers take a table: CSV, TSV, JSON lines or parquet. What cannot be answered is a
    row with its error. The same command, called again after it was stopped or killed, goes on.
    """
    from scripts.tasks import find_task
    from shared.batch.inputs import table_inputs
    from shared.batch.run import run_batch
    from shared.batch.shards import Job
    from shared.bundle.read import read_bundle
    from shared.errors import ConfigError

    task = find_task(read_bundle(bundle).config.task)
    options: dict[str, Any]
    if task.name == "tagging":
        _refuse(task.name, text=text_column, context=context_column)
        options = {"top_k": top_k, "min_score": min_score}
        found = _photos(inputs, image_column, keep, ray)
    elif task.name == "intent":
        _refuse(task.name, context=context_column, min_score=min_score, image=image_column)
        options = {"text": text_column or "text", "top_k": top_k}
        found = table_inputs(Path(inputs), [options["text"], *keep])
    elif task.name == "qa":
        _refuse(task.name, top_k=top_k, min_score=min_score, image=image_column)
        options = {"text": text_column or "question", "context": context_column or "context"}
        found = table_inputs(Path(inputs), [options["text"], options["context"], *keep])
    else:
        raise ConfigError(f"there is no bulk run for {task.name}.")
    paths = {"bundle": bundle.resolve(), "output": output.resolve()}
    job = Job(task, device=device, options=options, keep=keep, **paths)
    done = run_batch(job, found, workers=workers, shard_rows=shard_rows, ray=ray)
    before = f", {done.done_before} of them before" if done.done_before else ""
    click.echo(f"{done.rows} rows{before}, {done.errors} with an error now, in {output}")


def _photos(inputs: str, column: str | None, keep: tuple[str, ...], ray: str | None) -> Inputs:
    from shared.batch.inputs import photo_inputs
    from shared.batch.stores import is_uri, parquet_photos, stored_photos
    from shared.errors import ConfigError
    from vision.tagging.batch import photos_below
    from vision.tagging.files import PHOTO_SUFFIXES

    if inputs.endswith(".parquet") and not is_uri(inputs):
        if ray:
            raise ConfigError("photos in a parquet file are not for --ray: put them into a folder or an object store.")
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
