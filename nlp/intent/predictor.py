"""Utterances to intents, or to none, with a bundle and a runtime. Torch-free.

Encoding and `decide` work on one utterance, `infer` on a batch: a bad utterance never fails others, and the service
batches only the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nlp.intent.detectors import LOGITS, read_detector
from nlp.text import Encoding, TextEncoder
from shared.bundle.calibration import probabilities_from_logits, probability_from_logit
from shared.bundle.layout import IntentDecision
from shared.bundle.read import Bundle
from shared.errors import BundleError
from shared.runtime.protocol import Runtime


@dataclass(frozen=True)
class IntentScore:
    """One intent with its calibrated probability, given that the utterance belongs to one."""

    name: str
    confidence: float


@dataclass(frozen=True)
class IntentResult:
    """What one utterance wants."""

    intent: str | None
    """None if it is out of scope."""
    confidence: float
    """Of the best intent, even if it is not given."""
    out_of_scope: bool
    out_of_scope_score: float
    """0 to 1; higher if the utterance belongs to no intent."""
    ranking: list[IntentScore]
    """Best first."""


class IntentPredictor:
    """Classifies utterances as the bundle says; holds no state between calls."""

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        decision = bundle.config.decision
        if not isinstance(decision, IntentDecision):
            raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for intent.")
        self.bundle = bundle
        self.runtime = runtime
        self.encoder = TextEncoder.from_bundle(bundle)
        self.labels = bundle.labels
        self.decision = decision
        self.detector = read_detector(bundle)
        self._inputs = [spec.name for spec in bundle.config.signature.inputs]

    def infer(self, batch: Sequence[Encoding]) -> list[dict[str, np.ndarray]]:
        """Return each utterance's row of the network's outputs: `logits` float32 [C], and `features` [D] if any."""
        if not batch:
            return []
        outputs = self.runtime.run(self.encoder.batch(batch, self._inputs))
        return [{name: values[row] for name, values in outputs.items()} for row in range(len(batch))]

    def decide(self, outputs: Mapping[str, np.ndarray], *, top_k: int | None = None) -> IntentResult:
        """Return what one utterance wants; "nothing that is known" is a normal answer.

        Args:
            outputs: an item of what `infer` returns.
            top_k: most intents in the ranking; None for all.
        """
        decision = self.decision
        probabilities = probabilities_from_logits(
            outputs[LOGITS], decision.temperature, "single_label_classification"
        )  # float64 [C], given that it is one of the intents
        [value] = self.detector.values({name: row[np.newaxis] for name, row in outputs.items()})
        score = probability_from_logit(float(value) + decision.detector_shift, decision.detector_temperature)
        order = np.argsort(-probabilities, kind="stable")
        best = int(order[0])
        ranking = [IntentScore(self.labels[place], float(probabilities[place])) for place in order[:top_k].tolist()]
        is_out = 1 - score < decision.abstain_below
        return IntentResult(
            intent=None if is_out else self.labels[best],
            confidence=float(probabilities[best]),
            out_of_scope=is_out,
            out_of_scope_score=score,
            ranking=ranking,
        )

    def predict(self, texts: Sequence[str], *, top_k: int | None = None) -> list[IntentResult]:
        """Return what each utterance wants, in their order; for notebooks and `percept predict`."""
        encodings = [self.encoder.encode(text) for text in texts]
        return [self.decide(outputs, top_k=top_k) for outputs in self.infer(encodings)]
