"""`percept predict BUNDLE INPUTS…`: tags photos, recognises intents and answers questions on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import click

from scripts import options


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option("--top-k", type=click.IntRange(min=1), help="The most tags, intents or answers per input.")
@options.min_score
@click.option("--context", help="For questions: the text to find the answer in, or a file with it.")
@options.device
def command(
    bundle: Path,
    inputs: tuple[str, ...],
    as_json: bool,
    top_k: int | None,
    min_score: float | None,
    context: str | None,
    device: str,
) -> None:
    """Run BUNDLE on INPUTS: photos or folders of photos for a tagger, texts for intents, questions for answers.

    An input that cannot be read is named and does not stop the others; the exit status is then 1.
    """
    from scripts.tasks import find_task
    from shared.bundle.read import read_bundle
    from shared.runtime.choose import choose_runtime
    from shared.task import PredictOptions, resolve

    found = read_bundle(bundle)
    task = find_task(found.config.task)
    runtime = choose_runtime(found, device, network=task.network)
    seen = failed = 0
    for result in resolve(task.predict)(found, runtime, inputs, PredictOptions(top_k, min_score, context)):
        seen += 1
        failed += result.is_error
        line = json.dumps(result.values, ensure_ascii=False) if as_json else result.text
        line = line.encode("utf-8", "replace").decode()  # an argument may hold bytes that are no character
        click.echo(line, err=result.is_error and not as_json)
    if failed:
        click.echo(f"{failed} of {seen} inputs could not be answered.", err=True)
        raise SystemExit(1)
