"""A question and a context to an answer, or none, with a bundle and a runtime. Torch-free.

`windows` and `decide` work on one question, `infer` on a batch of windows from any questions: a bad question never
fails others, and the service batches only the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nlp.qa.spans import CANDIDATES, Span, best_spans, whole_answers
from nlp.text import Encoding, TextEncoder
from shared.bundle.calibration import probabilities_from_logits
from shared.bundle.layout import AnswerDecision
from shared.bundle.read import Bundle
from shared.errors import BundleError
from shared.runtime.protocol import Runtime

START_LOGITS = "start_logits"
END_LOGITS = "end_logits"
Logits = tuple[np.ndarray, np.ndarray]
"""Start and end logits of one window, each float32 [T]."""


@dataclass(frozen=True)
class Answer:
    """A place in the context with the calibrated probability that it is the answer."""

    text: str
    score: float
    start: int
    end: int
    """`context[start:end] == text`, in characters."""


class AnswerPredictor:
    """Answers questions as the bundle says; holds no state between calls."""

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        decision = bundle.config.decision
        if not isinstance(decision, AnswerDecision):
            raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for qa.")
        self.bundle = bundle
        self.runtime = runtime
        self.encoder = TextEncoder.from_bundle(bundle)
        self.decision = decision
        self._inputs = [spec.name for spec in bundle.config.signature.inputs]

    def windows(self, question: str, context: str, *, above: int = 0) -> list[Encoding]:
        """Return what the network reads, one or more windows; raises InputError as `TextEncoder.windows`.

        Args:
            question: cut off after a quarter of a window.
            context: where the answer is looked for.
            above: how many characters at the start of the context are a heading: read, but never part of an answer.
        """
        windows = self.encoder.windows(question, context)
        if not above:
            return windows
        return [replace(each, is_text=each.is_text & (each.offsets[:, 0] >= above)) for each in windows]

    def infer(self, batch: Sequence[Encoding]) -> list[Logits]:
        """Return start and end logits of each window, float32 [T] with T its own length."""
        outputs = self.runtime.run(self.encoder.batch(batch, self._inputs))
        starts, ends = outputs[START_LOGITS], outputs[END_LOGITS]  # [N, T]
        return [(starts[row, : len(each)], ends[row, : len(each)]) for row, each in enumerate(batch)]

    def decide(
        self,
        context: str,
        windows: Sequence[Encoding],
        logits: Sequence[Logits],
        *,
        question: str = "",
        above: int = 0,
        top_k: int = 1,
        max_answer_tokens: int | None = None,
    ) -> list[Answer]:
        """Return the best answers, best first, however improbable; `is_answer` tells which are good enough.

        Args:
            context: what the windows were made of.
            windows: from `windows`.
            logits: from `infer`, one pair per window.
            question: its own words are no answer.
            above: as for `windows`.
            top_k: at most this many.
            max_answer_tokens: longer ones are no candidates; None for the bundle's own limit, which is also the most.
        """
        starts, ends = [each[0] for each in logits], [each[1] for each in logits]
        longest = self.decision.max_answer_tokens
        longest = min(longest, max_answer_tokens or longest)
        answers = []
        count = CANDIDATES + 2 * top_k
        spans = best_spans(context, windows, starts, ends, max_answer_tokens=longest, top_k=count)
        for span in whole_answers(question, context, spans, top_k):
            start = max(span.start, above)  # an accent at the very start of the text would be joined to the heading
            answers.append(Answer(context[start : span.end], self.score(span), start, span.end))
        return answers

    def score(self, span: Span) -> float:
        """Return the calibrated probability that a span is the answer."""
        shifted = np.array(span.margin + self.decision.shift)
        return float(probabilities_from_logits(shifted, self.decision.temperature, "multi_label_classification"))

    def is_answer(self, answer: Answer) -> bool:
        """Whether it is sure enough to be given; if not, the context holds no answer, which is a normal answer."""
        return answer.score >= self.decision.abstain_below

    def answer(self, question: str, context: str) -> Answer | None:
        """Return the answer, or None if the context holds none; for notebooks and `percept predict`."""
        windows = self.windows(question, context)
        found = self.decide(context, windows, self.infer(windows), question=question)
        return found[0] if found and self.is_answer(found[0]) else None
