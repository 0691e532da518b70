"""Intents for texts on the command line. Torch-free. Neighbour: `predictor` does the work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from nlp.intent.predictor import IntentPredictor
from shared.bundle.read import Bundle
from shared.errors import ConfigError, InputError
from shared.runtime.protocol import Runtime
from shared.task import Predicted, PredictOptions

SHOWN = 3


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
        yield Predicted({"text": text, **asdict(result)}, f"{text}  {named}  [{ranking}]")
