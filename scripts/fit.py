"""`percept fit TASK …`: hands everything after TASK to the training command line."""

from __future__ import annotations

import click

from scripts.tasks import TASKS, find_task

_HELP = f"""Train or fine-tune a model for TASK ({", ".join(TASKS)}); ends in a bundle.

ARGS go to the training command line: -c FILE.yaml for a recipe, --key value for single settings.

\b
percept fit tagging --help             lists every setting
percept fit tagging --print_config     prints them as YAML
percept fit tagging -c configs/vision/tagging.yaml --data.source photos/
"""


@click.command(help=_HELP, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("task")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(task: str, args: tuple[str, ...]) -> None:
    found = find_task(task)
    from shared.training.cli import fit_main

    bundle = fit_main(found, list(args))
    if bundle is not None:
        click.echo(f"{bundle.name} {bundle.version} is in {bundle.path}. Next: percept serve {bundle.path}")
