"""Hugging Face's routes: shapes, parameters and calibrated scores; its own client is tried in test_server."""

from __future__ import annotations

import numpy as np
import pytest
from starlette.testclient import TestClient

CONTEXT = "👋 Le moteur fut décrit par Ada, Émile et Hugo."


def classify(client: TestClient, inputs: object, **parameters: object) -> list[list[dict]]:
    response = client.post("/hf/text-classification", json={"inputs": inputs, "parameters": parameters})
    assert response.status_code == 200, response.text
    return response.json()


def answer(client: TestClient, question: str, context: str = CONTEXT, **parameters: object):
    body = {"inputs": {"question": question, "context": context}, "parameters": parameters}
    response = client.post("/hf/question-answering", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_one_text_gives_a_list_in_a_list_with_all_labels(client: TestClient):
    ((first, *rest),) = classify(client, "Réserver un vol")
    assert set(first) == {"label", "score"}
    assert first["label"] == "book_flight"
    assert len(rest) == 2


def test_several_texts_give_one_list_each(client: TestClient):
    results = classify(client, ["play", "météo"], top_k=1)
    assert [[each["label"] for each in result] for result in results] == [["play_music"], ["weather"]]
    assert classify(client, []) == []


def test_a_header_names_the_texts_that_were_cut(client: TestClient):
    texts = ["play", "a " * 245]
    response = client.post("/hf/text-classification", json={"inputs": texts})
    assert response.headers["x-truncated-inputs"] == "1"
    assert "x-truncated-inputs" not in client.post("/hf/text-classification", json={"inputs": "play"}).headers


def test_scores_are_calibrated_unless_a_function_is_asked_for(client: TestClient):
    logits = np.array([4.0, 0.0, 0.0])
    softmax = np.exp(logits) / np.exp(logits).sum()
    for function, expected in (("none", logits), ("softmax", softmax), ("sigmoid", 1 / (1 + np.exp(-logits)))):
        (result,) = classify(client, "play", function_to_apply=function)
        assert [each["score"] for each in result] == pytest.approx(expected, abs=1e-4), function
    assert classify(client, "play") == classify(client, "play", function_to_apply=None, top_k=None)


def test_one_answer_is_an_object_with_its_place(client: TestClient):
    found = answer(client, "Qui l'a décrit ?")
    assert set(found) == {"answer", "score", "start", "end"}
    assert CONTEXT[found["start"] : found["end"]] == found["answer"] == "Ada"
    assert answer(client, "Qui l'a décrit ?", top_k=1) == found


def test_several_answers_are_a_list_the_best_first(client: TestClient):
    found = answer(client, "Qui l'a décrit ?", top_k=3, max_answer_len=1)
    assert [each["answer"] for each in found] == ["Ada", "Émile", "Hugo"]
    assert all(CONTEXT[each["start"] : each["end"]] == each["answer"] for each in found)


def test_a_longer_answer_than_allowed_is_none(client: TestClient):
    assert "," in str(answer(client, "Qui ?", top_k=20))
    assert all("," not in each["answer"] for each in answer(client, "Qui ?", top_k=20, max_answer_len=1))


def test_an_impossible_answer_is_empty_where_that_is_handled_and_a_guess_where_not(client: TestClient):
    guess = answer(client, "Qui ?", "Il pleut.")
    assert guess["answer"] in "Il pleut."
    assert guess["score"] < 0.5
    none = answer(client, "Qui ?", "Il pleut.", handle_impossible_answer=True)
    assert (none["answer"], none["start"], none["end"]) == ("", 0, 0)
    assert none["score"] == pytest.approx(1 - guess["score"])
    assert answer(client, "Qui ?", handle_impossible_answer=True)["answer"] == "Ada"
    several = answer(client, "Qui ?", "C'est Ada.", handle_impossible_answer=True, top_k=3, max_answer_len=1)
    assert [each["answer"] for each in several][:2] == ["Ada", ""]


def test_parameters_that_the_bundle_decides_have_no_effect(client: TestClient):
    given = {"align_to_words": True, "doc_stride": 3, "max_question_len": 1, "max_seq_len": 9}
    assert answer(client, "Qui ?", **given) == answer(client, "Qui ?")
