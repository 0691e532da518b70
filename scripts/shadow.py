"""`percept shadow CANDIDATE --records URL`: what a candidate answered silently beside the live model."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from scripts import options

EXIT_NOTHING = 3


@click.command()
@click.argument("folder", metavar="CANDIDATE", type=click.Path(path_type=Path))
@options.records
@click.option(
    "--since", callback=options.duration, metavar="7d", help="How far back, such as 90m, 24h or 7d; else all."
)
@click.option("--last", type=click.IntRange(1, 1_000_000), default=50_000, show_default=True, metavar="N",
              help="The newest N pairs at most.")  # fmt: skip
@options.as_json
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="HTML", help="Write a page to this file.")
@click.pass_context
def command(
    context: click.Context,
    folder: Path,
    url: str,
    since: timedelta | None,
    last: int,
    as_json: bool,
    output: Path | None,
) -> None:
    """Compare what a candidate answered silently, as PERCEPT_SHADOW names it, with what callers got.

    \b
    percept shadow runs/new/bundle --records sqlite:////var/lib/percept/records.sqlite -o shadow.html

    It ends with 3 if it has answered nothing yet.
    """
    options.check_writable(output)
    from shared.bundle.read import read_bundle
    from shared.improving.shadowing import compare_silent, shadow_page
    from shared.records.shadowed import pairs
    from shared.records.store import opened

    bundle = read_bundle(folder)
    begin = (datetime.now(UTC) - since).replace(tzinfo=None) if since is not None else None
    with opened(url) as store:
        found = pairs(store, bundle.name, bundle.version, last, since=begin) if store.is_there() else []
    if not found:
        click.echo(
            f"percept: the records have nothing that {bundle.name} {bundle.version} answered silently. Start the "
            f"service with PERCEPT_SHADOW={folder} and PERCEPT_RECORDS, and wait for requests.",
            err=True,
        )
        context.exit(EXIT_NOTHING)
    compared = compare_silent(bundle, found)
    if output is not None:
        output.write_text(shadow_page(compared), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(compared, ensure_ascii=False, indent=2))
        return
    click.echo(compared["sentence"])
    for change in compared["changes"][:10]:
        click.echo(f"{change['count']:>6}  {change['from']} -> {change['to']}")
    if output is not None:
        click.echo(f"Look at {output}")
