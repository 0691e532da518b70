"""The surest wrong answers, as JSON lines: what to look at first, for they are often wrong labels.

Neighbours: `packing` leaves them with the run, `scoring` gives them to `percept evaluate`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from nlp.intent.detectors import Detector
from nlp.intent.judging import Judged, probabilities_of, scores_of
from nlp.intent.sources import Example
from shared.bundle.layout import IntentDecision

SHOWN = 100


def wrong_lines(
    judged: Judged, examples: Sequence[Example], labels: Sequence[str], detector: Detector, decision: IntentDecision
) -> list[str]:
    """Return a line each of `text`, `given` and `right` (null for none), `confidence`, `out_of_scope_score`."""
    probabilities, scores = probabilities_of(judged, decision), scores_of(judged, detector, decision)
    named = 1 - scores >= decision.abstain_below
    given = np.where(named, probabilities.argmax(axis=1), -1)
    wrong = np.flatnonzero(given != judged.targets)
    sureness = np.where(named, probabilities.max(axis=1) * (1 - scores), scores)
    names = [*labels, None]  # -1 is the last
    return [
        json.dumps(
            {
                "text": examples[i].text,
                "given": names[given[i]],
                "right": names[judged.targets[i]],
                "confidence": round(float(probabilities[i].max()), 3),
                "out_of_scope_score": round(float(scores[i]), 3),
            },
            ensure_ascii=False,
        )
        for i in wrong[np.argsort(-sureness[wrong], kind="stable")][:SHOWN]
    ]
