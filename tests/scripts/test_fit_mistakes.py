"""Mistakes in data and settings end in one line and exit code 2, in every command that reads data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scripts.main import main
from shared.project import PROJECT_ROOT

INTENT = ["fit", "intent", "-c", "configs/nlp/intent_smoke.yaml"]
ROWS = "text,label\n" + "".join(f"{verb} {n},{verb}\n" for n in range(12) for verb in ("book", "play", "pay"))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.csv").write_text(ROWS)
    (tmp_path / "one.csv").write_text("text,label\nhello,greet\nhi,greet\nhey,greet\n")
    (tmp_path / "columns.csv").write_text("utter,intention\nhello,greet\n")
    (tmp_path / "charset.csv").write_bytes("text,label\nhello,greet\nпривет,bye\n".encode("cp1251"))
    (tmp_path / "pictures" / "cat").mkdir(parents=True)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*INTENT, "--data.source", "nowhere.csv"], "nowhere.csv does not exist"),
        ([*INTENT, "--data.source", ""], "data.source is empty"),
        ([*INTENT, "--data.source", "one.csv"], "it needs at least two"),
        ([*INTENT, "--data.source", "columns.csv"], "has the columns intention, utter; expected text"),
        ([*INTENT, "--data.source", "charset.csv"], "is not UTF-8: line 3"),
        ([*INTENT, "--data.source", "good.csv", "--data.batch_size", "0"], "batch_size must be 2 or more"),
        ([*INTENT, "--data.source", "good.csv", "--data.val_share", "2"], "must add up to less than 1"),
        ([*INTENT, "--data.source", "good.csv", "--no.such", "2"], "--no.such"),
        ([*INTENT, "--data.source", "good.csv", "--model.pooling", "most"], "model.pooling"),
        ([*INTENT, "--data.source", "good.csv", "--trainer.accelerator", "gpu"], "the trainer's settings are wrong"),
        ([*INTENT, "--data.source", "good.csv", "--trainer.max_epochs", "0"], "nothing would be trained"),
        ([*INTENT, "--data.source", "good.csv", "--ckpt_path", "gone.ckpt"], "there is no checkpoint gone.ckpt"),
        (["fit", "tagging", "-c", "configs/vision/tagging_smoke.yaml", "--data.source", "pictures"], "holds no photos"),
        (["fit", "tagging", "-c", "configs/vision/tagging_smoke.yaml", "--data.source", "none/"], "does not exist"),
        (["fit", "qa", "-c", "configs/nlp/qa_smoke.yaml", "--data.source", "good.csv"], "expected question, context"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], said: str):
    result = run(*arguments, *(["--trainer.accelerator", "cpu"] if "--trainer.accelerator" not in arguments else []))
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1, result.output


def test_a_trial_run_of_one_batch_ends_without_a_bundle(tmp_path: Path):
    result = run(*INTENT, "--data.source", "good.csv", "--trainer.accelerator", "cpu", "--trainer.fast_dev_run", "true",
                 "--run_dir", "trial")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "trial" / "bundle").exists()


def test_a_run_without_a_logger_ends_in_a_bundle_and_goes_on_only_with_the_same_labels(tmp_path: Path):
    options = ["--trainer.accelerator", "cpu", "--run_dir", "run", "--trainer.logger", "false"]
    result = run(*INTENT, "--data.source", "good.csv", *options)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "bundle" / "config.json").is_file()
    (tmp_path / "other.csv").write_text(ROWS.replace("pay", "dance"))
    result = run(*INTENT, "--data.source", "other.csv", *options, "--ckpt_path", "last", "--trainer.max_epochs", "9")
    assert (result.exit_code, "trained with other labels" in result.output) == (2, True), result.output
    assert "gone: pay; new: dance" in result.output


@pytest.mark.slow
def test_a_full_disk_ends_in_one_line(tmp_path: Path):
    """Files may have no more than so many bytes: the same error as a full disk, where no disk has to be filled."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000));"
        "from scripts.main import main; main(sys.argv[1:])"
    )
    words = [*INTENT, "--data.source", str(tmp_path / "good.csv"), "--run_dir", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("percept: nothing more can be written: the disk is full, or over a quota.") == 1
    assert "Traceback" not in done.stderr
