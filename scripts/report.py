"""`percept report BUNDLE`: what a model is good for, on a page for people who decide."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from scripts import options
from shared.errors import ConfigError

if TYPE_CHECKING:
    from shared.bundle.read import Bundle
    from shared.reporting.evidence import Example
    from shared.reporting.wording import Language
    from shared.runtime.protocol import Runtime

THUMB_PX = 320
_MOST = 1e12
_file = click.Path(path_type=Path)


class _Amount(click.FloatRange):
    """A number from 0 on."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number.", param, ctx)
        return found


_amount = _Amount(0, _MOST)


@click.command()
@click.argument("folder", metavar="[BUNDLE]", required=False, type=_file)
@click.option("--comparison", type=_file, metavar="JSON", help="What `percept compare --json` printed.")
@click.option("--monitoring", type=_file, metavar="JSON", help="What `percept monitor --json` printed.")
@click.option("--gate", type=_file, metavar="JSON", help="What `percept promote --json` printed.")
@click.option("--results", type=_file, metavar="JSON", help="What you measured yourself; see docs/reporting.md.")
@click.option("--example", "examples", multiple=True, metavar="TEXT|PHOTO",
              help="A text, a question or a photo that it is asked now; may be given several times.")  # fmt: skip
@click.option("--context", help="For questions: the text to find the answers in, or a file with it.")
@click.option("--title", help="The heading; the model's name if not given.")
@click.option("--value", help="What it is worth, in your words.")
@click.option("--per-day", type=_amount, metavar="N", help="How many questions, photos or cases come on a day.")
@click.option("--minutes-saved", type=_amount, metavar="MINUTES", help="What a right answer saves.")
@click.option("--cost-per-hour", type=_amount, metavar="MONEY", help="What an hour costs of those whose time is saved.")
@click.option("--cost-of-wrong", type=_amount, metavar="MONEY", help="What a wrong answer costs.")
@click.option("--currency", default="EUR", show_default=True, help="Of these.")
@click.option("--training-minutes", type=_amount, metavar="MINUTES", help="How long the training took.")
@click.option("--language", type=click.Choice(["en", "fr"]), default="en", show_default=True, help="Of the page.")
@click.option("-o", "--output", type=_file, metavar="HTML", required=True, help="Write the page to this file.")
def command(
    folder: Path | None,
    comparison: Path | None,
    monitoring: Path | None,
    gate: Path | None,
    results: Path | None,
    examples: tuple[str, ...],
    context: str | None,
    title: str | None,
    value: str | None,
    per_day: float | None,
    minutes_saved: float | None,
    cost_per_hour: float | None,
    cost_of_wrong: float | None,
    currency: str,
    training_minutes: float | None,
    language: str,
    output: Path,
) -> None:
    """Write a page for people who decide: what a model does, how good it is, its worth, risks and costs.

    \b
    percept report runs/intent/bundle -o report.html
    percept report runs/intent/bundle --comparison compare.json --per-day 400 --minutes-saved 3 -o report.html
    percept report --results results.json --language fr -o rapport.html
    """
    options.check_writable(output)
    others = {"--comparison": comparison, "--monitoring": monitoring, "--gate": gate, "--example": examples}
    _check(folder, results, [name for name, given in others.items() if given])
    from shared.reporting.evidence import Comparison, Evidence, Gate, Monitoring, Results, read_json
    from shared.reporting.page import page_of
    from shared.reporting.telling import Telling
    from shared.reporting.wording import Words
    from shared.reporting.worth import Assumed
    from shared.staging import write_whole

    evidence = Evidence(
        **_of_bundle(folder, examples, context),
        comparison=read_json(comparison, Comparison, "Make it: percept compare … --json.") if comparison else None,
        monitoring=read_json(monitoring, Monitoring, "Make it: percept monitor … --json.") if monitoring else None,
        gate=read_json(gate, Gate, "Make it: percept promote … --json.") if gate else None,
        results=read_json(results, Results, "docs/reporting.md has an example.") if results else None,
    )
    evidence.check()
    page = page_of(
        Telling(
            evidence,
            Assumed(value, per_day, minutes_saved, cost_per_hour, cost_of_wrong, currency),
            Words(cast("Language", language)),
            datetime.now(UTC).date(),
            title,
            training_minutes,
        )
    )
    write_whole(output, page.encode("utf-8", "replace"))
    click.echo(f"Look at {output}")


def _check(folder: Path | None, results: Path | None, of_bundle: Sequence[str]) -> None:
    """Refuse what cannot be a page, before anything is read; raises ConfigError."""
    if folder is None and results is None:
        raise ConfigError("name a BUNDLE, or results of your own: percept report --results results.json -o report.html")
    if folder is None and of_bundle:
        raise ConfigError(f"{of_bundle[0]} is about a bundle: name it, as in percept report BUNDLE {of_bundle[0]} …")


def _of_bundle(folder: Path | None, examples: Sequence[str], context: str | None) -> dict[str, Any]:
    """Return what of the evidence comes from a bundle: what it says of itself, how long it takes here, and answers."""
    if folder is None:
        return {}
    from shared.bundle.read import read_bundle
    from shared.reporting.evidence import measured_of
    from shared.runtime.choose import choose_runtime
    from shared.runtime.timing import timed

    bundle = read_bundle(folder)
    found: dict[str, Any] = {"bundle": bundle, "measured": measured_of(bundle)}
    if bundle.config.onnx is not None or examples:
        runtime = choose_runtime(bundle, "cpu")
        try:
            found["milliseconds"] = timed([(runtime, bundle.golden.inputs)])[0]
            found["examples"] = [_asked(bundle, runtime, each, context) for each in examples]
        finally:
            runtime.close()
    return found


def _asked(bundle: Bundle, runtime: Runtime, asked: str, context: str | None) -> Example:
    """Return what the bundle answers to a text, a question or a photo.

    Raises:
        ConfigError: it cannot answer that, or is a bundle of a task that answers nothing.
    """
    from scripts.tasks import find_task
    from shared.reporting.evidence import Example
    from shared.task import PredictOptions, resolve

    task = bundle.config.task
    if task not in ("intent", "qa", "tagging"):
        raise ConfigError(f"--example is for intents, questions and photos; this is a bundle for {task}.")
    wanted = PredictOptions(top_k=1 if task == "qa" else None, context=context)
    predicted = list(resolve(find_task(task).predict)(bundle, runtime, [asked], wanted))
    if len(predicted) != 1 or predicted[0].is_error:
        what = predicted[0].text if predicted else "there is nothing in it"
        raise ConfigError(f"--example {asked!r} cannot be answered: {what}. Name one text or one photo.")
    said = predicted[0].values
    if task == "intent":
        return Example(asked, [(said["intent"], said["confidence"])] if said["intent"] is not None else [])
    if task == "qa":
        return Example(asked, [(each["text"], each["score"]) for each in said["answers"]])
    return Example(asked, [(each["label"], each["score"]) for each in said["tags"]], _small(Path(said["file"])))


def _small(photo: Path) -> str:
    """Return a photo as a small JPEG in a `data:` address."""
    from vision.images import open_photo

    small = open_photo(photo.read_bytes(), THUMB_PX).pixels
    small.thumbnail((THUMB_PX, THUMB_PX))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
