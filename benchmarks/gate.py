"""Measures what the gate of `percept promote` lets through: candidates as good as the live bundle, and worse ones.

`python -m benchmarks.gate` draws answers of pairs of bundles whose true difference is known, asks the whole gate (all
examples, each label with 200 or more, calibration), and counts its verdicts. Both are calibrated, and right in nine of
ten answers; where they differ is drawn, more often where they are less sure.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from shared.improving.gate import PASSES, REFUSED, UNDECIDED, judge_gate
from shared.training.outcomes import Outcomes
from shared.tuning.comparing import Entry

COUNTS = (300, 1000, 2000, 3000, 5000, 10_000)


def drawn(
    count: int, differ: float, loss: float, labels: int, seed: int, *, of_label: float = 0.0, too_sure: float = 0.0
) -> tuple[Entry, Entry]:
    """Return a live bundle and a candidate with their answers.

    Args:
        count: examples.
        differ: true share of the examples that just one of them answers right.
        loss: how much worse the candidate truly is.
        labels: equally many examples have each.
        seed: of what is drawn.
        of_label: how much worse the candidate is on the first label besides.
        too_sure: what the candidate's confidences are higher by.
    """
    rng = np.random.default_rng(seed)
    sure = rng.beta(9, 1, size=count)
    right = rng.random(count) < sure
    # Flips in proportion to what they make of a calibrated bundle: another calibrated one, where nothing is lost.
    lost, won = (differ + loss) / 2, (differ - loss) / 2
    either = 9 / 110  # mean of sure * (1 - sure), of Beta(9, 1)
    chance = np.where(right, (1 - sure) * lost, sure * won) / either
    now = right ^ (rng.random(count) < chance)
    is_first = np.arange(count) % labels == 0
    now &= ~is_first | (rng.random(count) >= of_label / 0.9)
    also_sure = np.clip(sure + rng.normal(0, 0.02, size=count) + too_sure, 0.001, 0.999)
    examples, names = [object() for _ in range(count)], [f"label {i % labels}" for i in range(count)]
    entries = []
    for name, values, confidences in (("live", right, sure), ("candidate", now, also_sure)):
        outcomes = Outcomes("right answers", "", examples, values.astype(float), ["x"] * count, confidences, names,
                            [1] * count, "words")  # fmt: skip
        entries.append(Entry(name, outcomes, 1.0, 1.0))
    return entries[0], entries[1]


def verdicts(count: int, differ: float, loss: float, of_label: float, labels: int, runs: int) -> Counter[str]:
    """Return how often the gate says what; arguments as above."""
    found: Counter[str] = Counter()
    for seed in tqdm(range(runs), desc=f"{count:,}, {differ:.0%}, {loss:.1%}", leave=False):
        live, candidate = drawn(count, differ, loss, labels, seed, of_label=of_label)
        found[judge_gate(candidate, live)["verdict"]] += 1
    return found


@click.command()
@click.option("--runs", default=200, show_default=True, help="Pairs of bundles for each line.")
@click.option("--labels", default=15, show_default=True, help="Labels that the examples are of.")
@click.option("--examples", "counts", multiple=True, type=int, default=COUNTS, help="Held-out examples; several times.")
@click.option("--output", type=click.Path(path_type=Path), help="JSON file for the result.")
def main(runs: int, labels: int, counts: tuple[int, ...], output: Path | None) -> None:
    """Count what the gate says of candidates whose true difference is known."""
    rows = []
    click.echo("| examples | differ | worse by | one label by | passes | refused | undecided |")
    click.echo("|---:|---:|---:|---:|---:|---:|---:|")
    for differ in (0.03, 0.06):
        for count in counts:
            for loss, of_label in ((0.0, 0.0), (0.01, 0.0), (0.02, 0.0), (0.0, 0.1)):
                found = verdicts(count, differ, loss, of_label, labels, runs)
                row = {name: found[name] / runs for name in (PASSES, REFUSED, UNDECIDED)}
                rows.append({"examples": count, "differ": differ, "loss": loss, "of_label": of_label, **row})
                click.echo(f"| {count:,} | {differ:.0%} | {100 * loss:.0f} | {100 * of_label:.0f} | "
                           + " | ".join(f"{row[name]:.2f}" for name in row) + " |")  # fmt: skip
    if output is not None:
        output.write_text(json.dumps({"runs": runs, "labels": labels, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
