"""`percept predict BUNDLE INPUTS…`: tags photos, names intents and answers questions on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@click.option("--top-k", type=click.IntRange(min=1), help="At most so many tags, intents or answers each.")
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    help="Of tags, the least score; each label's threshold if not given.",
)
@click.option("--context", help="For questions: the text in which the answer is looked for, or a file of it.")
@click.option(
    "--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]), help="What computes."
)
def command(
    bundle: Path,
    inputs: tuple[str, ...],
    as_json: bool,
    top_k: int | None,
    min_score: float | None,
    context: str | None,
    device: str,
) -> None:
    """Ask BUNDLE of INPUTS: photos or folders of photos for a tagger, texts for intents, questions for answers.

    Inputs that cannot be read are named and do not stop the others; the exit status is 1 if there were any.
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
        line = line.encode("utf-8", "replace").decode()  # an argument may hold what is no character
        click.echo(line, err=result.is_error and not as_json)
    if failed:
        click.echo(f"{failed} of {seen} inputs could not be answered.", err=True)
        raise SystemExit(1)
