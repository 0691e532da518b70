"""What the language API gives for good requests: intents, answers, understanding, headers, tensors and schemas."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from shared.bundle.read import Bundle
from tests.nlp.conftest import DOCUMENT, OpenClient

FRENCH = "Réserve-moi un vol pour l'Île-de-Bréhat, s'il te plaît ; c'est à 8 h 30 – « tôt » œuvre ! 🛫"
ARABIC = "من هو ada ؟"


def post(client: TestClient, path: str, **body: object) -> dict:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_one_utterance_gets_its_intent(client: TestClient, intent_bundle: Bundle):
    body = post(client, "/v1/intent", text=FRENCH)
    assert set(body) == {"model", "results"}
    assert body["model"] == {"name": intent_bundle.name, "version": intent_bundle.version}
    (result,) = body["results"]
    scores = {"intent", "intents", "confidence", "out_of_scope", "out_of_scope_score", "ranking"}
    assert set(result) == scores | {"entities", "truncated"}
    assert (result["intents"], result["entities"]) == (["book_flight"], [])
    assert (result["intent"], result["out_of_scope"]) == ("book_flight", False)
    assert 0 <= result["out_of_scope_score"] < 0.5 < result["confidence"] <= 1
    assert result["ranking"][0] == {"name": "book_flight", "confidence": result["confidence"]}
    assert sum(each["confidence"] for each in result["ranking"]) == pytest.approx(1)


def test_out_of_scope_is_a_normal_answer(client: TestClient):
    (result,) = post(client, "/v1/intent", text="xyzzy")["results"]
    assert (result["intent"], result["out_of_scope"]) == (None, True)
    assert result["out_of_scope_score"] > 0.5
    assert len(result["ranking"]) == 3


def test_several_utterances_are_answered_in_their_order(client: TestClient):
    results = post(client, "/v1/intent", texts=["météo", "play", "xyzzy", "un vol"], top_k=1)["results"]
    assert [result["intent"] for result in results] == ["weather", "play_music", None, "book_flight"]
    assert [len(result["ranking"]) for result in results] == [1, 1, 1, 1]


@pytest.mark.parametrize("text", ["a\0play\x07", "\u202eplay\u202c", "play \U0001f1eb\U0001f1f7", "p\u200dlay song"])
def test_control_joining_and_turning_characters_are_read_over(client: TestClient, text: str):
    assert post(client, "/v1/intent", texts=[text])["results"][0]["ranking"]


@pytest.mark.parametrize(
    ("question", "context", "answer"),
    [
        ("Qui l'a décrit ?", f"{FRENCH} Émile l'a décrit.", "Émile"),
        ("Who is it?", "👩‍🚀 It is Ada 👍🏽!", "Ada"),
        (f"{ARABIC} qui ?", "آدا: ada, مهندسة", "ada"),
        ("Combien ?", "Le prix\u00a0: 42\u202f€", "42"),
        ("Qui ?", "C'est e\u0301mile.", "e\u0301mile"),
        ("Qui ?", "nul\0 ada", "ada"),
    ],
)
def test_an_answer_is_what_stands_at_its_place_in_the_context(
    client: TestClient, qa_bundle: Bundle, question: str, context: str, answer: str
):
    body = post(client, "/v1/answer", question=question, context=context)
    assert set(body) == {"model", "answer", "sentence", "others", "passages"}
    assert body["model"] == {"name": qa_bundle.name, "version": qa_bundle.version}
    found = body["answer"]
    assert set(found) == {"text", "score", "start", "end", "source"}
    assert context[found["start"] : found["end"]] == found["text"] == answer
    assert found["score"] == pytest.approx(0.9997, abs=1e-3)
    assert (found["source"], body["passages"]) == (None, [])


def test_an_unanswerable_question_is_null_with_200(client: TestClient):
    assert post(client, "/v1/answer", question="Qui ?", context="Il pleut.")["answer"] is None
    assert post(client, "/v1/answer", question="xyzzy ?")["passages"] == []


def test_a_question_alone_is_answered_out_of_the_knowledge_base(client: TestClient):
    body = post(client, "/v1/answer", question="Qui a décrit le moteur ?", passages=1)
    text = client.get("/v1/knowledge/docs/moteur.md").json()["text"]
    found = body["answer"]
    assert found["text"] == text[found["start"] : found["end"]] == "Ada"
    assert found["source"] == {
        "document": "docs/moteur.md",
        "title": "Le moteur",
        "headings": [],
        "kind": "prose",
        "lead": "",
        "page": None,
    }
    (passage,) = body["passages"]
    assert set(passage) == {*found["source"], "text", "start", "end", "score"}
    assert text[passage["start"] : passage["end"]] == passage["text"]
    assert passage["text"] in DOCUMENT.decode()


def test_understanding_gives_intent_and_answer_in_one_call(
    client: TestClient, intent_bundle: Bundle, qa_bundle: Bundle
):
    body = post(client, "/v1/understand", text="Combien coûte le moteur ?", top_k=2)
    assert set(body) == {"models", "intent", "entities", "is_question", "answer", "sentence", "others", "passages"}
    assert [body["models"][task]["name"] for task in ("intent", "qa")] == [intent_bundle.name, qa_bundle.name]
    assert (body["is_question"], body["intent"]["out_of_scope"], len(body["intent"]["ranking"])) == (True, True, 2)
    assert body["answer"]["text"] == "42"
    assert body["answer"]["source"]["headings"] == ["Prix"]
    command = post(client, "/v1/understand", text="play a song")
    assert (command["intent"]["intent"], command["answer"], command["passages"]) == ("play_music", None, [])


def test_json_is_read_whatever_the_content_type_says(client: TestClient):
    for content_type in ("application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", ""):
        content = '\ufeff{"text": "météo"}'.encode()
        response = client.post("/v1/intent", content=content, headers={"content-type": content_type})
        assert response.json()["results"][0]["intent"] == "weather", content_type


@pytest.mark.parametrize(
    ("method", "path", "body", "models"),
    [
        ("POST", "/v1/intent", {"text": "play"}, ["tiny-intent"]),
        ("POST", "/v1/intent", {"text": ""}, ["tiny-intent"]),
        ("POST", "/model/parse", {"text": "play"}, ["tiny-intent"]),
        ("POST", "/hf/text-classification", {"inputs": "play"}, ["tiny-intent"]),
        ("POST", "/v1/answer", {"question": "qui", "context": "ada"}, ["tiny-qa"]),
        ("POST", "/hf/question-answering", {"inputs": {"question": "qui", "context": "ada"}}, ["tiny-qa"]),
        ("GET", "/v2/models/tiny-qa", None, ["tiny-qa"]),
        ("POST", "/v2/models/tiny-intent/infer", {}, ["tiny-intent"]),
        ("POST", "/v1/understand", {"text": "play"}, ["tiny-intent", "tiny-qa"]),
        ("GET", "/readyz", None, ["tiny-intent", "tiny-qa"]),
        ("GET", "/v1/knowledge", None, ["tiny-intent", "tiny-qa"]),
        ("GET", "/nowhere", None, ["tiny-intent", "tiny-qa"]),
    ],
)
def test_every_answer_names_the_models_behind_it(
    client: TestClient, intent_bundle: Bundle, method: str, path: str, body: dict | None, models: list[str]
):
    headers = client.request(method, path, json=body).headers
    assert headers["x-model-name"] == ", ".join(models)
    assert headers["x-model-version"] == ", ".join([intent_bundle.version] * len(models))
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])


class TestOneModelAlone:
    """A service with one bundle answers for it, and says on the other's routes what it lacks."""

    @pytest.mark.parametrize(
        ("absent", "path", "body"),
        [
            ("qa", "/v1/answer", {"question": "qui", "context": "ada"}),
            ("qa", "/v1/answer", {"question": "qui"}),
            ("qa", "/hf/question-answering", {"inputs": {"question": "qui", "context": "ada"}}),
            ("intent", "/v1/intent", {"text": "play"}),
            ("intent", "/model/parse", {"text": "play"}),
            ("intent", "/hf/text-classification", {"inputs": "play"}),
        ],
    )
    def test_routes_of_the_absent_model_are_404(self, open_client: OpenClient, absent: str, path: str, body: dict):
        with open_client(**{absent: "none"}) as client:
            response = client.post(path, json=body)
            assert response.status_code == 404, response.text
            expected = "no question-answering model" if absent == "qa" else "no intent model"
            assert expected in response.json()["error"]["message"]
            assert client.get("/readyz").status_code == 200

    def test_without_answers_there_is_no_knowledge_base_and_understanding_understands(self, open_client: OpenClient):
        with open_client(qa="none") as client:
            assert client.get("/v1/knowledge").status_code == 404
            body = post(client, "/v1/understand", text="play ada ?")
            assert (body["models"]["qa"], body["answer"], body["is_question"]) == (None, None, True)
            assert client.get("/v2/models/tiny-qa").status_code == 404

    def test_without_intents_understanding_answers(self, open_client: OpenClient):
        with open_client(intent="none") as client:
            client.lifecycle().knowledge.put("docs/moteur.md", DOCUMENT)
            body = post(client, "/v1/understand", text="Qui a décrit le moteur")
            assert (body["models"]["intent"], body["intent"], body["answer"]["text"]) == (None, None, "Ada")


def test_openapi_shows_bodies_answers_errors_and_keys(client: TestClient):
    spec = client.get("/openapi.json").json()
    paths = spec["paths"]
    assert {
        "/v1/intent",
        "/v1/entities",
        "/v1/answer",
        "/v1/understand",
        "/model/parse",
        "/hf/text-classification",
        "/hf/token-classification",
        "/hf/question-answering",
        "/v1/knowledge",
        "/v1/knowledge/{document}",
        "/v2/models/{name}/infer",
        "/readyz",
    } <= set(paths)
    for path in (
        "/v1/intent",
        "/v1/entities",
        "/v1/answer",
        "/v1/understand",
        "/model/parse",
        "/hf/text-classification",
    ):
        route = paths[path]["post"]
        schema = route["requestBody"]["content"]["application/json"]["schema"]
        assert schema["examples"], path
        assert "$ref" not in str(schema), path
        assert set(route["responses"]) >= {"200", "400", "404", "413", "422", "429", "503", "504"}, path
    document = paths["/v1/knowledge/{document}"]
    assert {"multipart/form-data", "text/markdown"} <= set(document["put"]["requestBody"]["content"])
    assert document["put"]["security"]
    assert document["delete"]["security"]
    assert "security" not in document["get"]
    assert set(spec["components"]["securitySchemes"]) == {"bearer", "key"}
    assert "HTTPValidationError" not in spec["components"]["schemas"]


def test_the_openapi_document_refers_only_to_what_it_holds(client: TestClient):
    response = client.get("/openapi.json")
    for reference in re.findall(r'"\$ref":"#/([^"]+)"', response.text):
        node = response.json()
        for part in reference.split("/"):
            node = node[part]
