"""One worker in a container of 1 GiB, the limit in deploy/, survives the images that take most memory, 64 at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.project import PROJECT_ROOT
from tests.fuzz import costs
from tests.server import Server, command, environment, free_port

LIMIT = 1 << 30
GROUPS = {
    Path("/sys/fs/cgroup/memory"): ("memory.limit_in_bytes", "memory.max_usage_in_bytes"),
    Path("/sys/fs/cgroup"): ("memory.max", "memory.peak"),
}
"""Where Linux keeps control groups, version 1 and 2 -> the files of the limit and of the most that was used."""
ENTER = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])"


@pytest.fixture
def group() -> Iterator[tuple[Path, Path]]:
    """A control group of 1 GiB: its folder, and the file that says the most that it used."""
    found = next(filter(None, map(made, GROUPS)), None)
    if found is None:
        pytest.skip("no control group can be made here")
    yield found
    found[0].rmdir()


def made(parent: Path) -> tuple[Path, Path] | None:
    limit, most = GROUPS[parent]
    folder = parent / f"percept-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        return None
    try:
        (folder / limit).write_text(str(LIMIT))
    except OSError:  # a version without the controller
        folder.rmdir()
        return None
    return folder, folder / most


@contextlib.contextmanager
def contained(folder: Path, log: Path, state: Path) -> Iterator[Server]:
    port = free_port()
    models = [PROJECT_ROOT / "models" / name for name in ("tagger", "intent", "qa")]
    started = command(models, "--port", str(port), "--workers", "1", "--device", "cpu")
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", ENTER, str(folder / "cgroup.procs"), *started],
            cwd=PROJECT_ROOT,
            env=environment(PERCEPT_KNOWLEDGE=str(state / "knowledge.sqlite"), GRADIO_TEMP_DIR=str(state)),
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    server = Server(process, port, log)
    try:
        server.wait_for("ready", lambda: server.metric("percept_model_ready") == 3)
        server.wait_for("a page", lambda: server.get("/ui/").status == 200)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.mark.server
@pytest.mark.slow
def test_one_worker_in_a_gibibyte_survives_the_images_that_take_most_memory(group: tuple[Path, Path], tmp_path: Path):
    folder, most = group
    largest = [sent for sent in (*costs.honest_requests().values(), *costs.hostile_images()) if sent.route == "/v1/tag"]
    accepted = [
        costs.honest_requests()["a photo of 39 megapixels"],
        costs.honest_requests()["a progressive photo of 39 megapixels"],
    ]
    answers: Counter[int] = Counter()
    with contained(folder, tmp_path / "log", tmp_path) as server:
        workers = server.workers

        def send(sent: costs.Sent) -> None:
            answers[server.post(sent.route, sent.body, sent.content_type).status] += 1

        for batch in (largest, accepted * 32, [costs.honest_requests()["a PNG of 39 megapixels"]] * 8):
            threads = [threading.Thread(target=send, args=(sent,)) for sent in batch]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert server.workers == workers, "a worker was killed"
        assert server.get("/readyz").status == 200
    print(f"at most {int(most.read_text()) >> 20} MiB of {LIMIT >> 20}; answers {dict(answers)}")
    assert set(answers) <= {200, 400, 413, 429, 504}
    assert answers[200] > 20
    assert sum(answers.values()) == len(largest) + 64 + 8, "an answer was lost"
