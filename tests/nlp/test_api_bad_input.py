"""Bad requests to every language route: each gets its status and the one error body, and none is ever a 500."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from tests.nlp.conftest import OpenClient

TEXT_LIMIT = 500  # the client's settings
ROUTES: dict[str, Any] = {
    "/v1/intent": lambda text: {"text": text},
    "/v1/answer": lambda text: {"question": text, "context": "ada"},
    "/v1/understand": lambda text: {"text": text},
    "/model/parse": lambda text: {"text": text},
    "/hf/text-classification": lambda text: {"inputs": text},
    "/hf/question-answering": lambda text: {"inputs": {"question": text, "context": "ada"}},
    "/v1/answer context": lambda text: {"question": "qui", "context": text},
    "/hf/question-answering context": lambda text: {"inputs": {"question": "qui", "context": text}},
}
"""Route -> the body that holds a text."""
BODIES = {
    "empty": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"text": "\xff\xfe"}',
    "UTF-16": '{"text": "play"}'.encode("utf-16"),
    "an array": b"[]",
    "a string": b'"play"',
    "null": b"null",
    "a number": b"7",
    "NaN": b"NaN",
    "no fields": b"{}",
    "deep arrays": b"[" * 30_000,
    "deep objects": b'{"text":' * 30_000,
    "deep and whole": b'{"text":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "a deep half": b'{"text":"\\ud800","x":' + b"[" * 30_000,
    "a long name": b'{"' + b"x" * 100_000 + b'": 1}',
    "twice the field": b'{"text": "a", "text": 5}',
}


def post(client: TestClient, route: str, body: Any):
    """A body of its own JSON, so that half a surrogate pair can be sent."""
    return client.post(
        route.split(maxsplit=1)[0], content=json.dumps(body), headers={"content-type": "application/json"}
    )


def assert_error(response, statuses: tuple[int, ...], *words: str) -> None:
    assert response.status_code in statuses, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"type", "message", "request_id"}
    assert error["request_id"] == response.headers["x-request-id"]
    assert all(word in error["message"] for word in words), error["message"]
    assert len(error["message"]) < 1000


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("text", ["", " ", "\n\t \u2003\u200b", "\0\0", "\u202e"], ids=repr)
def test_a_text_without_a_visible_character_is_400(client: TestClient, route: str, text: str):
    assert_error(post(client, route, ROUTES[route](text)), (400,), "is empty or blank. Send some words.")


@pytest.mark.parametrize("route", ROUTES)
def test_a_text_beyond_the_limit_is_413_and_says_the_limit(client: TestClient, route: str):
    limit = 20_000 if "context" in route else TEXT_LIMIT
    assert_error(post(client, route, ROUTES[route]("é" * (limit + 1))), (413,), str(limit + 1), str(limit))
    assert post(client, route, ROUTES[route]("é" * limit)).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
def test_a_megabyte_of_text_is_413(client: TestClient, route: str):
    assert_error(post(client, route, ROUTES[route]("x" * 900_000)), (413,), "900000 characters")
    assert_error(post(client, route, ROUTES[route]("x" * (1 << 20))), (413,), "the limit of 1048576 bytes")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("text", ["\ud83d", "play \udc00 song", "\udfff\ud800"], ids=ascii)
def test_half_a_surrogate_pair_is_refused(client: TestClient, route: str, text: str):
    assert_error(post(client, route, ROUTES[route](text)), (400, 422))


@pytest.mark.parametrize("route", [route for route in ROUTES if " " not in route])
def test_half_a_surrogate_pair_beside_the_text_is_422_and_its_error_can_be_written(client: TestClient, route: str):
    for extra in ({"\ud83d": 1}, {"message_id": "\ud83d"}, {"x": {"y": "\udfff"}}):
        response = post(client, route, ROUTES[route]("play") | extra)
        assert_error(response, (422,))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("value", [None, 5, 1.5, True, [], {}, [["play"]], {"text": "play"}], ids=repr)
def test_what_is_no_string_is_422(client: TestClient, route: str, value: Any):
    if route == "/v1/answer context" and value is None:
        return  # the same as no context
    body = ROUTES[route](value)
    response = post(client, route, body)
    if route == "/hf/text-classification" and value == []:
        assert (response.status_code, response.json()) == (200, [])
    else:
        assert_error(response, (422,))


@pytest.mark.parametrize("route", [route for route in ROUTES if " " not in route])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_request_is_422(client: TestClient, route: str, body: bytes):
    assert_error(client.post(route, content=body, headers={"content-type": "application/json"}), (422,))


@pytest.mark.parametrize("route", ["/v1/intent", "/v1/answer", "/v1/understand"])
def test_a_field_that_is_not_known_is_422_and_named(client: TestClient, route: str):
    assert_error(post(client, route, ROUTES[route]("play") | {"lang": "fr"}), (422,), "lang: Extra inputs")


@pytest.mark.parametrize(
    "question",
    [
        *(
            '"',
            "'); DROP TABLE passages;--",
            "a* NEAR(b, 2) OR c:d",
            "AND NOT OR",
            "^ada + {moteur}",
            "-moteur",
            "\0moteur\0",
        ),
        *(
            "🎉🎉",
            "%_%",
            "qui " * 120,
            "ñ" * TEXT_LIMIT,
            "\u202emoteur",
            "漢字 ?",
            "e\u0301mile ?",
            "((((((",
            "moteur\\",
        ),
    ],
)
@pytest.mark.parametrize("route", ["/v1/answer", "/v1/understand"])
def test_any_question_can_be_looked_up(client: TestClient, route: str, question: str):
    response = post(client, route, {"question": question} if route == "/v1/answer" else {"text": question})
    assert response.status_code == 200, response.text
    assert "answer" in response.json()


@pytest.mark.parametrize("route", ["/model/parse", "/hf/text-classification", "/hf/question-answering"])
def test_others_clients_may_send_what_they_like_beside(client: TestClient, route: str):
    body = ROUTES[route]("play") | {"token": None, "options": {"wait_for_model": True}, "metadata": [1]}
    assert post(client, route, body).status_code == 200


@pytest.mark.parametrize("route", [route for route in ROUTES if " " not in route])
def test_a_form_is_415(client: TestClient, route: str):
    assert_error(client.post(route, files={"text": b"play"}), (415,), "Send JSON")


@pytest.mark.parametrize(
    ("route", "change"),
    [
        ("/v1/intent", {"top_k": 0}),
        ("/v1/intent", {"top_k": "3"}),
        ("/v1/intent", {"top_k": 10**30}),
        ("/v1/intent", {"top_k": 2.5}),
        ("/v1/intent", {"texts": ["play"]}),
        ("/v1/intent", {"text": None}),
        ("/v1/intent", {"text": None, "texts": []}),
        ("/v1/answer", {"passages": 0}),
        ("/v1/answer", {"passages": 21}),
        ("/v1/answer", {"question": None}),
        ("/v1/understand", {"passages": True}),
        ("/hf/question-answering", {"parameters": {"handle_impossible_answer": 1}}),
        ("/hf/text-classification", {"parameters": {"top_k": -1}}),
        ("/hf/text-classification", {"parameters": {"top_k": True}}),
        ("/hf/question-answering", {"parameters": {"top_k": "2"}}),
        ("/hf/text-classification", {"parameters": {"function_to_apply": "tanh"}}),
        ("/hf/text-classification", {"parameters": []}),
        ("/hf/question-answering", {"parameters": {"top_k": 0}}),
        ("/hf/question-answering", {"parameters": {"max_answer_len": "long"}}),
        ("/hf/question-answering", {"inputs": [{"question": "qui", "context": "ada"}]}),
        ("/model/parse", {"message_id": 5}),
    ],
)
def test_a_wrong_field_is_422(client: TestClient, route: str, change: dict):
    response = post(client, route, ROUTES[route]("play") | change)
    if change == {"top_k": 10**30}:
        assert response.status_code in (200, 422)
    else:
        assert_error(response, (422,))


@pytest.mark.parametrize("top_k", [2.0, 1e30])
def test_a_whole_number_may_be_written_with_a_point(client: TestClient, top_k: float):
    response = post(client, "/v1/intent", {"text": "play", "top_k": top_k})
    assert len(response.json()["results"][0]["ranking"]) == min(top_k, 3)


def test_a_wrong_method_is_told_all_that_the_path_answers(client: TestClient):
    response = client.post("/v1/knowledge/guide.md")
    assert response.headers["allow"] == "DELETE, GET, PUT"
    assert_error(response, (405,))


def test_more_answers_than_the_limit_are_refused(client: TestClient):
    body = ROUTES["/hf/question-answering"]("qui") | {"parameters": {"top_k": 10**9}}
    assert_error(post(client, "/hf/question-answering", body), (400,), "the limit is 1000")


def test_of_a_batch_what_is_wrong_has_its_error_in_its_place_and_its_neighbours_answer(client: TestClient):
    texts = ["play", "", "météo", "\ud83d", None, 7, "x" * 600, {"text": "play"}]
    response = post(client, "/v1/intent", {"texts": texts})
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert [result.get("intent") for result in results] == ["play_music", None, "weather", *[None] * 5]
    errors = [result["error"] for result in results if "error" in result]
    assert [error["type"] for error in errors] == [*["invalid_input"] * 4, "too_large", "invalid_input"]
    assert "half a surrogate pair" in errors[1]["message"]
    assert errors[2]["message"] == "the text must be a string; came null."
    alone = post(client, "/v1/intent", {"texts": [""]}).json()["results"]
    assert alone[0]["error"]["type"] == "invalid_input"


def test_more_texts_than_the_limit_are_413(client: TestClient):
    assert_error(post(client, "/v1/intent", {"texts": ["play"] * 9}), (413,), "9 texts came; the limit is 8")
    assert_error(post(client, "/hf/text-classification", {"inputs": ["play"] * 9}), (413,), "the limit is 8")


def test_hugging_faces_batch_has_no_place_for_an_error_so_the_item_is_named(client: TestClient):
    assert_error(post(client, "/hf/text-classification", {"inputs": ["play", " "]}), (400,), "inputs.1 is empty")


@pytest.mark.parametrize("route", [route for route in ROUTES if " " not in route])
def test_a_get_is_405(client: TestClient, route: str):
    assert_error(client.get(route), (405,))


def test_bad_requests_never_disturb_good_ones_and_none_is_a_fault(client: TestClient):
    bad = [(route, body) for route in ROUTES if " " not in route for body in BODIES.values()]
    good = b'{"text": "m\xc3\xa9t\xc3\xa9o"}'
    with ThreadPoolExecutor(4) as pool:
        jobs = [job for each in bad for job in (each, ("/v1/intent", good))]
        responses = list(pool.map(lambda job: client.post(job[0], content=job[1]), jobs))
    for (_, body), response in zip(jobs, responses, strict=True):
        if body is good:
            assert response.json()["results"][0]["intent"] == "weather"
        else:
            assert response.status_code == 422
    faults = [sample.value for metric in REGISTRY.collect() for sample in metric.samples
              if sample.name == "percept_faults_total" and sample.labels["route"] in ROUTES]  # fmt: skip
    assert sum(faults) == 0


def test_a_fault_inside_is_a_500_that_tells_nothing(open_client: OpenClient):
    def break_it(engine) -> None:
        def fail(inputs):
            raise RuntimeError("secret of the inside")

        engine.intent.runtime.run = fail

    with open_client(break_it) as client:
        response = client.post("/v1/intent", json={"text": "play"})
        assert response.status_code == 500
        assert response.json()["error"]["type"] == "internal"
        assert "secret" not in response.text


def test_overload_is_429_and_a_missed_deadline_504_over_http(open_client: OpenClient):
    with open_client(max_queued_texts=1, deadline_s=0.05) as client:
        engine = client.lifecycle()
        engine.intent.admission.in_hand = 1
        response = client.post("/v1/intent", json={"text": "play"})
        assert_error(response, (429,), "1 utterances are in hand")
        assert int(response.headers["retry-after"]) >= 1
        engine.intent.admission.in_hand = 0

        async def never(encoding):
            import asyncio

            await asyncio.sleep(60)

        engine.intent._batcher.submit = never
        assert_error(client.post("/v1/intent", json={"text": "play"}), (504,), "within 0.05 s")
