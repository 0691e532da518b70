from __future__ import annotations

import numpy as np
import pytest

from nlp.qa.spans import Span, best_spans, whole_answers
from nlp.text import Encoding, TextEncoder, whole_words
from tests.encoders import make_tokenizer

CONTEXT = "The old lighthouse keeper, Ada Brandt, lit the lamp at nine every evening until the storm of 1987 broke it."


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(make_tokenizer([CONTEXT, "Who lit the lamp?"]), max_length=24, stride=6)


def reference(
    windows: list[Encoding], starts: list[np.ndarray], ends: list[np.ndarray], longest: int
) -> list[tuple[float, int, int]]:
    """Every pair of tokens of every window, tried one by one, as SQuAD's original code does."""
    best: dict[tuple[int, int], float] = {}
    for window, s, e in zip(windows, starts, ends, strict=True):
        for i in range(len(window)):
            for j in range(i, min(i + longest, len(window))):
                if not (window.is_text[i] and window.is_text[j]):
                    continue
                place = (int(window.offsets[i, 0]), int(window.offsets[j, 1]))
                margin = float(s[i]) + float(e[j]) - float(s[0]) - float(e[0])
                best[place] = max(best.get(place, -np.inf), margin)
    return sorted(((margin, *place) for place, margin in best.items()), key=lambda found: (-found[0], *found[1:]))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("longest", [1, 3, 8, 100])
def test_spans_are_those_of_a_search_through_every_pair(encoder: TextEncoder, seed: int, longest: int):
    windows = encoder.windows("Who lit the lamp?", CONTEXT)
    assert len(windows) > 1
    rng = np.random.default_rng(seed)
    starts = [rng.normal(0, 3, len(window)).astype(np.float32) for window in windows]
    ends = [rng.normal(0, 3, len(window)).astype(np.float32) for window in windows]
    found = best_spans(CONTEXT, windows, starts, ends, max_answer_tokens=longest, top_k=5)
    expected = reference(windows, starts, ends, longest)[:5]
    assert [(span.start, span.end) for span in found] == [(start, end) for _, start, end in expected]
    assert [span.margin for span in found] == pytest.approx([margin for margin, _, _ in expected])


def test_an_end_before_its_start_is_never_chosen(encoder: TextEncoder):
    [window] = encoder.windows("lamp", "nine storm")
    tokens = np.flatnonzero(window.is_text)
    starts, ends = np.zeros(len(window)), np.zeros(len(window))
    starts[tokens[-1]], ends[tokens[0]] = 9.0, 9.0  # best apart, impossible together
    [span] = best_spans("nine storm", [window], [starts], [ends], max_answer_tokens=10)
    assert span.start < span.end
    assert span.margin == pytest.approx(9.0)


def test_the_question_is_no_candidate(encoder: TextEncoder):
    [window] = encoder.windows("Who lit the lamp?", "nine every evening")
    loud = np.where(window.is_text, 0.0, 50.0)
    [span] = best_spans("nine every evening", [window], [loud], [loud], max_answer_tokens=3)
    assert 0 <= span.start < span.end <= len("nine every evening")
    assert span.margin == pytest.approx(-100.0)  # no answer is what [CLS] says with 50 + 50


def test_values_behind_a_windows_end_are_of_no_account(encoder: TextEncoder):
    windows = encoder.windows("Who?", "Ada lit the lamp")
    padded = np.concatenate([np.zeros(len(windows[0])), np.full(7, 99.0)])
    short = best_spans("Ada lit the lamp", windows, [padded[:-7]], [padded[:-7]], max_answer_tokens=4, top_k=3)
    long = best_spans("Ada lit the lamp", windows, [padded], [padded], max_answer_tokens=4, top_k=3)
    assert short == long


def test_a_context_without_a_token_has_no_span(encoder: TextEncoder):
    windows = encoder.windows("Who?", "\u0000 \u200b")
    assert best_spans("\u0000 \u200b", windows, [np.zeros(9)], [np.zeros(9)], max_answer_tokens=4) == []


def test_the_same_place_found_in_two_windows_is_given_once(encoder: TextEncoder):
    windows = encoder.windows("Who lit the lamp?", CONTEXT)
    flat = [np.zeros(len(window)) for window in windows]
    found = best_spans(CONTEXT, windows, flat, flat, max_answer_tokens=2, top_k=50)
    assert len({(span.start, span.end) for span in found}) == len(found)


SPANS = "Pass --ckpt_path last. Ada Brandt lit the lamp at 9:30 for $1,024.50, she wrote to help@shop.example."


def spans(*texts: str) -> list[Span]:
    return [
        Span(SPANS.index(text), SPANS.index(text) + len(text), float(-place), 0) for place, text in enumerate(texts)
    ]


def shown(found: list[Span]) -> list[str]:
    return [SPANS[span.start : span.end] for span in found]


def test_an_answer_has_whole_words_options_addresses_and_numbers():
    found = whole_answers("", SPANS, spans("path", "Bra", ":30", "1,", "shop"), 5)
    assert shown(found) == ["--ckpt_path", "Brandt", "9:30", "$1,024.50", "help@shop.example"]


def test_of_answers_that_overlap_the_best_is_given():
    assert shown(whole_answers("", SPANS, spans("Ada Brandt", "Brandt lit", "lamp"), 3)) == ["Ada Brandt", "lamp"]
    assert shown(whole_answers("", SPANS, spans("lamp", "Ada"), 1)) == ["lamp"]


def test_what_only_repeats_the_question_is_no_answer():
    asked = "Who is Ada Brandt, and who lit the lamp?"
    assert shown(whole_answers(asked, SPANS, spans("Ada Brandt", "lit the lamp", "last"), 3)) == ["last"]
    assert shown(whole_answers("Was it Ada Brandt or Hugo?", SPANS, spans("Ada Brandt"), 1)) == ["Ada Brandt"]
    assert shown(whole_answers("Ada?", SPANS, spans("Ada"), 1)) == ["Ada"]  # a word alone may be one


@pytest.mark.parametrize(
    ("text", "part", "whole"),
    [
        ("مكتبة المدينة الكبيرة", "مدي", "المدينة"),
        ("商店早上九点开门。", "九点", "九点"),
        ("« Très bien », dit-elle.", "bie", "bien"),
        ("It rose by 18 % in 2020.", "18", "18 %"),
        ("the cafe\u0301's lamp", "caf", "cafe\u0301"),
        ("see nlp/qa/spans.py.", "spans", "nlp/qa/spans.py"),
        ("a  b", " ", ""),
    ],
)
def test_words_are_whole_in_any_script(text: str, part: str, whole: str):
    start = text.index(part)
    first, last = whole_words(text, start, start + len(part))
    assert text[first:last] == whole
