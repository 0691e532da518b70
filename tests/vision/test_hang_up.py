"""A client that hangs up leaves the queue, and the network computes nothing for it: over real sockets."""

from __future__ import annotations

import threading

import pytest

from shared.bundle.read import Bundle
from shared.serving.app import with_edge
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.settings import Settings
from tests.live import connect, live, parsed, post, read_to_end, wait_until
from tests.pictures import BLUE, GREEN, plain
from vision.api import create_app
from vision.engine import TaggingEngine

LEAVERS = 6
TAG = "content-type: image/png"
LAST = "connection: close"


class Held:
    """The vision service with a network that computes only once it is let go, and counts what it is given."""

    def __init__(self, bundle: Bundle, **settings: object) -> None:
        self.opened = threading.Event()
        self.began = self.computed = 0
        chosen = Settings(tagger=bundle.path, device="cpu", max_queue=LEAVERS + 2, **settings)
        self.lifecycle = Lifecycle(lambda: self._load(chosen))
        self.app = with_edge(create_app(self.lifecycle, chosen), chosen, self.lifecycle.model)

    def _load(self, settings: Settings) -> TaggingEngine:
        engine = TaggingEngine.load(settings)
        compute = engine.runtime.run

        def run(inputs):
            self.began += 1
            assert self.opened.wait(30)
            self.computed += len(inputs["pixel_values"])
            return compute(inputs)

        engine.runtime.run = run
        return engine

    @property
    def in_hand(self) -> int:
        return self.lifecycle().admission.in_hand


@pytest.fixture
def held(tagger_bundle: Bundle) -> Held:
    return Held(tagger_bundle)


def test_who_hangs_up_leaves_the_queue_and_is_not_computed(held: Held):
    with live(held.app) as port:
        first = connect(port, post("/v1/tag", plain(GREEN), TAG, LAST))
        wait_until(lambda: held.began == 1)
        leavers = [connect(port, post("/v1/tag", plain(), TAG)) for _ in range(LEAVERS)]
        last = connect(port, post("/v1/tag", plain(BLUE), TAG, LAST))
        wait_until(lambda: held.in_hand == LEAVERS + 2)
        # There is no room for another one, which is told so at once: while the network is held, nobody could wait.
        with connect(port, post("/v1/tag", plain(), TAG, LAST)) as refused:
            status, headers, body = parsed(read_to_end(refused))
        assert (status, body["error"]["type"]) == (429, "overloaded")
        assert int(headers["retry-after"]) >= 1
        for leaver in leavers:
            leaver.close()
        wait_until(lambda: held.in_hand == 2)
        held.opened.set()
        assert b'"dog"' in read_to_end(first)
        assert b'"car"' in read_to_end(last)
        assert held.computed == 2


def test_who_hangs_up_with_several_images_leaves_with_all_of_them(held: Held):
    part = b'--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n'
    form = b"".join(part + plain() + b"\r\n" for _ in range(LEAVERS)) + b"--x--\r\n"
    with live(held.app) as port:
        first = connect(port, post("/v1/tag", plain(GREEN), TAG, LAST))
        wait_until(lambda: held.began == 1)
        with connect(port, post("/v1/tag", form, "content-type: multipart/form-data; boundary=x")):
            wait_until(lambda: held.in_hand == LEAVERS + 1)
        wait_until(lambda: held.in_hand == 1)
        held.opened.set()
        assert b'"dog"' in read_to_end(first)
        assert held.computed == 1


def test_a_deadline_that_passes_in_the_queue_frees_the_place_and_is_not_computed(tagger_bundle: Bundle):
    held = Held(tagger_bundle, deadline_s=0.3)
    with live(held.app) as port:
        late = [connect(port, post("/v1/tag", plain(), TAG, LAST)) for _ in range(3)]
        for connection in late:
            status, _, body = parsed(read_to_end(connection))
            assert (status, body["error"]["type"]) == (504, "deadline_exceeded")
        assert held.in_hand == 0
        held.opened.set()
        with connect(port, post("/v1/tag", plain(BLUE), TAG, LAST)) as connection:
            assert b'"car"' in read_to_end(connection)
        assert held.computed == 2  # the one that the network had already, and the last
