"""How good answers are: exact match and F1 as SQuAD defines them, finding the unanswerable, and honest scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torchmetrics.functional.text import squad

from nlp.qa.sources import Example
from nlp.qa.spans import CANDIDATES, best_spans, whole_answers
from nlp.qa.windows import Windowed
from shared.training.metrics import DIGITS, auroc, calibration_error, ratio, reliability_rows

RIGHT_FROM_F1 = 0.5
"""An answer counts as right in calibration when it shares at least this much with a reference."""


@dataclass(frozen=True)
class Prediction:
    """The best span for one question, and how good it is."""

    text: str
    start: int
    end: int
    margin: float
    """As `spans.Span.margin`; -inf where the context has no token."""
    exact: float
    """1 or 0, against the best reference; 0 for unanswerable questions."""
    f1: float
    """0 to 1, likewise."""

    @property
    def is_right(self) -> bool:
        return self.f1 >= RIGHT_FROM_F1


def decode(
    examples: Sequence[Example],
    windows: Sequence[Windowed],
    logits: Mapping[int, tuple[np.ndarray, np.ndarray]],
    *,
    max_answer_tokens: int,
) -> list[Prediction]:
    """Return the best span of every question, however improbable.

    Args:
        examples: the questions.
        windows: all their windows, as `windows.cut` gives them.
        logits: place of a window -> start and end logits, float [T] each.
        max_answer_tokens: longer spans are no candidates.
    """
    of_example: list[list[Windowed]] = [[] for _ in examples]
    for window in windows:
        of_example[window.example].append(window)
    found = []
    for example, own in zip(examples, of_example, strict=True):
        spans = best_spans(
            example.context,
            [window.encoding for window in own],
            [logits[window.index][0] for window in own],
            [logits[window.index][1] for window in own],
            max_answer_tokens=max_answer_tokens,
            top_k=CANDIDATES,
        )
        spans = whole_answers(example.question, example.context, spans, 1)
        if not spans:
            found.append(Prediction("", 0, 0, -np.inf, 0.0, 0.0))
            continue
        span = spans[0]
        text = example.context[span.start : span.end]
        exact, f1 = judge(text, example.texts)
        found.append(Prediction(text, span.start, span.end, span.margin, exact, f1))
    return found


def judge(text: str, references: Sequence[str]) -> tuple[float, float]:
    """Return (exact match, F1) in 0..1 against the best reference; zeros where there is none.

    >>> judge("the Eiffel Tower", ["Eiffel tower", "tower"])
    (1.0, 1.0)
    """
    if not references:
        return 0.0, 0.0
    answers: Any = {"text": list(references), "answer_start": [0] * len(references)}
    scores = squad([{"prediction_text": text, "id": "0"}], [{"answers": answers, "id": "0"}])
    return float(scores["exact_match"]) / 100, float(scores["f1"]) / 100


def summary(examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
    """Return the metrics of an epoch, each in 0..1; checkpoints are chosen by `quality`.

    `exact` and `f1`: of answerable questions, when an answer is always given. `auroc`: how well the margin tells
    answerable from unanswerable questions. `quality`: F1 over all questions at the best threshold, where giving none is
    right for the unanswerable.
    """
    asked = np.array([example.is_answerable for example in examples])
    exact, f1 = (np.array([getattr(p, name) for p in predictions]) for name in ("exact", "f1"))
    margins = np.array([prediction.margin for prediction in predictions])
    result = {"exact": _mean(exact[asked]), "f1": _mean(f1[asked])}
    if (found := auroc(margins, asked)) is not None:
        result["auroc"] = found
    result["quality"] = best_threshold(margins, f1, asked)[1]
    return result


def best_threshold(margins: np.ndarray, f1: np.ndarray, is_answerable: np.ndarray) -> tuple[float, float]:
    """Return the margin below which no answer should be given, and the F1 over all questions that this gives.

    Args:
        margins: float [N].
        f1: float [N], of the best span; ignored for unanswerable questions.
        is_answerable: bool [N].

    Source: Rajpurkar et al. 2018, "Know What You Don't Know"; the official script's find_best_thresh.
    """
    order = np.argsort(-margins, kind="stable")
    gains = np.where(is_answerable, f1, -1.0)[order]  # answering one more question: its F1, or a right silence lost
    totals = np.concatenate([[0.0], np.cumsum(gains)]) + np.count_nonzero(~is_answerable)
    sorted_margins = margins[order]
    # No threshold comes between equal margins.
    can_end = np.concatenate([[True], sorted_margins[1:] != sorted_margins[:-1], [True]])
    count = int(np.argmax(np.where(can_end, totals, -np.inf)))
    if count == 0:
        threshold = float(sorted_margins[0]) + 1.0
    elif count == len(margins):
        threshold = float(sorted_margins[-1]) - 1.0
    else:
        threshold = float(sorted_margins[count - 1] + sorted_margins[count]) / 2
    return threshold, float(totals[count] / len(margins))


def evaluate(
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    scores: np.ndarray,
    abstain_below: float,
    source_names: Sequence[str],
) -> dict[str, Any]:
    """Return `sources` (name -> metrics), `overall` metrics and `reliability` rows, as the model card shows them.

    Args:
        examples: the questions.
        predictions: from `decode`, one per question.
        scores: float [N], calibrated.
        abstain_below: no answer is given below it.
        source_names: names of the sets, by `Example.source`.
    """
    sets = np.array([example.source for example in examples], dtype=int)
    places = {name: np.flatnonzero(sets == index) for index, name in enumerate(source_names)}
    right = np.array([prediction.is_right for prediction in predictions])

    def part(rows: np.ndarray) -> dict[str, Any]:
        chosen = [examples[i] for i in rows], [predictions[i] for i in rows]
        return _metrics(*chosen, scores[rows], abstain_below)

    return {
        "sources": {name: part(rows) for name, rows in places.items() if len(rows)},
        "overall": part(np.arange(len(examples))),
        "reliability": {"all sets": reliability_rows(scores, right)},
    }


def _metrics(
    examples: Sequence[Example], predictions: Sequence[Prediction], scores: np.ndarray, abstain_below: float
) -> dict[str, Any]:
    """Return `summary` and what the decision makes of it.

    `answered`: share of the answerable questions that get an answer. `silent`: share of the unanswerable that get none.
    `f1_at_threshold`: F1 over all questions. `ece`: of the score as the chance that the span is right.
    """
    asked = np.array([example.is_answerable for example in examples])
    given = scores >= abstain_below
    f1 = np.array([prediction.f1 for prediction in predictions])
    right = np.array([prediction.is_right for prediction in predictions])
    rounded = {
        name: round(value, DIGITS) for name, value in summary(examples, predictions).items() if np.isfinite(value)
    }
    return {
        "examples": int(asked.sum()),
        "unanswerable": int((~asked).sum()),
        **rounded,
        "answered": ratio(float(given[asked].sum()), int(asked.sum())),
        "silent": ratio(float((~given[~asked]).sum()), int((~asked).sum())),
        "f1_at_threshold": ratio(float(np.where(asked, f1 * given, ~given).sum()), len(examples)),
        "ece": calibration_error(scores, right),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
