"""Bulk classification: rows with an utterance to rows with its intent. Torch-free; `shared.batch` runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from nlp.cells import read_text
from nlp.intent.predictor import IntentPredictor
from nlp.text import Encoding
from shared.bundle.read import Bundle
from shared.errors import InputError
from shared.runtime.protocol import Runtime

BATCH = 16
"""Utterances in one call of the network, of about the same length; as the service has it."""
_SCORE = pa.struct([("name", pa.string()), ("confidence", pa.float64())])


class BatchClassifier:
    """Names intents; `options` are `text`, the column of the utterance, and `top_k` of the ranking."""

    schema = pa.schema(
        [
            ("text", pa.string()),
            ("intent", pa.string()),
            ("confidence", pa.float64()),
            ("out_of_scope", pa.bool_()),
            ("out_of_scope_score", pa.float64()),
            ("ranking", pa.list_(_SCORE)),
        ]
    )

    def __init__(self, bundle: Bundle, runtime: Runtime, options: dict[str, Any]) -> None:
        self._predictor = IntentPredictor(bundle, runtime)
        self._column = options["text"]
        self._top_k = options["top_k"]

    def answer(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return for each row what its utterance wants, or its error."""
        answers: list[dict[str, Any]] = [{} for _ in rows]
        readable: list[tuple[int, Encoding]] = []
        for place, row in enumerate(rows):
            try:
                answers[place]["text"] = read_text(row, self._column)
                readable.append((place, self._predictor.encoder.encode(answers[place]["text"])))
            except InputError as error:
                answers[place]["error"] = str(error)
        readable.sort(key=lambda item: len(item[1]))
        for start in range(0, len(readable), BATCH):
            chunk = readable[start : start + BATCH]
            outputs: list[dict[str, np.ndarray]] = self._predictor.infer([encoding for _, encoding in chunk])
            for (place, _), each in zip(chunk, outputs, strict=True):
                answers[place] |= asdict(self._predictor.decide(each, top_k=self._top_k))
        return answers
