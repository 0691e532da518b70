"""`percept promote` and `percept registry`: from two bundles to what is live, and back."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from scripts.main import main
from shared.bundle.layout import IntentDecision
from shared.bundle.read import Bundle
from shared.bundle.write import rewrite_bundle
from shared.improving.registry import Registry
from tests.bundles import make_tagger_bundle
from tests.language_bundles import WORDS, make_intent_bundle
from tests.scripts.test_evaluate import fill
from tests.server import Server, serving
from tests.shared.improving.test_watching import MODEL, FakeService


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Two intent bundles that answer alike, and one that calls everything out of scope."""
    folder = tmp_path_factory.mktemp("bundles")
    found = {name: make_intent_bundle(folder / name, name=MODEL, version=name) for name in ("v1", "silent")}
    found["v2"] = make_intent_bundle(folder / "v2", name=MODEL, version="v2", max_length=30)
    silent = found["silent"]
    assert isinstance(silent.config.decision, IntentDecision)
    decision = silent.config.decision.model_copy(update={"abstain_below": 1.0})
    files = {name: silent.file(name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")}
    config = silent.config.model_copy(update={"decision": decision})
    found["silent"] = rewrite_bundle(silent, folder / "silent-too", config, onnx=silent.file("model.onnx"), files=files)
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """384 utterances, which both answer right."""
    file = tmp_path_factory.mktemp("data") / "utterances.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for label, words in WORDS.items():
            for first, second, number in product(words[:4], words[:4], range(8)):
                writer.writerow([f"{first} the {second} {number} {number + 1}", label])
    return file


def promote(candidate: Path, over: Path, source: Path, *args: str | Path) -> Result:
    fixed = ["--over", over, "--data.source", source, "--split", "all", "--device", "cpu", "--by", "ada"]
    return CliRunner().invoke(main, ["promote", str(candidate), *map(str, (*fixed, *args))])


def test_an_equal_candidate_becomes_live_with_a_page_and_a_line_of_history(
    tmp_path: Path, bundles: dict[str, Bundle], table: Path
):
    registry, page = tmp_path / "registry", tmp_path / "page.html"
    args = ("--registry", registry, "-o", page, "--reason", "more <b>data")
    done = promote(bundles["v2"].path, bundles["v1"].path, table, *args)
    assert done.exit_code == 0, done.output
    assert (
        "The candidate may replace the live bundle. Right answers: 100.0 % before, 100.0 % now (0 points)"
        in done.output
    )
    assert "a candidate that is 1 point worse would have been refused for it with probability" in done.output
    assert "v2 is live in" in done.output
    assert "Promote it" in page.read_text()
    assert "more \\u003cb>data" in page.read_text()
    shown = CliRunner().invoke(main, ["registry", str(registry)])
    assert shown.exit_code == 0, shown.output
    assert "live  v2" in shown.output
    assert "ada  promoted: v2 (before: v1); gate: passes" in shown.output
    assert "right answers 100.0 -> 100.0 % on 384 examples" in shown.output
    back = CliRunner().invoke(main, ["registry", "rollback", str(registry), "--reason", "a try"])
    assert "v1 is live in" in back.output
    told = json.loads(CliRunner().invoke(main, ["registry", str(registry), "--json"]).stdout)
    assert told["live"] == "v1"
    assert [each["what"] for each in told["history"]] == ["taken up", "promoted", "rolled back"]
    again = promote(bundles["v2"].path, registry / "live", table)
    assert again.exit_code == 0, again.output
    assert Registry(registry).live() == "v2"


def test_a_worse_candidate_is_refused_with_1_unless_somebody_says_why_not(tmp_path: Path):
    photos = fill(tmp_path / "photos", {"cat": "cat", "dog": "dog", "car": "car"})
    live = make_tagger_bundle(tmp_path / "live", version="v1").path
    worse = make_tagger_bundle(tmp_path / "worse", ("dog", "cat", "car"), version="v2").path
    args = ("--registry", tmp_path / "registry", "--data.cache_dir", tmp_path / "cache")
    done = promote(worse, live, photos, *args, "--json")
    assert done.exit_code == 1, done.output
    told = json.loads(done.stdout)
    assert (told["verdict"], told["promotion"], told["decision"]) == ("refused", None, "Do not promote it")
    assert told["bounds"]["margin"] == 0.01
    assert not (tmp_path / "registry").exists()
    silent = promote(worse, live, photos, *args, "--force")
    assert silent.exit_code == 2
    assert "--force needs --reason" in silent.output
    forced = promote(worse, live, photos, *args, "--force", "--reason", "the labels were swapped")
    assert forced.exit_code == 0, forced.output
    change = Registry(tmp_path / "registry").history()[-1]
    assert (change.verdict, change.is_forced, change.reason) == ("refused", True, "the labels were swapped")
    assert change.figures["failed"][0] == "F1 of a photo's tags"


def test_too_few_examples_end_with_3_and_the_number_that_it_takes(tmp_path: Path):
    photos = fill(tmp_path / "photos", {"cat": "cat", "dog": "dog", "car": "car"})
    live = make_tagger_bundle(tmp_path / "live", version="v1").path
    same = make_tagger_bundle(tmp_path / "same", version="v2").path
    page = tmp_path / "page.html"
    done = promote(same, live, photos, "--registry", tmp_path / "registry", "--data.cache_dir", tmp_path, "-o", page)
    assert done.exit_code == 3, done.output
    assert "Undecided: needs about " in done.output
    assert "18 examples are too few to judge it" in done.output
    assert "Not enough examples to decide" in page.read_text()
    assert not (tmp_path / "registry").exists()


def test_examples_of_a_label_that_only_the_candidate_knows_count_as_wrong_for_the_live_bundle(tmp_path: Path):
    photos = fill(tmp_path / "photos", {"cat": "cat", "dog": "dog", "car": "car"})
    live = make_tagger_bundle(tmp_path / "live", ("cat", "dog"), version="v1").path
    more = make_tagger_bundle(tmp_path / "more", version="v2").path
    args = ("--registry", tmp_path / "registry", "--data.cache_dir", tmp_path / "cache", "--json")
    done = promote(more, live, photos, *args)
    told = json.loads(done.stdout)
    quality = next(check for check in told["checks"] if check["kind"] == "quality")
    assert quality["examples"] == 18, "the cars too"
    assert quality["candidate"] == 1.0
    assert quality["live"] == pytest.approx(2 / 3, abs=0.05)
    assert any("6 photos have labels that the live bundle does not know" in note for note in told["notes"])


def test_mistakes_are_told_in_a_line(tmp_path: Path, bundles: dict[str, Bundle], tagger_bundle: Bundle, table: Path):
    one, two = bundles["v1"].path, bundles["v2"].path
    registry = tmp_path / "registry"
    Registry(registry).promote(bundles["v2"], bundles["v1"])
    for candidate, over, args, message in (
        (one, one, (), "are the same bundle"),
        (tagger_bundle.path, one, (), "Clients know a model by its name"),
        (two, one, ("--registry", registry), "v2 is live in"),
        (one, registry / "live", ("--registry", tmp_path / "other"), "is in a registry of its own"),
        (one, registry / "live", ("-o", tmp_path), "is a folder"),
        (one, tmp_path / "nowhere", (), "no bundle at"),
    ):
        done = promote(candidate, over, table, *args)
        assert done.exit_code == 2, done.output
        assert message in done.output
        assert "Traceback" not in done.output
    none = CliRunner().invoke(main, ["registry", str(tmp_path / "nothing")])
    assert none.exit_code == 2
    assert "is no registry" in none.output


@contextmanager
def listening(fake: FakeService) -> Iterator[str]:
    """The fake service on a port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            request = httpx.Request(
                self.command, f"http://fake{self.path}", headers=dict(self.headers), content=self.rfile.read(size)
            )
            fake.traffic(100)
            answer = fake.answer(request)
            self.send_response(answer.status_code)
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_PUT = do_POST = do_GET  # noqa: N815 names that it asks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the name that it has
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_service_takes_it_up_and_both_go_back_when_its_metrics_move(
    tmp_path: Path, bundles: dict[str, Bundle], table: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PERCEPT_KEY", "secret")
    monkeypatch.setattr("shared.improving.watching.LOOK_EVERY_S", 0.01)
    page = tmp_path / "page.html"
    for confidence, status, live in ((0.9, 0, "v2"), (0.6, 4, "v1")):
        fake, registry = FakeService(confidence={"v2": confidence}), tmp_path / f"registry {confidence}"
        with listening(fake) as url:
            args = ("--registry", registry, "--url", url, "--watch", "0.003", "-o", page)
            done = promote(bundles["v2"].path, bundles["v1"].path, table, *args)
        assert done.exit_code == status, done.output
        assert (fake.bundle, Registry(registry).live()) == (live, live)
        last = Registry(registry).history()[-1]
        assert last.url == url
        if live == "v2":
            assert last.what == "watched"
            assert "nothing moved too far" in done.output
        else:
            assert last.what == "rolled back"
            assert "the mean confidence of" in (last.reason or "")
            assert "serves v1 again" in done.output
            assert "Rolled back" in page.read_text()


def test_a_service_that_refuses_it_leaves_everything_as_it_was(
    tmp_path: Path, bundles: dict[str, Bundle], table: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PERCEPT_KEY", "secret")
    fake, registry = FakeService(refuses="there is no bundle 'v2' here"), tmp_path / "registry"
    with listening(fake) as url:
        done = promote(bundles["v2"].path, bundles["v1"].path, table, "--registry", registry, "--url", url)
        assert done.exit_code == 4, done.output
        assert "PERCEPT_BUNDLES" in done.output
        assert (fake.bundle, Registry(registry).live()) == ("v1", "v1")
        monkeypatch.delenv("PERCEPT_KEY")
        keyless = promote(bundles["v2"].path, registry / "live", table, "--url", url)
        assert keyless.exit_code == 2
        assert "this needs a key" in keyless.output


@pytest.fixture
def served(tmp_path: Path, bundles: dict[str, Bundle]) -> Iterator[tuple[Registry, Server]]:
    """A registry whose first version is live, and a real service of two workers that takes bundles from it."""
    registry = Registry(tmp_path / "registry")
    registry.promote(bundles["v2"], bundles["v1"])
    registry.roll_back()
    settings = {
        "PERCEPT_BUNDLES": str(registry.folder / "versions"),
        "PERCEPT_ADMIN_KEY": "secret",
        "PERCEPT_UI": "false",
    }
    with serving(registry.folder / "live", tmp_path / "log", **settings) as server:
        yield registry, server


@pytest.mark.server
@pytest.mark.slow
def test_a_real_service_swaps_under_load_without_a_failed_request_and_goes_back_by_itself(
    served: tuple[Registry, Server], bundles: dict[str, Bundle], table: Path, monkeypatch: pytest.MonkeyPatch
):
    registry, server = served
    monkeypatch.setenv("PERCEPT_KEY", "secret")
    monkeypatch.setattr("shared.improving.watching.LOOK_EVERY_S", 0.2)
    stop, statuses, versions = threading.Event(), list[int](), set[str]()

    def ask() -> None:
        while not stop.is_set():
            answer = server.post("/v1/intent", b'{"text": "book a flight"}', "application/json")
            statuses.append(answer.status)
            versions.add(answer.headers["x-model-version"])

    caller = threading.Thread(target=ask)
    caller.start()
    try:
        server.wait_for("60 answers", lambda: len(statuses) > 60)
        done = promote(bundles["v2"].path, registry.folder / "live", table, "--url", server.url, "--watch", "0.1")
        assert done.exit_code == 0, done.output
        assert registry.live() == "v2"
        why = ("--force", "--reason", "a try")
        moved = promote(bundles["silent"].path, registry.folder / "live", table, "--url", server.url, *why)
        assert moved.exit_code == 4, moved.output
        assert "inputs got no answer" in moved.output
    finally:
        stop.set()
        caller.join()
    assert set(statuses) == {200}
    assert versions == {"v1", "v2", "silent"}
    assert registry.live() == "v2"
    assert server.get("/v1/model", **{"X-API-Key": "secret"}).json["models"][0]["bundle"] == "v2"
