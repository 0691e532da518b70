"""How answers are judged: what a reader finds, the decision rule that follows, and what to show of both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from nlp.qa.data import AnswerData
from nlp.qa.evaluation import Prediction, best_threshold, decode, evaluate, judge
from nlp.qa.predictor import END_LOGITS, START_LOGITS
from nlp.qa.sources import Example
from nlp.qa.windows import WindowBatches, cut, sample_batches
from nlp.text import TextEncoder
from shared.bundle.calibration import fit_scale_and_shift, probabilities_from_logits
from shared.bundle.layout import AnswerDecision
from shared.bundle.read import Bundle
from shared.bundle.reference import Reference
from shared.errors import BundleError, CalibrationError
from shared.runtime.protocol import Runtime
from shared.training.data import examples_of
from shared.training.metrics import table_lines
from shared.training.outcomes import Outcomes
from shared.training.packing import Fitted, Judging, json_lines
from shared.training.worth import Worth

BATCH_TOKENS = 4096
SHOWN_WRONG = 40
COLUMNS = {
    "examples": "questions",
    "unanswerable": "crossed",
    "exact": "EM",
    "f1": "F1",
    "auroc": "AUROC",
    "answered": "answered",
    "silent": "silent",
    "f1_at_threshold": "F1 all",
    "ece": "ECE",
}
EXPLAINED = "EM, F1: of answerable questions, always answered. answered, silent, F1 all: at the bundle's threshold."


@dataclass(frozen=True)
class Judged:
    """Questions with the best span that was found for each."""

    examples: list[Example]
    predictions: list[Prediction]

    @property
    def margins(self) -> np.ndarray:
        """float64 [N]; very low for a context without a token."""
        values = np.array([prediction.margin for prediction in self.predictions])
        return np.asarray(np.maximum(values, -1e4))

    @property
    def right(self) -> np.ndarray:
        """bool [N]: the span answers the question; never so for an unanswerable one."""
        return np.array([prediction.is_right for prediction in self.predictions])

    @property
    def answerable(self) -> np.ndarray:
        """bool [N]."""
        return np.array([example.is_answerable for example in self.examples])

    @property
    def f1(self) -> np.ndarray:
        """float64 [N]."""
        return np.array([prediction.f1 for prediction in self.predictions])


@dataclass(frozen=True)
class AnswerJudging(Judging[Judged, AnswerDecision]):
    """Judges networks on questions."""

    noun = "question"

    data: AnswerData
    encoder: TextEncoder
    max_answer_tokens: int
    max_windows: int | None = None

    @classmethod
    def of_data(cls, data: AnswerData) -> AnswerJudging:
        """Return the judging with the data's own tokenizer."""
        return cls(data, data.encoder, data.max_answer_tokens)

    @classmethod
    def of_bundle(cls, data: AnswerData, bundle: Bundle) -> AnswerJudging:
        """Return the judging with a bundle's tokenizer and its longest answer."""
        longest = _decision_of(bundle).max_answer_tokens
        return cls(data, TextEncoder.from_bundle(bundle), longest, data.max_windows)

    def judge(self, runtime: Runtime, split: str) -> Judged:
        """Return what a runtime finds for every question."""
        examples = examples_of(self.data.splits, split)
        windows = cut(examples, self.encoder, self.max_windows)
        names = [spec.name for spec in runtime.inputs]
        logits: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        batches = WindowBatches(windows, BATCH_TOKENS)
        for i in tqdm(range(len(batches)), desc=f"judging {split}", unit="batch"):
            batch = batches[i]
            outputs = runtime.run(self.encoder.batch([window.encoding for window in batch], names))
            for row, window in enumerate(batch):
                length = len(window.encoding)
                logits[window.index] = (outputs[START_LOGITS][row, :length], outputs[END_LOGITS][row, :length])
        return Judged(examples, decode(examples, windows, logits, max_answer_tokens=self.max_answer_tokens))

    def calibration(self, inputs: Sequence[str]) -> Iterable[Mapping[str, np.ndarray]]:
        """Return windows of training questions: int8 evens out the outliers that they show."""
        return sample_batches(self.data.splits["train"], self.encoder, inputs)

    def merits(self, judged: Judged) -> dict[str, float]:
        """Return F1 over all questions at the best threshold, where giving none is right for the unanswerable."""
        return {"quality": best_threshold(judged.margins, judged.f1, judged.answerable)[1]}

    def fit(self, module: object, judged: Mapping[str, Judged]) -> Fitted[AnswerDecision]:
        """Return the decision; raises as `fit_decision`."""
        decision = fit_decision(judged["val"], self.max_answer_tokens)
        return Fitted(decision, decision)

    def refit(self, bundle: Bundle, judged: Judged) -> Fitted[AnswerDecision]:
        """Return temperature, shift and threshold anew."""
        return self.fit(None, {"val": judged})

    def reference(self, judged: Judged, rule: AnswerDecision) -> Reference:
        """Return the best spans' scores, and the share of questions that get an answer."""
        scores = scores_of(judged, rule)
        return Reference(scores, np.array([(scores >= rule.abstain_below).mean()]))

    def worth(self, judged: Judged) -> Worth | None:
        """Return F1 of answerable questions, always answered, beside the sentence that shares most words with each."""
        asked = np.flatnonzero(judged.answerable)
        if not len(asked):
            return None
        examples = [judged.examples[i] for i in asked]
        return Worth(
            "F1",
            judged.f1[asked],
            {"the sentence with most of the question's words": np.array([_by_words(each) for each in examples])},
            [
                "--model.weights models/qa, which has read questions before",
                f"more questions: {sum(e.is_answerable for e in self.data.splits['train']):,} trained",
                "more epochs",
                "the questions in report/most_wrong.jsonl, whose answers are often marked wrongly",
            ],
        )

    def rule_of(self, bundle: Bundle) -> AnswerDecision:
        """Return the bundle's decision."""
        return _decision_of(bundle)

    def measure(self, judged: Judged, rule: AnswerDecision) -> dict[str, Any]:
        """Return `evaluate`'s metrics."""
        names = [source.name for source in self.data.sources]
        return evaluate(judged.examples, judged.predictions, scores_of(judged, rule), rule.abstain_below, names)

    def outcomes(self, judged: Judged, rule: AnswerDecision) -> Outcomes:
        """Return the F1 of each answer; to give none is right where the text has none, and worth nothing elsewhere."""
        scores = scores_of(judged, rule)
        is_given = scores >= rule.abstain_below
        names = [source.name for source in self.data.sources]
        return Outcomes(
            "F1",
            "F1 is how many words an answer shares with the right one. An answer that is not given counts as 0; "
            "silence is right where the text has no answer.",
            judged.examples,
            np.where(judged.answerable, judged.f1 * is_given, ~is_given).astype(float),
            [each.text if is_said else None for each, is_said in zip(judged.predictions, is_given, strict=True)],
            np.where(is_given, scores, np.nan),
            [f"{names[e.source]}, {'answerable' if e.is_answerable else 'unanswerable'}" for e in judged.examples],
            [len(example.context.split()) for example in judged.examples],
            "words of the text",
            [example.question for example in judged.examples],
        )

    def most_wrong(self, judged: Judged, rule: AnswerDecision) -> bytes:
        """Return the surest wrong answers as JSON lines: look at these first, because often the label is wrong."""
        scores = scores_of(judged, rule)
        wrong = sorted((i for i in range(len(scores)) if not judged.right[i]), key=lambda i: -scores[i])
        return json_lines(
            {
                "question": judged.examples[i].question,
                "given": judged.predictions[i].text,
                "score": round(float(scores[i]), 3),
                "right": list(dict.fromkeys(judged.examples[i].texts)),
                "context": judged.examples[i].context,
            }
            for i in wrong[:SHOWN_WRONG]
        )

    def table(self, report: Mapping[str, Any]) -> str:
        """Return the metrics of each set."""
        return "\n".join([*table_lines(report, COLUMNS), EXPLAINED])


def _by_words(example: Example) -> float:
    """Return the F1 of the sentence of a context that shares most words with the question."""
    wanted = set(re.findall(r"\w+", example.question.casefold()))
    sentences = [part for part in re.split(r"(?<=[.!?])\s+|\n+", example.context) if part.strip()]
    best = max(sentences, key=lambda s: len(wanted & set(re.findall(r"\w+", s.casefold()))), default="")
    return judge(best, example.texts)[1]


def scores_of(judged: Judged, decision: AnswerDecision) -> np.ndarray:
    """Return calibrated probabilities, float64 [N], as the predictor computes them."""
    return probabilities_from_logits(
        judged.margins + decision.shift, decision.temperature, "multi_label_classification"
    )


def fit_decision(judged: Judged, max_answer_tokens: int) -> AnswerDecision:
    """Return temperature, shift and the score below which no answer is given, fitted on validation questions.

    Temperature and shift make a score the chance that the span is right, over answerable and unanswerable questions as
    they come. The threshold is the one with the best F1 over all questions, where giving none is right for the
    unanswerable; without unanswerable questions every answer is given.

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


def _decision_of(bundle: Bundle) -> AnswerDecision:
    decision = bundle.config.decision
    if not isinstance(decision, AnswerDecision):
        raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for qa.")
    return decision
