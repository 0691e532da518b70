"""Records as samples: weights, labels and features; and what feedback says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.bundle.read import Bundle
from shared.bundle.reference import Reference, read_reference
from shared.monitoring.quality import quality, wilson
from shared.monitoring.windows import Sample, of_records, of_reference, plain
from shared.records.judging import is_right
from tests.bundles import make_tagger_bundle
from tests.shared.monitoring.conftest import answers

NOTHING: dict[str, Any] = {"right": None, "helpful": None, "labels": None, "answer": None}


def row(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "outcome": "in_scope", "labels": [], "confidence": 0.9, "share": 1.0, "features": None, "answer": None,
        "out_of_scope_score": None, "characters": None, "context_characters": None, "width": None, "height": None,
        "feedback": [],
    }  # fmt: skip
    return {**given, **changes}


def test_a_sampled_record_counts_for_all_of_its_like(bundle: Bundle):
    """A tenth of the sure answers was kept: 20 of 200, and all 50 that are out of scope."""
    label = bundle.labels[0]
    rows = [row(labels=[label], confidence=0.95, share=0.1)] * 20
    rows += [row(outcome="out_of_scope", confidence=0.4, characters=7)] * 50
    window = of_records(bundle, rows, "")
    assert window.without is not None
    assert window.label_shares is not None
    assert window.without.mean == pytest.approx(50 / 250)
    assert window.confidence.mean == pytest.approx((200 * 0.95 + 50 * 0.4) / 250)
    assert window.label_shares[0] == pytest.approx(200 / 250)
    assert window.sizes["characters"].quantiles(0.5) == [7.0]


def test_equal_weights_are_worth_as_many_as_there_are():
    assert Sample(np.arange(50.0), np.full(50, 3.0)).size == pytest.approx(50)
    assert plain(np.ones(7)).size == 7


def test_a_reference_says_how_many_were_out_of_scope(bundle: Bundle):
    reference = read_reference(bundle)
    assert reference is not None
    window = of_reference(bundle, reference)
    assert window.without is not None
    assert window.without.mean == pytest.approx(1 - reference.label_shares.sum(), abs=1e-3)


def test_confidences_tell_how_many_photos_got_no_tag_only_if_all_thresholds_are_the_same(tmp_path: Path):
    tagger = make_tagger_bundle(tmp_path / "tagger")
    reference = Reference(np.array([0.4, 0.6, 0.7, 0.8]), np.full(3, 0.25))
    window = of_reference(tagger, reference)
    assert window.without is not None
    assert window.without.mean == 0.25
    decision = tagger.config.decision.model_copy(update={"thresholds": {"cat": 0.5, "dog": 0.6, "car": 0.5}})
    other = replace(tagger, config=tagger.config.model_copy(update={"decision": decision}))
    assert of_reference(other, reference).without is None


def test_labels_and_features_of_other_versions_are_left_out(bundle: Bundle):
    four, eight = (np.zeros(length, dtype="<f2").tobytes() for length in (4, 8))
    window = of_records(bundle, [row(labels=["unheard of"], features=eight), row(features=four)], "")
    assert window.label_shares is not None
    assert window.features is not None
    assert window.label_shares.sum() == 0
    assert window.features.shape == (1, 8)


@pytest.mark.parametrize(
    ("given", "said", "right"),
    [
        (["cat", "animal"], {"right": False}, False),
        (["cat", "animal"], {"labels": ["cat"]}, True),
        (["cat", "animal"], {"labels": ["animal"]}, False),
        ([], {"labels": []}, True),
        ([], {"labels": ["cat"]}, False),
        (["cat", "animal"], {"helpful": True}, None),
    ],
)
def test_tags_are_right_if_all_are_said_but_for_what_they_are_kinds_of(given, said, right, tmp_path):
    tagger = make_tagger_bundle(tmp_path / "tagger", labels=["cat", "car"], parents={"cat": ["animal"]})
    assert is_right(row(outcome="tagged", labels=given), {**NOTHING, **said}, tagger.config.label_parents) is right


@pytest.mark.parametrize(
    ("outcome", "answer", "said", "right"),
    [
        ("answered", "at Nine.", "At nine", True),
        ("answered", "at ten", "at nine", False),
        ("answered", None, "at nine", None),
        ("answered", None, "", False),
        ("unanswerable", None, "", True),
        ("unanswerable", None, "at nine", False),
    ],
)
def test_answers_are_right_if_their_words_are(outcome, answer, said, right):
    assert is_right(row(outcome=outcome, answer=answer), {**NOTHING, "answer": said}, {}) is right


def test_quality_has_wilsons_interval_and_the_newest_word_counts(bundle: Bundle):
    yes, no = ({**NOTHING, "right": value} for value in (True, False))
    rows = [row(feedback=[no, yes])] * 45 + [row(feedback=[no])] * 5 + [row()] * 100
    found = quality(bundle, rows)
    assert (found["said"], found["value"]) == (50, pytest.approx(0.9))
    assert (found["low"], found["high"]) == (pytest.approx(0.7864, abs=1e-4), pytest.approx(0.9565, abs=1e-4))
    assert found["expected"] == pytest.approx(0.9)


def test_wilsons_interval_is_that_of_scipy():
    from scipy.stats import binomtest

    theirs = binomtest(45, 50).proportion_ci(method="wilson")
    assert wilson(0.9, 50) == (pytest.approx(theirs.low), pytest.approx(theirs.high))


def test_sampled_feedback_is_weighted(bundle: Bundle):
    yes, no = ({**NOTHING, "right": value} for value in (True, False))
    rows = [row(feedback=[yes], share=0.1)] * 10 + [row(feedback=[no])] * 10
    assert quality(bundle, rows)["value"] == pytest.approx(100 / 110)


def test_helpful_is_counted_apart(bundle: Bundle):
    found = quality(bundle, [row(feedback=[{**NOTHING, "helpful": value}]) for value in (True, True, False)])
    assert (found["said"], found["thumbs"], found["liked"]) == (0, 3, 2)


def test_drawn_records_are_like_the_reference(bundle: Bundle):
    window = of_records(bundle, [{**row(), **record.row()} for record in answers(bundle, 400)], "")
    assert window.without is not None
    assert 0.02 < window.without.mean < 0.09


def drawn(seed: int, count: int = 1000) -> tuple[list[dict[str, Any]], float]:
    """Return answers of which those that are unsure get six times as much feedback, and the share that is right."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 1, count)
    without = rng.random(count) < np.where(confidence < 0.5, 0.5, 0.02)
    right = rng.random(count) < np.where(without, 0.8, confidence)
    chance = 0.25 * np.where(confidence < 0.6, 6, 1) * np.exp(-2 * confidence) * (1 + 2 * without)
    says = rng.random(count) < chance
    rows = [
        row(
            outcome="out_of_scope" if without[place] else "in_scope",
            confidence=confidence[place],
            feedback=[{**NOTHING, "right": bool(right[place])}] if says[place] else [],
        )
        for place in range(count)
    ]
    return rows, float(right.mean())


def test_corrected_quality_is_right_where_who_gives_feedback_depends_on_confidence_alone(bundle: Bundle):
    draws, covered, plain_errors, errors = 60, 0, [], []
    for seed in range(draws):
        rows, truth = drawn(seed)
        found = quality(bundle, rows)
        fair = found["corrected"]
        covered += fair["low"] <= truth <= fair["high"]
        plain_errors.append(found["value"] - truth)
        errors.append(fair["value"] - truth)
    assert np.mean(plain_errors) < -0.1  # what feedback says as it comes
    assert abs(np.mean(errors)) < 0.01
    assert covered >= 53  # 57 of 60, give or take two standard errors


def test_corrected_quality_needs_some_feedback_and_takes_equal_confidences(bundle: Bundle):
    yes = {**NOTHING, "right": True}
    assert quality(bundle, [row(feedback=[yes])] * 9 + [row()] * 50)["corrected"] is None
    found = quality(bundle, [row(feedback=[yes])] * 40 + [row(confidence=None, outcome="out_of_scope")] * 50)
    assert found["corrected"]["value"] == pytest.approx(1.0)
    assert 0.8 < found["corrected"]["low"] < 1


def reviewed(given: str | None, right: list[str] | None, reason: str = "audit") -> dict[str, Any]:
    outcome = "out_of_scope" if given is None else "in_scope"
    review = {"reason": reason, "labels": right, "answer": None}
    return {**row(outcome=outcome, labels=[] if given is None else [given]), "reviews": [review]}


def test_audits_alone_are_counted_and_what_was_set_aside_is_not(bundle: Bundle):
    label, other = bundle.labels[:2]
    audits = [reviewed(label, [label])] * 30 + [reviewed(label, [other])] * 5 + [reviewed(None, [])] * 5
    audits += [reviewed(label, None)] * 7 + [reviewed(label, [other], reason="group")] * 50
    found = quality(bundle, [row()] * 10, audits)["audited"]
    low, high = wilson(35 / 40, 40)
    assert found["said"] == 40
    assert (found["value"], found["low"], found["high"]) == pytest.approx((35 / 40, low, high))
    assert quality(bundle, [row()], [reviewed(label, None)])["audited"] is None


def test_a_reference_says_which_photos_got_no_tag_whatever_the_thresholds(tmp_path: Path):
    tagger = make_tagger_bundle(tmp_path / "tagger")
    decision = tagger.config.decision.model_copy(update={"thresholds": {"cat": 0.5, "dog": 0.6, "car": 0.5}})
    tagger = replace(tagger, config=tagger.config.model_copy(update={"decision": decision}))
    without = np.array([True, False, False, True])
    reference = Reference(np.array([0.4, 0.6, 0.7, 0.8]), np.full(3, 0.25), without=without)
    window = of_reference(tagger, reference)
    assert window.without is not None
    assert window.without.mean == 0.5
