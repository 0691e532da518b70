import numpy as np
import pytest

from shared.errors import DataError
from shared.runtime.cpu import OnnxRuntime
from tests.bundles import make_tagger_bundle
from vision.tagging.predictor import TagPredictor
from vision.tagging.taxonomy import Hierarchy, read_taxonomy

PARENTS = {"tabby": ["cat"], "Persian": ["cat"], "cat": ["animal"], "dog": ["animal"], "car": ["vehicle"]}
LABELS = ["animal", "car", "cat", "dog", "Persian", "tabby", "vehicle"]


@pytest.fixture
def hierarchy() -> Hierarchy:
    return Hierarchy(LABELS, PARENTS)


def as_dict(hierarchy: Hierarchy, targets: np.ndarray) -> dict[str, int]:
    return dict(zip(hierarchy.labels, targets.tolist(), strict=True))


def test_ancestors_are_nearest_first(hierarchy: Hierarchy):
    assert hierarchy.ancestors[LABELS.index("tabby")] == ("cat", "animal")


def test_a_label_with_two_parents_lists_each_ancestor_once():
    both = Hierarchy(["a", "b", "c", "top"], {"c": ["a", "b"], "a": ["top"], "b": ["top"]})
    assert both.ancestors[2] == ("a", "b", "top")


def test_ancestors_hold_with_a_label_and_all_else_does_not(hierarchy: Hierarchy):
    found = as_dict(hierarchy, hierarchy.targets(["tabby"], np.ones(7, dtype=bool)))
    assert found == {"animal": 1, "car": 0, "cat": 1, "dog": 0, "Persian": 0, "tabby": 1, "vehicle": 0}


def test_below_a_label_that_holds_nothing_is_known(hierarchy: Hierarchy):
    found = as_dict(hierarchy, hierarchy.targets(["cat"], np.ones(7, dtype=bool)))
    assert (found["tabby"], found["Persian"], found["dog"], found["animal"]) == (-1, -1, 0, 1)


def test_what_a_set_does_not_cover_is_unknown_unless_it_holds(hierarchy: Hierarchy):
    found = as_dict(hierarchy, hierarchy.targets(["car"], np.zeros(7, dtype=bool)))
    assert found == {"animal": -1, "car": 1, "cat": -1, "dog": -1, "Persian": -1, "tabby": -1, "vehicle": 1}


def test_no_child_is_more_probable_than_its_parent(hierarchy: Hierarchy):
    scores = np.random.default_rng(0).random((200, 7))
    result = hierarchy.reconcile(scores)
    for label, above in PARENTS.items():
        for parent in above:
            assert (result[:, LABELS.index(label)] <= result[:, LABELS.index(parent)]).all()
    leaves = [LABELS.index(name) for name in ("tabby", "Persian", "dog", "car")]
    np.testing.assert_array_equal(result[:, leaves], scores[:, leaves])


def test_a_circle_is_refused():
    with pytest.raises(DataError, match="its own ancestor"):
        Hierarchy(["a", "b"], {"a": ["b"], "b": ["a"]})


def test_a_parent_that_is_no_label_is_refused():
    with pytest.raises(DataError, match="not among the labels"):
        Hierarchy(["a"], {"a": ["b"]})


def test_a_single_parent_may_stand_without_a_list(tmp_path):
    (tmp_path / "t.yaml").write_text("tabby: cat\ncat: [animal]\n")
    assert read_taxonomy(tmp_path / "t.yaml") == {"tabby": ["cat"], "cat": ["animal"]}


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: {b: c}\n", "a: [1]\n", "a: [unclosed\n"])
def test_a_file_that_is_no_taxonomy_is_refused(tmp_path, content: str):
    (tmp_path / "t.yaml").write_text(content)
    with pytest.raises(DataError, match="taxonomy"):
        read_taxonomy(tmp_path / "t.yaml")


def test_a_tag_comes_with_all_its_ancestors_whatever_their_thresholds(tmp_path):
    bundle = make_tagger_bundle(
        tmp_path, labels=["sunset", "dog", "car"], parents={"sunset": ["sky"], "sky": ["landscape"]}
    )
    predictor = TagPredictor(bundle, OnnxRuntime(bundle))
    predictor._thresholds = np.array([0.5, 0.5, 0.5, 0.999, 0.999])
    logits = np.array([2.0, -5.0, -5.0, 1.0, 0.0])
    assert {tag.label for tag in predictor.decide({"logits": logits})} == {"landscape", "sky", "sunset"}
    assert predictor.decide({"logits": np.full(5, -5.0)}) == []


def test_an_unlikely_tag_brings_no_parent_and_does_not_come_without_one():
    hierarchy = Hierarchy(["animal", "cat", "tabby", "car"], {"tabby": ["cat"], "cat": ["animal"]})
    thresholds = np.array([0.6, 0.5, 0.1, 0.3])
    scores = np.array([[0.4, 0.4, 0.3, 0.4], [0.7, 0.5, 0.2, 0.1], [0.55, 0.52, 0.51, 0.1], [0.7, 0.4, 0.3, 0.1]])
    assert hierarchy.given(scores, thresholds).tolist() == [
        [False, False, False, True],  # tabby reaches 0.1, but its parents are unlikely
        [True, True, True, False],
        [True, True, True, False],  # likelier than not: brings animal, which needs 0.6
        [True, False, False, False],  # of its two ancestors one is missing
    ]


def test_no_tag_stands_without_its_ancestors_whatever_the_scores():
    hierarchy = Hierarchy(list("abcdefg"), {"b": ["a"], "c": ["b"], "d": ["a", "e"], "f": ["d"]})
    rng = np.random.default_rng(0)
    scores = hierarchy.reconcile(rng.random((500, 7)))
    for thresholds in rng.random((20, 7)):
        given = hierarchy.given(scores, thresholds)
        for i, above in enumerate(hierarchy.ancestors):
            for name in above:
                assert given[given[:, i], hierarchy.index[name]].all()
