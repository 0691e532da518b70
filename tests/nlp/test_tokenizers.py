"""Tokenizers of our own: the same texts give the same one, in whatever process."""

from __future__ import annotations

import random

from nlp.encoders import END, MASK, PAD, START, UNKNOWN, train_tokenizer


def texts(count: int) -> list[str]:
    """Return utterances in which many pairs of letters are as frequent as one another."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 7))) for _ in range(60)]
    return [" ".join(rng.choices(words, k=5)) for _ in range(count)]


def test_the_same_texts_give_the_same_tokenizer():
    found = [train_tokenizer(texts(200), 150).to_str() for _ in range(4)]
    assert len(set(found)) == 1, "the trainer of tokenizers numbers letters as its hash table has them"


def test_only_the_five_special_tokens_are_special():
    tokenizer = train_tokenizer(["##b is no word", "a b a b", "a b ab ab"], 60)
    assert {token.content for token in tokenizer.get_added_tokens_decoder().values()} == {
        PAD,
        UNKNOWN,
        START,
        END,
        MASK,
    }
    assert tokenizer.encode("##b").tokens[1] != "##b", "what a person writes is never a piece by its name"
    assert tokenizer.decode(tokenizer.encode("ab ab").ids) == "ab ab"
