"""`percept discover DATA OUTPUT`: groups of what fits no known label, for people to name."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from scripts.explore import opened
from scripts.eyes import eyes_for
from shared.errors import ConfigError

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("data", type=FOLDER)
@click.argument("output", type=FOLDER)
@click.option(
    "--bundle", type=FOLDER, help="The model that looks; an intent classifier or a tagger also says what fits."
)
@click.option("--known", type=FOLDER, metavar="DATA", help="Rows with labels, if DATA has none.")
@click.option(
    "--groups", "count", type=click.IntRange(min=2), help="How many groups; as many as there are if not given."
)
@click.option("--least", type=click.IntRange(min=2), help="Rows of a group; smaller ones are none.")
@click.option("--text", metavar="COLUMN", help="Column with the texts.")
@click.option("--label", metavar="COLUMN", help="Column with the labels.")
@click.option("--image", metavar="COLUMN", help="Column with the photos.")
def command(
    data: Path,
    output: Path,
    bundle: Path | None,
    known: Path | None,
    count: int | None,
    least: int | None,
    text: str | None,
    label: str | None,
    image: str | None,
) -> None:
    """Find groups among the rows of DATA that have no label, and write them into the folder OUTPUT.

    DATA is a dataset, or anything that `percept explore` takes. OUTPUT gets a page on which groups are named, merged,
    split and dismissed; the groups as JSON lines; a plan for `percept clean`; and a dataset with the names proposed.
    """
    from shared.exploring.rows import load_rows
    from shared.grouping.discover import discover
    from shared.grouping.report import NAMED, ROWS, check_output, write_discovery
    from shared.staging import staged

    check_output(output)
    with ExitStack() as stack:
        staging = stack.enter_context(staged(output))
        dataset = stack.enter_context(opened(data, keep=staging / ROWS))
        rows = load_rows(dataset, text=text, label=label, image=image)
        others = None if known is None else load_rows(stack.enter_context(opened(known)), text=text, label=label)
        if others is not None and others.label is None:
            raise ConfigError(f"{known} has no column of labels. Name it with --label.")
        eyes = eyes_for(bundle, photos=rows.image is not None)
        if eyes is None:
            raise ConfigError("no model is there that could look: name one with --bundle.")
        found = discover(rows, eyes, known=others, count=count, least=least)
        write_discovery(staging, rows, found, eyes.name)
    for each in found.groups[:20]:
        near = "" if each.nearest is None else f"  {'rather a part of' if each.is_part else 'nearest'} {each.nearest}"
        click.echo(f"{len(each.rows):>6,}  {each.name}{near}")
    if len(found.groups) > 20:
        click.echo(f"        and {len(found.groups) - 20} more")
    fits = f"; {len(found.fits):,} fit a label that the model knows" if found.fits else ""
    click.echo(f"{len(found.examined):,} rows: {len(found.groups)} groups, {len(found.alone):,} rows in none{fits}")
    if found.measures:
        click.echo(", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in found.measures.items()))
    click.echo(f"Look at {output / 'index.html'} and name the groups; {output / NAMED} has the names that are proposed")
