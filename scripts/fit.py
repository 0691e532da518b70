"""`percept fit TASK`: one subcommand per task, each of which hands its arguments to the training command line."""

from __future__ import annotations

from typing import Literal

import click

from scripts import options
from shared.errors import ConfigError
from shared.task import Task

_HELP = """Train or fine-tune a model for TASK; the result is a bundle.

ARGS go to the training command line: -c FILE.yaml for a recipe, --key value for single settings. --folds K trains once
for each of K parts of the data first, and says how the quality varies; --pack best then takes the best of these models,
--pack none none of them, and --pack all, which is the default, trains once more as without folds.

\b
percept fit tagging --help             lists every setting
percept fit tagging --print_config     prints them as YAML
percept fit tagging -c configs/vision/tagging.yaml --data.source photos/
"""


def _fit(task: Task) -> click.Command:
    @click.command(
        task.name,
        short_help=f"A model for {task.name}.",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )
    @options.recipes
    @click.option("--folds", type=click.IntRange(2, 20))
    @click.option("--pack", type=click.Choice(["all", "best", "none"]))
    @click.argument("args", nargs=-1, type=click.UNPROCESSED)
    def fit(
        recipes: tuple[str, ...],
        folds: int | None,
        pack: Literal["all", "best", "none"] | None,
        args: tuple[str, ...],
    ) -> None:
        files = [part for name in recipes for part in ("-c", str(options.find_recipe(name)))]
        named = [part for name in recipes for part in ("-c", name)]
        named_as = ["percept", "fit", task.name, *named]
        if folds is None:
            if pack is not None:
                raise ConfigError("--pack says what is packed after cross-validation: add --folds 5, or leave it out.")
            from shared.training.cli import fit_main

            bundle = fit_main(task, [*files, *args], command=" ".join([*named_as, *args]))
        else:
            from shared.tuning.cross import cross_validate, table
            from shared.tuning.ground import ground_of

            ground = ground_of(task, [*files, *args], folds=folds)
            named_as += ["--folds", str(folds), *(["--pack", pack] if pack else [])]
            done, bundle = cross_validate(
                task, [*files, *args], folds, ground, pack=pack or "all", command=" ".join([*named_as, *args])
            )
            click.echo(table(done))
        if bundle is not None:
            click.echo(f"{bundle.name} {bundle.version} is in {bundle.path}. Next: percept serve {bundle.path}")

    return fit


command = options.TaskGroup(make=_fit, help=_HELP, subcommand_metavar="TASK [ARGS]...")
