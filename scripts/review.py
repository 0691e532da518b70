"""`percept review`: what reviewers said as a dataset; records to Label Studio, and its annotations back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from scripts import options
from shared.errors import ConfigError

_SHOWN_IDS = 20
_bundle = click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path))


@click.group()
def command() -> None:
    """Make a dataset of what reviewers said of a service's answers, here or in Label Studio.

    \b
    percept review dataset models/intent --records sqlite:////var/lib/percept/records.sqlite reviewed/
    percept review export models/intent --records sqlite:////var/lib/percept/records.sqlite tasks.json --config view.xml
    percept review import models/intent --records sqlite:////var/lib/percept/records.sqlite annotations.json

    On the page /ui/review of a service that keeps records, people review without any other program.
    """


@command.command("dataset")
@_bundle
@options.records
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
def dataset(folder: Path, url: str, out: Path) -> None:
    """Write what reviewers agree on as a dataset that `percept fit` reads.

    Left out are records of forgotten subjects, those that were set aside, and those on which reviewers do not agree.
    """
    from shared.bundle.read import read_bundle
    from shared.dataset.columns import to_table
    from shared.dataset.write import check_target, write_dataset
    from shared.improving.examples import counted, examples_of
    from shared.records.store import opened

    check_target(out)
    bundle = read_bundle(folder)
    with opened(url, must_exist=True) as store:
        found = examples_of(store, bundle)
    for line in counted(found.left_out):
        click.echo(f"left out: {line}")
    if not found.examples:
        raise ConfigError(
            f"nothing of {found.records} reviewed records of {bundle.config.name} can be an example. Review some at "
            "/ui/review, or look at why they were left out."
        )
    name = f"reviews of {bundle.config.name}"
    rows = [example.row for example in found.examples]
    source = {"name": name, "kind": "reviews", "rows": len(rows), "licence": "unknown", "origin": ""}
    written = write_dataset(
        out,
        [("train", to_table(rows, found.columns))],
        name=name,
        columns=found.columns,
        history=[{"step": "review", "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "sources": [source]}],
        left_out=found.rows_left_out,
    )
    click.echo(f"{len(rows):,} examples of {found.records:,} reviewed records are in {written.path}")


@command.command("export")
@_bundle
@options.records
@click.argument("tasks", metavar="TASKS.json", type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE.xml", help="Write the labeling configuration.")
@click.option("--limit", type=click.IntRange(1, 20_000), default=1000, show_default=True, help="At most so many tasks.")
def export_tasks(folder: Path, url: str, tasks: Path, config: Path | None, limit: int) -> None:
    """Write what is worth a look as tasks for Label Studio, with the model's answers as predictions."""
    options.check_writable(tasks, config)
    from shared.bundle.read import read_bundle
    from shared.improving.label_studio import config_of, tasks_of
    from shared.records.store import opened
    from shared.staging import write_whole

    bundle = read_bundle(folder)
    with opened(url, must_exist=True) as store:
        found, labels = tasks_of(store, bundle, limit)
    if not found:
        raise ConfigError(
            f"there is nothing to review of {bundle.config.name}: no record with its text or photo is worth a look. "
            "Inputs are kept where the service has PERCEPT_RECORDS_LEVEL=inputs."
        )
    write_whole(tasks, json.dumps(found, ensure_ascii=False, indent=1).encode())
    click.echo(f"{len(found):,} tasks are in {tasks}")
    if config is not None:
        write_whole(config, config_of(bundle, labels).encode())
        click.echo(f"Paste {config} into the project's settings, Labeling Interface, Code; then import {tasks}")


@command.command("import")
@_bundle
@options.records
@click.argument("annotations", metavar="ANNOTATIONS.json", type=click.Path(path_type=Path))
def import_annotations(folder: Path, url: str, annotations: Path) -> None:
    """Keep the annotations of Label Studio's JSON export as reviews."""
    from shared.bundle.read import read_bundle
    from shared.improving.examples import counted
    from shared.improving.label_studio import keep_annotations, read_tasks
    from shared.records.store import opened

    bundle, tasks = read_bundle(folder), read_tasks(annotations)
    with opened(url, must_exist=True) as store:
        found = keep_annotations(store, bundle, tasks)
    for reviewer, count in sorted((+found.kept).items()):
        click.echo(f"{count:,} reviews of {reviewer} were kept")
    for line in counted(found.left_out):
        click.echo(f"left out: {line}")
    if found.unknown:
        more = f" and {len(found.unknown) - _SHOWN_IDS:,} more" if len(found.unknown) > _SHOWN_IDS else ""
        shown = ", ".join(map(str, found.unknown[:_SHOWN_IDS]))
        click.echo(f"left out: {len(found.unknown):,} records that are not there, or no longer: {shown}{more}")
    if found.new_labels:
        click.echo(f"new labels, which the model does not know: {', '.join(found.new_labels)}")
    if not found.kept.total():
        raise ConfigError(f"no annotation of {annotations} became a review.")
