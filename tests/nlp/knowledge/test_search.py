from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp.embedding.predictor import EMBEDDINGS
from nlp.knowledge import KnowledgeBase, Passage, search
from nlp.knowledge.search import MAX_WORDS, RERANKED, SentenceReranker, match_expression, reranked, words_of
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


class Loudest:
    """Likes passages with exclamation marks."""

    def __init__(self) -> None:
        self.seen: list[Sequence[str]] = []

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        self.seen.append(texts)
        return np.array([text.count("!") / 10 for text in texts], dtype=np.float32)


def passage(text: str, score: float) -> Passage:
    return Passage("a", "A", ("B", "C"), text, 0, len(text), score)


def test_passages_are_sorted_by_the_rerankers_scores_and_their_share_of_the_best_bm25():
    reranker = Loudest()
    found = reranked(reranker, "query", [passage("best", 4.0), passage("good!!!!!!!!", 2.0), passage("last!", 2.0)])
    assert [each.text for each in found] == ["good!!!!!!!!", "best", "last!"]
    assert [each.score for each in found] == pytest.approx([1.3, 1.0, 0.6])
    assert reranker.seen[0][0] == "A\nB\nC\nbest"


def test_of_equal_scores_the_order_of_bm25_holds():
    found = reranked(Loudest(), "query", [passage("one", 1.0), passage("two", 1.0)])
    assert [each.text for each in found] == ["one", "two"]


def test_reranker_sees_more_passages_than_are_asked_for(file: Path):
    reranker = Loudest()
    knowledge = KnowledgeBase(file, reranker=reranker)
    for number in range(RERANKED + 10):
        knowledge.put(f"{number}.txt", f"lamp {number} w{number} v{number} u{number} {'!' * number}".encode())
    found = knowledge.search("lamp", 3)
    assert [len(texts) for texts in reranker.seen] == [RERANKED]
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert len(found) == 3
    assert knowledge.search("nowhere") == []
    assert len(reranker.seen) == 1
    knowledge.close()


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


def test_score_is_the_cosine_of_the_embeddings(bundle: Bundle):
    scores = SentenceReranker(bundle, BagOfWords()).scores("play song", ["song play", "play", "rain"])
    assert scores == pytest.approx([1, 0.5**0.5, 0], abs=0.01)


def test_passages_are_embedded_once_and_the_oldest_forgotten(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(search, "MAX_REMEMBERED", 2)
    runtime = BagOfWords()
    reranker = SentenceReranker(bundle, runtime)
    first = reranker.scores("song", ["play", "rain", "play"])
    assert first[0] == first[2]
    assert runtime.rows == 3
    assert reranker.scores("song", ["rain", "play"]).tolist() == [first[1], first[0]]
    assert runtime.rows == 4
    reranker.scores("song", ["who"])
    reranker.scores("song", ["play"])
    assert runtime.rows == 7
    reranker.scores("song", ["rain"])
    assert runtime.rows == 9


def test_nothing_to_score_and_odd_questions_are_no_error(bundle: Bundle):
    reranker = SentenceReranker(bundle, BagOfWords())
    assert reranker.scores("song", []).shape == (0,)
    assert reranker.scores("\ud800 song", ["play"]).shape == (1,)


def test_knowledge_base_sorts_with_it(bundle: Bundle, file: Path):
    knowledge = KnowledgeBase(file, reranker=SentenceReranker(bundle, BagOfWords()))
    knowledge.put("a.txt", b"rain rain rain, forecast and a song", title="weather")
    knowledge.put("b.txt", b"song music play", title="music")
    assert [found.document for found in knowledge.search("play a song, music")] == ["b.txt", "a.txt"]
    knowledge.close()


def test_bundle_of_another_task_is_refused(qa_bundle: Bundle):
    with pytest.raises(BundleError, match="is a bundle for qa; expected one for embedding"):
        SentenceReranker(qa_bundle, BagOfWords())
