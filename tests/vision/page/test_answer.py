"""What the page keeps of a photo, and what of it is shown at a threshold."""

import json

import numpy as np
import pytest

from vision.page.answer import MAX_SHOWN, Answer, grouped, nearest, tags_at
from vision.tagging.taxonomy import Hierarchy

LABELS = ["tabby", "cat", "animal", "car", "vehicle"]
PARENTS = {"tabby": ["cat"], "cat": ["animal"], "car": ["vehicle"]}
THRESHOLDS = [0.6, 0.5, 0.5, 0.3, 0.95]


def answer(scores: list[float], thresholds: list[float] | None = None) -> Answer:
    given = np.array(scores) >= np.array(thresholds or [0.5] * len(scores))
    return Answer.of(np.array(scores), given, size=(640, 480), decode_ms=3.21, model_ms=12.0, version="1")


def test_answer_survives_the_browser():
    kept = answer([0.7, 0.9, 0.95, 0.4, 0.4])
    assert Answer.from_json(kept.to_json(), 5, "1") == kept
    assert Answer.from_json(kept.to_json(), 5, "2") is None  # its label numbers mean something else


def test_only_scores_that_some_threshold_can_show_are_kept():
    scores = np.full(1000, 1e-5)
    scores[[3, 500]] = 0.8, 0.2
    kept = answer(list(scores))
    assert {3, 500} < set(kept.scores)
    assert len(kept.scores) == 3  # and the third best, for the nearest guesses


def test_label_with_a_threshold_below_the_slider_is_kept():
    kept = answer([0.9, 0.8, 0.7, 0.005], [0.5, 0.5, 0.5, 0.001])
    assert 3 in kept.scores


@pytest.mark.parametrize(
    "change",
    [
        {"scores": {"7": 0.5}},
        {"scores": {"-1": 0.5}},
        {"scores": {"0": 1.5}},
        {"scores": {"0": float("nan")}},
        {"scores": {"zero": 0.5}},
        {"scores": [0.5]},
        {"scores": None},
        {"width": "wide"},
        {"decode_ms": -1},
        {"model_ms": float("inf")},
        {"given": [7]},
        {"given": ["zero"]},
    ],
    ids=str,
)
def test_answer_that_was_tampered_with_is_none(change: dict[str, object]):
    content = json.loads(answer([0.7, 0.9, 0.95, 0.4, 0.4]).to_json())
    assert Answer.from_json(json.dumps(content | change), 5, "1") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "1", None, 7, "[" * 100_000, "{}"], ids=lambda text: str(text)[:9]
)
def test_what_is_no_answer_is_none(text: object):
    assert Answer.from_json(text, 5, "1") is None


def test_own_thresholds_hold_unless_the_slider_says_otherwise():
    kept = answer([0.55, 0.9, 0.95, 0.4, 0.94], THRESHOLDS)
    assert tags_at(kept, None) == [2, 1, 3]
    assert tags_at(kept, 0.92) == [2, 4]


def test_a_low_threshold_shows_a_page_and_not_a_thousand():
    kept = answer([0.5 + i / 1000 for i in range(200)])
    assert tags_at(kept, 0.01) == list(range(199, 199 - MAX_SHOWN, -1))


def test_nearest_guesses_are_no_tags():
    kept = answer([0.55, 0.9, 0.95, 0.4, 0.94])
    assert nearest(kept, [2, 1, 3]) == [4, 0]


def test_tags_stand_in_trees_under_their_topmost_parents():
    scores = {0: 0.7, 1: 0.9, 2: 0.95, 3: 0.4, 4: 0.6}
    trees = grouped([0, 1, 2, 3], scores, Hierarchy(LABELS, PARENTS))
    assert [tree.index for tree in trees] == [2, 4]
    assert [(child.index, [grandchild.index for grandchild in child.children]) for child in trees[0].children] == [
        (1, [0])
    ]
    assert not trees[1].is_tag  # vehicle misses its own threshold: a heading only
    assert trees[1].children[0].is_tag


def test_label_with_two_parents_stands_once_under_the_more_probable_one():
    hierarchy = Hierarchy(["lobster", "food", "animal"], {"lobster": ["food", "animal"]})
    trees = grouped([0], {0: 0.8, 1: 0.85, 2: 0.9}, hierarchy)
    assert [(tree.index, [child.index for child in tree.children]) for tree in trees] == [(2, [0]), (1, [])]


def test_without_a_taxonomy_tags_stand_in_order():
    trees = grouped([1, 0], {0: 0.6, 1: 0.8}, Hierarchy(["a", "b"], {}))
    assert [(tree.index, tree.children) for tree in trees] == [(1, []), (0, [])]
