"""Embeddings outside of a service: of texts on the command line, of tables in bulk, of a dataset. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from nlp.embedding.predictor import EmbeddingPredictor, in_batches
from nlp.text import encoded_rows
from shared.bundle.read import Bundle
from shared.errors import ConfigError, InputError
from shared.runtime.protocol import Runtime
from shared.task import Predicted, PredictOptions

_AT_ONCE = 512
"""Texts between two steps of the progress bar."""
SHOWN = 4
SHOWN_NEAREST = 3


def predict(bundle: Bundle, runtime: Runtime, inputs: Sequence[str], options: PredictOptions) -> Iterator[Predicted]:
    """Yield what `percept predict` prints for each text: its embedding, and the others of the call, nearest first.

    Args:
        bundle: a sentence encoder.
        runtime: of the bundle.
        inputs: the texts.
        options: `top_k` alone: of the others.

    Raises:
        ConfigError: another option was given.
    """
    if options.min_score is not None or options.context is not None:
        raise ConfigError("--min-score is for tags and --context for questions; an encoder compares the texts given.")
    predictor = EmbeddingPredictor(bundle, runtime)
    found: dict[int, np.ndarray] = {}
    errors: dict[int, str] = {}
    for place, text in enumerate(inputs):
        try:
            found[place] = predictor.embed([text])[0]
        except InputError as error:
            errors[place] = str(error)
    for place, text in enumerate(inputs):
        if place in errors:
            yield Predicted({"text": text, "error": errors[place]}, f"{text!r}: {errors[place]}")
            continue
        own = found[place]
        cosines = {other: float(row @ own) for other, row in found.items() if other != place}
        nearest = sorted(cosines, key=lambda other: -cosines[other])[: options.top_k or SHOWN_NEAREST]
        values = {
            "text": text,
            "embedding": [round(float(value), 6) for value in own],
            "nearest": [{"text": inputs[other], "cosine": round(cosines[other], 4)} for other in nearest],
        }
        shown = ", ".join(f"{cosines[other]:.2f} {inputs[other]}" for other in nearest)
        numbers = ", ".join(f"{value:.3f}" for value in own[:SHOWN])
        yield Predicted(values, f"{text}  " + (f"[{shown}]" if nearest else f"{len(own)} numbers: {numbers}, …"))


class BatchEmbedder:
    """Embeds texts; `options` is `text`, the column that has them."""

    schema = pa.schema([("text", pa.string()), ("embedding", pa.list_(pa.float32())), ("truncated", pa.bool_())])

    def __init__(self, bundle: Bundle, runtime: Runtime, options: dict[str, Any]) -> None:
        self._predictor = EmbeddingPredictor(bundle, runtime)
        self._column = options["text"]

    def answer(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return for each row the embedding of its text, or its error."""
        answers, readable = encoded_rows(rows, self._column, self._predictor.encoder)
        found = in_batches([encoding for _, encoding in readable], self._predictor.infer, self._predictor.size)
        for (place, encoding), row in zip(readable, found, strict=True):
            answers[place] |= {"embedding": row.tolist(), "truncated": encoding.is_cut}
        return answers


def text_embeddings(bundle: Bundle, runtime: Runtime, texts: Sequence[str]) -> np.ndarray:
    """Return float32 [N, size], a row of length 1 for each text."""
    predictor = EmbeddingPredictor(bundle, runtime)
    parts = tqdm(range(0, len(texts), _AT_ONCE), desc="reading texts")
    return np.concatenate([predictor.embed(texts[start : start + _AT_ONCE]) for start in parts])
