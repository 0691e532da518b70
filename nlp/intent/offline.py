"""Intents outside of a service: for texts on the command line, and for tables in bulk. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from nlp.intent.entities import Entity, Kind
from nlp.intent.predictor import FEATURES, IntentPredictor
from nlp.text import encoded_rows
from shared.bundle.read import Bundle
from shared.errors import ConfigError, InputError
from shared.runtime.protocol import Runtime
from shared.task import Predicted, PredictOptions

SHOWN = 3

BATCH = 16
"""Utterances in one call of the network, of similar length; as in the service."""
_AT_ONCE = 512
"""Texts between two steps of the progress bar."""
_SCORE = pa.struct([("name", pa.string()), ("confidence", pa.float64())])
_ENTITY = pa.struct(
    [
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("entity", pa.string()),
        ("value", pa.string()),
        ("text", pa.string()),
        ("score", pa.float64()),
        ("role", pa.string()),
        ("group", pa.string()),
        ("extractor", pa.string()),
    ]
)


def predict(bundle: Bundle, runtime: Runtime, inputs: Sequence[str], options: PredictOptions) -> Iterator[Predicted]:
    """Yield what `percept predict` prints for each text.

    Args:
        bundle: an intent classifier.
        runtime: of the bundle.
        inputs: the texts.
        options: `top_k` alone.

    Raises:
        ConfigError: another option was given.
    """
    if options.min_score is not None or options.context is not None:
        raise ConfigError("--min-score is for tags and --context for questions; the bundle decides on intents itself.")
    predictor = IntentPredictor(bundle, runtime)
    for text in inputs:
        try:
            result = predictor.predict([text], top_k=options.top_k)[0]
        except InputError as error:
            yield Predicted({"text": text, "error": str(error)}, f"{text!r}: {error}")
            continue
        ranking = ", ".join(f"{each.name} {each.confidence:.2f}" for each in result.ranking[: options.top_k or SHOWN])
        named = result.intent or f"(out of scope {result.out_of_scope_score:.2f})"
        marked = "".join(f"  {each.text!r} is {_named(each)} {each.score:.2f}" for each in result.entities)
        yield Predicted({"text": text, **asdict(result)}, f"{text}  {named}  [{ranking}]{marked}")


def _named(entity: Entity) -> str:
    value = "" if entity.value == entity.text else f" ({entity.value})"
    return Kind(entity.entity, entity.role, entity.group).name + value


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
            ("truncated", pa.bool_()),
            ("intents", pa.list_(pa.string())),
            ("entities", pa.list_(_ENTITY)),
        ]
    )

    def __init__(self, bundle: Bundle, runtime: Runtime, options: dict[str, Any]) -> None:
        self._predictor = IntentPredictor(bundle, runtime)
        self._column = options["text"]
        self._top_k = options["top_k"]

    def answer(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return for each row what its utterance wants, or its error."""
        answers, readable = encoded_rows(rows, self._column, self._predictor.encoder)
        readable.sort(key=lambda item: len(item[1]))
        for start in range(0, len(readable), BATCH):
            chunk = readable[start : start + BATCH]
            outputs: list[dict[str, np.ndarray]] = self._predictor.infer([encoding for _, encoding in chunk])
            for (place, encoding), each in zip(chunk, outputs, strict=True):
                answers[place] |= asdict(self._predictor.decide(each, encoding, top_k=self._top_k))
        return answers


def intents_of(bundle: Bundle, runtime: Runtime, texts: Sequence[str]) -> list[str | None]:
    """Return the intent of each text; None where it has none, or cannot be read."""
    named = BatchClassifier(bundle, runtime, {"text": "text", "top_k": 1})
    parts = tqdm(range(0, len(texts), _AT_ONCE), desc="naming texts")
    chunks = ([{"text": text} for text in texts[start : start + _AT_ONCE]] for start in parts)
    return [row.get("intent") for chunk in chunks for row in named.answer(chunk)]


def text_features(bundle: Bundle, runtime: Runtime, texts: Sequence[str]) -> np.ndarray:
    """Return what the network makes of texts before it names an intent, float32 [N, D].

    Raises:
        ConfigError: the bundle has no features.
    """
    size = bundle.output_size(FEATURES)
    predictor = IntentPredictor(bundle, runtime)
    encodings = predictor.encoder.encode_batch(texts)
    order = sorted(range(len(texts)), key=lambda place: len(encodings[place]))
    found = np.zeros((len(texts), size), dtype=np.float32)
    for start in tqdm(range(0, len(order), BATCH), desc="reading texts"):
        chosen = order[start : start + BATCH]
        for place, each in zip(chosen, predictor.infer([encodings[place] for place in chosen]), strict=True):
            found[place] = each[FEATURES]
    return found
