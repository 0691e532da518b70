"""The whole training trip on drawn photos: from class folders to a bundle that answers."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer

from shared.bundle.read import Bundle, read_bundle
from shared.errors import ConfigError
from shared.runtime.choose import choose_runtime
from shared.runtime.cuda import TorchRuntime
from shared.runtime.golden import check_golden
from shared.task import resolve
from shared.training.cli import fit_main
from shared.training.packing import evaluate
from shared.training.plots import curve_tables
from tests.photos import class_folders, photo
from vision.tagging import TASK
from vision.tagging.data import TaggingData
from vision.tagging.predictor import TagPredictor

SMOKE = Path(__file__).parents[3] / "configs" / "vision" / "tagging_smoke.yaml"
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def fit(run_dir: Path, *more: str) -> Bundle:
    bundle = fit_main(TASK, ["-c", str(SMOKE), "--run_dir", str(run_dir), *more])
    assert bundle is not None
    return bundle


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["state_dict"]
    return found


def test_photos_become_a_bundle_that_tags_them(tmp_path):
    folder = class_folders(tmp_path / "photos", count=40)
    options = ["--data.source", str(folder), "--trainer.max_epochs=8", "--data.augment=none", "--model.lr=0.003",
               "--model.architecture=resnet18", "--model.body_lr_factor=1", "--early_stopping.patience=20",
               "--int8=true", "--ema.decay=0.8"]  # fmt: skip
    bundle = fit(tmp_path / "run", *options)
    assert bundle.labels == ["blue", "green", "red"]
    assert bundle.config.metrics["test"]["sources"]["photos"]["top1"] >= 0.9
    assert bundle.config.onnx is not None
    assert bundle.config.onnx.int8_gate is not None
    assert {"learning_curves.png", "per_label.png", "reliability.png"} <= set(bundle.config.files)
    assert (tmp_path / "run" / "report" / "most_wrong.png").is_file()
    again = read_bundle(tmp_path / "run" / "bundle")
    runtime = choose_runtime(again, "cpu")
    data = TaggingData(str(folder))
    measured = evaluate(TASK, again, runtime, data, "test").metrics["overall"]
    assert measured == pytest.approx(again.config.metrics["test"]["overall"], abs=1e-4)  # of the file that ships
    predictor = TagPredictor(again, runtime)
    given = [[tag.label for tag in tags] for tags in predictor.predict([photo("red", 777 + i) for i in range(10)])]
    assert all(tags in (["red"], []) for tags in given)  # one of twenty own photos counts as foreign, by the default
    assert given.count(["red"]) >= 7


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """(photos, run folder) of four epochs without a break."""
    root = tmp_path_factory.mktemp("fit")
    folder = class_folders(root / "photos", count=10)
    fit(root / "run", "--data.source", str(folder), "--trainer.max_epochs=4", "--data.cache_dir", str(root / "cache"))
    return folder, root / "run"


def test_torch_onnx_and_golden_outputs_agree(trained: tuple[Path, Path]):
    bundle = read_bundle(trained[1] / "bundle")
    onnx = choose_runtime(bundle, "cpu")
    check_golden(bundle, onnx)
    runtime = TorchRuntime(bundle, resolve(TASK.network), device="cpu")
    check_golden(bundle, runtime)
    pixels = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    left, right = onnx.run({"pixel_values": pixels})["logits"], runtime.run({"pixel_values": pixels})["logits"]
    # fp32 sums in another order: 1e-4 of the largest logit is ten times what was seen.
    np.testing.assert_allclose(left, right, atol=1e-4 * max(1.0, float(np.abs(right).max())))


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(trained: tuple[Path, Path], tmp_path):
    folder, uninterrupted = trained
    common = ["--data.source", str(folder), "--trainer.max_epochs=4"]

    first = tmp_path / "run"
    with pytest.raises(SystemExit):  # Lightning ends an interrupted run so
        fit(
            first,
            *common,
            "--trainer.callbacks+=tests.vision.tagging.test_fit.StopAfter",
            "--trainer.callbacks.epoch=1",
        )
    fit(first, *common, "--ckpt_path=last")
    left, right = (weights(run / "checkpoints" / "last.ckpt") for run in (first, uninterrupted))
    assert set(left) == set(right)
    for name, value in right.items():
        assert torch.equal(left[name], value), name
    epochs = {row["epoch"] for table in curve_tables(first) for row in csv.DictReader(table.read_text().splitlines())}
    assert {"0", "1", "2", "3"} <= epochs  # the curves of the first part are kept


def test_the_same_seed_gives_the_same_weights(trained: tuple[Path, Path], tmp_path):
    fit(tmp_path / "run", "--data.source", str(trained[0]), "--trainer.max_epochs=4")
    left, right = (weights(run / "checkpoints" / "last.ckpt") for run in (tmp_path / "run", trained[1]))
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_the_run_keeps_curves_that_a_person_can_read(trained: tuple[Path, Path]):
    with (trained[1] / "metrics.csv").open() as file:
        columns = set(next(csv.reader(file)))
    assert {"epoch", "step", "train/loss", "val/loss", "val/quality", "val/ece", "val/top1"} <= columns
    json.loads((trained[1] / "report" / "metrics.json").read_text())


def test_a_bundle_starts_the_next_fine_tuning(trained: tuple[Path, Path], tmp_path):
    folder = class_folders(tmp_path / "others", ["red", "grey"], count=10)
    start = str(trained[1] / "bundle")
    bundle = fit(tmp_path / "run", "--data.source", str(folder), "--model.weights", start, "--trainer.max_epochs=1")
    assert bundle.labels == ["grey", "red"]


def test_several_labels_a_photo_train_to_a_bundle(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = []
    for number in range(24):
        names = [["red"], ["blue"], ["red", "blue"]][number % 3]
        both = Image.blend(photo(names[0], number).resize((40, 40)), photo(names[-1], number).resize((40, 40)), 0.5)
        both.save(folder / f"{number}.png")
        rows.append(json.dumps({"file_name": f"{number}.png", "labels": names}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    (tmp_path / "taxonomy.yaml").write_text("red: [colour]\nblue: [colour]\n")
    bundle = fit(tmp_path / "run", "--data.source", str(folder), "--data.taxonomy", str(tmp_path / "taxonomy.yaml"))
    assert bundle.config.problem_type == "multi_label_classification"
    assert bundle.config.label_parents == {"blue": ["colour"], "red": ["colour"]}


def test_the_learning_rate_finder_runs(tmp_path):
    folder = class_folders(tmp_path / "photos", count=10)
    fit(tmp_path / "run", "--data.source", str(folder), "--trainer.max_epochs=1",
        "--trainer.callbacks+=pytorch_lightning.callbacks.LearningRateFinder",
        "--trainer.callbacks.num_training_steps=4")  # fmt: skip


def test_two_processes_train_one_model(tmp_path):
    folder = class_folders(tmp_path / "photos", count=16)
    command = [
        *(sys.executable, "-W", "ignore", "-m", "scripts.main", "fit", "tagging", "-c", str(SMOKE)),
        *(
            "--data.source",
            str(folder),
            "--run_dir",
            str(tmp_path / "run"),
            "--data.cache_dir",
            str(tmp_path / "cache"),
        ),
        *("--trainer.accelerator=cpu", "--trainer.devices=2", "--model.head_epochs=1", "--model.frozen_stages=2"),
    ]
    root = SMOKE.parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert read_bundle(tmp_path / "run" / "bundle").labels == ["blue", "green", "red"]


def test_a_missing_source_is_refused_in_one_line(tmp_path):
    with pytest.raises((ConfigError, SystemExit)):
        fit_main(TASK, ["-c", str(SMOKE), "--run_dir", str(tmp_path / "run")])


class StopAfter(Callback):
    """Interrupts a run when an epoch is over, as a person would; the schedule still spans all epochs."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch > self.epoch:
            raise KeyboardInterrupt
