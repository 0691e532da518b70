"""`make bench`: compares Percept with its alternatives. docs/benchmark.md explains the setup."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from benchmarks.entities import measure_entities, render_entities
from benchmarks.measure import Plan, measure
from benchmarks.pages import publish
from benchmarks.parts import part_times
from benchmarks.plot import draw
from benchmarks.records import SECONDS, TURNS, measure_records, render_records, write_records
from benchmarks.report import render, render_parts
from benchmarks.stacks import PERCEPT, STACKS, Setup
from benchmarks.workloads import QUICK, QUICK_LEVELS, WORKLOADS
from shared.project import PROJECT_ROOT

RECORDS, ENTITIES = "records", "entities"
ALONE = {RECORDS: (measure_records, render_records), ENTITIES: (measure_entities, render_entities)}
"""What is measured by itself -> how, and how it is shown."""


def _chosen(known: dict[str, Any]) -> Any:
    def parse(context: click.Context, option: click.Parameter, value: str | None) -> list[Any] | None:
        if value is None:
            return None
        unknown = [name for name in value.split(",") if name not in known]
        if unknown:
            raise click.BadParameter(f"{', '.join(unknown)} is unknown. Choose from {', '.join(known)}.")
        return [known[name] for name in value.split(",")]

    return parse


@click.command()
@click.option(
    "--only",
    callback=_chosen({**WORKLOADS, **{name: name for name in ALONE}}),
    help=f"Comma-separated workloads from {', '.join(WORKLOADS)}; or {RECORDS} or {ENTITIES}, for what these cost.",
)
@click.option("--stacks", callback=_chosen(STACKS), help=f"Comma-separated stacks from {', '.join(STACKS)}.")
@click.option("--connections", help="Comma-separated, for all workloads; by default each has its own.")
@click.option("--rounds", type=click.IntRange(1), help="Every stack is restarted in each round.  [default: 3]")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Length of each load.  [default: 3]")
@click.option("--workers", default=os.cpu_count() or 1, show_default=True, help="Processes per stack.")
@click.option("--quick", is_flag=True, help="Short texts and small photos over 1 and 32 connections, in two minutes.")
@click.option("--parts", is_flag=True, help="Only show where the time of one request goes (Percept, one connection).")
@click.option("--output", type=click.Path(path_type=Path), help="JSON file for the result; by default under runs/.")
@click.option("--report", type=click.Path(exists=True, path_type=Path), help="Show an earlier result.")
@click.option("--plot", type=click.Path(path_type=Path), help="PNG for the picture; by default next to the JSON file.")
@click.option("--publish", "is_published", is_flag=True, help="Write tables and picture into the README and docs.")
def main(
    only: list[Any] | None,
    stacks: list[Any] | None,
    connections: str | None,
    rounds: int | None,
    seconds: float | None,
    workers: int,
    quick: bool,
    parts: bool,
    output: Path | None,
    report: Path | None,
    plot: Path | None,
    is_published: bool,
) -> None:
    """Measure requests per second, latency, memory and startup time of all stacks on this machine."""
    if report is not None:
        _show(json.loads(report.read_text(encoding="utf-8")), report, plot, is_published)
        return
    for name in ALONE:
        if only and name in only:
            if only != [name]:
                raise click.UsageError(f"{name} is measured by itself: --only {name}.")
            _measure_alone(name, rounds, seconds, output)
            return
    workloads = only or [WORKLOADS[name] for name in (QUICK if quick else WORKLOADS)]
    levels = tuple(map(int, connections.split(","))) if connections else QUICK_LEVELS if quick else None
    levels = (1,) if parts else levels
    if levels:
        workloads = [replace(each, levels=levels) for each in workloads]
    plan = Plan(
        stacks=[STACKS[PERCEPT]] if parts else stacks or list(STACKS.values()),
        workloads=workloads,
        rounds=rounds or (1 if quick else 3),
        seconds=seconds or (1 if quick else 3),
    )
    path = output or PROJECT_ROOT / "runs" / "benchmark" / f"{datetime.now():%Y-%m-%d-%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped on exit

    def keep(result: dict[str, Any]) -> None:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    setup = Setup(workers=workers)
    result = measure(setup, plan, keep)
    result["parts"] = {each.name: part_times(each, setup.bundles) for each in workloads if each.kind != "documents"}
    keep(result)
    if parts:
        click.echo(f"\n{render_parts(result)}")
    else:
        _show(result, path, plot, is_published)
    if result["problems"]:
        raise SystemExit(1)


def _measure_alone(name: str, turns: int | None, seconds: float | None, output: Path | None) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    measure_it, render_it = ALONE[name]
    result = measure_it(turns or TURNS, seconds or SECONDS)
    path = output or PROJECT_ROOT / "runs" / "benchmark" / f"{datetime.now():%Y-%m-%d-%H%M%S}-{name}.json"
    write_records(result, path)
    click.echo(f"\n{render_it(result)}\nResult {path}")


def _show(result: dict[str, Any], path: Path, plot: Path | None, is_published: bool) -> None:
    """Print the tables, draw the picture, and print where they are."""
    picture = plot or path.with_suffix(".png")
    picture.write_bytes(draw(result))
    click.echo(f"\n{render(result)}\nResult {path}, picture {picture}")
    if is_published:
        click.echo("Written: " + ", ".join(map(str, publish(result, PROJECT_ROOT))))


if __name__ == "__main__":
    main()
