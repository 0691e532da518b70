"""What the monitor's alarms see, and how often they are false.

    python -m benchmarks.drift intents CLINC150 ENCODER FOLDER            # as configs/nlp/intent_starter.yaml expects
    python -m benchmarks.drift photos CALTECH101 SCENES WEIGHTS FOLDER    # class folders; other photos; start weights

A quarter of the labels is withheld, and a bundle of the others is trained into FOLDER, if there is none yet. Its
validation data become its reference. Windows of 500 are drawn from inputs that it never saw: as they are; with another
mix of labels, which is harmless; with 3 % that are foreign (CLINC150's out-of-scope utterances; photos of scenes); and
with 9 % of the labels that were withheld, which are near to known ones. What the bundle says of each input is computed
once, and kept in FOLDER. All is compared with the validation data, and, as by --against-hours, with one half of the
inputs that were never seen, while windows are drawn from the other. Each line says in which share of the windows an
alarm was raised.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shared.bundle.read import Bundle, read_bundle
from shared.bundle.reference import read_reference
from shared.monitoring.report import alarms_of
from shared.monitoring.windows import Window, of_reference, plain
from shared.project import PROJECT_ROOT
from shared.runtime.choose import choose_runtime

RECORDS = 500
WINDOWS = 500
WITHHELD = 0.25
"""Share of the labels."""
FOREIGN, NEAR = 0.03, 0.09
MIX = 1.0
"""Standard deviation of the logarithm of each label's weight in another mix: one label in six becomes 2.7 times as
frequent beside the middle one, and one in six 2.7 times as rare."""


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Pool:
    """What a bundle says of inputs of one kind."""

    confidence: np.ndarray
    without: np.ndarray
    score: np.ndarray
    """Out-of-scope scores; nan where there are none."""
    features: np.ndarray
    label: np.ndarray
    """int: the true one; -1 of what has none."""

    def drawn(self, rows: np.ndarray) -> Pool:
        return Pool(*(getattr(self, field.name)[rows] for field in fields(self)))


def main(kind: str, *places: str) -> None:
    """Print a line for each kind of window."""
    bundle, pools = {"intents": of_intents, "photos": of_photos}[kind](*map(Path, places))
    reference = read_reference(bundle)
    assert reference is not None
    order = np.random.default_rng(0).permutation(len(pools["usual"].label))
    earlier, later = (pools["usual"].drawn(half) for half in np.array_split(order, 2))
    for against, before, usual in (
        ("validation data", of_reference(bundle, reference), pools["usual"]),
        ("earlier records", window_of(earlier), later),
    ):
        for name, draw in draws({**pools, "usual": usual}).items():
            raised: dict[str, int] = defaultdict(int)
            for seed in range(WINDOWS):
                found, _ = alarms_of(window_of(draw(np.random.default_rng(seed))), before)
                for alarm in found:
                    raised[alarm.stat] += alarm.is_raised
                raised["any"] += any(alarm.is_raised for alarm in found)
            shares = ", ".join(f"{stat} {count / WINDOWS:.3f}" for stat, count in raised.items())
            print(f"{kind} beside {before.rows} {against}, {name}: {shares}", flush=True)


def draws(pools: dict[str, Pool]) -> dict[str, Callable[[np.random.Generator], Pool]]:
    """Return name -> what draws a window of that kind."""
    usual = pools["usual"]

    def plain_mix(rng: np.random.Generator, count: int = RECORDS) -> Pool:
        return usual.drawn(rng.integers(len(usual.label), size=count))

    def other_mix(rng: np.random.Generator) -> Pool:
        weights = np.exp(MIX * rng.standard_normal(usual.label.max() + 2))[usual.label]
        weights[usual.label < 0] = weights[usual.label >= 0].mean()  # what belongs to none stays as frequent
        return usual.drawn(rng.choice(len(weights), RECORDS, p=weights / weights.sum()))

    def with_others(name: str, share: float) -> Callable[[np.random.Generator], Pool]:
        def draw(rng: np.random.Generator) -> Pool:
            count = int(rng.binomial(RECORDS, share))
            others = pools[name].drawn(rng.integers(len(pools[name].label), size=count))
            return joined([plain_mix(rng, RECORDS - count), others])

        return draw

    return {
        "as usual": plain_mix,
        "another mix of labels": other_mix,
        f"{FOREIGN:.0%} foreign": with_others("foreign", FOREIGN),
        f"{NEAR:.0%} of withheld labels": with_others("near", NEAR),
    }


def joined(pools: Sequence[Pool]) -> Pool:
    return Pool(*(np.concatenate([getattr(pool, field.name) for pool in pools]) for field in fields(Pool)))


def window_of(pool: Pool) -> Window:
    count = len(pool.label)
    scores = None if np.isnan(pool.score).any() else plain(pool.score)
    return Window(
        "the window",
        count,
        plain(pool.confidence),
        plain(pool.without),
        None,
        count,
        pool.features,
        out_of_scope=scores,
    )


def cached(file: Path, make: Callable[[], Pool]) -> Pool:
    if not file.is_file():
        pool = make()
        np.savez_compressed(file, **{field.name: getattr(pool, field.name) for field in fields(pool)})
    with np.load(file) as arrays:
        return Pool(**arrays)


def of_intents(data: Path, encoder: Path, folder: Path) -> tuple[Bundle, dict[str, Pool]]:
    """Return a bundle of three quarters of the intents, and what it says of utterances that it never saw."""
    from nlp.intent.predictor import FEATURES, IntentPredictor

    tables = {name: _lines(data / f"{name}.jsonl") for name in ("train", "val", "oos_train", "oos_val")}
    labels = sorted({row["label"] for row in tables["train"]})
    hidden = withheld(labels)
    rng = random.Random(1)
    of_label: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in tables["train"]:
        of_label[row["label"]].append(row)
    train, val = [], []
    for label in labels:
        if label not in hidden:
            rng.shuffle(of_label[label])
            val += of_label[label][:20]
            train += of_label[label][20:]
    rng.shuffle(tables["oos_train"])
    parts = {"tr": train, "otr": tables["oos_train"][20:], "va": val, "ova": tables["oos_train"][:20]}
    if not (folder / "runs" / "intent" / "bundle").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in parts.items():
            (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        source = [
            {"path": str(folder / f"{name}.jsonl"), "name": name, "split": "train" if "tr" in name else "val",
             "out_of_scope": name.startswith("o")}
            for name in parts
        ]  # fmt: skip
        _fit("intent", PROJECT_ROOT / "configs" / "nlp" / "intent_starter.yaml", f"--data.source={json.dumps(source)}",
             f"--model.encoder={encoder}", f"--run_dir={folder / 'runs' / 'intent'}", "--name=drift-intent",
             "--model.consistency_weight=0", "--trainer.max_epochs=4", "--trainer.precision=32-true",
             "--ema.decay=0.99", "--ema.update_every_n_steps=1")  # fmt: skip
    bundle = read_bundle(folder / "runs" / "intent" / "bundle")
    code_of = {label: code for code, label in enumerate(labels)}

    def answers(rows: Sequence[dict[str, str]]) -> Pool:
        predictor = IntentPredictor(bundle, choose_runtime(bundle))
        found = []
        for batch in _batches(rows, 32):
            encodings = [predictor.encoder.encode(row["text"]) for row in batch]
            for row, encoding, outputs in zip(batch, encodings, predictor.infer(encodings), strict=True):
                result = predictor.decide(outputs, encoding, top_k=1)
                found.append((result.confidence, result.out_of_scope, result.out_of_scope_score, outputs[FEATURES],
                              code_of.get(row["label"], -1)))  # fmt: skip
        return _pool(found)

    every, others = tables["oos_val"][:20], tables["oos_val"][20:]
    return bundle, {
        "usual": cached(folder / "usual.npz", lambda: answers(
            [row for row in tables["val"] if row["label"] not in hidden] + every)),
        "foreign": cached(folder / "foreign.npz", lambda: answers(others)),
        "near": cached(folder / "near.npz", lambda: answers([row for row in tables["val"] if row["label"] in hidden])),
    }  # fmt: skip


def of_photos(data: Path, scenes: Path, weights: Path, folder: Path) -> tuple[Bundle, dict[str, Pool]]:
    """Return a bundle of three quarters of the classes, and what it says of photos that it never saw."""
    from vision.tagging.predictor import FEATURES, OUTPUT, TagPredictor

    labels = sorted(place.name for place in data.iterdir() if place.is_dir())
    hidden, rng = withheld(labels), random.Random(1)
    left: list[tuple[Path, str]] = []
    for label in labels:
        files = sorted(file for file in (data / label).iterdir() if file.is_file())
        if label in hidden:
            continue
        rng.shuffle(files)
        first, second = round(0.4 * len(files)), round(0.7 * len(files))
        for split, some in (("train", files[:first]), ("val", files[first:second])):
            place = folder / "photos" / split / label
            place.mkdir(parents=True, exist_ok=True)
            for file in some:
                if not (place / file.name).exists():
                    (place / file.name).symlink_to(file.resolve())
        left += [(file, label) for file in files[second:]]
    if not (folder / "runs" / "photos" / "bundle").is_dir():
        _fit("tagging", PROJECT_ROOT / "configs" / "vision" / "tagging.yaml", f"--data.source={folder / 'photos'}",
             "--data.test_share=0", "--int8=false", "--data.image_size_px=128", "--model.architecture=mobilenet_v2",
             "--model.method=logistic_regression", f"--model.weights={weights}", "--data.num_workers=0",
             f"--run_dir={folder / 'runs' / 'photos'}")  # fmt: skip
    bundle = read_bundle(folder / "runs" / "photos" / "bundle")
    code_of = {label: code for code, label in enumerate(labels)}

    def answers(files: Sequence[tuple[Path, str | None]]) -> Pool:
        predictor = TagPredictor(bundle, choose_runtime(bundle))
        found = []
        for batch in _batches(files, 16):
            pixels = [predictor.preprocess(Image.open(file).convert("RGB")) for file, _ in batch]
            for (_, label), outputs in zip(batch, predictor.infer(pixels), strict=True):
                scores = predictor.scores(outputs[OUTPUT])
                found.append((scores.max(), not predictor.given(outputs, scores).any(), np.nan, outputs[FEATURES],
                              -1 if label is None else code_of[label]))  # fmt: skip
        return _pool(found)

    near = [(file, label) for label in sorted(hidden) for file in sorted((data / label).iterdir()) if file.is_file()]
    foreign = [(file, None) for file in sorted(scenes.rglob("*")) if file.suffix.lower() in (".jpg", ".jpeg", ".png")]
    return bundle, {
        "usual": cached(folder / "photos-usual.npz", lambda: answers(left)),
        "foreign": cached(folder / "photos-foreign.npz", lambda: answers(random.Random(2).sample(foreign, 400))),
        "near": cached(folder / "photos-near.npz", lambda: answers(random.Random(2).sample(near, 400))),
    }


def withheld(labels: Sequence[str]) -> set[str]:
    return set(random.Random(0).sample(labels, round(WITHHELD * len(labels) + 0.1)))


def _pool(found: Sequence[tuple[Any, ...]]) -> Pool:
    confidence, without, score, features, label = zip(*found, strict=True)
    return Pool(np.array(confidence), np.array(without, dtype=float), np.array(score, dtype=float),
                np.stack(features).astype(np.float16), np.array(label))  # fmt: skip


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _lines(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def _fit(task: str, recipe: Path, *options: str) -> None:
    command = [sys.executable, "-m", "scripts.main", "fit", task, "-c", str(recipe), *options]
    subprocess.run([*command, "--trainer.accelerator=cpu"], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
