"""Command lines that take the data module's settings: `--data.…` options and the data section of a training YAML."""

from __future__ import annotations

import json
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from scripts.tasks import TASKS
from shared.bundle.layout import CONFIG
from shared.errors import ConfigError
from shared.task import Task


def make_parser(data_class: type | None, **options: Any) -> ArgumentParser:
    """Return a parser with `--data.…` for each argument of the data module and `-c YAML`; without both for None."""
    parser = ArgumentParser(exit_on_error=False, **options)
    if data_class is not None:
        parser.add_argument(
            "-c",
            "--config",
            action="append",
            default=[],
            metavar="YAML",
            help="A YAML as for `percept fit`: its data section is taken, the rest is of no account.",
        )
        parser.add_class_arguments(data_class, "data")
    return parser


def task_named(args: Sequence[str]) -> Task:
    """Return the task of the bundle that stands among the arguments; tagging where there is none that can be read."""
    for arg in args:
        if not arg.startswith("-") and (Path(arg) / CONFIG).is_file():
            try:
                content = json.loads((Path(arg) / CONFIG).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(content, dict) and content.get("task") in TASKS:
                return TASKS[content["task"]]
    return TASKS["tagging"]


def parse(parser: ArgumentParser, args: Sequence[str]) -> Namespace:
    """Return the settings; single options win over YAML, wherever they stand.

    Raises:
        ConfigError: an option or a value is wrong, or a YAML cannot be read.
    """
    rest: list[str] = []
    sections: list[dict[str, Any]] = []
    waiting = iter(args)
    for arg in waiting:
        if arg in ("-c", "--config"):
            sections.append(_data_section(next(waiting, None)))
        elif arg.startswith("--config="):
            sections.append(_data_section(arg.removeprefix("--config=")))
        else:
            rest.append(arg)
    merged = {key: value for section in sections for key, value in section.items()}
    try:
        base = [f"--data.{key}={yaml.safe_dump(value, default_flow_style=True).removesuffix('...' + chr(10)).strip()}"
                for key, value in merged.items() if value is not None]  # fmt: skip
        return parser.parse_args([*base, *rest])
    except ArgumentError as error:
        hint = " Name the data with --data.source or a YAML with -c." if "data.source" in str(error) else ""
        raise ConfigError(f"{error}.{hint} See: {parser.prog} --help") from error


def _data_section(path: str | None) -> dict[str, Any]:
    if path is None:
        raise ConfigError("-c needs a YAML file.")
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"the YAML {path} cannot be read: {error}") from error
    section = content.get("data") if isinstance(content, dict) else None
    if not isinstance(section, dict):
        raise ConfigError(f"{path} has no `data:` section; expected a YAML as `percept fit` takes it.")
    return section
