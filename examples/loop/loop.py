"""The whole trip on one machine: a service is asked for something new, and learns it from reviewed records.

`make loop` plays it in some minutes, with SQLite, on a CPU and without network. What customers ask a bank is put
together from the parts in utterances.json, so that it is easier to tell apart than what people really write. The first
model knows some of the intents; then customers begin to ask for others as well.

An oracle that knows the truth takes the place of the people who review. Everything else is what Percept does.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import httpx

from examples.notebooks.world import KEY, ROOT, review, serving, wait_for_records

PARTS = Path(__file__).with_name("utterances.json")
ENCODER = ROOT / "models" / "intent"
"""Its encoder and tokenizer; the head is learned anew."""
NAME = "bank"
SEED = 7


@dataclass(frozen=True)
class Size:
    """How large the play is."""

    known: int
    """Intents that the first model knows."""
    new: int
    """Intents that it does not."""
    data: int
    """Utterances of each known intent that the first model has."""
    traffic: int
    """Of each known intent in the traffic; of the new ones, twice as many."""
    later: int
    """Of each intent, asked before and after to measure."""
    reviews: int
    """Inputs that are reviewed at most."""
    margin: float
    """Points that the gate lets be lost: some hundred held-out examples cannot rule out one point."""


FULL, SMALL = Size(11, 3, 160, 40, 40, 200, 2.0), Size(6, 2, 80, 20, 15, 100, 5.0)


@dataclass(frozen=True)
class Utterance:
    """What somebody asks."""

    text: str
    label: str


@dataclass
class Play:
    """What is asked when, and what has happened so far."""

    size: Size
    folder: Path
    data: list[Utterance]
    """The first model's."""
    traffic: list[Utterance]
    later: list[Utterance]
    """Asked before and after, to measure."""
    new: set[str]
    truth: dict[str, str]
    steps: list[tuple[str, str, float]] = field(default_factory=list)
    """What was done, what came of it, seconds."""
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder / 'records.sqlite'}"

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time a step, and tell what came of it."""
        started, told = time.perf_counter(), list[str]()
        print(f"\n== {name}", flush=True)
        yield told
        spent = time.perf_counter() - started
        self.steps.append((name, " ".join(told), spent))
        print(f"   {' '.join(told)} ({spent:.0f} s)", flush=True)


def set_up(size: Size, folder: Path) -> Play:
    """Return the play with its utterances: none of what is asked later has been asked before."""
    parts = json.loads(PARTS.read_text(encoding="utf-8"))
    rng = random.Random(SEED)
    names = list(parts["intents"])
    known, new = names[: size.known], names[len(names) - size.new :]
    data: list[Utterance] = []
    traffic: list[Utterance] = []
    later: list[Utterance] = []
    for name in (*known, *new):
        of_it = parts["intents"][name]
        said = [
            Utterance(f"{opening}{core.replace('{x}', thing)}{ending}", name)
            for opening, core, thing, ending in product(parts["openings"], of_it["said"], of_it["x"], parts["endings"])
        ]
        rng.shuffle(said)
        first = 0 if name in new else size.data
        middle = first + size.traffic * (2 if name in new else 1)
        data += said[:first]
        traffic += said[first:middle]
        later += said[middle : middle + size.later]
    rng.shuffle(traffic)
    truth = {utterance.text: utterance.label for utterance in (*data, *traffic, *later)}
    return Play(size, folder, data, traffic, later, set(new), truth)


def percept(*args: str | Path, ok: Sequence[int] = (0,), **environment: str) -> str:
    """Run a command of Percept and return what it prints; anything but an expected status ends the play."""
    command = [sys.executable, "-m", "scripts.main", *map(str, args)]
    print("   $", "percept", *args, flush=True)
    everything = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, env=everything, capture_output=True, text=True, check=False)
    if done.returncode not in ok:
        raise SystemExit(
            f"percept {args[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
    return done.stdout


def ask(url: str, asked: Sequence[Utterance], *, consent: bool) -> list[str | None]:
    """Return the intent that each gets; None where it is out of scope."""
    found = []
    with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=30) as client:
        for utterance in asked:
            headers = {"X-Consent": "yes" if consent else "no"}  # what only measures is not recorded
            answer = client.post("/v1/intent", json={"text": utterance.text}, headers=headers)
            answer.raise_for_status()
            found.append(answer.json()["results"][0]["intent"])
    return found


def right(play: Play, answers: Sequence[str | None]) -> dict[str, float]:
    """Return the shares of later utterances that get their intent: of all, of known and of new ones."""
    hits = [answer == each.label for answer, each in zip(answers, play.later, strict=True)]
    found = {"all": sum(hits) / len(hits)}
    for name, is_new in (("known", False), ("new", True)):
        some = [hit for hit, each in zip(hits, play.later, strict=True) if (each.label in play.new) == is_new]
        found[name] = sum(some) / len(some)
    return found


def play_all(play: Play) -> None:
    """Play everything, from the first model to the better one."""
    folder, new = play.folder, sorted(play.new)
    table, live = folder / "utterances.csv", folder / "first" / "bundle"
    with play.step("Train the first model") as told:
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows([each.text, each.label] for each in play.data)
        source = {"kind": "files", "path": str(table)}
        spec = folder / "utterances.yaml"
        spec.write_text(
            json.dumps({"name": "utterances", "licence": "Apache-2.0", "sources": [source]})
        )  # JSON is YAML
        percept("collect", spec, folder / "data")
        percept(
            "fit", "intent", "--data.source", folder / "data", "--name", NAME, "--run_dir", folder / "first",
            "--model.weights", ENCODER, "--model.method", "logistic_regression", "--data.test_share", "0.25",
        )  # fmt: skip
        told.append(f"{len(play.data):,} utterances of {play.size.known} intents; it does not know {', '.join(new)}.")
    (folder / "registry" / "versions").mkdir(parents=True, exist_ok=True)
    settings = {
        "PERCEPT_RECORDS": play.store,
        "PERCEPT_RECORDS_LEVEL": "inputs",
        "PERCEPT_BUNDLES": str(folder / "registry" / "versions"),
    }
    with serving(live, log=folder / "service.log", **settings) as url:
        with play.step("Serve it, and ask") as told:
            before = right(play, ask(url, play.later, consent=False))
            answers = ask(url, play.traffic, consent=True)
            wait_for_records(play.store, len(play.traffic))
            silent = sum(answer is None for answer in answers)
            told.append(f"{len(answers):,} utterances, {silent:,} of them out of scope; recorded with their texts.")
        with play.step("Monitor") as told:
            page = folder / "monitor.html"
            found = json.loads(percept("monitor", live, "--records", play.store, "--json", "-o", page, ok=(0, 1)))
            told.append(found["sentence"])
            groups = [(group["name"], group["size"]) for group in found["groups"]]
            told.append(f"{len(groups)} new groups: {', '.join(f'{name} ({size})' for name, size in groups)}.")
            play.figures |= {"state": found["state"], "groups": groups}
        with play.step("Review") as told:
            reasons = review(url, NAME, play.truth, play.size.reviews)
            told.append(f"{sum(reasons.values()):,} inputs: {', '.join(f'{n} {why}' for why, n in reasons.items())}.")
            play.figures["reviewed"] = reasons
        better = folder / "better"
        with play.step("Improve") as told:
            made = json.loads(percept("improve", "intent", better, "--records", play.store, "--data", folder / "data",
                                      "--over", live, "--json"))  # fmt: skip
            told.append(f"{made['added']:,} new rows to train on, {made['recent']:,} kept apart.")
            for part, name in (("test", "held-out utterances"), ("recent", "reviewed ones kept apart")):
                if part in made["compared"]:
                    share = {each["name"]: each["value"] for each in made["compared"][part]["bundles"]}
                    told.append(f"Right on {name}: {share['live']:.1%} before, {share['candidate']:.1%} now.")
            play.figures["improved"] = {name: made[name] for name in ("added", "recent", "new_labels", "left_out")}
        with play.step("Gate and promotion") as told:
            gate = json.loads(percept(
                "promote", better / "bundle", "--over", live, "--data.source", better / "dataset", "--registry",
                folder / "registry", "--margin", str(play.size.margin), "--url", url, "--watch", "0", "--json", "-o",
                folder / "promoted.html", ok=(0, 1, 3), PERCEPT_KEY=KEY,
            ))  # fmt: skip
            told.append(gate["sentence"])
            play.figures["gate"] = gate["verdict"]
        with play.step("Ask again") as told:
            after = right(play, ask(url, play.later, consent=False))
            told.append(
                f"Right answers to {len(play.later):,} later utterances: {before['all']:.1%} before, "
                f"{after['all']:.1%} now; of the new intents {before['new']:.1%} and {after['new']:.1%}, of the known "
                f"ones {before['known']:.1%} and {after['known']:.1%}."
            )
            play.figures |= {"before": before, "after": after}


def table_of(play: Play) -> str:
    """Return the steps as a Markdown table."""
    lines = ["| step | what came of it | seconds |", "|---|---|---:|"]
    lines += [f"| {name} | {told} | {seconds:.0f} |" for name, told, seconds in play.steps]
    return "\n".join(lines)


def draw(play: Play, file: Path) -> None:
    """Draw the steps, and how good the answers are before and after."""
    from textwrap import wrap

    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 6.2), dpi=110, layout="constrained")
    left, right_ = figure.subplots(1, 2, width_ratios=(1.9, 1))
    left.axis("off")
    left.set(xlim=(0, 1), ylim=(0, 1))
    step = 1 / len(play.steps)
    for number, (name, told, seconds) in enumerate(play.steps):
        top = 1 - number * step
        left.text(0.03, top - 0.02, f"{number + 1}", color="white", ha="center", va="center", fontsize=9, weight="bold",
                  bbox={"boxstyle": "circle,pad=0.3", "facecolor": "#2a6f97", "edgecolor": "none"})  # fmt: skip
        left.text(0.08, top - 0.005, f"{name}  ({seconds:.0f} s)", va="top", fontsize=10, weight="bold")
        shown = wrap(told, 84)
        more = [*shown[:3], "…"] if len(shown) > 4 else shown
        left.text(0.08, top - 0.042, "\n".join(more), va="top", fontsize=7.6, color="#333333", linespacing=1.25)
    places, before, after = range(3), play.figures["before"], play.figures["after"]
    kinds = {"all": "all", "known": "known\nintents", "new": "new\nintents"}
    for shift, found, name, colour in ((-0.2, before, "before", "#b5c6d0"), (0.2, after, "after", "#2a6f97")):
        values = [100 * found[kind] for kind in kinds]
        bars = right_.bar([place + shift for place in places], values, 0.38, label=name, color=colour)
        right_.bar_label(bars, fmt="%.0f", fontsize=9, padding=2)
    right_.set(ylim=(0, 108), title=f"Right answers to {len(play.later):,} later utterances, %")
    right_.title.set_fontsize(10)
    right_.set_xticks(list(places), list(kinds.values()), fontsize=9)
    right_.spines[["top", "right"]].set_visible(False)
    right_.legend(frameon=False, loc="upper right", fontsize=9)
    figure.savefig(file)


def main() -> None:
    """Play it, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="Eight intents instead of fourteen.")
    parser.add_argument("--folder", type=Path, help="Where all that is made stays; a temporary folder if not given.")
    parser.add_argument("--picture", type=Path, help="Draw the trip to this PNG.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        play = set_up(SMALL if options.small else FULL, folder)
        play_all(play)
        (folder / "loop.json").write_text(json.dumps({"steps": play.steps, **play.figures}, indent=2) + "\n")
        print(f"\n{table_of(play)}")
        if options.picture:
            draw(play, options.picture)
            print(f"Look at {options.picture}")


if __name__ == "__main__":
    main()
