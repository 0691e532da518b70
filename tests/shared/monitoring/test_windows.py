"""Records as samples: weights, labels and features; and what feedback says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.bundle.read import Bundle
from shared.bundle.reference import Reference, read_reference
from shared.monitoring.quality import is_right, quality, wilson
from shared.monitoring.windows import Sample, of_records, of_reference, plain
from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_qa_bundle
from tests.shared.monitoring.conftest import answers

NOTHING: dict[str, Any] = {"right": None, "helpful": None, "labels": None, "answer": None}


def row(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "outcome": "in_scope", "labels": [], "confidence": 0.9, "share": 1.0, "features": None, "answer": None,
        "characters": None, "context_characters": None, "width": None, "height": None, "feedback": [],
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
    assert is_right(tagger, row(outcome="tagged", labels=given), {**NOTHING, **said}) is right


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
def test_answers_are_right_if_their_words_are(outcome, answer, said, right, tmp_path):
    qa = make_qa_bundle(tmp_path / "qa")
    assert is_right(qa, row(outcome=outcome, answer=answer), {**NOTHING, "answer": said}) is right


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
