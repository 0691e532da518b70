"""What an exported reader says of questions, and the decision that follows: temperature, shift, abstention.

Everything is judged through the ONNX file that ships, int8 where that is it. Neighbours: `packing` calls it at the end
of a run, `evaluation` measures, `shared.bundle.calibration` fits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from nlp.qa.evaluation import Prediction, best_threshold, decode
from nlp.qa.predictor import END_LOGITS, START_LOGITS
from nlp.qa.sources import Example
from nlp.qa.windows import WindowBatches, cut
from nlp.text import TextEncoder
from shared.bundle.calibration import fit_scale_and_shift, probabilities_from_logits
from shared.bundle.layout import AnswerDecision
from shared.errors import CalibrationError
from shared.runtime.protocol import Runtime

BATCH_TOKENS = 4096
SHOWN_WRONG = 40


@dataclass(frozen=True)
class Judged:
    """Questions with the best span that was found for each."""

    examples: list[Example]
    predictions: list[Prediction]

    @property
    def margins(self) -> np.ndarray:
        """float64 [N]; a context without a token has the least there is."""
        values = np.array([prediction.margin for prediction in self.predictions])
        return np.asarray(np.maximum(values, -1e4))

    @property
    def right(self) -> np.ndarray:
        """bool [N]: the span is an answer of the question; never so for an unanswerable one."""
        return np.array([prediction.is_right for prediction in self.predictions])

    @property
    def answerable(self) -> np.ndarray:
        """bool [N]."""
        return np.array([example.is_answerable for example in self.examples])

    @property
    def f1(self) -> np.ndarray:
        """float64 [N]."""
        return np.array([prediction.f1 for prediction in self.predictions])

    @property
    def quality(self) -> float:
        """F1 over all questions at the best threshold, where silence is right for the unanswerable."""
        return best_threshold(self.margins, self.f1, self.answerable)[1]


def judge_runtime(
    runtime: Runtime,
    encoder: TextEncoder,
    examples: Sequence[Example],
    *,
    max_answer_tokens: int,
    title: str,
    max_windows: int | None = None,
) -> Judged:
    """Return what a runtime says of every question.

    Args:
        runtime: computes the network.
        encoder: as the network was trained with.
        examples: the questions.
        max_answer_tokens: longer spans are no candidates.
        title: of the progress bar.
        max_windows: only the first so many windows of a context are read; 1 is a reader that truncates. None for all.
    """
    windows = cut(examples, encoder, max_windows)
    names = [spec.name for spec in runtime.inputs]
    logits: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    batches = WindowBatches(windows, BATCH_TOKENS)
    for i in tqdm(range(len(batches)), desc=title, unit="batch"):
        batch = batches[i]
        outputs = runtime.run(encoder.batch([window.encoding for window in batch], names))
        for row, window in enumerate(batch):
            length = len(window.encoding)
            logits[window.index] = (outputs[START_LOGITS][row, :length], outputs[END_LOGITS][row, :length])
    return Judged(list(examples), decode(examples, windows, logits, max_answer_tokens=max_answer_tokens))


def scores_of(judged: Judged, decision: AnswerDecision) -> np.ndarray:
    """Return calibrated probabilities, float64 [N], as the predictor computes them."""
    return probabilities_from_logits(
        judged.margins + decision.shift, decision.temperature, "multi_label_classification"
    )


def fit_decision(judged: Judged, max_answer_tokens: int) -> AnswerDecision:
    """Return temperature, shift and the score below which no answer is given, fitted on validation questions.

    Temperature and shift make a score the chance that the span is right, over answerable and unanswerable questions as
    they come. The least score to answer at is the one with the best F1 over all questions, where silence is right for
    the unanswerable; without any of these every answer is given.

    Raises:
        CalibrationError: there is no validation question.
    """
    if not judged.examples:
        raise CalibrationError("no question validates: nothing to fit scores on. Raise val_share or add questions.")
    temperature, shift = fit_scale_and_shift(judged.margins, judged.right.astype(int))
    abstain_below = 0.0
    if not judged.answerable.all():
        threshold, _ = best_threshold(judged.margins, judged.f1, judged.answerable)
        shifted = np.array(threshold + shift)
        abstain_below = float(probabilities_from_logits(shifted, temperature, "multi_label_classification"))
    return AnswerDecision(
        temperature=temperature, shift=shift, abstain_below=abstain_below, max_answer_tokens=max_answer_tokens
    )


def wrong_lines(judged: Judged, decision: AnswerDecision) -> list[str]:
    """Return the surest wrong answers as JSON lines: what to look at first, for they are often wrong labels."""
    scores = scores_of(judged, decision)
    wrong = sorted((i for i in range(len(scores)) if not judged.right[i]), key=lambda i: -scores[i])
    return [
        json.dumps(
            {
                "question": judged.examples[i].question,
                "given": judged.predictions[i].text,
                "score": round(float(scores[i]), 3),
                "right": list(dict.fromkeys(judged.examples[i].texts)),
                "context": judged.examples[i].context,
            },
            ensure_ascii=False,
        )
        for i in wrong[:SHOWN_WRONG]
    ]
