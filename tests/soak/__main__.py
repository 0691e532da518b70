"""`make soak`: ten minutes of good and hostile traffic with killed and stopped workers and swapped bundles.

Exits with 1 where a promise was broken: a wrong answer, a 5xx other than 503 and 504, a request lost on a connection
to a process that nobody killed, memory that grows.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_intent_bundle, make_qa_bundle
from tests.server import serving
from tests.soak.run import Report, Soak
from tests.soak.traffic import GUIDE, KEY


def soak(seconds: float, folder: Path, *, seed: int = 1) -> Report:
    """Serve tiny bundles from a folder for so long, and return what came of it."""
    stored = folder / "bundles"
    for number in (1, 2):
        for name, make in (("tagger", make_tagger_bundle), ("intent", make_intent_bundle)):
            made = make(stored / f"{name}-{number}").path / "config.json"
            config = json.loads(made.read_text())
            made.write_text(json.dumps(config | {"version": f"2026.11.25-0000000{number}"}))
    qa = make_qa_bundle(folder / "qa").path
    settings = {
        "PERCEPT_KNOWLEDGE": str(folder / "knowledge.sqlite"),
        "PERCEPT_KNOWLEDGE_DOCUMENTS": "none",
        "PERCEPT_ADMIN_KEY": KEY,
        "PERCEPT_BUNDLES": str(stored),
    }
    bundles = [stored / "tagger-1", stored / "intent-1", qa]
    log = folder / "log.txt"
    with serving(bundles, log, "--no-ui", workers=2, models=3, **settings) as server:
        server.request("PUT", "/v1/knowledge/guide.md", GUIDE.encode(), **{"x-api-key": KEY})
        report = asyncio.run(
            Soak(server, seconds, seed=seed, bundles=["tagger-2", "intent-2", "tagger-1", "intent-1"]).run()
        )
    if "Traceback" in log.read_text():
        report.errors.append((seconds, f"the log has a traceback: see {log.name}"))
    return report


def plot(report: Report, path: Path) -> None:
    """Draw memory and broken promises over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(9, 4))
    whole = sorted(report.memory_mb.values(), key=lambda samples: samples[0][0] - samples[-1][0])
    for place, samples in enumerate(whole):
        style = {"color": "tab:blue", "linewidth": 2} if not place else {"color": "silver"}
        label = {0: "the worker that lived longest", 1: "workers that were killed"}.get(place)
        axis.plot(*zip(*samples, strict=True), label=label, zorder=2 - bool(place), **style)
    for place, (at, _) in enumerate(report.errors):
        axis.axvline(at, color="tab:red", linewidth=1, label=None if place else "a broken promise")
    axis.set_title(
        f"{report.good:,} good and {report.hostile:,} hostile requests, {len(report.errors)} broken promises"
    )
    axis.set_xlabel("seconds")
    axis.set_ylabel("resident memory, MB")
    axis.set_ylim(bottom=0)
    axis.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


@click.command()
@click.option("--seconds", default=600.0, show_default=True, help="How long.")
@click.option("--seed", default=1, show_default=True, help="Of the traffic.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/soak"), show_default=True
)
def main(seconds: float, seed: int, output: Path) -> None:
    """Soak a server, and report what it broke."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        report = soak(seconds, Path(folder), seed=seed)
        shutil.copy(Path(folder) / "log.txt", output / "log.txt")
    (output / "report.json").write_text(json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n", "utf-8")
    plot(report, output / "report.png")
    shown = {name: value for name, value in asdict(report).items() if name not in ("memory_mb", "errors")}
    click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    for at, what in report.errors[:40]:
        click.echo(f"broken at {at} s: {what}")
    click.echo(f"The report is {output / 'report.json'}, the log of the server beside it.")
    if not report.is_kept:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
