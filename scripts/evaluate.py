"""`percept evaluate BUNDLE`: measures a bundle on labelled data, through the runtime that serves it."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(args: tuple[str, ...]) -> None:
    """Measure BUNDLE on labelled data."""
    from scripts.settings import make_parser, parse, task_named
    from scripts.tasks import find_task
    from shared.bundle.read import read_bundle
    from shared.errors import ConfigError
    from shared.runtime.choose import choose_runtime
    from shared.task import Evaluation, resolve

    task = task_named(args)
    description = f"Measure a bundle on labelled data. The data options are those of its task, here {task.name}."
    parser = make_parser(resolve(task.data), prog="percept evaluate", description=description)
    parser.add_argument("bundle", type=str, help="The model folder.")
    parser.add_argument(
        "--split", choices=("test", "val", "train", "all"), default="test", help="Which part; default: %(default)s."
    )
    parser.add_argument("--json", action="store_true", help="Print all metrics as JSON.")
    parser.add_argument(
        "--most-wrong", "--contact-sheet", type=str, metavar="FILE",
        help="Write what it gets most wrong: a picture for photos, JSON lines for texts.",
    )  # fmt: skip
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="What computes.")
    settings = parse(parser, args)

    bundle = read_bundle(settings.bundle)
    task = find_task(bundle.config.task)
    runtime = choose_runtime(bundle, settings.device, network=task.network)
    found: Evaluation = resolve(task.evaluate)(bundle, runtime, parser.instantiate(settings).data, settings.split)
    for line in found.warnings if settings.split in ("test", "val") else ():
        click.echo(f"percept: {line}", err=True)
    if settings.most_wrong:
        if found.most_wrong is None:
            raise ConfigError(f"percept evaluate does not tell what a bundle for {task.name} gets most wrong.")
        Path(settings.most_wrong).write_bytes(found.most_wrong())
    if settings.json:
        model = {"name": bundle.name, "version": bundle.version, "runtime": runtime.description}
        report = {"model": model, "split": settings.split, **found.metrics}
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        head = f"{bundle.name} {bundle.version} on {runtime.description}; split {settings.split}"
        click.echo(f"{head}\n\n{found.text}")
