"""`percept evaluate BUNDLE`: measures a bundle on labelled data, with the runtime that serves it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from scripts import options


@click.command(cls=options.DataCommand)
@options.recipes
@options.split
@options.as_json
@click.option(
    "--most-wrong",
    "--contact-sheet",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the worst mistakes to FILE: a picture for photos, JSON lines for texts.",
)
@options.device
def command(
    bundle: Path,
    data_options: tuple[str, ...],
    recipes: tuple[str, ...],
    split: str,
    as_json: bool,
    most_wrong: Path | None,
    device: str,
) -> None:
    """Measure BUNDLE on labelled data: that of a recipe's data section, or --data.source."""
    data = options.read_data(bundle, recipes, data_options)
    from scripts.tasks import find_task
    from shared.bundle.read import read_bundle
    from shared.runtime.choose import choose_runtime
    from shared.training.packing import evaluate

    measured = read_bundle(bundle)
    task = find_task(measured.config.task)
    runtime = choose_runtime(measured, device, network=task.network)
    found = evaluate(task, measured, runtime, data, split)
    for line in found.warnings:
        click.echo(f"percept: {line}", err=True)
    if most_wrong:
        most_wrong.write_bytes(found.most_wrong())
    if as_json:
        model = {"name": measured.name, "version": measured.version, "runtime": runtime.description}
        report = {"model": model, "split": split, **found.metrics}
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        head = f"{measured.name} {measured.version} on {runtime.description}; split {split}"
        click.echo(f"{head}\n\n{found.text}")
