"""Bad requests: each gets its status and the one error body, none a 500, and none disturbs another request."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

from tests.pictures import GREEN, bomb_png, plain, tiff, truncated_jpeg
from tests.vision.conftest import OpenClient

ACCEPTED = "JPEG, PNG, WEBP, GIF, BMP"
HOW = (
    "Send multipart/form-data with one or more files in the field 'image', as `curl -F image=@photo.jpg` does, "
    "or the image's bytes with the content type image/* or application/octet-stream."
)
TRUNCATED = "the image cannot be decoded: it is truncated or broken. Send a complete file."


def post_raw(client: TestClient, data: bytes, content_type: str = "image/jpeg"):
    return client.post("/v1/tag", content=data, headers={"content-type": content_type})


def assert_error(response, status: int, kind: str, message: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    request_id = response.headers["x-request-id"]
    assert response.json() == {"error": {"type": kind, "message": message, "request_id": request_id}}


def test_truncated_jpeg_is_rejected_with_400(client: TestClient):
    assert_error(post_raw(client, truncated_jpeg()), 400, "invalid_image", TRUNCATED)


def test_empty_body_is_rejected_with_400(client: TestClient):
    assert_error(post_raw(client, b""), 400, "invalid_image", f"the body is empty (0 bytes). {HOW}")


def test_empty_file_is_rejected_with_400(client: TestClient):
    response = client.post("/v1/tag", files={"image": ("photo.jpg", b"")})
    message = "the image is empty (0 bytes). Send the bytes of a JPEG, PNG, WebP, GIF or BMP file."
    assert_error(response, 400, "invalid_image", message)


def test_text_file_as_image_is_rejected_with_400(client: TestClient):
    message = f"the 12 bytes are not a picture in an accepted format ({ACCEPTED})."
    assert_error(post_raw(client, b"hello, world", "image/png"), 400, "invalid_image", message)
    response = client.post("/v1/tag", files={"image": ("notes.txt", b"hello, world", "text/plain")})
    assert_error(response, 400, "invalid_image", message)


def test_tiff_is_rejected_with_415(client: TestClient):
    message = f"the image is a TIFF; accepted are {ACCEPTED}. Convert it and send it again."
    assert_error(post_raw(client, tiff(), "image/tiff"), 415, "unsupported_media", message)


def test_88_megapixels_in_86_kilobytes_are_rejected_with_413(client: TestClient):
    bomb = bomb_png()
    assert len(bomb) < 90_000
    message = "the image is 9400x9400 px; the limit is 40 megapixels. Send a smaller image."
    assert_error(post_raw(client, bomb), 413, "too_large", message)


def test_image_url_instead_of_a_file_is_refused_and_not_fetched(client: TestClient):
    url = "http://127.0.0.1:1/cat.jpg"  # had it been fetched, the answer would name the failed connection
    message = "a URL came in place of an image. URLs are never fetched: send the image itself."
    assert_error(post_raw(client, url.encode(), "application/octet-stream"), 400, "invalid_input", message)
    assert_error(
        client.post("/v1/tag", data={"image": url}, files={"x": b""}),
        400,
        "invalid_input",
        (f"the form has the field 'x'; expected is 'image'. {HOW}"),
    )
    form = {"image": (None, url)}
    assert_error(client.post("/v1/tag", files=form), 400, "invalid_input", message)
    assert_error(client.post("/hf/image-classification", json={"inputs": url}), 400, "invalid_input", message)


def test_text_in_the_place_of_a_file_is_rejected_with_400(client: TestClient):
    response = client.post("/v1/tag", files={"image": (None, "a cat")})
    assert_error(response, 400, "invalid_input", f"the field 'image' holds text; expected is a file. {HOW}")


def test_a_file_part_without_a_file_name_is_a_file(client: TestClient):
    for kind in ("PNG", "JPEG", "BMP"):
        named = client.post("/v1/tag", files={"image": ("a", plain(kind=kind))}).json()
        nameless = client.post("/v1/tag", files=[("image", (None, plain(kind=kind)))] * 2).json()
        assert nameless["results"] == named["results"] * 2


def test_wrong_multipart_field_name_is_rejected_with_400(client: TestClient):
    response = client.post("/v1/tag", files={"file": plain()})
    assert_error(response, 400, "invalid_input", f"the form has the field 'file'; expected is 'image'. {HOW}")


def test_form_without_a_file_is_rejected_with_400(client: TestClient):
    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = client.post("/v1/tag", content=b"--x--\r\n", headers=headers)
    assert_error(response, 400, "invalid_input", f"the form holds no file. {HOW}")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b"nothing like a form"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--\r\n"),
    ],
    ids=["no boundary", "no form", "no name"],
)
def test_broken_form_is_rejected_with_400(client: TestClient, content_type: str, body: bytes):
    response = client.post("/v1/tag", content=body, headers={"content-type": content_type})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_input"
    assert response.json()["error"]["message"].startswith("the form ")


def test_form_cut_off_in_the_middle_of_a_file_is_never_a_500(client: TestClient):
    whole = client.build_request("POST", "/v1/tag", files={"image": plain(size=(300, 300), kind="BMP")})
    body = whole.read()[:2000]
    response = client.post("/v1/tag", content=body, headers={"content-type": whole.headers["content-type"]})
    assert_error(response, 400, "invalid_input", f"the form cannot be read: it is cut off before its end. {HOW}")


def test_form_cut_off_in_its_second_file_does_not_lose_it_in_silence(client: TestClient):
    whole = client.build_request("POST", "/v1/tag", files=[("image", plain()), ("image", plain(GREEN))])
    body = whole.read()[:-100]
    response = client.post("/v1/tag", content=body, headers={"content-type": whole.headers["content-type"]})
    assert_error(response, 400, "invalid_input", f"the form cannot be read: it is cut off before its end. {HOW}")


def test_too_many_images_are_rejected_with_413(client: TestClient):
    message = "the form holds more than 4 images, which is the limit. Send fewer at once."
    for count in (5, 9):
        response = client.post("/v1/tag", files=[("image", plain())] * count)
        assert_error(response, 413, "too_large", message)
    assert client.post("/v1/tag", files=[("image", plain())] * 4).status_code == 200


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("top_k=0", "query.top_k: Input should be greater than or equal to 1"),
        ("top_k=-3", "query.top_k: Input should be greater than or equal to 1"),
        ("top_k=1001", "query.top_k: Input should be less than or equal to 1000"),
        ("top_k=two", "query.top_k: Input should be a valid integer, unable to parse string as an integer"),
        ("min_score=1.1", "query.min_score: Input should be less than or equal to 1"),
        ("min_score=nan", "query.min_score: Input should be less than or equal to 1"),
    ],
)
def test_bad_query_is_rejected_with_422(client: TestClient, query: str, message: str):
    response = client.post(f"/v1/tag?{query}", content=plain(), headers={"content-type": "image/png"})
    assert_error(response, 422, "validation_error", message)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_body_of_another_kind_is_rejected_with_415(client: TestClient, content_type: str):
    message = f"a body of type {content_type} is not accepted. {HOW}"
    assert_error(post_raw(client, plain(), content_type), 415, "unsupported_media", message)


def test_body_larger_than_the_limit_is_rejected_with_413(client: TestClient):
    response = post_raw(client, bytes(1 << 21))
    message = "the body is larger than the limit of 1048576 bytes. Send less at once."
    assert_error(response, 413, "too_large", message)
    chunked = client.post("/v1/tag", content=(bytes(1 << 18) for _ in range(8)), headers={"content-type": "image/png"})
    assert_error(chunked, 413, "too_large", message)
    form = client.post("/v1/tag", files={"image": bytes(1 << 21)})
    assert_error(form, 413, "too_large", message)


def test_unknown_route_is_404_and_wrong_method_405_in_json(client: TestClient):
    message = "there is no such route. GET /openapi.json lists the routes."
    assert_error(client.get("/v1/nothing"), 404, "not_found", message)
    response = client.get("/v1/tag")
    message = "this route does not answer this method. GET /openapi.json lists the routes with their methods."
    assert_error(response, 405, "method_not_allowed", message)
    assert response.headers["allow"] == "POST"


class TestHuggingFace:
    """POST /hf/image-classification."""

    good = base64.b64encode(plain()).decode()

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("{", "body: Invalid JSON: EOF while parsing an object at line 1 column 1"),
            ("{}", "inputs: Field required"),
            ('{"inputs": 7}', "inputs: Input should be a valid string"),
            ('{"inputs": "aa", "what": 1}', "what: Extra inputs are not permitted"),
            ('{"inputs": "aa", "parameters": {"topk": 1}}', "parameters.topk: Extra inputs are not permitted"),
            (
                '{"inputs": "aa", "parameters": {"top_k": 0}}',
                "parameters.top_k: Input should be greater than or equal to 1",
            ),
            (
                '{"inputs": "aa", "parameters": {"function_to_apply": "max"}}',
                "parameters.function_to_apply: Input should be 'softmax', 'sigmoid' or 'none'",
            ),
        ],
    )
    def test_bad_json_is_rejected_with_422(self, client: TestClient, body: str, message: str):
        headers = {"content-type": "application/json"}
        response = client.post("/hf/image-classification", content=body, headers=headers)
        assert_error(response, 422, "validation_error", message)

    def test_what_is_no_base64_is_rejected_with_400(self, client: TestClient):
        response = client.post("/hf/image-classification", json={"inputs": "a picture of a cat"})
        message = (
            "`inputs` must be the image file in base64; what came is not valid base64. "
            "Encode the file's bytes, or send them as they are with the content type image/*."
        )
        assert_error(response, 400, "invalid_input", message)

    def test_truncated_jpeg_is_rejected_with_400(self, client: TestClient):
        inputs = base64.b64encode(truncated_jpeg()).decode()
        response = client.post("/hf/image-classification", json={"inputs": inputs})
        assert_error(response, 400, "invalid_image", TRUNCATED)

    def test_empty_body_is_rejected_with_400(self, client: TestClient):
        message = "the image is empty (0 bytes). Send the bytes of a JPEG, PNG, WebP, GIF or BMP file."
        assert_error(client.post("/hf/image-classification"), 400, "invalid_image", message)


def test_among_several_images_a_bad_one_has_its_error_and_the_others_their_tags(client: TestClient):
    files = [("image", plain()), ("image", truncated_jpeg()), ("image", bomb_png()), ("image", plain(GREEN))]
    response = client.post("/v1/tag", files=files)
    assert response.status_code == 200
    first, second, third, fourth = response.json()["results"]
    assert first["tags"][0]["label"] == "cat"
    assert second == {"error": {"type": "invalid_image", "message": TRUNCATED}}
    assert third["error"]["type"] == "too_large"
    assert fourth["tags"][0]["label"] == "dog"


def test_bad_images_never_disturb_requests_that_run_at_the_same_time(open_client: OpenClient):
    bad = [truncated_jpeg(), b"", b"no image", bomb_png(), tiff()]
    with open_client(max_batch_size=8) as client, ThreadPoolExecutor(16) as pool:
        jobs = [(plain(), 200) if i % 2 else (bad[i // 2 % len(bad)], 400) for i in range(120)]
        responses = list(pool.map(lambda job: post_raw(client, job[0]), jobs))
    for (_, expected), response in zip(jobs, responses, strict=True):
        assert (response.status_code == 200) == (expected == 200), response.text
        assert response.status_code < 500
        if expected == 200:
            assert [tag["label"] for tag in response.json()["results"][0]["tags"]] == ["cat"]


@pytest.mark.parametrize(
    ("charset", "part"),
    [
        ("undefined", b'Content-Disposition: form-data; name="image"\r\n\r\ntext'),
        ("utf-7", b'Content-Disposition: form-data; name="image"\r\n\r\n+2AA-'),
        ("no-such", b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n\r\ntext'),
    ],
)
def test_form_with_an_odd_charset_is_never_a_500(client: TestClient, charset: str, part: bytes):
    body = b"--x\r\n" + part + b"\r\n--x--\r\n"
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    response = client.post("/v1/tag", content=body, headers=headers)
    assert response.status_code in (400, 415), response.text
