"""The page's HTML says what the answer says, and takes no label for markup."""

import pytest
from PIL import Image

from shared.runtime.cpu import OnnxRuntime
from tests.bundles import make_tagger_bundle
from vision.heatmap import FLAT
from vision.page import render
from vision.page.answer import Answer
from vision.page.render import TagView, data_uri, lowered, notice
from vision.tagging.predictor import TagPredictor

HOSTILE = "<b>&\"'</b>"
ESCAPED = "&lt;b&gt;&amp;&#34;&#39;&lt;/b&gt;"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> TagPredictor:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    bundle = make_tagger_bundle(folder, ("cat", HOSTILE), parents={"cat": ["animal"], HOSTILE: [HOSTILE + "s"]})
    return TagPredictor(bundle, OnnxRuntime(bundle))


@pytest.fixture(scope="module")
def view(predictor: TagPredictor) -> TagView:
    return TagView(predictor)


def answer(*scores: float) -> Answer:
    given = [i for i, score in enumerate(scores) if score >= 0.5]
    return Answer(dict(enumerate(scores)), 640, 480, 3.2, 12.0, "1", given)


def test_a_foreign_photo_is_said_to_be_one(view: TagView):
    foreign = Answer({0: 0.97, 1: 0.02, 2: 0.97, 3: 0.02}, 640, 480, 3.2, 12.0, "1", [], is_foreign=True)
    assert "unlike all photos that I learned from" in view.result(foreign, None)
    assert "unlike all photos" not in view.result(foreign, 0.5), "whoever asks for a threshold gets it"


def test_every_label_is_escaped_wherever_it_stands(predictor: TagPredictor, view: TagView):
    picture = Image.new("RGB", (8, 8))
    pages = [
        view.result(answer(0.9, 0.9, 0.9, 0.9), None),
        view.result(answer(0.1, 0.1, 0.1, 0.1), None),
        view.heat(picture, 1, 0.9, 1.0),
        render.knows(predictor),
    ]
    for page in pages:
        assert ESCAPED in page
        assert HOSTILE not in page


def test_what_the_card_says_is_escaped(predictor: TagPredictor):
    card = {"summary": HOSTILE, "limits": [HOSTILE]}
    config = predictor.bundle.config.model_copy(update={"card": card})
    bundle = type(predictor.bundle)(**{**vars(predictor.bundle), "config": config})
    other = TagPredictor(bundle, predictor.runtime)
    assert ESCAPED in render.limits(other)
    assert HOSTILE not in render.limits(other)


def test_notice_is_escaped_and_announced():
    html = notice("I cannot read this photo", f"the {HOSTILE} is broken.")
    assert 'role="alert"' in html
    assert f"The {ESCAPED} is broken." in html


def test_parents_are_headings_with_their_own_score(view: TagView):
    html = view.result(answer(0.9, 0.1, 0.97, 0.1), None)
    heading, bar = html.index(">animal<"), html.index(">cat<")
    assert heading < bar
    assert "97%" in html[heading:bar]
    assert "90%" in html[bar:]


def test_tag_below_its_own_threshold_is_faint(view: TagView):
    shown = view.result(answer(0.4, 0.01, 0.97, 0.01), 0.3)
    assert shown.count('class="p-tag p-weak" data-index="0"') == 1
    assert 'class="p-tag p-head" data-index="2"' in shown


def test_nothing_known_is_said_plainly(view: TagView):
    html = view.result(answer(0.2, 0.1, 0.2, 0.1), None)
    assert "I see nothing that I know in this photo" in html
    assert '<details class="p-near" open>' in html
    assert "None of my 4 labels" in html


def test_heat_map_says_what_covering_the_peak_costs(view: TagView):
    assert "<b>90%</b> to <b>77%</b>" in view.heat(Image.new("RGB", (8, 8)), 0, 0.9, 1.0)
    assert "No single part is decisive" in view.heat(Image.new("RGB", (8, 8)), 0, 0.9, FLAT / 2)


@pytest.mark.parametrize(("score", "drop"), [(0.0, 5.0), (1.0, 0.5), (0.5, 700.0), (0.5, -700.0)])
def test_lowered_score_stays_a_score(score: float, drop: float):
    assert 0 <= lowered(score, drop) <= 1


def test_picture_in_a_url_is_a_jpeg():
    assert data_uri(Image.new("RGB", (8, 8))).startswith("data:image/jpeg;base64,/9j/")


def test_every_label_is_listed_once_under_its_topmost_parent(predictor: TagPredictor):
    html = render.knows(predictor)
    assert html.count("<li>cat</li>") == 1
    assert html.index('<h3 translate="no">animal') < html.index("<li>cat</li>")
    assert "these 4 labels" in html
