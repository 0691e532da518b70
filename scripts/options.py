"""Options that several commands share: the device, recipes, and the settings of a task's data module.

Imports little at first: `percept batch` starts its processes before it loads anything.
"""

from __future__ import annotations

import json
import re
from argparse import SUPPRESS, ArgumentError
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.tasks import TASKS, find_task
from shared.errors import ConfigError
from shared.project import PROJECT_ROOT
from shared.task import Task, resolve

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

device = click.option(
    "--device",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="What to compute on.",
)
split = click.option(
    "--split", type=click.Choice(["test", "val", "train", "all"]), default="test", show_default=True, help="Which part."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
mlflow = click.option(
    "--mlflow",
    metavar="URI",
    envvar="MLFLOW_TRACKING_URI",
    help="Also log it as a run of this MLflow server; MLFLOW_TRACKING_URI if not given.",
)
min_score = click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    help="The lowest score of a tag; each label's own threshold if not given.",
)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(\d{1,5}(?:\.\d{1,3})?)([mhd])")
_RECORDS_URL = re.compile(r"sqlite:///.+|postgresql(\+psycopg)?://.+")


def duration(context: click.Context, option: click.Parameter, value: str | None) -> timedelta | None:
    """Return a duration such as 90m, 24h or 7d; for `callback`."""
    found = _DURATION.fullmatch(value) if value is not None else None
    if value is not None and (found is None or float(found[1]) == 0):
        raise click.BadParameter(f"{value!r} is no duration: write 90m, 24h or 7d.", context, option)
    return timedelta(**{_UNITS[found[2]]: float(found[1])}) if found is not None else None


def _records_url(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if _RECORDS_URL.fullmatch(value) is None:
        raise ConfigError("--records takes sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE.")
    return value


records = click.option(
    "--records",
    "url",
    required=True,
    envvar="PERCEPT_RECORDS",
    metavar="URL",
    callback=_records_url,
    help="The store, as the service has it; PERCEPT_RECORDS if not given.",
)


def check_writable(*files: Path | None) -> None:
    """Refuse files that cannot be written, before anything is loaded; None is one that nobody asked for.

    Raises:
        ConfigError: it is a folder, or nothing can be made in its own: there is none, or it is read only.
    """
    import tempfile

    for file in files:
        if file is None:
            continue
        folder = file.absolute().parent
        if file.is_dir():
            raise ConfigError(f"{file} is a folder. Name a file.")
        if not folder.is_dir():
            raise ConfigError(f"{file} cannot be written: name a file in a folder that is there.")
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ConfigError(f"{file} cannot be written: {error.strerror}. Name a file in another folder.") from error


recipes = click.option(
    "-c",
    "--config",
    "recipes",
    multiple=True,
    metavar="YAML",
    help="A recipe: a file, or the name of one that comes with Percept. Single options win over it.",
)


class TaskGroup(click.Group):
    """A group with a subcommand for each line of the task table.

    Args:
        make: returns the command of a task.
    """

    def __init__(self, *args: Any, make: Callable[[Task], click.Command], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.make = make

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(TASKS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        return self.make(find_task(cmd_name))


def find_recipe(name: str) -> Path:
    """Return the YAML file of that path, or the one that comes with Percept under that name.

    Raises:
        ConfigError: there is neither; lists what comes with Percept.
    """
    for file in (Path(name), PROJECT_ROOT / name):
        if file.is_file():
            return file
    files = (file for task in ("vision", "nlp") for file in (PROJECT_ROOT / "configs" / task).glob("*.yaml"))
    known = ", ".join(sorted(file.relative_to(PROJECT_ROOT).as_posix() for file in files))
    raise ConfigError(f"there is no recipe {name}. Name a YAML file, or one of {known}.")


class DataCommand(click.Command):
    """A command on a BUNDLE that also takes the `--data.…` options of the bundle's task, and lists them in its help.

    click knows all other options. What it does not know comes as `data_options` and is read by `read_data`.
    """

    ignore_unknown_options = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "add_help_option": False})  # ours, below, knows the bundle
        self.params += [
            click.Argument(["bundle"], required=False, type=click.Path(path_type=Path)),
            click.Argument(["data_options"], nargs=-1, type=click.UNPROCESSED, metavar="[--data.OPTION VALUE]..."),
            click.Option(["-h", "--help"], is_flag=True, help="Show this message and exit."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        bundle: Path | None = ctx.params["bundle"]
        if ctx.params.pop("help"):
            data_help = _data_parser(_task_of(bundle), ctx.command_path).format_help()
            click.echo(f"{ctx.get_help()}\n\n{data_help}", nl=False)
            return None
        if bundle is None or str(bundle).startswith("-"):
            raise click.UsageError(f"Name the BUNDLE before the --data options: {ctx.command_path} BUNDLE ...", ctx)
        return super().invoke(ctx)


def read_data(bundle: Path, recipes: Sequence[str], data_options: Sequence[str]) -> Any:
    """Return the data module of the bundle's task, set up by the `data` sections of recipes and by single options.

    Raises:
        ConfigError: an option or a value is wrong, or a recipe cannot be read.
    """
    command = click.get_current_context().command_path
    parser = _data_parser(_task_of(bundle), command)
    sections = {key: value for name in recipes for key, value in _data_section(find_recipe(name)).items()}
    from_recipes = [
        f"--data.{key}={value if isinstance(value, str) else json.dumps(value, default=str)}"
        for key, value in sections.items()
        if value is not None
    ]
    try:
        return parser.instantiate(parser.parse_args([*from_recipes, *data_options])).data
    except ArgumentError as error:
        hint = " Name the data with --data.source or a YAML with -c." if "data.source" in str(error) else ""
        raise ConfigError(f"{error}.{hint} See: {command} --help") from error


def _data_parser(task: Task, command: str) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=command, usage=SUPPRESS, add_help=False, exit_on_error=False)
    parser.add_class_arguments(resolve(task.data), "data")
    return parser


def _task_of(bundle: Path | None) -> Task:
    """Return the bundle's task; tagging if there is no bundle that can be read."""
    from shared.bundle.layout import CONFIG

    try:
        content = json.loads((bundle / CONFIG).read_text(encoding="utf-8")) if bundle else None
    except (OSError, ValueError):
        content = None
    name = content.get("task") if isinstance(content, dict) else None
    return TASKS.get(str(name), TASKS["tagging"])


def _data_section(file: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"the YAML {file} cannot be read: {error}") from error
    section = content.get("data") if isinstance(content, dict) else None
    if not isinstance(section, dict):
        raise ConfigError(f"{file} has no `data:` section. Name a recipe for `percept fit`.")
    return section
