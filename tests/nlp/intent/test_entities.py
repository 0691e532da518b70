"""Entities: exact places whatever the text, the best tags, and what a bundle says of them."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
import regex
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from nlp.intent.decision import Judged, fit_entities, measure_entities
from nlp.intent.entities import (
    EntityRule,
    Kind,
    Span,
    best_tags,
    bounds_of,
    fitted,
    found_spans,
    num_tags,
    span_counts,
    tags_of,
    words_of,
)
from nlp.text import TextEncoder
from tests.language_bundles import make_tokenizer

CITY_FROM, CITY_TO, DATE = Kind("city", "from"), Kind("city", "to"), Kind("date")
KINDS = [CITY_FROM, CITY_TO, DATE]
PIECES = [
    "paris", "é", "e\u0301", " ", "  ", "\n", "\r\n", "\t", "\0", "👩\u200d💻", "👍🏽", "🇫🇷", "🇩🇪",
    "🏴\U000e0067\U000e0062\U000e007f", "1\ufe0f\u20e3", "東京", "ｆｕｌｌ", "שלום", "مرحبا", "\u200f",
    "\u200c", "\u200d", "ที่", "กำ", "\u0600", "5", "７", "ﾊﾞ", "한", "각", "ß", "'", "’", "-", "_", "\u00ad",
    "\u2028", "क्ष", "\ufe0f", "\u0301", "𝒳", "İ", "ﬁ",
    "a@b.example", "4.90", "…", "a", "to", "flight", "42",
]  # fmt: skip


def byte_level() -> Tokenizer:
    """Return a byte-level BPE tokenizer, as RoBERTa's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator(["paris to rome", "a flight"] * 3, trainer)
    return tokenizer


def metaspace() -> Tokenizer:
    """Return a tokenizer of pieces that may cross words, as SentencePiece's."""
    tokenizer = Tokenizer(
        models.Unigram([("<unk>", -9.0), ("▁", -3.0), ("▁paris", -1.0), ("to", -1.0), ("a", -2.0)], 0, False)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


@pytest.mark.parametrize("make", [make_tokenizer, byte_level, metaspace])
def test_what_is_found_is_what_is_written_and_never_half_a_character(make):
    encoder = TextEncoder(make(), 48, 0, 4)
    rng, numbers = random.Random(3), np.random.default_rng(3)
    for _ in range(3400):
        text = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 30)))
        encoding = encoder.encode(text)
        logits = numbers.normal(size=(len(encoding), num_tags(len(KINDS)))) * 3
        borders = {0, *(found.end() for found in regex.finditer(r"\X", text))}
        rule = EntityRule(kinds=tuple(KINDS), temperature=1.0, shift=0.0)
        last = 0
        for entity in rule.entities({"entity_logits": logits}, encoding):
            assert text[entity.start : entity.end] == entity.text == entity.value
            assert entity.text.strip()
            assert {entity.start, entity.end} <= borders, (text, entity)
            assert last <= entity.start < entity.end <= len(text)
            assert 0 <= entity.score <= 1
            last = entity.end


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("from Paris, to-day", ["from", "Paris", ",", "to", "-", "day"]),
        ("l’hôtel à 7pm", ["l", "’", "hôtel", "à", "7pm"]),
        ("東京へ", ["東", "京", "へ"]),
        ("👩\u200d💻👍🏽", ["👩\u200d💻", "👍🏽"]),
        (" \u0301x", ["x"]),
        ("", []),
    ],
)
def test_words_are_the_texts_own(text: str, words: list[str]):
    assert [text[start:end] for start, end in bounds_of(text)] == words


def test_flags_in_a_row_are_read_in_one_go():
    assert bounds_of("🇫🇷" * 5000 + "🇫") == [(place, min(place + 2, 10_001)) for place in range(0, 10_001, 2)]


def test_the_best_tags_are_those_of_a_search_through_all():
    numbers = np.random.default_rng(0)
    for _ in range(50):
        scores = numbers.normal(size=(4, num_tags(2)))

        def is_allowed(tags: tuple[int, ...]) -> bool:
            return all(
                tag == 0 or tag % 2 or before in (tag - 1, tag) for before, tag in itertools.pairwise((0, *tags))
            )

        every = [tags for tags in itertools.product(range(num_tags(2)), repeat=4) if is_allowed(tags)]
        best = max(every, key=lambda tags: sum(scores[i, tag] for i, tag in enumerate(tags)))
        assert tuple(best_tags(scores)) == best


def test_marked_entities_become_tags_and_tags_the_same_entities():
    text = "from new york to rome tomorrow"
    encoding = TextEncoder(make_tokenizer(), 64).encode(text)
    spans = [Span(5, 13, CITY_FROM), Span(17, 21, CITY_TO), Span(22, 30, DATE)]
    words = words_of(encoding)
    tags = tags_of(words, spans, {kind: i for i, kind in enumerate(KINDS)})
    assert tags == [0, 1, 2, 0, 3, 5]
    logits = np.zeros((len(encoding), num_tags(len(KINDS))))
    logits[[word.token for word in words], tags] = 9
    found = found_spans(logits, encoding, KINDS)
    assert [(span.start, span.end, span.kind) for span in found] == [(s.start, s.end, s.kind) for s in spans]


def test_a_mark_within_a_word_counts_as_the_whole_word():
    encoding = TextEncoder(make_tokenizer(), 64).encode("for 20km")
    assert fitted([Span(4, 6, DATE)], encoding) == [Span(4, 8, DATE)]


def test_f1_is_that_of_conll():
    """The example of seqeval's documentation, whose F1 is 0.50: one of two right, one a word too long."""
    misc, person = Kind("MISC"), Kind("PER")
    marked = [[Span(3, 6, misc)], [Span(0, 2, person)]]
    found = [[Span(2, 6, misc)], [Span(0, 2, person)]]
    judged = Judged({}, np.array([0, 1]), (), found, marked)
    rule = EntityRule(kinds=(misc, person), temperature=1.0, shift=0.0)
    entities = measure_entities(judged, rule, np.array([0, 1]))["entities"]
    assert (entities["precision"], entities["recall"], entities["f1"]) == (0.5, 0.5, 0.5)
    assert entities["sentences"] == 0.5
    assert {row["entity"]: row["f1"] for row in entities["per_entity"]} == {"MISC": 0.0, "PER": 1.0}
    assert span_counts([Span(0, 2, CITY_TO)], [Span(0, 2, CITY_FROM)]) == (0, 1, 1), "the role counts"


def test_utterances_in_which_nobody_marked_entities_are_not_counted():
    judged = Judged({}, np.array([0, 1]), (), [[Span(0, 2, DATE)], []], [None, []])
    rule = EntityRule(kinds=(DATE,), temperature=1.0, shift=0.0)
    assert measure_entities(judged, rule, np.array([0, 1]))["entities"]["found"] == 0
    unmarked = replace(judged, marked=[None, None])
    assert measure_entities(unmarked, rule, np.array([0, 1])) == {}


def test_scores_are_fitted_to_how_often_entities_are_right():
    numbers = np.random.default_rng(1)
    margins = numbers.normal(3, 2, 2000)
    is_right = numbers.random(2000) < 1 / (1 + np.exp(-(margins / 2 - 1)))
    found = [[Span(0, 2, DATE, margin=float(margin))] for margin in margins]
    marked = [[Span(0, 2 if right else 3, DATE)] for right in is_right]
    judged = Judged({}, np.zeros(2000, dtype=int), (), found, marked)
    rule = fit_entities(judged, [DATE], {})
    assert measure_entities(judged, rule, np.zeros(2000, dtype=int))["entities"]["ece"] < 0.03
    plain = EntityRule(kinds=(DATE,), temperature=1.0, shift=0.0)
    assert measure_entities(judged, plain, np.zeros(2000, dtype=int))["entities"]["ece"] > 0.1


def test_synonyms_are_looked_up_whatever_case_and_blanks():
    rule = EntityRule(
        kinds=(DATE,), temperature=1, shift=0, synonyms={"": {"nueva york": "NYC"}, "date": {"now": "today"}}
    )
    assert rule.value("city", "Nueva  YORK") == "NYC"
    assert rule.value("date", "Now") == "today"
    assert rule.value("city", "now") == "now"


def test_of_a_text_that_is_too_long_the_middle_is_not_looked_at():
    encoder = TextEncoder(make_tokenizer(), 16, 0, 2)
    text = "é paris " + "flight " * 2000 + "paris é"
    words = words_of(encoder.encode(text))
    assert [text[word.start : word.end] for word in words[:2]] == ["é", "paris"]
    assert [text[word.start : word.end] for word in words[-2:]] == ["paris", "é"]
    assert len(words) < 40
    unspaced = "東京" * 5000
    assert all(unspaced[word.start : word.end] in "東京" for word in words_of(encoder.encode(unspaced)))
