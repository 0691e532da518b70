"""Bundles change places under load in a real server of two workers: no request fails, none gets a mixed answer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from shared.bundle.read import Bundle
from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_intent_bundle, make_qa_bundle
from tests.pictures import plain
from tests.server import Server, serving

pytestmark = [pytest.mark.server, pytest.mark.slow]
KEY = "open-sesame"
HEADERS = {"authorization": f"Bearer {KEY}"}
PER_S = 50
SWAPS = 4
TEXT = json.dumps({"text": "play a song"}).encode()
LABELS = {"tagger-1": "cat", "tagger-2": "dog", "intent-1": "play_music", "intent-2": "new_play_music"}
"""Version -> what it calls a red photo, or a wish for music."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    make_tagger_bundle(folder / "tagger-1", version="tagger-1")
    make_tagger_bundle(folder / "tagger-2", ("dog", "cat", "car"), version="tagger-2")
    make_intent_bundle(folder / "intent-1", version="intent-1")
    make_intent_bundle(folder / "intent-2", version="intent-2", prefix="new_")
    make_qa_bundle(folder / "qa-2", version="qa-2")
    return folder


@pytest.fixture(scope="module")
def server(stored: Path, qa_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    settings = {
        "PERCEPT_BUNDLES": str(stored),
        "PERCEPT_ADMIN_KEY": KEY,
        "PERCEPT_KNOWLEDGE": str(folder / "knowledge.sqlite"),
        "PERCEPT_KNOWLEDGE_DOCUMENTS": "none",
    }
    bundles = [stored / "tagger-1", stored / "intent-1", qa_bundle.path]
    with serving(bundles, folder / "log.txt", models=3, **settings) as server:
        yield server


def try_to_choose(server: Server, bundle: str) -> int:
    answer = server.request("PUT", "/v1/model", json.dumps({"bundle": bundle}).encode(), **HEADERS)
    assert answer.status in (200, 429), answer.body
    return answer.status


def choose(server: Server, bundle: str) -> None:
    assert try_to_choose(server, bundle) == 200


def workers_with(server: Server, bundle: str) -> int:
    """Return how many workers answer with it, whichever is asked."""
    models = server.get("/v1/model").json["models"]
    return max([model["workers"] for model in models if model["bundle"] == bundle], default=0)


def settle(server: Server, bundle: str) -> None:
    server.wait_for(f"{bundle} in both workers", lambda: workers_with(server, bundle) == 2)


async def ask(session: aiohttp.ClientSession, url: str, is_photo: bool) -> tuple[int, str, str]:
    """Return status, version in the headers and the best label."""
    path, body, kind = ("/v1/tag", plain(), "image/png") if is_photo else ("/v1/intent", TEXT, "application/json")
    async with session.post(url + path, data=body, headers={"content-type": kind}) as response:
        content = await response.json()
        if response.status != 200:
            return response.status, "", str(content)
        assert content["model"]["version"] == response.headers["x-model-version"]
        result = content["results"][0]
        return 200, response.headers["x-model-version"], result["tags"][0]["label"] if is_photo else result["intent"]


async def paced(stop: asyncio.Event) -> AsyncIterator[int]:
    """Yield numbers, so many a second, until it stops."""
    loop = asyncio.get_running_loop()
    start, number = loop.time(), 0
    while not stop.is_set():
        yield number
        number += 1
        await asyncio.sleep(max(0.0, start + number / PER_S - loop.time()))


def test_twenty_swaps_leave_no_memory_behind_though_each_worker_has_a_page(server: Server):
    def swap(times: int) -> None:
        for turn in range(times):
            # The other worker may be loading: it says so, and when to come back.
            server.wait_for("chosen", lambda bundle=f"tagger-{1 + turn % 2}": try_to_choose(server, bundle) == 200)
        settle(server, "tagger-2")

    def resident_bytes() -> int:
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in server.workers]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    server.wait_for("a page in both", lambda: server.log.read_text().count('"the demo page is open"') == 2)
    swap(4)
    before = resident_bytes()
    swap(20)
    freed = server.log.read_text().count('"model freed"')
    assert freed == server.log.read_text().count('"model replaced"') >= 20
    assert resident_bytes() - before < 20 << 20  # a runtime that stayed with its threads would take 1 MB and more each


def test_swaps_under_fifty_requests_a_second_lose_none_and_mix_none(server: Server):
    async def run() -> list[tuple[int, str, str]]:
        stop = asyncio.Event()
        tasks = []

        async def change() -> None:
            for turn in range(SWAPS):
                for bundle in (f"tagger-{2 - turn % 2}", f"intent-{2 - turn % 2}"):
                    await asyncio.to_thread(choose, server, bundle)
                    await asyncio.to_thread(settle, server, bundle)
            stop.set()

        async with aiohttp.ClientSession() as session:
            changing = asyncio.create_task(change())
            async for number in paced(stop):
                tasks.append(asyncio.create_task(ask(session, server.url, is_photo=number % 2 == 0)))
                if changing.done():
                    break
            await changing
            return await asyncio.gather(*tasks)

    answers = asyncio.run(run())
    assert len(answers) > PER_S
    assert [answer for answer in answers if answer[0] != 200] == []
    assert {(version, label) for _, version, label in answers} == set(LABELS.items())
    assert server.metric("percept_faults_total") == 0
    assert server.metric("percept_model_ready") == 6


def test_a_worker_that_is_killed_comes_back_with_the_chosen_bundle(server: Server):
    choose(server, "tagger-2")
    settle(server, "tagger-2")
    killed = server.workers[0]
    os.kill(killed, signal.SIGKILL)
    server.wait_for("two workers", lambda: killed not in server.workers and workers_with(server, "tagger-2") == 2)
    for _ in range(12):  # whichever worker answers
        assert server.post("/v1/tag", plain()).headers["x-model-version"] == "tagger-2"


def test_a_request_whose_body_comes_after_the_swap_is_answered_by_the_model_that_it_began_with(server: Server):
    choose(server, "intent-1")
    settle(server, "intent-1")
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        head = f"POST /v1/intent HTTP/1.1\r\nhost: x\r\ncontent-length: {len(TEXT)}\r\nconnection: close\r\n\r\n"
        connection.sendall(head.encode() + TEXT[:5])
        server.wait_for("in hand", lambda: server.metric("percept_http_requests_in_progress") == 2)
        choose(server, "intent-2")
        settle(server, "intent-2")
        connection.sendall(TEXT[5:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"x-model-version: intent-1\r\n" in answer.lower()
    assert b'"intent":"play_music"' in answer


def test_the_reader_changes_and_keeps_its_documents(server: Server):
    path = "/v1/knowledge/moteur.md"
    document = "# Le moteur\n\nLe moteur coûte 42 francs.".encode()
    assert server.request("PUT", path, document, **HEADERS).status == 201
    choose(server, "qa-2")
    settle(server, "qa-2")
    body = json.dumps({"question": "Combien coûte le moteur ?"}).encode()
    for _ in range(8):
        answer = server.post("/v1/answer", body, "application/json")
        assert (answer.status, answer.headers["x-model-version"]) == (200, "qa-2")
        assert answer.json["answer"]["text"] == "42"
