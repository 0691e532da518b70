"""What one trip around the loop is worth: `python -m benchmarks.loop CLINC150/ --encoder FOLDER`.

CLINC150 with ten of its intents withheld. A first model learns the other 140. Then all 150 are asked: the monitor looks
at the records, 200 utterances are reviewed in the order of the queue by somebody who knows the truth, and `percept
improve` makes the next model. Told is how many validation utterances get their intent: by the first model, by the next
one, and by one that has learned all training utterances of the ten intents as well.

Each model is a softmax regression on what a frozen encoder says (model.method logistic_regression), so that a draw
takes minutes on one core. CLINC150/ has train.jsonl, val.jsonl, oos_train.jsonl and oos_val.jsonl, each with `text` and
`label`.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from nlp.intent.predictor import FEATURES, IntentPredictor
from scripts.main import main as percept
from scripts.tasks import find_task
from shared.bundle.read import Bundle, read_bundle
from shared.dataset.columns import kinds_of, to_table
from shared.dataset.layout import LICENCE, PLACE, SHA256, SOURCE, TIME
from shared.dataset.write import write_dataset
from shared.intervals import wilson
from shared.records.queue import queue
from shared.records.record import Record
from shared.records.reviewing import Review, keep_reviews
from shared.records.store import Store
from shared.runtime.choose import choose_runtime
from shared.training.cli import fit_main

NAME, REVIEWER = "clinc150", "oracle"
WITHHELD = 10
TRAIN, VAL, TRAFFIC = 25, 5, 10
"""Utterances of each known intent that the first model trains on and validates on, and in the traffic."""
NEW_TRAFFIC = 40
"""Of each withheld intent."""
TEST, MEASURED = 5, 10
"""Of the validation utterances of each known intent: in the dataset's test part, and in what is measured here; of the
withheld intents, all 20 are measured."""
KINDS = ("known", "withheld")
_BATCH = 64
Row = dict[str, Any]


def read(file: Path) -> list[Row]:
    """Return the rows of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write(folder: Path, parts: dict[str, list[Row]]) -> None:
    """Write a dataset with those splits."""
    told = {SOURCE: "clinc150", PLACE: "", TIME: "", LICENCE: "CC BY 3.0", SHA256: ""}
    full = {split: [{**row, **told} for row in rows] for split, rows in parts.items()}
    columns = kinds_of(row for rows in full.values() for row in rows)
    tables = ((split, to_table(rows, columns)) for split, rows in full.items())
    write_dataset(folder, tables, name="clinc150", columns=columns, history=[{"step": "collect"}])


def fit(folder: Path, data: Path, encoder: str) -> Bundle:
    """Return the bundle that is learned from a dataset."""
    args = [f"--data.source={data}", "--name", NAME, "--run_dir", str(folder), "--model.encoder", encoder,
            "--model.method", "logistic_regression"]  # fmt: skip
    found = fit_main(find_task("intent"), args)
    assert found is not None
    return found


def record(bundle: Bundle, store: Store, rows: Sequence[Row]) -> None:
    """Answer the traffic and keep it, as a service does at the level `inputs`."""
    predictor = IntentPredictor(bundle, choose_runtime(bundle, "cpu"))
    now = time.time() - len(rows) / 100
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        encodings = [predictor.encoder.encode(row["text"]) for row in some]
        kept = []
        for place, (row, outputs, encoding) in enumerate(zip(some, predictor.infer(encodings), encodings, strict=True)):
            result = predictor.decide(outputs, encoding)
            number = start + place
            given = [] if result.intent is None else [result.intent]
            kept.append(
                Record(
                    f"r{number}", 0, now + number / 100, "", "intent", NAME, bundle.config.version,
                    "in_scope" if given else "out_of_scope", given, [result.confidence] * len(given), result.confidence,
                    result.out_of_scope_score, 1.0, consent=True, characters=len(row["text"]), text=row["text"],
                    features=outputs[FEATURES],
                ).row()
            )  # fmt: skip
        store.write(kept)


def right(bundle: Bundle, rows: Sequence[Row], withheld: set[str]) -> dict[str, tuple[int, int]]:
    """Return (right, asked) of the known and of the withheld intents, by the bundle's own rule."""
    predictor = IntentPredictor(bundle, choose_runtime(bundle, "cpu"))
    counts: Counter[tuple[str, bool]] = Counter()
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        for row, result in zip(some, predictor.predict([row["text"] for row in some]), strict=True):
            counts["withheld" if row["label"] in withheld else "known", result.intent == row["label"]] += 1
    return {kind: (counts[kind, True], counts[kind, True] + counts[kind, False]) for kind in KINDS}


def run(*args: str | Path, ok: Sequence[int] = (0,)) -> str:
    """Run a command of Percept here, and return what it prints."""
    done = CliRunner().invoke(percept, list(map(str, args)), catch_exceptions=False)
    if done.exit_code not in ok:
        raise SystemExit(f"percept {args[0]} ended with {done.exit_code}: {done.output[-3000:]}")
    return done.stdout


def draw(clinc: Path, encoder: str, seed: int, reviews: int, folder: Path) -> dict[str, Any]:
    """Play one draw and return its figures."""
    rng = random.Random(seed)
    by_intent: dict[str, list[Row]] = defaultdict(list)
    for row in read(clinc / "train.jsonl"):
        by_intent[row["label"]].append(row)
    withheld = set(rng.sample(sorted(by_intent), WITHHELD))
    parts: dict[str, list[Row]] = {"train": [], "val": [], "test": []}
    traffic: list[Row] = []
    rest: list[Row] = []
    for intent, of_it in sorted(by_intent.items()):
        asked = rng.sample(of_it, len(of_it))
        if intent in withheld:
            traffic += asked[:NEW_TRAFFIC]
            rest += asked
            continue
        parts["train"] += asked[:TRAIN]
        parts["val"] += asked[TRAIN : TRAIN + VAL]
        traffic += asked[TRAIN + VAL : TRAIN + VAL + TRAFFIC]
    foreign = [{"text": row["text"], "label": "oos"} for row in read(clinc / "oos_val.jsonl")]
    parts["train"] += foreign[:60]
    parts["val"] += foreign[60:]
    later: dict[str, list[Row]] = defaultdict(list)
    for row in read(clinc / "val.jsonl"):
        later[row["label"]].append(row)
    asked_later: list[Row] = []
    for intent, of_it in sorted(later.items()):
        if intent in withheld:
            asked_later += of_it
        else:
            parts["test"] += of_it[:TEST]
            asked_later += of_it[TEST : TEST + MEASURED]
    traffic += [{"text": row["text"], "label": "oos"} for row in read(clinc / "oos_train.jsonl")[:50]]
    rng.shuffle(traffic)
    write(folder / "data", parts)
    first = fit(folder / "first", folder / "data", encoder)
    url = f"sqlite:///{folder / 'records.sqlite'}"
    store = Store(url)
    record(first, store, traffic)
    found = json.loads(run("monitor", first.path, "--records", url, "--json", ok=(0, 1)))
    truth = {row["text"]: row["label"] for row in traffic}
    items = []
    while len(items) < reviews:
        offered = queue(store, NAME, REVIEWER, limit=min(100, reviews - len(items))).items
        if not offered:
            break
        said = [
            Review(item.record["id"], [] if truth[item.record["text"]] == "oos" else [truth[item.record["text"]]], None,
                   None, item.reason) for item in offered
        ]  # fmt: skip
        keep_reviews(store, NAME, REVIEWER, said)
        items += offered
    store.close()
    made = json.loads(run("improve", "intent", folder / "better", "--records", url, "--data", folder / "data", "--over",
                          first.path, "--json", ok=(0, 1)))  # fmt: skip
    better = read_bundle(folder / "better" / "bundle")
    write(folder / "everything", {**parts, "train": parts["train"] + rest})
    ceiling = fit(folder / "ceiling", folder / "everything", encoder)
    return {
        "seed": seed,
        "withheld": sorted(withheld),
        "traffic": len(traffic),
        "state": found["state"],
        "groups": [(group["name"], group["size"]) for group in found["groups"]],
        "reviewed": Counter(item.reason for item in items),
        "reviewed_new": sum(truth[item.record["text"]] in withheld for item in items),
        "new_labels": made["new_labels"],
        "too_few": made["too_few"],
        "added": made["added"],
        "test": made["compared"]["test"]["verdict"],
        "recent": made["compared"].get("recent", {}).get("verdict"),
        "first": right(first, asked_later, withheld),
        "better": right(better, asked_later, withheld),
        "ceiling": right(ceiling, asked_later, withheld),
    }


@click.command()
@click.argument("clinc", type=click.Path(path_type=Path, exists=True))
@click.option("--encoder", default="sentence-transformers/all-MiniLM-L6-v2", show_default=True)
@click.option("--draws", default=3, show_default=True)
@click.option("--reviews", default=200, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="JSON file for the result.")
def main(clinc: Path, encoder: str, draws: int, reviews: int, output: Path | None) -> None:
    """Play the loop on CLINC150 with withheld intents."""
    rows = []
    for seed in range(draws):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(draw(clinc, encoder, seed, reviews, Path(folder)))
        click.echo(json.dumps(rows[-1]))
        if output is not None:
            output.write_text(json.dumps(rows, indent=2) + "\n")
    click.echo("\n| intents | before | after one loop | with all their utterances |\n|---|---:|---:|---:|")
    for kind in KINDS:
        cells = []
        for model in ("first", "better", "ceiling"):
            hits, asked = (sum(row[model][kind][i] for row in rows) for i in (0, 1))
            low, high = wilson(hits / asked, asked)
            each = ", ".join(f"{row[model][kind][0] / row[model][kind][1]:.3f}" for row in rows)
            cells.append(f"{hits / asked:.3f} ({float(low):.3f} to {float(high):.3f}; {each})")
        click.echo(f"| {kind} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
