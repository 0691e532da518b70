"""`percept tune TASK`: search for the settings with which a model becomes best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts import options
from shared.errors import ConfigError
from shared.project import PROJECT_ROOT
from shared.task import Task

if TYPE_CHECKING:
    from shared.tuning.study import Searching

_HELP = """Search for good settings of TASK: many short trainings, most of which are ended early.

ARGS go to the training command line, as for `percept fit`: -c FILE.yaml for a recipe, --key value for single settings.

\b
percept tune intent -c configs/nlp/intent.yaml --data.source intents.csv --trials 30
percept tune tagging -c configs/vision/tagging.yaml --data.source photos/ --search space.yaml --minutes 60
"""


def _number(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no number of minutes.", ctx, param)
    return value


def _tune(task: Task) -> click.Command:
    @click.command(
        task.name,
        short_help=f"Settings for {task.name}.",
        context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]},
        epilog=f"ARGS are those of `percept fit {task.name}`.",
    )
    @options.recipes
    @click.option("--search", "space", type=click.Path(path_type=Path), metavar="YAML",
                  help="Which settings may have which values; configs/search/TASK.yaml if not given.")  # fmt: skip
    @click.option("--sampler", type=click.Choice(["tpe", "random", "grid"]), default="tpe", show_default=True,
                  help="How the next values are chosen: by what was good, at random, or all there are.")  # fmt: skip
    @click.option("--pruner", type=click.Choice(["hyperband", "median", "none"]), default="hyperband",
                  show_default=True, help="How trials without prospect are found and ended.")  # fmt: skip
    @click.option("--folds", type=click.IntRange(2, 20), help="Judge each trial by cross-validation.")
    @click.option("--trials", type=click.IntRange(1), help="Of the study in all; 20 if neither this nor --minutes.")
    @click.option(
        "--minutes",
        type=click.FloatRange(0, 1_000_000, min_open=True),
        callback=_number,
        help="Of this run of the command.",
    )
    @click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Trials at the same time.")
    @click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what is drawn.")
    @click.option("--storage", metavar="URL", help="A database for the study, such as postgresql://…; a file in the "
                  "study's folder if not given.")  # fmt: skip
    @click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER",
                  help="The study's folder; runs/tune-TASK if not given.")  # fmt: skip
    @click.argument("args", nargs=-1, type=click.UNPROCESSED)
    def tune(
        recipes: tuple[str, ...],
        space: Path | None,
        sampler: str,
        pruner: str,
        folds: int | None,
        trials: int | None,
        minutes: float | None,
        jobs: int,
        seed: int,
        storage: str | None,
        output: Path | None,
        args: tuple[str, ...],
    ) -> None:
        from shared.tuning.ground import ground_of
        from shared.tuning.space import read_space
        from shared.tuning.study import Search, Searching

        folder = output or Path("runs") / f"tune-{task.name}"
        given = [*(part for name in recipes for part in ("-c", str(options.find_recipe(name)))), *args]
        search = Search(task, given, read_space(_space_of(task, space)), sampler, pruner, folds or 0, seed)
        ground = ground_of(task, given, folds=search.folds)
        searching = Searching(search, ground, folder, storage)
        combinations = searching.combinations()
        if trials is None and minutes is None and combinations is None:
            trials = 20
        if combinations is not None and trials is not None and trials < combinations:
            click.echo(f"percept: the grid has {combinations:,} combinations; only {trials:,} are tried.", err=True)
        try:
            searching.run(trials=trials, minutes=minutes, jobs=jobs)
        finally:
            _tell(searching, folder, task)

    return tune


def _space_of(task: Task, given: Path | None) -> Path:
    file = given or PROJECT_ROOT / "configs" / "search" / f"{task.name}.yaml"
    if not file.is_file():
        if given is None:
            raise ConfigError(f"no search space comes with Percept for {task.name}: write one and name it with "
                              "--search, such as `model.lr: {low: 1.0e-5, high: 1.0e-3, log: true}`.")  # fmt: skip
        raise ConfigError(f"there is no search space {given}.")
    return file


def _tell(searching: Searching, folder: Path, task: Task) -> None:
    from shared.tuning.report import study_page
    from shared.tuning.study import BEST
    from shared.tuning.summary import lines_of, summarised

    found: dict[str, Any] = summarised(searching)
    if not found["trials"]:
        return
    (folder / "index.html").write_text(study_page(found), encoding="utf-8")
    for line in lines_of(found):
        click.echo(line)
    click.echo(f"Look at {folder / 'index.html'}")
    if found["best"] is not None:
        click.echo(f"Next: percept fit {task.name} -c {folder / BEST}")


command = options.TaskGroup(make=_tune, help=_HELP, subcommand_metavar="TASK [OPTIONS] [ARGS]...")
