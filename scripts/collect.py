"""`percept collect SPEC OUT`: from files, databases, APIs, web pages and the hub to one dataset."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shared.errors import ConfigError

if TYPE_CHECKING:
    from shared.collecting.run import Collected
    from shared.dataset.read import Dataset

KEY = "PERCEPT_KEY"
_SOME_FAILED = 1


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--restart", is_flag=True, help="Forget what an earlier run has kept, and replace what it wrote.")
@click.option(
    "--into",
    metavar="URL",
    help=f"Also put rows with a text into the knowledge base of this service; the key comes from {KEY}.",
)
@click.pass_context
def command(ctx: click.Context, spec: Path, output: Path, restart: bool, into: str | None) -> None:
    """Collect what SPEC names into the new folder OUTPUT.

    SPEC is a YAML file with sources of the kinds files, sql, rest, web and hub. OUTPUT is a dataset: parquet files, a
    dataset card and the history. Each row keeps its source, place, time, licence and digest. If the command is stopped
    or killed, run it again: it goes on, and no row comes twice.
    """
    from shared.collecting.run import collect, made_before
    from shared.collecting.spec import read_spec
    from vision.images import PHOTO_SUFFIXES

    wanted = read_spec(spec)
    if into is not None and not restart and (made := made_before(wanted, output)) is not None:
        click.echo(f"{output} is collected already")
        click.echo(f"{_teach(made, into)} documents are in the knowledge base of {into}")
        return
    done = collect(
        wanted,
        spec.resolve().parent,
        output,
        photos=read_photos,
        photo_suffixes=PHOTO_SUFFIXES,
        restart=restart,
    )
    _tell(done, output)
    if into is not None:
        click.echo(f"{_teach(done.dataset, into)} documents are in the knowledge base of {into}")
    if done.failed:
        ctx.exit(_SOME_FAILED)


def _tell(done: Collected, output: Path) -> None:
    from shared.exploring.wording import counted

    for note in done.notes:
        click.echo(note, err=True)
    for name, counts in done.counts.items():
        aside = f", {counts.set_aside:,} set aside" if counts.set_aside else ""
        failed = f", {counts.failed:,} failed" if counts.failed else ""
        click.echo(f"{name}: {counted(counts.rows, 'row')}{aside}{failed}")
    splits = ", ".join(f"{rows:,} {split}" for split, rows in done.dataset.info.splits.items())
    click.echo(f"{counted(len(done.dataset), 'row')} ({splits}) in {output}")
    if any(counts.set_aside for counts in done.counts.values()):
        click.echo(f"What was set aside, and why: {output / 'left_out.parquet'}")
    if done.failed:
        click.echo(f"What failed, and why: {output / 'failed.jsonl'}. Run the command again: it tries these again.")


def read_photos(root: Path) -> tuple[Iterator[tuple[Path, str, list[str] | None]], list[tuple[str, str]]]:
    """Return the photos of a folder with their splits and labels; loose ones have none."""
    from shared.sources.files import walk
    from vision.images import PHOTO_SUFFIXES
    from vision.tagging.folders import METADATA, read_folder

    files = [file for file in walk(root) if file.suffix.lower() in PHOTO_SUFFIXES]
    is_loose = all(file.parent == root for file in files) and not any((root / name).exists() for name in METADATA)
    if is_loose:
        others = [("is no photo", file.name) for file in walk(root) if file.suffix.lower() not in PHOTO_SUFFIXES]
        return ((file, "train", None) for file in files), others
    found = read_folder(root)
    return ((photo.path, photo.split, photo.labels) for photo in found.photos), found.left_out


def _teach(dataset: Dataset, url: str) -> int:
    """Put each row with a text into a knowledge base; return how many.

    Raises:
        ConfigError: no row has a text, or the service refuses one.
    """
    from percept import Client
    from percept.errors import ClientError, Denied

    if "text" not in dataset.info.columns:
        raise ConfigError(f"--into: the rows have no column `text`; they have {', '.join(dataset.info.columns)}. Name "
                          "it in `columns` of the spec.")  # fmt: skip
    title = next((name for name in ("title", "url") if name in dataset.info.columns), None)
    count = 0
    with Client(url, api_key=os.environ.get(KEY)) as client:
        for _, batch in dataset.batches(columns=["text", "_sha256", "_place", *([title] if title else [])]):
            for row in batch.to_pylist():
                if not (row["text"] or "").strip():
                    continue
                named = str((title and row[title]) or row["_place"])
                try:
                    client.put_document(f"{row['_sha256'][:24]}.txt", row["text"].encode(), title=named[:200])
                except ClientError as error:
                    refused = isinstance(error, Denied)
                    remedy = f"Set {KEY} to an administrator's key." if refused else "Run the command again."
                    raise ConfigError(f"--into {url}: {named}: {error} {remedy}") from error
                count += 1
    return count
