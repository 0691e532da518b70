"""How soon a search finds what random search finds: `python -m benchmarks.tuning SNIPS.jsonl CLINC.jsonl PHOTOS/`.

Three small problems, five seeds each. Random search tries 12 settings to their last epoch. TPE with Hyperband goes on
until it is as good, or has trained as many epochs. What is told are the epochs that it took, as a share of random's.
The recipe itself is not among what may be tried. Each table has `text` and `label`; the photos are class folders.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from shared.project import PROJECT_ROOT
from shared.sources.tables import normalised
from shared.task import Task
from shared.training.cli import quiet
from shared.tuning.ground import ground_of
from shared.tuning.space import read_space
from shared.tuning.study import Search, Searching, best_of
from shared.tuning.trial import main as run_trial

TRIALS, SEEDS = 12, 5
EPOCHS = 9
BILSTM = """
model.head_lr: {low: 1.0e-4, high: 1.0e-1, log: true}
model.dropout: {low: 0.0, high: 0.6}
model.hidden_size: [8, 16, 48, 64]
model.label_smoothing: {low: 0.01, high: 0.4}
"""
TAGGER = """
model.lr: {low: 1.0e-5, high: 1.0e-1, log: true}
model.body_lr_factor: {low: 0.01, high: 1.0, log: true}
model.weight_decay: {low: 1.0e-4, high: 1.0, log: true}
model.label_smoothing: {low: 0.01, high: 0.4}
"""


class Here(Searching):
    """Trains in this process: starting one takes longer than these trials."""

    def in_process(self, folder: Path, lock: IO[bytes], deadline: float, jobs: int) -> int | None:
        """Run the trial of a folder and return its status."""
        return run_trial(folder)

    @property
    def epochs(self) -> int:
        """Trained so far."""
        return sum(each.user_attrs.get("epochs", 0) for each in self.study.get_trials(deepcopy=False))


def searched(task: Task, args: Sequence[str], space: str, seed: int, folder: Path) -> tuple[float, float | None]:
    """Return random search's best, and the share of its epochs after which TPE has it; None if it never had."""
    (folder / "space.yaml").write_text(space, encoding="utf-8")
    tried = read_space(folder / "space.yaml")
    ground = ground_of(task, args)
    by_chance = Here(Search(task, args, tried, "random", "none", seed=seed), ground, folder / "random")
    by_chance.run(trials=TRIALS, minutes=None)
    best = best_of(by_chance.study)
    assert best is not None
    assert best.value is not None
    by_tpe = Here(Search(task, args, tried, "tpe", "hyperband", seed=seed), ground, folder / "tpe")
    count = 0
    while by_tpe.epochs < by_chance.epochs:
        count += 1
        by_tpe.run(trials=count, minutes=None)
        found = best_of(by_tpe.study)
        if found is not None and (found.value or 0) >= best.value:
            return best.value, by_tpe.epochs / by_chance.epochs
    return best.value, None


def few(table: Path, labels: int, each: int, into: Path) -> Path:
    """Write so many rows of so many labels, drawn once and for all."""
    rows = [json.loads(line) for line in table.read_text("utf-8").splitlines()]
    of_label: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        of_label[row["label"]].setdefault(normalised(row["text"]), row["text"])
    rng = random.Random(0)
    chosen = rng.sample(sorted(of_label), labels)
    lines = [
        json.dumps({"text": text, "label": label})
        for label in chosen
        for text in rng.sample(sorted(of_label[label].values()), each)
    ]
    into.write_text("\n".join(lines), encoding="utf-8")
    return into


def main(snips: Path, clinc: Path, photos: Path) -> None:
    """Print the share of random search's epochs for each problem and seed, and the medians."""
    from nlp.intent import TASK as INTENT
    from vision.tagging import TASK as TAGGING

    with tempfile.TemporaryDirectory() as name, quiet():
        folder = Path(name)
        configs = PROJECT_ROOT / "configs"
        small = [f"--trainer.max_epochs={EPOCHS}", "--early_stopping.patience=99", "--data.test_share=0.05",
                 "--trainer.enable_progress_bar=false", "--data.val_share=0.45"]  # fmt: skip
        intents = ["-c", str(configs / "nlp" / "intent_smoke.yaml"), *small, "--data.batch_size=32"]
        tags = ["-c", str(configs / "vision" / "tagging_smoke.yaml"), *small]
        seven, twenty = few(snips, 7, 100, folder / "seven.jsonl"), few(clinc, 20, 40, folder / "twenty.jsonl")
        problems = {
            "seven intents, 100 utterances each": (INTENT, [*intents, f"--data.source={seven}"], BILSTM),
            "twenty intents, 40 utterances each": (INTENT, [*intents, f"--data.source={twenty}"], BILSTM),
            "photos": (TAGGING, [*tags, f"--data.source={photos}"], TAGGER),
        }  # fmt: skip
        for problem, (task, args, space) in problems.items():
            shares = []
            for seed in range(SEEDS):
                place = folder / f"{task.name}-{len(problem)}-{seed}"
                place.mkdir()
                best, share = searched(task, args, space, seed, place)
                shares.append(share if share is not None else 1.0)
                print(f"{problem}, seed {seed}: random's best {best:.4f}, TPE after {share}", flush=True)
            print(f"{problem}: median share of random's epochs {statistics.median(shares):.2f}", flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
