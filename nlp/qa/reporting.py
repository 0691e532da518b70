"""What `percept evaluate` says of a question answerer. Neighbour: `scoring` measures."""

from __future__ import annotations

from nlp.qa.data import AnswerData
from nlp.qa.judging import wrong_lines
from nlp.qa.predictor import AnswerPredictor
from nlp.qa.scoring import ask, measure, table
from shared.bundle.read import Bundle
from shared.runtime.protocol import Runtime
from shared.task import Evaluation
from shared.training.provenance import split_warnings


def evaluate(bundle: Bundle, runtime: Runtime, data: AnswerData, split: str) -> Evaluation:
    """Return a bundle's metrics on a split; the questions are cut with its own tokenizer. Raises as `ask`."""
    data.encoder_name = str(bundle.path)
    predictor = AnswerPredictor(bundle, runtime)
    judged = ask(predictor, data, split)
    metrics = measure(judged, predictor, data)
    warnings = split_warnings(
        bundle.config.provenance, [source.summary() for source in data.sources], data.seed, data.shares
    )
    return Evaluation(
        metrics, table(metrics), warnings, lambda: "\n".join(wrong_lines(judged, predictor.decision)).encode()
    )
