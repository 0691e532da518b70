"""`percept promote CANDIDATE --over LIVE`: the gate, then the registry, then a running service."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts import options
from shared.errors import ConfigError

if TYPE_CHECKING:
    from shared.bundle.read import Bundle
    from shared.improving.gate import Bounds
    from shared.improving.promoting import Promotion
    from shared.improving.registry import Registry
    from shared.training.data import TaskData

EXIT_REFUSED, EXIT_UNDECIDED, EXIT_ROLLED_BACK = 1, 3, 4
KEY = "PERCEPT_KEY"
_DECISIONS = {"passes": "Promote it", "refused": "Do not promote it", "undecided": "Not enough examples to decide"}


class _PromoteCommand(options.DataCommand):
    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["CANDIDATE", "--over LIVE", "[OPTIONS]", "[--data.OPTION VALUE]..."]


@click.command(cls=_PromoteCommand)
@click.option("--over", required=True, type=click.Path(path_type=Path), metavar="LIVE",
              help="What is live now: a bundle's folder, or a registry's, such as registry/live.")  # fmt: skip
@options.recipes
@options.split
@click.option("--registry", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where versions are kept; that of --over, or registry/.")  # fmt: skip
@click.option("--margin", type=click.FloatRange(0, 100, min_open=True, max_open=True), default=1.0, show_default=True,
              help="Points that may be lost overall.")  # fmt: skip
@click.option("--label-margin", type=click.FloatRange(0, 100, min_open=True, max_open=True), default=5.0,
              show_default=True, help="Points that may be lost on one label.")  # fmt: skip
@click.option("--label-examples", type=click.IntRange(1), default=200, show_default=True,
              help="Labels with fewer are not looked at by themselves.")  # fmt: skip
@click.option("--ece-margin", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.02,
              show_default=True, help="By how much the calibration error may grow.")  # fmt: skip
@click.option("--slowdown", type=click.FloatRange(1), default=1.3, show_default=True,
              help="How many times as long the network may take.")  # fmt: skip
@click.option("--force", is_flag=True, help="Promote it whatever the gate says; needs --reason.")
@click.option("--reason", help="Why; goes into the registry's history.")
@click.option("--by", help="Who; user@host if not given.")
@click.option("--url", help=f"A running service that takes it up; its administrator's key comes from {KEY}.")
@click.option("--watch", "minutes", type=click.FloatRange(0), default=10.0, show_default=True, metavar="MINUTES",
              help="How long the service is watched, and rolled back if its metrics move.")  # fmt: skip
@click.option("--watch-confidence", type=click.FloatRange(0, 100), default=5.0, show_default=True,
              help="Points that the mean confidence may move.")  # fmt: skip
@click.option("--watch-no-answer", type=click.FloatRange(0, 100), default=5.0, show_default=True,
              help="Points that the share out of scope, or without a tag or answer, may move.")  # fmt: skip
@click.option("--watch-errors", type=click.FloatRange(0, 100), default=1.0, show_default=True,
              help="Points that the share of failed requests may grow.")  # fmt: skip
@options.mlflow
@options.as_json
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="HTML", help="Write a page to this file.")
@options.device
@click.pass_context
def command(
    context: click.Context,
    bundle: Path,
    data_options: tuple[str, ...],
    over: Path,
    recipes: tuple[str, ...],
    split: str,
    folder: Path | None,
    margin: float,
    label_margin: float,
    label_examples: int,
    ece_margin: float,
    slowdown: float,
    force: bool,
    reason: str | None,
    by: str | None,
    url: str | None,
    minutes: float,
    watch_confidence: float,
    watch_no_answer: float,
    watch_errors: float,
    mlflow: str | None,
    as_json: bool,
    output: Path | None,
    device: str,
) -> None:
    """Let a better model take the live one's place, if held-out data show that nothing is lost.

    \b
    percept promote runs/new/bundle --over runs/intent/bundle --data.source utterances.csv
    percept promote runs/new/bundle --over registry/live --data.source utterances.csv --url http://localhost:3000

    It ends with 0 if the candidate is live, 1 if it was refused, 3 if the examples are too few to tell, and 4 if a
    service's metrics moved and it was rolled back.
    """
    if force and not (reason or "").strip():
        raise ConfigError("--force needs --reason: whoever reads the history will ask why.")
    options.check_writable(output)
    data = options.read_data(bundle, recipes, data_options)
    from shared.improving.gate import PASSES, UNDECIDED, Bounds
    from shared.improving.promoting import promote
    from shared.improving.watching import Limits, Service

    bounds = Bounds(margin / 100, label_margin / 100, label_examples, ece_margin, slowdown)
    limits = Limits(watch_confidence / 100, watch_no_answer / 100, watch_errors / 100)
    registry, candidate, live = _bundles(bundle, over, folder)
    found = _judged(candidate, live, data, split, device, bounds)
    for line in found["notes"]:
        click.echo(f"percept: {line}", err=True)
    found["over"]["folder"] = str(over)
    found["is_forced"] = force and found["verdict"] != PASSES
    found["decision"] = "Promoted in spite of the gate" if found["is_forced"] else _DECISIONS[found["verdict"]]
    _write(found, output)
    if not as_json:
        _tell(found)
    if found["verdict"] != PASSES and not force:
        _end(context, found, as_json, output, EXIT_UNDECIDED if found["verdict"] == UNDECIDED else EXIT_REFUSED)
    service = Service(url, os.environ.get(KEY)) if url else None
    try:
        promotion = promote(
            registry, candidate, live, found, by=by, reason=reason, is_forced=found["is_forced"], service=service,
            minutes=minutes, limits=limits, tell=lambda line: click.echo(f"percept: {line}", err=True),
        )  # fmt: skip
    except KeyboardInterrupt:
        click.echo(
            f"percept: interrupted, so nothing watches the service any more. `percept registry {registry.folder}` "
            f"shows what is live, and `percept registry rollback {registry.folder}` goes back.",
            err=True,
        )
        raise
    finally:
        if service is not None:
            service.close()
    found["promotion"] = promotion.described()
    if not promotion.is_live:
        found["decision"] = "Rolled back"
    _write(found, output)
    if mlflow is not None:
        _log(mlflow, candidate.name, promotion, found)
    if not as_json:
        for line in promotion.told:
            click.echo(line[0].upper() + line[1:])
        if promotion.is_live:
            click.echo(f"{promotion.change.to} is live in {registry.folder}; before, it was {promotion.change.before}.")
    _end(context, found, as_json, output, 0 if promotion.is_live else EXIT_ROLLED_BACK)


def _bundles(bundle: Path, over: Path, folder: Path | None) -> tuple[Registry, Bundle, Bundle]:
    """Return the registry, the candidate and the live bundle, which may be promoted there one over the other."""
    from shared.bundle.read import read_bundle
    from shared.improving.registry import Registry

    of_alias = Registry.of_alias(over)
    if of_alias and folder and of_alias.folder.resolve() != folder.resolve():
        raise ConfigError(f"{over} is in a registry of its own, and not in {folder}. Leave out --registry.")
    registry = of_alias or Registry(folder or Path("registry"))
    registry.finish()
    candidate, live = read_bundle(bundle), registry.read_live() if of_alias else read_bundle(over)
    registry.expect(candidate, live)
    return registry, candidate, live


def _judged(candidate: Bundle, live: Bundle, data: TaskData, split: str, device: str, bounds: Bounds) -> dict[str, Any]:
    """Return what the gate and a comparison find, and what the page shows besides."""
    from scripts.tasks import find_task
    from shared.improving.gate import judge_gate
    from shared.runtime.choose import choose_runtime
    from shared.tuning.comparing import compare
    from shared.tuning.judged import judged_alike

    task = find_task(live.config.task)
    runtimes = [choose_runtime(each, device, network=task.network) for each in (candidate, live)]
    names = ("the candidate", "the live bundle")
    entries, notes = judged_alike(task, [candidate, live], runtimes, data, split, unknown_is_wrong=True, names=names)
    first, second = (replace(each, name=name) for each, name in zip(entries, ("candidate", "live"), strict=True))
    lost = [label for label in live.labels if label not in set(candidate.labels)]
    beside = compare([first, second])
    return {
        **judge_gate(first, second, bounds, lost),
        "split": split,
        "notes": notes,
        "candidate": {"name": candidate.name, "version": candidate.version, "folder": str(candidate.path)},
        "over": {"name": live.name, "version": live.version, "folder": str(live.path)},
        **{name: beside[name] for name in ("bundles", "apart", "is_right_or_wrong")},
        "promotion": None,
    }


def _write(found: dict[str, Any], output: Path | None) -> None:
    from shared.improving.report import promotion_page

    if output is not None:
        output.write_text(promotion_page(found), encoding="utf-8")


def _log(mlflow: str, name: str, promotion: Promotion, found: dict[str, Any]) -> None:
    from shared.improving.report import promotion_page
    from shared.improving.tracking import log_change

    outcome = "live" if promotion.is_live else "rolled back"
    told = log_change(mlflow, name, promotion.change, page=promotion_page(found), outcome=outcome)[1]
    click.echo(f"percept: {told}", err=True)


def _tell(report: dict[str, Any]) -> None:
    marks = {"holds": "ok", "fails": "FAILS", "open": "open"}
    click.echo(f"{report['sentence']}\n")
    for check in report["checks"]:
        click.echo(f"{marks[check['state']]:<6}{check['sentence']}")
    for line in report["not_checked"]:
        click.echo(f"      {line}")
    click.echo(f"\n{report['power']['sentence']}")
    if report["is_forced"]:
        click.echo("It is promoted all the same, as --force says.")


def _end(context: click.Context, report: dict[str, Any], as_json: bool, output: Path | None, status: int) -> None:
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
    elif output is not None:
        click.echo(f"Look at {output}")
    context.exit(status)
