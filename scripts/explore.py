"""`percept explore DATA OUTPUT`: what is in a dataset, what looks wrong in it, and a page that shows both."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts.eyes import eyes_on
from shared.errors import ConfigError

if TYPE_CHECKING:
    from shared.dataset.read import Dataset

_NOUNS = {"broken": ("broken",) * 2, "personal_data": ("row with personal data", "rows with personal data"),
          "missing": ("missing value",)}  # fmt: skip
"""Kind of finding -> one and several of it, where the kind is no noun that takes an s."""


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="The model that looks: a tagger, intents or an encoder."
)
@click.option("--text", metavar="COLUMN", help="Column with the texts.")
@click.option("--label", metavar="COLUMN", help="Column with the labels.")
@click.option("--image", metavar="COLUMN", help="Column with the photos.")
@click.option("--table", is_flag=True, help="A row is all its columns, none of which is its text unless you name it.")
def command(
    data: Path, output: Path, bundle: Path | None, text: str | None, label: str | None, image: str | None, table: bool
) -> None:
    """Look at DATA and write a page and findings into the folder OUTPUT.

    DATA is a dataset of `percept collect`, or anything that it reads as files: a table, a folder of photos. The page
    needs no network; findings.jsonl has each finding in a line: copies, leaks between splits, contradictions,
    labels spelled in several ways, likely label errors, personal data, missing values, outliers.
    """
    from shared.exploring.examine import examine
    from shared.exploring.report import write_report
    from shared.exploring.rows import load_rows
    from shared.exploring.wording import counted

    with opened(data) as dataset:
        rows = load_rows(dataset, text=text, label=label, image=image, as_table=table)
        if not len(rows):
            raise ConfigError(f"{data} has no rows.")
        eyes = eyes_on(bundle, rows)
        examined = examine(rows, eyes)
        write_report(output, examined)
    counts = Counter(finding.kind for finding in examined.findings)
    for note in examined.notes:
        click.echo(note, err=True)
    said = ", ".join(counted(count, *_NOUNS.get(kind, (kind.replace("_", " "),))) for kind, count in counts.items())
    click.echo(f"{counted(len(rows), 'row')}: {said or 'nothing looks wrong'}")
    click.echo(f"Look at {output / 'index.html'}; all findings are in {output / 'findings.jsonl'}")


@contextmanager
def opened(data: Path, *, keep: Path | None = None) -> Iterator[Dataset]:
    """Yield the dataset, or one made of the files there: in a folder to keep, or for as long as it is looked at."""
    from shared.dataset.read import is_dataset, read_dataset

    if is_dataset(data):
        yield read_dataset(data)
        return
    from scripts.collect import read_photos
    from shared.collecting.run import collect
    from shared.collecting.spec import CollectSpec
    from vision.images import PHOTO_SUFFIXES

    if not data.exists():
        raise ConfigError(f"there is nothing at {data}. Name a dataset, a table or a folder of photos.")
    spec = CollectSpec.model_validate(
        {"name": data.name, "licence": "unknown", "max_left_out": 1.0,
         "sources": [{"kind": "files", "path": str(data.resolve()), "name": data.name}]}
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="percept-explore-") as folder:
        done = collect(spec, Path(), keep or Path(folder, "dataset"), photos=read_photos, photo_suffixes=PHOTO_SUFFIXES)
        for note in done.notes:
            click.echo(note, err=True)
        yield done.dataset
