"""`percept improve TASK OUT --records URL --data DATASET --over BUNDLE`: reviewed records become a better model."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts import options
from shared.errors import ConfigError
from shared.task import Task

if TYPE_CHECKING:
    from datetime import timedelta

    from shared.bundle.read import Bundle
    from shared.dataset.read import Dataset
    from shared.training.data import TaskData

EXIT_WORSE, EXIT_NOTHING_NEW = 1, 3
TASKS = ("intent", "tagging")
PATH = click.Path(path_type=Path)
_HELP = """Make a better model of reviewed records: a new version of the dataset, a training that starts from the live
bundle, and both bundles beside each other.

DATASET is what the live bundle was trained on, or the folder of an earlier `percept improve`. OUT gets `dataset`,
`recent` (reviewed rows that are never trained on), `run`, `bundle`, a page for each comparison, and improved.json.
Options of the training, such as --model.lr 1e-4, go behind OUT. If it was stopped, the same command goes on.

It ends with 0 if the candidate is worth the gate of `percept promote`, 1 if it is worse for sure, and 3 if no review is
new.

\b
percept improve intent improved --records sqlite:////var/lib/percept/records.sqlite --data intents --over registry/live
"""


def _improve(task: Task) -> click.Command:
    @click.command(
        task.name,
        short_help=f"A better model for {task.name}.",
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("output", metavar="OUT", type=PATH)
    @options.records
    @click.option("--data", required=True, type=PATH, metavar="DATASET",
                  help="What the live bundle was trained on, or the folder of an earlier improvement.")  # fmt: skip
    @click.option("--over", required=True, type=PATH, metavar="LIVE",
                  help="What is live now: a bundle's folder, or a registry's, such as registry/live.")  # fmt: skip
    @click.option("--since", callback=options.duration, metavar="30d", help="Only reviews of the last 24h, 30d.")
    @click.option("--least-new", type=click.IntRange(2), default=8, show_default=True, metavar="N",
                  help="Training examples of a label that is new; with fewer, it is left out.")  # fmt: skip
    @click.option("--text", metavar="COLUMN", help="The dataset's column of texts.")
    @click.option("--label", metavar="COLUMN", help="The dataset's column of labels.")
    @options.recipes
    @options.device
    @options.as_json
    @click.argument("args", nargs=-1, type=click.UNPROCESSED)
    @click.pass_context
    def improve(
        context: click.Context,
        output: Path,
        url: str,
        data: Path,
        over: Path,
        since: timedelta | None,
        least_new: int,
        text: str | None,
        label: str | None,
        recipes: tuple[str, ...],
        device: str,
        as_json: bool,
        args: tuple[str, ...],
    ) -> None:
        if task.name not in TASKS:
            raise ConfigError(
                f"percept improve is for {' and '.join(TASKS)}. Of answers, `percept review dataset` writes what was "
                "said, as questions that `percept fit qa` reads beside others."
            )
        if str(output).startswith("-"):
            raise ConfigError(
                f"OUT, the folder for all that is made, comes before options of the training; came {output}."
            )
        from shared.dataset.read import read_dataset
        from shared.improving.improving import Improvement, fit_args, prepare, start_of, write_found

        live = _live(over)
        if live.config.task != task.name:
            raise ConfigError(f"{over} is a bundle for {live.config.task}. Run: percept improve {live.config.task}")
        columns = {name: column for name, column in (("text", text), ("label", label)) if column is not None}
        dataset, recent = _datasets(data)
        wanted = Improvement(live, dataset, recent, output, since=since, least=least_new, **columns)
        files = [part for name in recipes for part in ("-c", str(options.find_recipe(name)))]
        training = [*files, *args]
        found = prepare(wanted, url, training)
        _say(found["told"], as_json)
        if not found["added"]:
            _say([f"No review is new to {data}, so nothing was trained. Review some at /ui/review."], as_json)
            _end(context, found, as_json, EXIT_NOTHING_NEW)
        from shared.bundle.read import read_bundle
        from shared.training.cli import fit_main

        source = _source(output / "dataset", columns)
        if not (output / "bundle").is_dir():
            given = [part for name in recipes for part in ("-c", name)]
            said = ["percept", "improve", task.name, str(output), "--data", str(data), "--over", str(over)]
            command = shlex.join([*said, *given, *args])
            start = start_of(live, output, has_recipe=bool(recipes))
            if fit_main(task, fit_args(wanted, start, source, training), command=command) is None:
                raise ConfigError("the training was stopped. The same command goes on.")
        candidate = read_bundle(output / "bundle")
        found["candidate"] = {"version": candidate.version, "folder": str(candidate.path)}
        has_recent = (output / "recent").is_dir() and len(read_dataset(output / "recent")) > 0
        found["compared"] = {}
        for name, is_recent in (("test", False), *((("recent", True),) if has_recent else ())):
            more = [_source(output / "recent", columns)] if is_recent else []
            read = options.read_data(live.path, (), [f"--data.source={json.dumps([source, *more])}"])
            compared = _compared(task, candidate, live, read, device, is_recent=is_recent)
            if compared is None:
                continue
            found["compared"][name] = compared
            page = output / f"{name}.html"
            _write_page(page, compared)
            what = "What people ask by now, never trained on" if is_recent else "The held-out test part"
            _say([f"{what}: {compared['verdict']} ({page})", *(f"  {note}" for note in compared["notes"])], as_json)
        is_worse = any(_is_worse(each) for each in found["compared"].values())
        folders = ["dataset", *(["recent"] if has_recent else [])]
        found["next"] = _gate(candidate, over, [_source(output / name, columns) for name in folders])
        write_found(output, found)
        _say(
            ["It is worse for sure, so there is nothing to promote." if is_worse else f"Next: {found['next']}"], as_json
        )
        _end(context, found, as_json, EXIT_WORSE if is_worse else 0)

    return improve


def _gate(candidate: Bundle, over: Path, sources: list[dict[str, str]]) -> str:
    """Return the command that asks both bundles what is held out, and what people ask by now."""
    plain = sources[0]["path"] if len(sources) == len(sources[0]) == 1 else json.dumps(sources)
    return shlex.join(["percept", "promote", str(candidate.path), "--over", str(over), "--data.source", plain])


def _live(over: Path) -> Bundle:
    from shared.bundle.read import read_bundle
    from shared.improving.registry import Registry

    registry = Registry.of_alias(over)
    return read_bundle(over.resolve()) if registry is None else registry.read_live()


def _datasets(data: Path) -> tuple[Dataset, Dataset | None]:
    """Return the dataset, and what an earlier improvement kept apart."""
    from shared.dataset.read import is_dataset, read_dataset

    if is_dataset(data / "dataset"):
        return read_dataset(data / "dataset"), read_dataset(data / "recent") if is_dataset(data / "recent") else None
    return read_dataset(data), None


def _source(path: Path, columns: dict[str, str]) -> dict[str, str]:
    return {"path": str(path), **columns}


def _compared(
    task: Task, candidate: Bundle, live: Bundle, data: TaskData, device: str, *, is_recent: bool
) -> dict[str, Any] | None:
    """Return what a comparison says; None if there is nothing to compare on."""
    from dataclasses import replace

    from shared.errors import DataError
    from shared.runtime.choose import choose_runtime
    from shared.tuning.comparing import compare
    from shared.tuning.judged import judged_alike

    data.read()
    if is_recent:
        data.splits["test"] = [example for example in data.splits["test"] if example.source == 1]
    runtimes = [choose_runtime(each, device, network=task.network) for each in (candidate, live)]
    names = ("the candidate", "the live bundle")
    try:
        entries, notes = judged_alike(
            task, [candidate, live], runtimes, data, "test", unknown_is_wrong=True, names=names
        )
    except DataError as error:
        click.echo(f"percept: {error}", err=True)
        return None
    named = [replace(each, name=name) for each, name in zip(entries, ("candidate", "live"), strict=True)]
    return {"split": "recent" if is_recent else "test", "notes": notes, **compare(named)}


def _is_worse(compared: dict[str, Any]) -> bool:
    """Whether the live bundle is better, and that is more than chance."""
    (pair,) = compared["pairs"]
    return bool(pair["is_sure"] and pair["first"] == "live")


def _write_page(page: Path, compared: dict[str, Any]) -> None:
    from shared.tuning.report import page_of

    page.write_text(page_of(compared), encoding="utf-8")


def _say(lines: list[str], as_json: bool) -> None:
    for line in lines:
        click.echo(line, err=as_json)


def _end(context: click.Context, found: dict[str, Any], as_json: bool, status: int) -> None:
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    context.exit(status)


command = options.TaskGroup(make=_improve, help=_HELP, subcommand_metavar="TASK OUT [OPTIONS]...")
