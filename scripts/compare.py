"""`percept compare BUNDLE BUNDLE…`: bundles beside each other on the same labelled data."""

from __future__ import annotations

import json
from collections import Counter
from itertools import takewhile
from pathlib import Path

import click

from scripts import options
from shared.errors import ConfigError


class _CompareCommand(options.DataCommand):
    """Takes several bundles."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]", "BUNDLE BUNDLE...", "[--data.OPTION VALUE]..."]


@click.command(cls=_CompareCommand)
@options.recipes
@options.split
@options.as_json
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="HTML", help="Write a page to this file.")
@options.device
def command(
    bundle: Path,
    data_options: tuple[str, ...],
    recipes: tuple[str, ...],
    split: str,
    as_json: bool,
    output: Path | None,
    device: str,
) -> None:
    """Compare two or more bundles on the same labelled data: which is better, and whether the data can tell.

    \b
    percept compare models/intent runs/intent/bundle --data.source utterances.csv -o compared.html
    """
    others = [Path(name) for name in takewhile(lambda each: not each.startswith("-"), data_options)]
    bundles = [bundle, *others]
    if len(bundles) < 2:
        raise ConfigError("name two bundles or more: percept compare BUNDLE BUNDLE --data.source …")
    options.check_writable(output)
    data = options.read_data(bundle, recipes, data_options[len(others) :])
    from scripts.tasks import find_task
    from shared.bundle.read import read_bundle
    from shared.exploring.languages import language_of
    from shared.runtime.choose import choose_runtime
    from shared.tuning.comparing import compare
    from shared.tuning.judged import judged_alike
    from shared.tuning.report import page_of

    read = [read_bundle(path) for path in bundles]
    tasks = Counter(each.config.task for each in read)
    if len(tasks) > 1:
        raise ConfigError(f"these are bundles for {' and '.join(tasks)}. Compare bundles for one task.")
    task = find_task(read[0].config.task)
    runtimes = [choose_runtime(each, device, network=task.network) for each in read]
    entries, warnings = judged_alike(task, read, runtimes, data, split)
    for line in warnings:
        click.echo(f"percept: {line}", err=True)
    found = {"split": split, "notes": warnings, **compare(entries, language_of)}
    if output is not None:
        output.write_text(page_of(found), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    width = max(len(each["name"]) for each in found["bundles"])
    for each in found["bundles"]:
        ece = "" if each["ece"] is None else f"  ECE {each['ece']:.3f}"
        click.echo(
            f"{each['name']:<{width}}  {100 * each['value']:5.1f} % ({100 * each['low']:.1f} to "
            f"{100 * each['high']:.1f}){ece}  {each['milliseconds']:.1f} ms  {each['megabytes']:.1f} MB  "
            f"{each['folder']} ({each['version']})"
        )
    where = "all splits" if split == "all" else f"the split {split}"
    measure = found["measure"][0].upper() + found["measure"][1:]
    click.echo(f"\n{measure} on {found['examples']:,} examples of {where}. {found['verdict']}\n{found['explained']}")
    if len(bundles) > 2:
        for pair in found["pairs"]:
            click.echo(f"- {pair['sentence']}")
    if output is not None:
        click.echo(f"Look at {output}")
