"""The engine under load and in trouble: limits, deadlines, faults and shutting down."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from shared.bundle.read import Bundle
from shared.errors import DeadlineExceeded, InputError, InvalidImage, NotReady, Overloaded
from shared.serving.settings import Settings
from tests.pictures import GREEN, encode, plain, quarter_turned_jpeg, tiff, truncated_jpeg
from tests.vision.conftest import OpenClient
from vision.engine import LARGE, TaggingEngine


def with_engine(bundle: Bundle, use: Callable[[TaggingEngine], Awaitable[None]], **settings: object) -> None:
    async def run() -> None:
        engine = TaggingEngine.load(Settings(tagger=bundle.path, device="cpu", **settings))
        try:
            await use(engine)
        finally:
            await engine.close()

    asyncio.run(run())


class Gate:
    """Stands in for the network: holds every call until it is opened."""

    def __init__(self, engine: TaggingEngine) -> None:
        self.opened = threading.Event()
        self.calls = 0
        self._run = engine.runtime.run
        engine.runtime.run = self.run

    def run(self, inputs):
        self.calls += 1
        assert self.opened.wait(30)
        return self._run(inputs)


def test_tag_gives_tags_size_and_timings(tagger_bundle: Bundle):
    async def use(engine: TaggingEngine) -> None:
        result = await engine.tag(quarter_turned_jpeg())
        assert [tag.label for tag in result.tags] == ["cat"]
        assert (result.width, result.height) == (48, 64)
        seen = await engine.look_at(plain(GREEN))
        assert seen.timings.decode_s > 0
        assert seen.timings.infer_s > 0
        scores = engine.predictor.scores(seen.logits)
        assert scores.shape == (3,)
        assert scores.argmax() == 1

    with_engine(tagger_bundle, use)


def test_many_images_at_once_each_get_their_own_answer(tagger_bundle: Bundle):
    async def use(engine: TaggingEngine) -> None:
        images = [plain() if i % 3 else plain(GREEN) for i in range(60)]
        results = await asyncio.gather(*(engine.tag(image) for image in images))
        assert [r.tags[0].label for r in results] == ["cat" if i % 3 else "dog" for i in range(60)]

    with_engine(tagger_bundle, use, max_batch_size=8)


def test_a_bad_image_fails_alone_and_before_the_network(tagger_bundle: Bundle):
    async def use(engine: TaggingEngine) -> None:
        jobs = [engine.tag(plain()), engine.tag(truncated_jpeg()), engine.tag(plain(GREEN))]
        first, second, third = await asyncio.gather(*jobs, return_exceptions=True)
        assert first.tags[0].label == "cat"
        assert isinstance(second, InvalidImage)
        assert third.tags[0].label == "dog"

    with_engine(tagger_bundle, use, max_batch_size=8)


def test_more_images_than_the_limit_are_overloaded_at_once_and_room_comes_back(tagger_bundle: Bundle):
    async def use(engine: TaggingEngine) -> None:
        gate = Gate(engine)
        waiting = [asyncio.ensure_future(engine.tag(plain())) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="3 images are in hand; the limit is 3"):
            await engine.tag(plain())
        gate.opened.set()
        assert all(result.tags for result in await asyncio.gather(*waiting))
        assert (await engine.tag(plain())).tags

    with_engine(tagger_bundle, use, max_queue=3)


def test_an_answer_that_takes_too_long_is_a_deadline_exceeded_and_leaves_no_trace(tagger_bundle: Bundle):
    async def use(engine: TaggingEngine) -> None:
        gate = Gate(engine)
        with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
            await engine.tag(plain())
        gate.opened.set()
        engine.admission.deadline_s = 30.0
        assert (await engine.tag(plain())).tags
        assert engine.admission.in_hand == 0

    with_engine(tagger_bundle, use, deadline_s=0.05)


def test_a_photo_that_nobody_waits_for_is_not_computed_once_it_is_decoded(tagger_bundle: Bundle):
    async def use(engine: TaggingEngine) -> None:
        gate = Gate(engine)
        first = asyncio.ensure_future(engine.tag(plain()))
        while not gate.calls:
            await asyncio.sleep(0.01)
        second = asyncio.ensure_future(engine.tag(plain()))  # decoded, it waits for the network
        await asyncio.sleep(0.1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.opened.set()
        assert (await first).tags[0].label == "cat"
        assert (await engine.tag(plain())).tags[0].label == "cat"
        assert gate.calls == 2

    with_engine(tagger_bundle, use)


def test_the_wait_of_a_photo_is_counted_as_waiting(tagger_bundle: Bundle):
    async def use(engine: TaggingEngine) -> None:
        told: list[tuple[int, float, float]] = []
        engine.metrics.batch = lambda *values: told.append(values)  # type: ignore[method-assign]
        gate = Gate(engine)
        asked = [asyncio.ensure_future(engine.tag(plain())) for _ in range(4)]
        await asyncio.sleep(0.2)
        gate.opened.set()
        await asyncio.gather(*asked)
        assert [size for size, _, _ in told] == [1] * 4
        assert sorted(waited for _, _, waited in told)[-2] > 0.1  # there are two threads

    with_engine(tagger_bundle, use)


def test_closing_answers_what_is_in_hand_and_refuses_what_comes(tagger_bundle: Bundle):
    async def use(engine: TaggingEngine) -> None:
        gate = Gate(engine)
        in_hand = asyncio.ensure_future(engine.tag(plain()))
        while not gate.calls:
            await asyncio.sleep(0.01)
        closing = asyncio.ensure_future(engine.close())
        await asyncio.sleep(0)
        assert not engine.is_ready
        with pytest.raises(NotReady):
            await engine.tag(plain())
        gate.opened.set()
        assert (await in_hand).tags[0].label == "cat"
        await closing

    with_engine(tagger_bundle, use)


def test_tensors_are_checked_and_answered_row_by_row(tagger_bundle: Bundle):
    async def use(engine: TaggingEngine) -> None:
        pixels = tagger_bundle.golden.inputs["pixel_values"]
        outputs = await engine.infer({"pixel_values": pixels})
        np.testing.assert_allclose(outputs["logits"], tagger_bundle.golden.outputs["logits"], atol=1e-4)
        with pytest.raises(InputError, match="float32"):
            await engine.infer({"pixel_values": pixels.astype(np.float64)})
        with pytest.raises(InputError, match="the limit is 4"):
            await engine.infer({"pixel_values": np.concatenate([pixels, pixels])})

    with_engine(tagger_bundle, use, max_images=4)


@pytest.fixture
def broken_client(open_client: OpenClient):
    def break_it(engine: TaggingEngine) -> None:
        def fail(inputs):
            raise RuntimeError("secret of the inside")

        engine.runtime.run = fail

    with open_client(break_it) as client:
        yield client


def test_a_fault_inside_is_a_500_that_tells_nothing_and_is_logged_once(broken_client: TestClient):
    stream = io.StringIO()
    logging.getLogger("shared").handlers[0].setStream(stream)  # the service's own; pytest's stand behind it
    response = broken_client.post("/v1/tag", content=plain(), headers={"content-type": "image/png"})
    assert response.status_code == 500
    request_id = response.headers["x-request-id"]
    message = "the service failed on this request. It is not your input's fault; the log has it under its X-Request-ID."
    assert response.json() == {"error": {"type": "internal", "message": message, "request_id": request_id}}
    log = stream.getvalue()
    assert log.count("secret of the inside") >= 1
    assert log.count('"unexpected exception"') == 1
    assert request_id in log


def test_overload_is_429_and_a_missed_deadline_504_over_http(open_client: OpenClient):
    gates: list[Gate] = []
    with open_client(lambda engine: gates.append(Gate(engine)), deadline_s=0.05) as client:
        response = client.post("/v1/tag", content=plain(), headers={"content-type": "image/png"})
        assert response.status_code == 504
        assert response.json()["error"]["type"] == "deadline_exceeded"
        gates[0].opened.set()
    with open_client(max_queue=1) as client:
        client.lifecycle().admission.in_hand = 1
        response = client.post("/v1/tag", content=plain(), headers={"content-type": "image/png"})
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["error"]["type"] == "overloaded"


def test_more_images_than_the_queue_holds_are_answered_if_nothing_else_is_in_hand(open_client: OpenClient):
    with open_client(max_queue=2) as client:
        response = client.post("/v1/tag", files=[("image", ("a.png", plain(), "image/png"))] * 5)
        assert response.status_code == 200, response.text
        assert len(response.json()["results"]) == 5
        assert client.lifecycle().admission.in_hand == 0


def test_the_images_of_one_request_share_what_decoding_may_take(open_client: OpenClient):
    large = encode(Image.new("RGBA", (5000, 5000)))  # 100 MB
    with open_client() as client:
        results = client.post("/v1/tag", files=[("image", ("a.png", large, "image/png"))] * 6).json()["results"]
    refused = [each["error"] for each in results if "error" in each]
    assert len(refused) == 2
    assert {each["type"] for each in refused} == {"too_large"}
    assert "take more than 400 MB together" in refused[0]["message"]


def test_large_images_are_decoded_one_at_a_time(tagger_bundle: Bundle):
    async def use(engine: TaggingEngine) -> None:
        with engine.hold(LARGE):
            assert not engine._one_large.locked()
        for larger in (replace(LARGE, memory_bytes=LARGE.memory_bytes + 1), replace(LARGE, pixels=LARGE.pixels + 1)):
            with engine.hold(larger):
                assert engine._one_large.locked()

    with_engine(tagger_bundle, use)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_small_image_does_not_wait_for_large_ones(tagger_bundle: Bundle, batch_size: int):
    large = encode(Image.new("RGBA", (4200, 4200), (255, 0, 0, 255)))

    async def use(engine: TaggingEngine) -> None:
        with engine._one_large:  # one that takes for ever
            waiting = [asyncio.create_task(engine.tag(large)) for _ in range(4)]
            await asyncio.sleep(0.2)
            assert [tag.label for tag in (await engine.tag(plain())).tags] == ["cat"]
            assert not any(task.done() for task in waiting)
        assert [(await task).width for task in waiting] == [4200] * 4

    with_engine(tagger_bundle, use, max_batch_size=batch_size)


def test_the_formats_of_the_settings_are_those_that_are_accepted(open_client: OpenClient):
    for formats, answers in ((["JPEG", "TIFF"], {"TIFF": 200, "PNG": 415}), (["PNG"], {"TIFF": 415, "PNG": 200})):
        with open_client(image_formats=formats) as client:
            for data, kind in ((tiff(), "TIFF"), (plain(), "PNG")):
                response = client.post("/v1/tag", content=data, headers={"content-type": "image/x"})
                assert response.status_code == answers[kind], (formats, kind)
