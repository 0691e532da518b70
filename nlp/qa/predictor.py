"""A question and a context to an answer, or none, with a bundle and a runtime. Torch-free.

`windows` and `decide` work on one question, `infer` on a batch of windows of any questions, so that a bad one never
fails its neighbours and the service batches only the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nlp.qa.spans import Span, best_spans
from nlp.text import Encoding, TextEncoder
from shared.bundle.calibration import probabilities_from_logits
from shared.bundle.layout import AnswerDecision
from shared.bundle.read import Bundle
from shared.errors import BundleError
from shared.runtime.protocol import Runtime

START_LOGITS = "start_logits"
END_LOGITS = "end_logits"
Logits = tuple[np.ndarray, np.ndarray]
"""Start and end logits of one window, float32 [T] each."""


@dataclass(frozen=True)
class Answer:
    """A place in the context with the calibrated probability that it is the answer."""

    text: str
    score: float
    start: int
    end: int
    """`context[start:end] == text`, in characters."""


class AnswerPredictor:
    """Answers as the bundle says; holds no state between calls."""

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        decision = bundle.config.decision
        if not isinstance(decision, AnswerDecision):
            raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for qa.")
        self.bundle = bundle
        self.runtime = runtime
        self.encoder = TextEncoder.from_bundle(bundle)
        self.decision = decision
        self._inputs = [spec.name for spec in bundle.config.signature.inputs]

    def windows(self, question: str, context: str) -> list[Encoding]:
        """Return what the network reads, one or more windows; raises InputError as `TextEncoder.windows`."""
        return self.encoder.windows(question, context)

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
        top_k: int = 1,
        max_answer_tokens: int | None = None,
    ) -> list[Answer]:
        """Return the best answers, the most probable first, however improbable; `is_answer` says which may be given.

        Args:
            context: what the windows were made of.
            windows: from `windows`.
            logits: from `infer`, one a window.
            top_k: at most so many.
            max_answer_tokens: longer ones are no candidates; None for what the bundle says, which is also the most.
        """
        starts, ends = [each[0] for each in logits], [each[1] for each in logits]
        longest = self.decision.max_answer_tokens
        longest = min(longest, max_answer_tokens or longest)
        spans = best_spans(context, windows, starts, ends, max_answer_tokens=longest, top_k=top_k)
        return [Answer(context[span.start : span.end], self.score(span), span.start, span.end) for span in spans]

    def score(self, span: Span) -> float:
        """Return the calibrated probability that a span is the answer."""
        shifted = np.array(span.margin + self.decision.shift)
        return float(probabilities_from_logits(shifted, self.decision.temperature, "multi_label_classification"))

    def is_answer(self, answer: Answer) -> bool:
        """Whether it is sure enough to be given; otherwise the context holds no answer, which is a normal answer."""
        return answer.score >= self.decision.abstain_below

    def answer(self, question: str, context: str) -> Answer | None:
        """Return the answer, or None where the context holds none; what notebooks and `percept predict` call."""
        windows = self.windows(question, context)
        found = self.decide(context, windows, self.infer(windows))
        return found[0] if found and self.is_answer(found[0]) else None
