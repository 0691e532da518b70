"""Answers outside of a service: for questions on the command line, and for tables in bulk. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from nlp.qa.predictor import AnswerPredictor
from nlp.text import read_text
from shared.bundle.read import Bundle
from shared.errors import ConfigError, InputError
from shared.runtime.protocol import Runtime
from shared.task import Predicted, PredictOptions

BATCH = 4
"""Windows in one call of the network; as in the service."""


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
            found = predictor.decide(
                context, windows, predictor.infer(windows), question=question, top_k=options.top_k or 1
            )
        except InputError as error:
            yield Predicted({"question": question, "error": str(error)}, f"{question!r}: {error}")
            continue
        given = [answer for answer in found if predictor.is_answer(answer)]
        shown = ", ".join(f"{answer.text!r} {answer.score:.2f}" for answer in given) or "(no answer)"
        yield Predicted({"question": question, "answers": [asdict(each) for each in given]}, f"{question}  {shown}")


class BatchAnswerer:
    """Answers questions; `options` are `text` and `context`, the columns of the two."""

    schema = pa.schema(
        [
            ("question", pa.string()),
            (
                "answer",
                pa.struct([("text", pa.string()), ("score", pa.float64()), ("start", pa.int64()), ("end", pa.int64())]),
            ),
        ]
    )

    def __init__(self, bundle: Bundle, runtime: Runtime, options: dict[str, Any]) -> None:
        self._predictor = AnswerPredictor(bundle, runtime)
        self._question, self._context = options["text"], options["context"]

    def answer(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return for each row its answer, None where the context holds none, or its error."""
        return [self._one(row) for row in rows]

    def _one(self, row: dict[str, Any]) -> dict[str, Any]:
        answered: dict[str, Any] = {}
        try:
            answered["question"] = question = read_text(row, self._question)
            context = read_text(row, self._context)
            windows = self._predictor.windows(question, context)
        except InputError as error:
            return {**answered, "error": str(error)}
        logits = []
        for start in range(0, len(windows), BATCH):
            logits += self._predictor.infer(windows[start : start + BATCH])
        found = [
            each
            for each in self._predictor.decide(context, windows, logits, question=question)
            if self._predictor.is_answer(each)
        ]
        return {**answered, "answer": asdict(found[0]) if found else None}


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
