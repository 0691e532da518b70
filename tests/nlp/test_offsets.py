"""`context[start:end] == text`, whatever the text is made of: 10,000 cases through encoder, spans and predictor.

The runtime is a fake that makes logits of the token ids, so that any span may win. Tokenizers of the three families
that bundles may have are tried: WordPiece that strips accents, byte-level BPE, and Unigram behind NFKC.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from nlp.engine import AnswerEngine
from nlp.text import INPUT_IDS, TextEncoder
from shared.bundle.read import Bundle
from shared.serving.settings import Settings
from tests.language_bundles import make_tokenizer

DETERMINISTIC = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
HOSTILE = [
    *("e\u0301", "\u0301", "\u0308\u0323", "क्षि", "ก้ำ", "각", "\u1100\u1161"),
    *("👩‍🚀", "👍🏽", "🇫🇷", "❤\ufe0f", "\u200d", "\ufe0e", "🏴\U000e0067\U000e007f"),
    *("\u202e", "\u2066", "ש\u05c1", "مرحبا", "ﷺ", "\ufeff", "\u200b", "\u00ad"),
    *("\0", "\x1f", "\x7f", "\x85", "\u2028", "\r\n", "\t", "\u00a0", "\u3000", "\ufffd", "\U0010ffff"),
    *("İ", "ß", "ﬃ", "ŉ", "Å", "Ⅷ", "①", "㍿", "ẞ", "ſ", "Σς", "漢字", "々", "𠮷"),
    *("ada ", "Émile ", "42", "1815 ", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "##a", "▁", "Ġ", "</s>", ".", "'", "-"),
]
TEXTS = st.lists(
    st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=6)), max_size=24
).map("".join)


class Hashing:
    """A runtime whose logits are made of the ids and their places, by a seed."""

    device = "cpu"
    description = "a fake"

    def __init__(self, bundle: Bundle) -> None:
        self.inputs = bundle.config.signature.inputs
        self.outputs = bundle.config.signature.outputs
        self.seed = 0

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        mixed = (inputs[INPUT_IDS] * 2654435761 + np.arange(inputs[INPUT_IDS].shape[1]) * 40503 + self.seed) % 65521
        return {
            "start_logits": (mixed % 251).astype(np.float32) / 16 - 8,
            "end_logits": (mixed // 251).astype(np.float32) / 16 - 8,
        }

    def close(self) -> None:
        """Nothing is held."""


def byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["[CLS]", "[SEP]", "[PAD]", *alphabet, "Ġa", "da", "Ã©"]
    merges = [("Ġ", "a"), ("d", "a"), ("Ã", "©")]
    tokenizer = Tokenizer(models.BPE({token: place for place, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return with_frame(tokenizer, cls=0, sep=1)


def unigram() -> Tokenizer:
    pieces = ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "▁", "▁ada", "ada", "▁4", "2", "e", "é", "fi", *"abcdfilm18"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(place)) for place, piece in enumerate(pieces)], unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return with_frame(tokenizer, cls=0, sep=1)


def with_frame(tokenizer: Tokenizer, *, cls: int, sep: int) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "WordPiece": make_tokenizer,
    "byte-level BPE": byte_level,
    "Unigram": unigram,
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def engine(request: pytest.FixtureRequest, qa_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> AnswerEngine:
    """An answer engine with one of the tokenizers and the fake runtime."""
    made = AnswerEngine(qa_bundle, Hashing(qa_bundle), Settings(knowledge=Path("unused")))
    made.predictor.encoder = TextEncoder(TOKENIZERS[request.param](), 24, 6)
    return made


def check(engine: AnswerEngine, question: str, context: str, above: int, seed: int) -> None:
    engine.predictor.runtime.seed = seed
    windows = engine.predictor.windows(question, context, above=above)
    logits = engine.predictor.infer(windows)
    answers = engine.predictor.decide(context, windows, logits, above=above, top_k=5)
    for answer in answers:
        assert above <= answer.start < answer.end <= len(context)
        assert context[answer.start : answer.end] == answer.text
        assert 0 <= answer.score <= 1
        for place in (answer.start, answer.end):  # no character that people see is cut through
            if above < place < len(context):
                assert unicodedata.category(context[place]) not in ("Mn", "Mc", "Me"), (context, place)
                assert context[place] not in "\u200d\ufe0e\ufe0f"
    assert len({(answer.start, answer.end) for answer in answers}) == len(answers)
    assert [answer.score for answer in answers] == sorted((answer.score for answer in answers), reverse=True)


@settings(DETERMINISTIC, max_examples=2_000)
@given(question=TEXTS, context=TEXTS, seed=st.integers(0, 1 << 16))
def test_an_answer_is_what_stands_at_its_place(engine: AnswerEngine, question: str, context: str, seed: int):
    check(engine, question, context, 0, seed)


@settings(DETERMINISTIC, max_examples=1_000)
@given(question=TEXTS, heading=TEXTS, text=TEXTS, seed=st.integers(0, 1 << 16))
def test_no_answer_is_taken_out_of_the_heading_above_a_passage(
    engine: AnswerEngine, question: str, heading: str, text: str, seed: int
):
    check(engine, question, f"{heading}\n{text}", len(heading) + 1, seed)


@settings(DETERMINISTIC, max_examples=334)
@given(text=TEXTS)
def test_every_token_of_an_utterance_stands_in_it(engine: AnswerEngine, text: str):
    encoding = engine.predictor.encoder.encode(text)
    assert len(encoding) <= 24
    for start, end in encoding.offsets[encoding.is_text]:
        assert 0 <= start <= end <= len(text)
