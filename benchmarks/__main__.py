"""`make bench`: Percept beside the bare model and a usual stack, in one run, as ratios.

Each round starts the stacks one after the other, so that a slow minute of the machine hits all of them alike.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from statistics import median

import click
from tqdm import tqdm

from benchmarks.load import drive
from benchmarks.parts import bare_loop, make_photo, part_times
from benchmarks.stacks import ROOT, fastapi_torchvision, percept

STACKS = {"percept": percept, "fastapi + torchvision": fastapi_torchvision}
BARE = "bare loop"


@click.command()
@click.option("--bundle", type=click.Path(exists=True, path_type=Path), default=ROOT / "models" / "tagger")
@click.option("--megapixels", default=1.0, show_default=True)
@click.option("--connections", default="1,8,32", show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="Of each measurement.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--workers", default=os.cpu_count() or 1, show_default=True, help="Processes of each stack.")
@click.option("--json", "as_json", is_flag=True)
def main(
    bundle: Path, megapixels: float, connections: str, seconds: float, rounds: int, workers: int, as_json: bool
) -> None:
    """Measure speed on this machine."""
    photo = make_photo(megapixels)
    levels = [int(level) for level in connections.split(",")]
    result = {
        "photo": {"megapixels": megapixels, "bytes": len(photo)},
        "parts_ms": part_times(bundle, photo, repeats=20 * rounds),
        "photos_per_s": measure(bundle, photo, levels, seconds, rounds, workers),
    }
    if as_json:
        click.echo(json.dumps(result, indent=1))
        return
    for name, value in result["parts_ms"].items():
        click.echo(f"{name:<12} {value:7.2f} ms")
    click.echo(f"\n{megapixels:g} megapixel, {workers} workers, medians of {rounds} rounds; share of the bare loop")
    rows = result["photos_per_s"]
    limit = rows[BARE]["photos_per_s"]
    for name, row in rows.items():
        click.echo(
            f"{name:<36} {row['photos_per_s']:7.1f}/s {row['photos_per_s'] / limit:5.0%}"
            + (f"  p50 {row['p50_ms']:.0f} ms  p99 {row['p99_ms']:.0f} ms" if "p50_ms" in row else "")
        )


def measure(
    bundle: Path, photo: bytes, levels: list[int], seconds: float, rounds: int, workers: int
) -> dict[str, dict[str, float]]:
    """Return stack and connections -> medians over the rounds."""
    found: dict[str, list[dict[str, float]]] = {}
    steps = rounds * (1 + len(STACKS) * len(levels))
    with tqdm(total=steps, desc="measuring", unit="step") as bar:
        for _ in range(rounds):
            rate = bare_loop(bundle, photo, workers=workers, seconds=seconds)
            found.setdefault(BARE, []).append({"photos_per_s": rate})
            bar.update(1)
            for name, start in STACKS.items():
                with start(bundle, workers) as (url, ready_s):
                    asyncio.run(drive(url, photo, connections=workers, seconds=min(1.0, seconds)))  # warm up
                    for level in levels:
                        load = asyncio.run(drive(url, photo, connections=level, seconds=seconds))
                        if load.failures:
                            raise SystemExit(f"{name} failed {load.failures} requests at {level} connections.")
                        row = {"photos_per_s": load.requests_per_s, "p50_ms": load.p50_ms, "p99_ms": load.p99_ms}
                        found.setdefault(f"{name}, {level} connections", []).append({**row, "ready_s": ready_s})
                        bar.update(1)
    return {name: {key: median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()}


if __name__ == "__main__":
    main()
