"""`percept fit TASK`: one subcommand per task, each of which hands its arguments to the training command line."""

from __future__ import annotations

import click

from scripts import options
from scripts.tasks import TASKS, find_task
from shared.task import Task

_HELP = """Train or fine-tune a model for TASK; the result is a bundle.

ARGS go to the training command line: -c FILE.yaml for a recipe, --key value for single settings.

\b
percept fit tagging --help             lists every setting
percept fit tagging --print_config     prints them as YAML
percept fit tagging -c configs/vision/tagging.yaml --data.source photos/
"""


class Tasks(click.Group):
    """A subcommand for each line of the task table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(TASKS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        return _fit(find_task(cmd_name))


@click.group(cls=Tasks, help=_HELP, subcommand_metavar="TASK [ARGS]...")
def command() -> None:
    pass


def _fit(task: Task) -> click.Command:
    @click.command(
        task.name,
        short_help=f"A model for {task.name}.",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )
    @options.recipes
    @click.argument("args", nargs=-1, type=click.UNPROCESSED)
    def fit(recipes: tuple[str, ...], args: tuple[str, ...]) -> None:
        from shared.training.cli import fit_main

        files = [part for name in recipes for part in ("-c", str(options.find_recipe(name)))]
        named = [part for name in recipes for part in ("-c", name)]
        bundle = fit_main(task, [*files, *args], command=" ".join(["percept", "fit", task.name, *named, *args]))
        if bundle is not None:
            click.echo(f"{bundle.name} {bundle.version} is in {bundle.path}. Next: percept serve {bundle.path}")

    return fit
