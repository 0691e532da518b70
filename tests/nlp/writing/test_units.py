"""Sentences as words that are copied and words that carry grammar."""

from __future__ import annotations

import pytest

from nlp.writing.units import MAX_WRITTEN, SYMBOLS, Read, read, spoken, targets
from nlp.writing.wording import ask

TEXT = "In 1911 the storm destroyed the U.S. pier (the old one), and two boats."
ASKED = ask("When did the storm destroy Ada's pier?", TEXT, 3, 7)


def test_what_is_read_has_a_blank_in_place_of_the_answer():
    found = read(ASKED)
    assert found.words[: found.count] == [
        "When", "did", "the", "storm", "destroy", "Ada's", "pier",
        "In", "@@", "the", "storm", "destroyed", "the", "U.S.", "pier", "the", "old", "one", "and", "two", "boats",
    ]  # fmt: skip
    assert found.words[found.count :] == ["1911"]
    assert found.kinds == [0] * 7 + [1] * 14 + [2]


@pytest.mark.parametrize(
    "sentence",
    ["The storm destroyed Ada's pier in @@.", "In @@, the storm destroyed two boats.", "The storms destroying it: @@."],
)
def test_a_sentence_is_taken_apart_and_put_together_again(sentence: str):
    source = read(ASKED)
    found = targets(source, sentence)
    assert found is not None
    assert spoken([target.word for target in found[:-1]]) == sentence
    for target in found:
        assert target.places or target.symbol >= 0
        assert all(source.words[place].lower() == target.word.lower() for place in target.places)


def test_a_word_from_elsewhere_cannot_be_written():
    assert targets(read(ASKED), "The hurricane destroyed it in @@.") is None
    assert targets(Read(["a"], [0], 1), " ".join(["a"] * MAX_WRITTEN)) is None


def test_endings_are_put_to_words_as_they_are_written():
    assert spoken(["carry", "##ied", "it", "'s", ":", "open", "##s"]) == "Carried it's: opens"
    assert spoken(["@@", "is", "it", "."]) == "@@ is it."
    assert len(set(SYMBOLS)) == len(SYMBOLS)
