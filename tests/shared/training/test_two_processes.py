"""Training over two processes (gloo, CPU): what one process with the same global batch does, and what ends it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from shared.bundle.read import read_bundle
from tests.photos import class_folders, parquet_files

ROOT = Path(__file__).resolve().parents[3]
SMOKE = ROOT / "configs" / "vision" / "tagging_smoke.yaml"
pytestmark = pytest.mark.slow
NO_NORM = "squeezenet1_1"
"""Has no batch norm, which each process would fit to its own part of a batch, and here no dropout."""


def command(photos: Path, run_dir: Path, *more: str) -> list[str]:
    options = [f"--data.source={photos}", f"--run_dir={run_dir}", f"--data.cache_dir={photos.parent / 'cache'}",
               f"--model.architecture={NO_NORM}", "--model.dropout=0", "--data.augment=none", "--trainer.precision=32",
               "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
               "--early_stopping.patience=99"]  # fmt: skip
    return [sys.executable, "-W", "ignore", "-m", "scripts.main", "fit", "tagging", "-c", str(SMOKE), *options, *more]


def start(words: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=240)
    return said


def curve(run_dir: Path, name: str) -> np.ndarray:
    with (run_dir / "metrics.csv").open() as stream:
        return np.array([float(row[name]) for row in csv.DictReader(stream) if row.get(name)])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many that the validation photos do not divide by two."""
    return class_folders(tmp_path_factory.mktemp("two") / "photos", count=15)


def test_two_processes_learn_and_measure_what_one_does(photos: Path, tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    options = ["--trainer.max_epochs=3", "--data.val_share=0.2"]
    said = finish(start(command(photos, one, *options, "--trainer.devices=1", "--data.batch_size=8")))
    assert (one / "bundle" / "config.json").is_file(), said
    said = finish(start(command(photos, two, *options, "--trainer.devices=2", "--data.batch_size=4")))
    assert (two / "bundle" / "config.json").is_file(), said
    assert said.count(" is in ") == 1, said  # one process wrote the bundle
    for name in ("train/loss", "val/map", "val/top1", "val/ece"):
        assert len(curve(one, name)) == 3
        np.testing.assert_allclose(curve(two, name), curve(one, name), rtol=2e-3, atol=2e-4, err_msg=name)
    first, second = read_bundle(one / "bundle"), read_bundle(two / "bundle")
    for name, values in first.golden.outputs.items():
        np.testing.assert_allclose(second.golden.outputs[name], values, rtol=1e-2, atol=1e-2)


def test_a_killed_process_ends_the_run_in_one_line_and_the_run_can_go_on(photos: Path, tmp_path: Path):
    run_dir = tmp_path / "run"
    options = ["--data.batch_size=4", "--trainer.devices=2"]
    process = start(command(photos, run_dir, *options, "--trainer.max_epochs=500"))
    end = time.monotonic() + 120
    while not (run_dir / "checkpoints" / "last.ckpt").exists() and time.monotonic() < end:
        time.sleep(0.1)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "scripts.main"], capture_output=True, text=True, check=False
    )
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    said = finish(process)
    assert process.returncode == 2, said
    assert "one of the 2 processes is gone" in said
    assert "--ckpt_path last" in said
    assert not (run_dir / "bundle").exists()
    epochs = int(curve(run_dir, "epoch").max()) + 3
    said = finish(start(command(photos, run_dir, *options, f"--trainer.max_epochs={epochs}", "--ckpt_path=last")))
    assert read_bundle(run_dir / "bundle").config.task == "tagging", said


def test_a_streamed_set_trains_over_two_processes(tmp_path: Path):
    run_dir = tmp_path / "run"
    words = command(parquet_files(tmp_path / "set"), run_dir, "--data.stream=true", "--data.num_workers=1")
    said = finish(start([*words, "--trainer.devices=2", "--trainer.max_epochs=2", "--data.batch_size=4"]))
    assert read_bundle(run_dir / "bundle").config.task == "tagging", said
    assert said.count(" is in ") == 1, said
    assert len(curve(run_dir, "train/loss")) == 2
    assert not list((tmp_path / "cache").rglob("*.arrow")), "nothing is copied"


def test_intents_validate_over_two_processes_where_one_has_no_loss(tmp_path: Path):
    """Validation sorts by length: all utterances with an intent come to one process, all others to the second."""
    rows = [(f"{verb} {n}", verb) for n in range(128) for verb in ("book", "play")]
    rows += [(f"nobody knows what this long sentence is about at all {n}", "oos") for n in range(256)]
    table = tmp_path / "t.csv"
    table.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    options = [f"--data.source={table}", f"--run_dir={tmp_path / 'run'}", "--data.val_share=0.5", "--data.test_share=0",
               "--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.max_epochs=2",
               "--trainer.enable_progress_bar=false"]  # fmt: skip
    recipe = ROOT / "configs" / "nlp" / "intent_smoke.yaml"
    words = [sys.executable, "-W", "ignore", "-m", "scripts.main", "fit", "intent", "-c", str(recipe), *options]
    said = finish(start(words))
    assert read_bundle(tmp_path / "run" / "bundle").config.task == "intent", said
    assert np.isfinite(curve(tmp_path / "run", "val/loss")).all()


def test_answers_validate_over_two_processes(tmp_path: Path):
    rows = [
        {"id": str(n), "question": f"Who keeps light {n}?", "context": f"Light {n} is kept by Ada.",
         "answers": {"text": ["Ada"], "answer_start": [len(f"Light {n} is kept by ")]}}
        for n in range(40)
    ]  # fmt: skip
    table = tmp_path / "q.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    options = [f"--data.source={table}", f"--run_dir={tmp_path / 'run'}",
               "--data.val_share=0.2", "--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.max_epochs=1",
               "--trainer.enable_progress_bar=false"]  # fmt: skip
    recipe = ROOT / "configs" / "nlp" / "qa_smoke.yaml"
    words = [sys.executable, "-W", "ignore", "-m", "scripts.main", "fit", "qa", "-c", str(recipe), *options]
    said = finish(start(words))
    assert read_bundle(tmp_path / "run" / "bundle").config.task == "qa", said
