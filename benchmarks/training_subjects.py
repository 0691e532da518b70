"""What the training benchmark trains: two Lightning modules on generated data, and their losses without Lightning."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor
from torch.nn import functional as F

from benchmarks.workloads import make_photo, make_text
from nlp.intent.data import IntentData
from nlp.intent.module import IntentModule
from nlp.text import ATTENTION_MASK, INPUT_IDS, TextEncoder
from shared.bundle.read import read_bundle
from shared.project import PROJECT_ROOT
from vision.tagging.data import TaggingData
from vision.tagging.module import TaggingModule

Precision = Literal["32-true", "bf16-mixed"]
Batch = dict[str, Tensor]
LABELS = 10
SMOOTHING = 0.1


@dataclass(frozen=True)
class Options:
    """Training options, for both loops."""

    device: str
    precision: Precision
    steps: int
    batch_size: int
    workers: int
    architecture: str
    image_size_px: int
    channels_last: bool
    compile_network: bool


@dataclass(frozen=True)
class Subject:
    """A module with its data, and its loss."""

    module: LightningModule
    data: LightningDataModule
    loss: Callable[[Batch], Tensor]
    """The loss of a batch on the device, without Lightning."""
    unit: str


def tagging(folder: Path, options: Options) -> Subject:
    """Return a tagger and generated photos of 0.1 megapixels, enough for the steps of an epoch."""
    for number in range(LABELS):
        (folder / f"label{number}").mkdir()
    photos = [make_photo(0.1, seed) for seed in range(LABELS)]
    for number in range(_examples(options)):
        extra = str(number).encode()  # after the end of the JPEG's image data, so that no two files are equal
        (folder / f"label{number % LABELS}" / f"{number}.jpg").write_bytes(photos[number % LABELS] + extra)
    data = TaggingData(
        str(folder),
        image_size_px=options.image_size_px,
        batch_size=options.batch_size,
        num_workers=options.workers,
        augment="crop",
        cache_dir=str(folder.parent / "cache"),
    )
    data.setup()
    module = TaggingModule(
        labels=data.labels,
        problem_type=data.problem_type,
        architecture=options.architecture,
        weights="none",
        head_epochs=0,
        channels_last=options.channels_last,
        compile_network=options.compile_network,
    )
    network = module.network

    def loss(batch: Batch) -> Tensor:
        pixels = batch["pixel_values"]
        if options.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        return F.cross_entropy(network(pixels).float(), batch["targets"])

    return Subject(module, data, loss, "images")


def intent(folder: Path, options: Options) -> Subject:
    """Return the starter's encoder with random weights, and generated sentences of 12 tokens."""
    bundle = read_bundle(PROJECT_ROOT / "models" / "intent")
    config = json.loads((bundle.path / "config.json").read_text(encoding="utf-8"))["encoder_config"]
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((bundle.path / name).read_bytes())
    encoder = TextEncoder.from_bundle(bundle)
    table = folder / "utterances.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        texts = dict.fromkeys(make_text(encoder, 12, seed) for seed in range(_examples(options)))
        rows.writerows((text, f"label{number % LABELS}") for number, text in enumerate(texts))
    data = IntentData(
        str(table), encoder=str(folder), batch_size=options.batch_size, cache_dir=str(folder.parent / "cache")
    )
    data.setup()
    module = IntentModule(
        labels=data.labels,
        encoder=str(folder),
        weights="none",
        out_of_scope="none",
        label_smoothing=SMOOTHING,
    )
    if options.compile_network:
        module.network.compile()

    def loss(batch: Batch) -> Tensor:
        logits, _ = module.network(batch[INPUT_IDS], batch[ATTENTION_MASK])
        return F.cross_entropy(logits.float(), batch["target"], label_smoothing=SMOOTHING)

    return Subject(module, data, loss, "sentences")


SUBJECTS = {"tagging": tagging, "intent": intent}


def _examples(options: Options) -> int:
    """Return how many examples fill the steps, plus those held back for validation and testing."""
    return int((options.steps + 1) * options.batch_size / 0.75)
