"""Answers to questions on the command line. Torch-free. Neighbour: `predictor` does the work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from nlp.qa.predictor import AnswerPredictor
from shared.bundle.read import Bundle
from shared.errors import ConfigError, InputError
from shared.runtime.protocol import Runtime
from shared.task import Predicted, PredictOptions


def predict(bundle: Bundle, runtime: Runtime, inputs: Sequence[str], options: PredictOptions) -> Iterator[Predicted]:
    """Yield what `percept predict` prints for each question.

    Args:
        bundle: a question answerer.
        runtime: of the bundle.
        inputs: the questions.
        options: `context`, which is needed, and `top_k`.

    Raises:
        ConfigError: there is no context, it cannot be read, or another option was given.
    """
    if options.min_score is not None:
        raise ConfigError("--min-score is for tags; the bundle decides itself when there is no answer.")
    if options.context is None:
        raise ConfigError("questions need a text to look in: --context FILE, or the text itself.")
    context = _read(options.context)
    predictor = AnswerPredictor(bundle, runtime)
    for question in inputs:
        try:
            windows = predictor.windows(question, context)
            found = predictor.decide(context, windows, predictor.infer(windows), top_k=options.top_k or 1)
        except InputError as error:
            yield Predicted({"question": question, "error": str(error)}, f"{question!r}: {error}")
            continue
        given = [answer for answer in found if predictor.is_answer(answer)]
        shown = ", ".join(f"{answer.text!r} {answer.score:.2f}" for answer in given) or "(no answer)"
        yield Predicted({"question": question, "answers": [asdict(each) for each in given]}, f"{question}  {shown}")


def _read(context: str) -> str:
    """Return the file's text where the context names one, else the context."""
    try:
        is_file = Path(context).is_file()
    except (OSError, ValueError):  # a text may be longer than a name, or hold what none can
        is_file = False
    if not is_file:
        return context
    try:
        return Path(context).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the context {context} cannot be read as UTF-8 text: {error}") from error
