"""Sentences outside of a service: for answers on the command line, and for tables in bulk. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from nlp.text import read_text
from nlp.writing.predictor import AnswerWriter
from nlp.writing.wording import ask, marked
from shared.bundle.read import Bundle
from shared.errors import ConfigError, InputError
from shared.runtime.protocol import Runtime
from shared.task import Predicted, PredictOptions


def predict(bundle: Bundle, runtime: Runtime, inputs: Sequence[str], options: PredictOptions) -> Iterator[Predicted]:
    """Yield what `percept predict` prints for each question.

    Args:
        bundle: a writer.
        runtime: of the bundle.
        inputs: questions.
        options: `context`, the text with the answer between two pairs of asterisks; no other.

    Raises:
        ConfigError: there is no marked answer, or another option was given.
    """
    if options.min_score is not None or options.top_k is not None:
        raise ConfigError("--min-score and --top-k are for tags, intents and places; a writer writes one sentence.")
    text, start, end = _marked(options.context or "")
    writer = AnswerWriter(bundle, runtime)
    for question in inputs:
        written = writer.written(ask(question, text, start, end))
        values = {"question": question, "sentence": written.sentence, "problem": written.problem}
        shown = f"not given: {written.problem} ({written.sentence})" if written.problem else written.sentence
        yield Predicted(values, f"{question}  {shown}")


class BatchWriter:
    """Writes sentences; `options` are `text` and `context`, the columns of question and marked text."""

    schema = pa.schema([("question", pa.string()), ("sentence", pa.string())])

    def __init__(self, bundle: Bundle, runtime: Runtime, options: dict[str, Any]) -> None:
        self._writer = AnswerWriter(bundle, runtime)
        self._question, self._context = options["text"], options["context"]

    def answer(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return for each row its sentence, None where the answer is best quoted, or its error."""
        return [self._one(row) for row in rows]

    def _one(self, row: dict[str, Any]) -> dict[str, Any]:
        answered: dict[str, Any] = {}
        try:
            answered["question"] = question = read_text(row, self._question)
            text, start, end = _marked(read_text(row, self._context))
        except (InputError, ConfigError) as error:
            return {**answered, "error": str(error)}
        return {**answered, "sentence": self._writer.write(question, text, start, end)}


def _marked(text: str) -> tuple[str, int, int]:
    """Return a text without its marks, and where what was marked starts and ends."""
    found = marked(text)
    if found is None:
        raise ConfigError(
            "a writer needs the text with the answer marked in it: --context 'Ada keeps **the light** on the rock.'"
        )
    return found
