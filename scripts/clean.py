"""`percept clean DATA`: proposes a plan, and replays one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts.eyes import eyes_for, eyes_on
from shared.errors import ConfigError

if TYPE_CHECKING:
    from shared.dataset.read import Dataset


FILE = click.Path(path_type=Path)


@click.command()
@click.argument("data", type=FILE)
@click.argument("output", type=FILE, required=False)
@click.option("--propose", type=FILE, metavar="PLAN", help="Write a plan that mends what is found.")
@click.option("--findings", type=FILE, help="What percept explore wrote; without it, the data are looked at again.")
@click.option("--decisions", type=FILE, help="What was decided on the page: decisions.jsonl.")
@click.option("--plan", "plan_file", type=FILE, metavar="PLAN", help="Do what this plan says.")
@click.option("--fitted", type=FILE, help="A dataset that the plan made: apply what was learned then, learn nothing.")
@click.option("--replace", is_flag=True, help="Write OUTPUT although another dataset is there.")
def command(
    data: Path,
    output: Path | None,
    propose: Path | None,
    findings: Path | None,
    decisions: Path | None,
    plan_file: Path | None,
    fitted: Path | None,
    replace: bool,
) -> None:
    """Clean the dataset DATA: `--propose PLAN` writes a plan, `--plan PLAN OUTPUT` makes the dataset OUTPUT by it.

    A person reads and edits the plan in between. The same plan on the same data makes the same bytes; other data are
    refused. What a step leaves out is in left_out.parquet, with the step and the reason. A dataset at OUTPUT is only
    replaced if a plan made it of DATA, or with --replace.
    """
    from shared.dataset.read import read_dataset

    dataset = read_dataset(data)
    if propose is not None and plan_file is None:
        if output is not None or fitted is not None or replace:
            raise ConfigError("--propose writes a plan alone: it takes neither OUTPUT, --fitted nor --replace.")
        _propose(dataset, propose, findings, decisions)
        return
    if plan_file is None or propose is not None or output is None:
        raise ConfigError("say --propose PLAN, or OUTPUT and --plan PLAN.")
    if findings is not None or decisions is not None:
        raise ConfigError("--findings and --decisions are for --propose; a plan names its decisions itself.")
    from shared.cleaning.plan import read_plan
    from shared.cleaning.run import clean
    from shared.exploring.wording import counted

    plan, made = read_plan(plan_file)
    done = clean(dataset, plan, made, output, eyes_for, fitted=fitted, replace=replace)
    if done.unmatched:
        about = f"{'is' if done.unmatched == 1 else 'are'} about no row of {data}"
        click.echo(f"{done.unmatched:,} of {counted(len(made), 'decision')} {about}.", err=True)
    for name, before, after in done.steps:
        click.echo(f"{name:<16} {before:>9,} -> {after:,}" if before != after else f"{name:<16} {after:>9,}")
    splits = ", ".join(f"{rows:,} {split}" for split, rows in done.dataset.info.splits.items())
    click.echo(f"{counted(len(done.dataset), 'row')} ({splits}) in {output}")


def _propose(dataset: Dataset, file: Path, findings: Path | None, decisions: Path | None) -> None:
    from shared.cleaning.plan import read_decisions, write_plan
    from shared.cleaning.propose import propose, ties
    from shared.exploring.examine import examine
    from shared.exploring.findings import read_findings
    from shared.exploring.report import FINDINGS
    from shared.exploring.rows import load_rows
    from shared.exploring.wording import counted

    if file.exists():
        raise ConfigError(f"{file} exists already, and may have been edited. Name another file.")
    rows = load_rows(dataset)
    if findings is None:
        eyes = eyes_on(None, rows)
        found = examine(rows, eyes).findings
    else:
        place = findings / FINDINGS if findings.is_dir() else findings
        try:
            found = read_findings(place)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"the findings {place} cannot be read: {error}") from error
    stale = next((each for each in found if each.row >= len(rows) or rows.digests[each.row] != each.sha256), None)
    if stale is not None:
        raise ConfigError(f"the findings are of another dataset: row {stale.row} is another one there. Look again.")
    made = read_decisions(decisions) if decisions is not None else []
    plan, lines = propose(dataset, found, made, rows.splits, rows.text)
    write_plan(file, plan, lines)
    own = f"{counted(len(made), 'decision')} of yours, " if made else ""
    proposed = f"{len(lines) - len(made):,} proposed" if made else f"{counted(len(lines), 'decision')} proposed"
    click.echo(f"{file}: {counted(len(plan['steps']), 'step')}; {own}{proposed}")
    tied = ties(found, made)
    if tied:
        click.echo(
            f"{counted(len(tied), 'text or photo', 'texts or photos')} with several labels and no majority: "
            f"{counted(sum(map(len, tied)), 'row')} of theirs proposed to be left out. Decide on the page which label "
            "is right to keep some."
        )
    click.echo(f"Read and edit it, then run: percept clean {dataset.path} OUTPUT --plan {file}")
