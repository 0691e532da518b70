"""Measures how honest a tagger's scores are after training on few photos: on held-out photos, and on foreign ones.

`python -m benchmarks.small_sets PHOTOS` takes a folder with one folder per class. For each size it trains on five
classes, with the starter's weights, and judges photos of these classes that it has not seen, and photos of other
classes. It compares the temperature that ships with the one that fits as many photos best, however few they are.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import scipy.optimize
import scipy.special
from tqdm import tqdm

from shared.bundle.layout import TagDecision
from shared.bundle.read import read_bundle
from shared.project import PROJECT_ROOT
from shared.runtime.cpu import OnnxRuntime
from shared.training.metrics import calibration_error
from vision.images import open_photo
from vision.tagging.offline import find_photos
from vision.tagging.predictor import OUTPUT, TagPredictor

CLASSES = 5
LEAST_PHOTOS = 60
HELD_OUT = FOREIGN = 300
SURE = 0.9


def train(photos: dict[str, list[Path]], folder: Path) -> Path:
    """Return the bundle of a tagger for these photos."""
    for label, files in photos.items():
        (folder / "photos" / label).mkdir(parents=True)
        for file in files:
            (folder / "photos" / label / file.name).symlink_to(file)
    command = [sys.executable, "-m", "scripts.main", "fit", "tagging", "-c", "configs/vision/tagging.yaml",
               "--model.architecture=mobilenet_v2", "--model.weights=models/tagger", "--data.num_workers=0",
               f"--data.source={folder / 'photos'}", f"--run_dir={folder / 'run'}",
               "--trainer.enable_progress_bar=false"]  # fmt: skip
    subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True)
    return folder / "run" / "bundle"


def outputs_of(predictor: TagPredictor, files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, float32 [N, num_labels], and which photos are foreign to the model, bool [N]."""
    photos = (open_photo(file.read_bytes(), predictor.preprocessor.resize_px).pixels for file in files)
    outputs = [predictor.infer([predictor.preprocess(photo)])[0] for photo in photos]
    return np.stack([row[OUTPUT] for row in outputs]), np.array([predictor.is_foreign(row) for row in outputs])


def likeliest_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the temperature of the greatest likelihood between 0.05 and 20."""

    def loss(log_temperature: float) -> float:
        scores = scipy.special.log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scores[np.arange(len(targets)), targets].mean())

    found = scipy.optimize.minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))


def measure(root: Path, count: int, seed: int) -> dict[str, float]:
    """Return the calibration error and the share of foreign photos above `SURE`, with both temperatures."""
    rng = random.Random(seed)
    classes = {folder.name: list(find_photos([folder])) for folder in sorted(root.iterdir()) if folder.is_dir()}
    chosen = rng.sample([name for name, files in classes.items() if len(files) >= LEAST_PHOTOS], CLASSES)
    for files in classes.values():
        rng.shuffle(files)
    each = count // CLASSES
    own = {name: classes[name][:each] for name in chosen}
    with tempfile.TemporaryDirectory() as folder:
        bundle = read_bundle(train(own, Path(folder)))
        predictor = TagPredictor(bundle, OnnxRuntime(bundle, threads=2))
    assert isinstance(bundle.config.decision, TagDecision)
    unseen = [(file, name) for name in chosen for file in classes[name][each:]]
    rng.shuffle(unseen)
    foreign = [file for name, files in classes.items() if name not in chosen for file in files]
    rng.shuffle(foreign)
    # As many of the unseen photos as validated stand in for them: their own are inside the run.
    validated = max(CLASSES, round(0.1 * count))
    val, test = unseen[:validated], unseen[validated : validated + HELD_OUT]
    index = bundle.config.label2id
    val_logits, _ = outputs_of(predictor, [file for file, _ in val])
    test_logits, lost = outputs_of(predictor, [file for file, _ in test])
    targets = np.array([index[name] for _, name in test])
    foreign_logits, refused = outputs_of(predictor, foreign[:FOREIGN])
    likeliest = likeliest_temperature(val_logits, np.array([index[name] for _, name in val]))
    result = {"photos": each * CLASSES, "validated": validated, "held_out": len(test), "lost": float(lost.mean()),
              "accuracy": float((test_logits.argmax(axis=1) == targets).mean())}  # fmt: skip
    for name, temperature in (("likeliest", likeliest), ("shipped", bundle.config.decision.temperature)):
        scores = scipy.special.softmax(test_logits / temperature, axis=1)
        error = calibration_error(scores.max(axis=1), scores.argmax(axis=1) == targets)
        sure = scipy.special.softmax(foreign_logits / temperature, axis=1).max(axis=1) > SURE
        result |= {
            f"{name}_temperature": temperature,
            f"{name}_ece": float(error or 0),
            f"{name}_sure": float(sure.mean()),
            f"{name}_given": float((sure & ~refused).mean()),
        }
    return result


@click.command()
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--sizes", default="50,100,200,500", show_default=True)
@click.option("--seeds", default="1,2", show_default=True, help="Other classes and photos come of each.")
@click.option("--output", default=Path("runs/small_sets.json"), show_default=True, type=click.Path(path_type=Path))
def main(photos: Path, sizes: str, seeds: str, output: Path) -> None:
    """Print a line for each size: means over the seeds."""
    found = []
    output.parent.mkdir(parents=True, exist_ok=True)
    todo = [(int(size), seed) for size in sizes.split(",") for seed in map(int, seeds.split(","))]
    for size, seed in tqdm(todo, unit="training"):
        found.append({"size": size, "seed": seed, **measure(photos.resolve(), size, seed)})
        output.write_text(json.dumps(found, indent=1))
    print(
        "| photos | validate | accuracy | ECE, likeliest | ECE, shipped | foreign > 0.9, likeliest | shipped | "
        "and given | own lost |"
    )
    for size in dict.fromkeys(size for size, _ in todo):
        rows = [row for row in found if row["size"] == size]
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        names = ("accuracy", "likeliest_ece", "shipped_ece", "likeliest_sure", "shipped_sure", "shipped_given", "lost")
        cells = " | ".join(f"{means[name]:.3f}" for name in names)
        print(f"| {size} | {means['validated']:.0f} | {cells} |")


if __name__ == "__main__":
    main()
