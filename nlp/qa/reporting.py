"""What `percept evaluate` says of a question answerer. Neighbour: `scoring` measures."""

from __future__ import annotations

from nlp.qa.data import AnswerData
from nlp.qa.predictor import AnswerPredictor
from nlp.qa.scoring import measure, table
from shared.bundle.read import Bundle
from shared.runtime.protocol import Runtime
from shared.task import Evaluation
from shared.training.provenance import split_warnings


def evaluate(bundle: Bundle, runtime: Runtime, data: AnswerData, split: str) -> Evaluation:
    """Return a bundle's metrics on a split; the questions are cut with its own tokenizer. Raises as `measure`."""
    data.encoder_name = str(bundle.path)
    metrics = measure(AnswerPredictor(bundle, runtime), data, split)
    entries = [source.summary() for source in data.sources]
    return Evaluation(
        metrics, table(metrics), split_warnings(bundle.config.provenance, entries, data.seed, data.shares)
    )
