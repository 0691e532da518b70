"""Ranks, recall and what a report says of them, on an example made by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMRR

from nlp.embedding.data import PairData
from nlp.embedding.evaluation import Search, measured
from nlp.embedding.judging import EncoderJudging, Judged
from nlp.embedding.sources import Example, passage_text
from shared.bundle.layout import EmbeddingDecision

QUESTIONS = {"a": ("q1", "q2", "q3"), "b": ("q4", "q5")}
RULE = EmbeddingDecision()


def by_hand() -> tuple[Search, np.ndarray]:
    """Return four paraphrases in two groups, and embeddings with which their ranks are 1, 3, 2 and 1."""
    examples = [
        Example(0, row, group, question, "yes", text)
        for row, (group, question, text) in enumerate(
            [("a", "q1", "one"), ("a", "q2", "two"), ("b", "q4", "three"), ("b", "q5", "four")]
        )
    ]
    passages = {(0, group): [passage_text(each, "yes") for each in asked] for group, asked in QUESTIONS.items()}
    directions = {
        "q1": (1, 0), "q2": (0, 1), "q3": (0.6, 0.8), "q4": (1, 0), "q5": (0, 1),
        "one": (1, 0), "two": (1, 0), "three": (0.6, 0.8), "four": (0.6, 0.8),
    }  # fmt: skip
    search = Search(examples, passages)
    return search, np.array([directions[text.split(".")[0]] for text in search.texts], dtype=np.float32)


def test_ranks_are_those_among_the_passages_of_the_own_group():
    search, embeddings = by_hand()
    assert search.count == 5
    found = search.found(embeddings)
    assert found.ranks.tolist() == [1, 3, 2, 1]
    assert [search.texts[place] for place in found.first] == ["q1. yes", "q1. yes", "q5. yes", "q5. yes"]
    assert found.cosines == pytest.approx([1, 1, 0.8, 0.8])
    assert found.own == pytest.approx([1, 0, 0.6, 0.8])
    logits = torch.tensor([[1, 0, 0.6]]) / 0.05
    assert found.losses[0] == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, torch.tensor([0]))), abs=1e-6
    )


def test_an_encoder_that_tells_nothing_apart_finds_nothing():
    search, embeddings = by_hand()
    assert search.found(np.ones_like(embeddings)).ranks.tolist() == [3, 3, 2, 2]


def test_metrics_are_right_for_each_group_and_in_total():
    search, embeddings = by_hand()
    report = measured(search.examples, search.found(embeddings).ranks, ["faq"])
    assert report["overall"] == {"examples": 4, "mrr": pytest.approx(17 / 24, abs=1e-5), "recall_at_1": 0.5,
                                 "recall_at_5": 1.0}  # fmt: skip
    assert report["sources"] == {"faq": report["overall"]}
    assert [(row["group"], row["recall_at_1"], row["examples"]) for row in report["groups"]] == [
        ("a", 0.5, 2), ("b", 0.5, 2),
    ]  # fmt: skip


def test_metrics_are_those_of_torchmetrics():
    rng = np.random.default_rng(0)
    examples = [Example(0, i, "a", f"q{i % 12}", "yes", f"p{i}") for i in range(40)]
    search = Search(examples, {(0, "a"): [passage_text(f"q{i}", "yes") for i in range(12)]})
    embeddings = rng.normal(size=(52, 6))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    overall = measured(examples, search.found(embeddings).ranks, ["faq"])["overall"]
    scores = 1 + torch.from_numpy(embeddings[12:] @ embeddings[:12].T).float()  # it takes 0 and less for not found
    target = torch.nn.functional.one_hot(torch.arange(40) % 12, 12).bool()
    indexes = torch.arange(40).repeat_interleave(12)
    for name, metric in (
        ("mrr", RetrievalMRR()), ("recall_at_1", RetrievalHitRate(top_k=1)), ("recall_at_5", RetrievalHitRate(top_k=5)),
    ):  # fmt: skip
        metric.update(scores.flatten(), target.flatten(), indexes=indexes)
        assert overall[name] == pytest.approx(float(metric.compute()), abs=1e-5)


@pytest.fixture
def judging(data: PairData) -> EncoderJudging:
    return EncoderJudging.of_data(data)


def test_outcomes_and_most_wrong_say_what_was_found(judging: EncoderJudging):
    search, embeddings = by_hand()
    judged = Judged(search, search.found(embeddings))
    outcomes = judging.outcomes(judged, RULE)
    assert outcomes.values.tolist() == [1, 0, 0, 1]
    assert outcomes.answers[1] == "q1. yes"
    assert outcomes.labels == ["a", "a", "b", "b"]
    first, second = map(json.loads, judging.most_wrong(judged, RULE).splitlines())
    assert (first["text"], first["found"], first["right"], first["rank"]) == ("two", "q1. yes", "q2. yes", 3)
    assert second["text"] == "three"
    assert judging.merits(judged) == {"quality": pytest.approx(17 / 24, abs=1e-5), "recall_at_1": 0.5}
    table = judging.table(measured(search.examples, judged.found.ranks, ["faq"]))
    assert "found first least often: a 0.500, b 0.500" in table


def test_worth_is_beside_shared_words_and_the_encoder_before(judging: EncoderJudging):
    data = judging.data
    search = data.search(data.splits["test"])
    judged = Judged(search, search.found(np.eye(len(search.texts))))
    worth = judging.worth(judged)
    assert worth is not None
    assert set(worth.baselines) == {"the words in common"}
    data.found_before = dict.fromkeys(data.splits["test"], True)
    worth = judging.worth(judged)
    assert worth is not None
    assert worth.baselines["the encoder before training"].tolist() == [1.0] * len(search.examples)


def test_calibration_shows_training_texts_alone(judging: EncoderJudging):
    batches = list(judging.calibration(["input_ids", "attention_mask"]))
    assert 0 < sum(len(batch["input_ids"]) for batch in batches) <= 128
    assert all(set(batch) == {"input_ids", "attention_mask"} for batch in batches)
