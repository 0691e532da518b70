from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp.embedding.predictor import EMBEDDINGS
from nlp.knowledge import KnowledgeBase, SentenceEncoder, search
from nlp.knowledge.passages import Section
from nlp.knowledge.search import KEY_CHARS, MAX_WORDS, key_text, match_expression, packed, unpacked, words_of
from nlp.text import ATTENTION_MASK, INPUT_IDS, TextEncoder
from shared.bundle.layout import BundleConfig, TensorSignature
from shared.bundle.read import Bundle, Golden
from shared.bundle.write import write_bundle
from shared.errors import BundleError
from shared.runtime.protocol import Tensors
from tests.language_bundles import make_tokenizer, vocabulary


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What are the opening hours of the museum?", ["opening", "hours", "museum"]),
        ("Quels sont les horaires d’ouverture du musée ?", ["horaires", "ouverture", "musée"]),
        ("Où se trouve la mairie", ["trouve", "mairie"]),
        ("comment on the pull request", ["comment", "the", "pull", "request"]),
        ("Comment faire du thé ?", ["thé"]),
        ("Who was the Who?", ["who", "was", "the"]),
        ("max_length", ["max_length"]),
        ("hours hours HOURS", ["hours"]),
        ("?!", []),
        ("", []),
    ],
)
def test_words_that_every_question_has_are_left_out(question: str, expected: list[str]):
    assert words_of(question) == expected


def test_long_text_is_searched_by_its_first_words():
    assert len(words_of(" ".join(f"word{number}" for number in range(500)))) == MAX_WORDS


HOSTILE = st.one_of(
    st.text(),
    st.text(st.sampled_from("\"'*^:+-(){}[]~\\\x00\ud800 ANDORNOT NEAR/,é_;%")),
    st.sampled_from(["AND", "NOT", "NEAR(a b)"]),
)


@pytest.fixture(scope="module")
def index() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE stems USING fts5 (title, text, tokenize = 'porter unicode61')")
    return connection


@given(question=HOSTILE)
def test_no_question_is_a_syntax_error(index: sqlite3.Connection, question: str):
    expression = match_expression(question)
    if expression is not None:
        index.execute("SELECT * FROM stems WHERE stems MATCH ?", (expression,)).fetchall()


SIZE = len(vocabulary())


class BagOfWords:
    """A runtime whose embedding counts the tokens of a text, the special ones left out."""

    device = "cpu"
    description = "a bag of words"
    inputs = tuple(TensorSignature(name=name, dtype="int64", shape=("n", "t")) for name in (INPUT_IDS, ATTENTION_MASK))
    outputs = (TensorSignature(name=EMBEDDINGS, dtype="float32", shape=("n", SIZE)),)

    def __init__(self) -> None:
        self.rows = 0

    def run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        self.rows += len(inputs[INPUT_IDS])
        counts = (np.eye(SIZE, dtype=np.float32)[inputs[INPUT_IDS]] * inputs[ATTENTION_MASK][..., None]).sum(axis=1)
        counts[:, :4] = 0.01
        return {EMBEDDINGS: counts / np.linalg.norm(counts, axis=1, keepdims=True)}

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    runtime = BagOfWords()
    encoder = TextEncoder(make_tokenizer(), 32)
    inputs = encoder.batch(encoder.encode_batch(["play a song", "who"]), [INPUT_IDS, ATTENTION_MASK])
    config = {
        "format_version": 1,
        "name": "bag-of-words",
        "version": "1",
        "task": "embedding",
        "architectures": ["BagOfWords"],
        "problem_type": None,
        "id2label": {0: EMBEDDINGS},
        "label2id": {EMBEDDINGS: 0},
        "signature": {"inputs": runtime.inputs, "outputs": runtime.outputs},
        "decision": {},
        "onnx": None,
        "provenance": {
            "dataset": [],
            "seed": 0,
            "git_commit": None,
            "start_weights": "none",
            "command": None,
            "created": "2026-11-24T00:00:00+00:00",
            "versions": {},
        },
        "metrics": {},
    }
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "bag-of-words",
        BundleConfig.model_validate(config),
        files=encoder.files(),
        preprocessor={},
        golden=Golden(inputs=inputs, outputs=runtime.run(inputs)),
    )


@pytest.fixture
def encoder(bundle: Bundle) -> SentenceEncoder:
    return SentenceEncoder(bundle, BagOfWords())


def test_a_passage_is_found_by_what_it_means_though_it_shares_no_word(encoder: SentenceEncoder, file: Path):
    same = np.eye(SIZE, dtype=np.float32)[:1]
    encoder.embed = lambda texts: np.repeat(same, len(texts), axis=0)  # everything means the same
    with_meaning = KnowledgeBase(file, encoder=encoder)
    with_meaning.put("a.txt", b"rain forecast")
    (found,) = with_meaning.search("unheard words")
    assert (found.text, found.words, found.meaning) == ("rain forecast", 0.0, pytest.approx(1.0, abs=0.01))
    assert found.score == pytest.approx(search.MEANING_WEIGHT, abs=0.01)
    with_meaning.close()
    by_words = KnowledgeBase(file)
    assert by_words.search("unheard words") == []
    assert by_words.search("rain")[0].meaning is None
    by_words.close()


def test_passages_are_sorted_by_their_share_of_the_best_bm25_and_their_meaning(encoder: SentenceEncoder, file: Path):
    knowledge = KnowledgeBase(file, encoder=encoder)
    knowledge.put("a.txt", b"rain rain rain, forecast and a song", title="weather")
    knowledge.put("b.txt", b"song music play", title="music")
    found = knowledge.search("play a song, music")
    assert [each.document for each in found] == ["b.txt", "a.txt"]
    assert found[0].words == 1.0
    assert found[0].score == pytest.approx(1.0 + search.MEANING_WEIGHT * found[0].meaning)
    knowledge.close()


def test_a_passage_is_embedded_once_and_in_eight_bits(encoder: SentenceEncoder, file: Path):
    runtime = encoder.predictor.runtime
    knowledge = KnowledgeBase(file, encoder=encoder)
    knowledge.put("a.txt", b"play a song")
    knowledge.put("a.txt", b"play a song")
    assert runtime.rows == 1
    for _ in range(3):
        knowledge.search("song")
    assert runtime.rows == 4  # the questions
    assert knowledge.embed_missing() == 0
    knowledge.close()
    rows = np.random.default_rng(0).normal(size=(50, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.abs(unpacked(packed(rows)) @ rows.T - rows @ rows.T).max() < 0.01


def test_what_another_encoder_made_is_forgotten_and_made_anew(encoder: SentenceEncoder, file: Path):
    knowledge = KnowledgeBase(file, encoder=encoder, max_embedded_chars=5)
    knowledge.put("a.txt", b"play a song")
    assert [each.meaning for each in knowledge.search("song")] == [0.0]  # no room for its embedding
    assert knowledge.embed_missing() == 1
    knowledge.close()
    encoder.name = "another"
    knowledge = KnowledgeBase(file, encoder=encoder)
    assert [each.meaning for each in knowledge.search("song")] == [0.0]
    assert knowledge.embed_missing() == 1
    (found,) = knowledge.search("song")
    assert found.meaning > 0.3
    knowledge.close()


def test_what_several_have_open_is_compared_as_it_is_now(encoder: SentenceEncoder, file: Path):
    one, other = KnowledgeBase(file, encoder=encoder), KnowledgeBase(file, encoder=encoder)
    one.put("a.txt", b"play a song")
    assert other.search("music song")[0].meaning > 0.2
    one.put("a.txt", b"rain")
    assert other.search("rain")[0].text == "rain"
    one.delete("a.txt")
    assert other.search("rain") == []
    one.close()
    other.close()


def test_of_very_many_passages_those_are_compared_that_share_a_word(
    encoder: SentenceEncoder, file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(search, "MAX_COMPARED", 1)
    knowledge = KnowledgeBase(file, encoder=encoder)
    for name in ("a", "b", "c"):
        knowledge.put(f"{name}.txt", f"play a song w{name}".encode(), title=name)
    found = knowledge.search("song")
    assert len(found) == 3 or found[0].meaning > 0.3
    assert all(each.meaning > 0.3 for each in found)
    knowledge.close()


def test_an_odd_question_is_no_error(encoder: SentenceEncoder, file: Path):
    knowledge = KnowledgeBase(file, encoder=encoder)
    assert knowledge.search("song") == []
    knowledge.put("a.txt", b"play a song")
    assert knowledge.search("\ud800 song")
    knowledge.close()


def test_an_embedding_is_made_of_what_says_what_a_passage_is_about():
    text = "word " * 200
    answer = Section(("Shop",), 0, len(text), "answer", "When do you open?")
    assert key_text("Title", text, answer).startswith("When do you open?. word word")
    row = Section(("Shop", "Prices"), 0, len(text), "row", "In euros:")
    assert key_text("Title", text, row).startswith("Shop. Prices. In euros:. word")
    assert key_text("Title", text, Section((), 0, len(text))).startswith("Title. word")
    assert len(key_text("Title", text, row)) <= KEY_CHARS


def test_bundle_of_another_task_is_refused(qa_bundle: Bundle):
    with pytest.raises(BundleError, match="is a bundle for qa; expected one for embedding"):
        SentenceEncoder(qa_bundle, BagOfWords())
