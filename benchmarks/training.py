"""Measures what Lightning costs, compared with a plain PyTorch loop with the same network and data.

`python -m benchmarks.training`: both train in one process, alternating, from the same loader. The overhead is the time
that only the trainer needs: its loops, our hooks, logging, and a new random generator for each step.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import CSVLogger
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks.training_subjects import SUBJECTS, Batch, Options, Subject

WARM_STEPS = 3
BF16_FLOPS = {
    "H100": 989e12,  # NVIDIA H100 SXM data sheet, dense
    "H200": 989e12,  # NVIDIA H200 SXM data sheet, dense
    "A100": 312e12,  # NVIDIA A100 data sheet, dense
}
"""Part of a GPU's name -> its peak operations per second in bf16."""


@dataclass(frozen=True)
class Speed:
    """The result of one round, with or without Lightning."""

    per_s: float
    waiting: float = 0.0
    """Share of the time spent waiting for the loader."""


class Clock(Callback):
    """Times the steps after the warm-up steps."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.start = self.end = 0.0
        self.samples = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if batch_idx == WARM_STEPS - 1:
            _wait(self.device)
            self.start = time.perf_counter()
        elif batch_idx >= WARM_STEPS:
            self.samples += size_of(batch)

    def on_train_end(self, *_: Any) -> None:
        _wait(self.device)
        self.end = time.perf_counter()


def with_lightning(subject: Subject, options: Options, folder: Path) -> tuple[Speed, torch.optim.Optimizer]:
    """Return how fast the module trains with a trainer set up as in `percept fit`, without validation."""
    clock = Clock(options.device)
    trainer = Trainer(
        accelerator="gpu" if options.device == "cuda" else "cpu",
        devices=1,
        precision=options.precision,
        max_epochs=1,
        limit_train_batches=options.steps,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=CSVLogger(folder, name=None, version=""),
        callbacks=[clock, LearningRateMonitor()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(subject.module, subject.data)
    return Speed(clock.samples / (clock.end - clock.start)), trainer.optimizers[0]


def bare(subject: Subject, options: Options, groups: list[dict[str, Any]]) -> Speed:
    """Return how fast a plain loop trains the same network with the same optimizer."""
    module = subject.module.to(options.device).train()
    optimizer = torch.optim.AdamW([dict(group) for group in groups])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    batches = iter(subject.data.train_dataloader())
    start = waited = 0.0
    samples = 0
    for step in range(options.steps):
        before = time.perf_counter()
        batch = _moved(next(batches), options.device)
        got = time.perf_counter()
        optimizer.zero_grad()
        with autocast(options):
            loss = subject.loss(batch)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step == WARM_STEPS - 1:
            _wait(options.device)
            start = time.perf_counter()
        elif step >= WARM_STEPS:
            samples += size_of(batch)
            waited += got - before
    _wait(options.device)
    took = time.perf_counter() - start
    module.zero_grad()
    return Speed(samples / took, waited / took)


def autocast(options: Options) -> contextlib.AbstractContextManager[Any]:
    """Return the context that Lightning uses for this precision."""
    if options.precision == "32-true":
        return contextlib.nullcontext()
    return torch.autocast(options.device, dtype=torch.bfloat16)


def share_of_peak(subject: Subject, options: Options, per_s: float) -> float | None:
    """Return the share of the GPU's bf16 peak used at this many samples per second; None without such a GPU."""
    if options.device != "cuda" or options.precision != "bf16-mixed":
        return None
    name = torch.cuda.get_device_name()
    peak = next((flops for part, flops in BF16_FLOPS.items() if part in name), None)
    if peak is None:
        return None
    batch = _moved(next(iter(subject.data.train_dataloader())), options.device)
    with FlopCounterMode(display=False) as counter, autocast(options):
        subject.loss(batch).backward()
    return counter.get_total_flops() / size_of(batch) * per_s / peak


def _moved(batch: Batch, device: str) -> Batch:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def size_of(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure(name: str, options: Options, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield both speeds of each round; the two take turns going first."""
    with tempfile.TemporaryDirectory(prefix="percept-bench-") as place:
        folder = Path(place) / "data"
        folder.mkdir()
        subject = SUBJECTS[name](folder, options)
        _, optimizer = with_lightning(subject, options, Path(place) / "log")  # warm up: compilation, caches
        assert isinstance(optimizer, torch.optim.AdamW)
        groups = [{**group, "lr": group["initial_lr"]} for group in optimizer.param_groups]
        for number in range(rounds):
            found: dict[str, Any] = {"task": name, "unit": subject.unit}
            for each in ("lightning", "bare") if number % 2 else ("bare", "lightning"):
                if each == "bare":
                    speed = bare(subject, options, groups)
                    found |= {"bare": speed.per_s, "waiting": speed.waiting}
                else:
                    found["lightning"] = with_lightning(subject, options, Path(place) / "log")[0].per_s
            found["share_of_peak"] = share_of_peak(subject, options, found["lightning"])
            yield found


@click.command()
@click.option("--task", "tasks", type=click.Choice(list(SUBJECTS)), multiple=True, default=list(SUBJECTS))
@click.option("--rounds", default=3, show_default=True)
@click.option("--steps", default=20, show_default=True, help="Steps per round; the first few are not counted.")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(["32-true", "bf16-mixed"]), default="32-true", show_default=True)
@click.option("--loader-workers", default=0, show_default=True, help="Processes that read and augment data.")
@click.option("--architecture", default="mobilenet_v3_small", show_default=True, help="Architecture of the tagger.")
@click.option("--image-size-px", default=128, show_default=True)
@click.option("--channels-last/--no-channels-last", default=True, show_default=True)
@click.option("--compile", "compile_network", is_flag=True, help="Use torch.compile for both.")
@click.option("--json", "as_json", is_flag=True)
def main(tasks: tuple[str, ...], rounds: int, device: str, loader_workers: int, as_json: bool, **values: Any) -> None:
    """Measure samples per second of Percept's Lightning modules and of a plain PyTorch loop, alternating."""
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    options = Options(device=chosen, workers=loader_workers, **values)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    found: list[dict[str, Any]] = []
    with tqdm(total=len(tasks) * rounds, desc="training", unit="round") as bar:
        for name in tasks:
            for row in measure(name, options, rounds):
                found.append(row)
                bar.update(1)
    place = torch.cuda.get_device_name() if chosen == "cuda" else f"{torch.get_num_threads()} CPU threads"
    click.echo(json.dumps(found) if as_json else f"{place}, {options.precision}, torch {torch.__version__}\n")
    for name in () if as_json else tasks:
        click.echo(line([row for row in found if row["task"] == name]))


def line(rows: list[dict[str, Any]]) -> str:
    """Return one readable line with the medians of one task's rounds."""
    overheads = [100 * (row["bare"] / row["lightning"] - 1) for row in rows]
    lightning, plain = (median(row[key] for row in rows) for key in ("lightning", "bare"))
    shares = [row["share_of_peak"] for row in rows if row["share_of_peak"] is not None]
    peak = f"; {median(shares):.1%} of the GPU's bf16 peak" if shares else ""
    return (
        f"{rows[0]['task']}: Lightning {lightning:,.0f} {rows[0]['unit']}/s, bare loop {plain:,.0f}, overhead "
        f"{median(overheads):.1f} % ({min(overheads):.1f} to {max(overheads):.1f}); "
        f"waiting for data {median(row['waiting'] for row in rows):.0%}{peak}"
    )


if __name__ == "__main__":
    main()
