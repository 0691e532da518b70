"""Bulk answers: rows with question and context to rows with an answer, or none. Torch-free; `shared.batch` runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from nlp.cells import read_text
from nlp.qa.predictor import AnswerPredictor
from shared.bundle.read import Bundle
from shared.errors import InputError
from shared.runtime.protocol import Runtime

BATCH = 4
"""Windows in one call of the network; as the service has it."""


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
        found = [each for each in self._predictor.decide(context, windows, logits) if self._predictor.is_answer(each)]
        return {**answered, "answer": asdict(found[0]) if found else None}
