"""What the soak sends: requests with an answer that is known, and requests that nobody should send.

The tiny bundles say what is right: a red photo is a cat, "play" wants music, "who" is answered with a name.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz import costs
from tests.fuzz.documents import make_html, make_markdown
from tests.fuzz.images import make_image
from tests.pictures import BLUE, GREEN, RED, animated, cmyk_jpeg, plain

KEY = "soak"
JSON = "application/json"
GUIDE = "# Engine\n\nThe engine was written by Ada in 1815.\n"
CONTEXT = "🎉 Le moteur fut décrit à Londres par Émile, puis relu par Ada en 1815."
_COLOURS = {"cat": RED, "dog": GREEN, "car": BLUE}
_UTTERANCES = {
    "book a flight": "book_flight",
    "réserve un vol": "book_flight",
    "play a song": "play_music",
    "écouter la musique": "play_music",
    "rain or sunny": "weather",
    "météo": "weather",
    "xyzzy": None,
}
_PHOTOS = {
    label: [plain(colour, size, kind) for size in ((64, 48), (700, 500)) for kind in ("PNG", "JPEG", "WEBP", "BMP")]
    for label, colour in _COLOURS.items()
}
_PHOTOS["cat"] += [animated("GIF"), animated("WEBP"), cmyk_jpeg()]


@dataclass(frozen=True)
class Request:
    """A request; `is_right` judges the JSON of its success, and is None where any answer but a fault will do."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    is_right: Callable[[Any], bool] | None = None
    is_costly: bool = False


def good(rng: random.Random) -> Request:
    """Return a request that has one right answer."""
    return rng.choice(_GOOD)(rng)


def hostile(rng: random.Random) -> Request:
    """Return a request that nobody should send."""
    return rng.choice(_HOSTILE)(rng)


def costly() -> list[Request]:
    """Return the requests that cost most for their size, or did before they were bounded."""
    return [
        Request(each.method, each.route, each.body, {"content-type": each.content_type, **each.headers}, is_costly=True)
        for each in costs.hostile()
        if each.route in ("/v1/tag", "/v1/intent", "/v1/answer", "/v1/understand")
    ]


def _json(path: str, body: object, is_right: Callable[[Any], bool] | None, method: str = "POST") -> Request:
    return Request(method, path, json.dumps(body).encode(), {"content-type": JSON}, is_right)


def _photo(rng: random.Random) -> tuple[str, bytes]:
    label = rng.choice(list(_PHOTOS))
    return label, rng.choice(_PHOTOS[label])


def _tag(rng: random.Random) -> Request:
    label, photo = _photo(rng)
    return Request(
        "POST",
        "/v1/tag",
        photo,
        {"content-type": "application/octet-stream"},
        lambda said: [tag["label"] for tag in said["results"][0]["tags"]] == [label],
    )


def _tag_several(rng: random.Random) -> Request:
    """Three photos, the middle one broken: it has its error, its neighbours their tags."""
    (first, one), (last, other) = _photo(rng), _photo(rng)
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + content + b"\r\n"
        for content in (one, one[:20], other)
    ]

    def is_right(said: Any) -> bool:
        a, bad, b = said["results"]
        return a["tags"][0]["label"] == first and "error" in bad and b["tags"][0]["label"] == last

    body = b"".join(parts) + b"--b--\r\n"
    return Request("POST", "/v1/tag", body, {"content-type": "multipart/form-data; boundary=b"}, is_right)


def _classify(rng: random.Random) -> Request:
    label, photo = _photo(rng)
    body = {"inputs": base64.b64encode(photo).decode(), "parameters": {"top_k": 1}}
    return _json("/hf/image-classification", body, lambda said: said[0]["label"] == label)


def _intents(rng: random.Random) -> Request:
    texts = rng.choices(list(_UTTERANCES), k=rng.randint(1, 6))
    wanted = [_UTTERANCES[text] for text in texts]
    if len(texts) == 1 and rng.random() < 0.5:
        return _json("/v1/intent", {"text": texts[0]}, lambda said: said["results"][0]["intent"] == wanted[0])
    return _json("/v1/intent", {"texts": texts}, lambda said: [each["intent"] for each in said["results"]] == wanted)


def _answer(rng: random.Random) -> Request:
    question, wanted = rng.choice((("Qui ?", "Émile"), ("combien", "1815")))
    before = "le " * rng.randint(0, 120)  # from one window to many
    context = before + CONTEXT

    def is_right(said: Any) -> bool:
        answer = said["answer"]
        return answer["text"] == wanted == context[answer["start"] : answer["end"]]

    return _json("/v1/answer", {"question": question, "context": context}, is_right)


def _no_answer(_: random.Random) -> Request:
    return _json("/v1/answer", {"question": "who ?", "context": "It rains."}, lambda said: said["answer"] is None)


def _look_up(rng: random.Random) -> Request:
    asked = {"question": "Who wrote the engine?"}
    path = rng.choice(("/v1/answer", "/v1/understand"))
    body = asked if path == "/v1/answer" else {"text": asked["question"]}
    return _json(path, body, lambda said: said["answer"]["text"] == "Ada")


def _parse(rng: random.Random) -> Request:
    text, intent = rng.choice(list(_UTTERANCES.items()))
    wanted = intent or "nlu_fallback"
    return _json("/model/parse", {"text": text}, lambda said: said["intent"]["name"] == wanted)


def _hugging_face(rng: random.Random) -> Request:
    text = rng.choice([text for text, intent in _UTTERANCES.items() if intent])
    return _json("/hf/text-classification", {"inputs": text}, lambda said: said[0][0]["label"] == _UTTERANCES[text])


def _infer(rng: random.Random) -> Request:
    label, place = rng.choice((("cat", 0), ("dog", 1), ("car", 2)))
    values = [[[1.0 if channel == place else -1.0] * 32] * 32 for channel in range(3)]
    tensor = {"name": "pixel_values", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": [values]}
    logits = [4.0 if channel == place else -5.0 for channel in range(3)]
    assert label
    return _json(
        "/v2/models/tiny-tagger/infer",
        {"inputs": [tensor]},
        lambda said: all(abs(a - b) < 1e-3 for a, b in zip(said["outputs"][0]["data"], logits, strict=True)),
    )


def _read(rng: random.Random) -> Request:
    if rng.random() < 0.5:
        return Request("GET", "/v1/knowledge/guide.md", is_right=lambda said: "written by Ada" in said["text"])
    return Request("GET", rng.choice(("/livez", "/readyz", "/v2/models/tiny-qa", "/openapi.json")), is_right=bool)


_GOOD = (_tag, _tag, _tag_several, _classify, _intents, _intents, _answer, _no_answer, _look_up, _parse, _hugging_face,
         _infer, _read)  # fmt: skip


def _bad_image(rng: random.Random) -> Request:
    path = rng.choice(("/v1/tag", "/hf/image-classification"))
    return Request("POST", path, make_image(rng), {"content-type": "image/png"})


_JSON_ROUTES = (
    *("/v1/intent", "/v1/answer", "/v1/understand", "/model/parse", "/hf/text-classification"),
    *("/hf/question-answering", "/v2/models/tiny-tagger/infer", "/bento/intent", "/bento/answer"),
)
_BODIES = (
    *(
        b"",
        b"{",
        b"[" * 5000,
        b"\xff\xfe",
        b"null",
        b"1e999",
        b'{"text": "\\ud800"}',
        b'{"text": null}',
        b'{"texts": []}',
    ),
    *(b'{"text": "' + b"a" * 5000 + b'"}', b'{"question": "a", "context": ""}', bytes(range(256))),
)
_STRANGE = ("/nowhere", "/v1/knowledge/..%2f..%2fetc", "/v2/models/%00", "//", "/metrics", "/v1/tag?top_k=x")


def _bad_json(rng: random.Random) -> Request:
    kind = rng.choice((JSON, "text/plain", "multipart/form-data"))
    return Request("POST", rng.choice(_JSON_ROUTES), rng.choice(_BODIES), {"content-type": kind})


def _strange_route(rng: random.Random) -> Request:
    return Request(rng.choice(("GET", "PUT", "DELETE", "OPTIONS", "PATCH")), rng.choice(_STRANGE))


def _strange_document(rng: random.Random) -> Request:
    name, content = rng.choice((make_markdown, make_html))(rng)
    return Request("PUT", f"/v1/knowledge/hostile/{rng.randrange(5)}{name}", content[:50_000], {"x-api-key": KEY})


def _stranger(rng: random.Random) -> Request:
    return Request(rng.choice(("PUT", "DELETE")), "/v1/knowledge/guide.md", b"# Gone", {"x-api-key": "wrong"})


_HOSTILE = (_bad_image, _bad_image, _bad_json, _bad_json, _strange_route, _strange_document, _stranger)
