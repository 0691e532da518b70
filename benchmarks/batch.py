"""Compares `percept batch` with a bare loop over the same photos in as many processes, which writes no results.

`python -m benchmarks.batch --photos FOLDER` alternates between the two and prints photos per second of each. Both times
cover the whole command, including interpreter start, imports and loading the model.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bare import make_call
from vision.tagging.offline import find_photos

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="A folder of photos.")
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "tagger")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", type=int, metavar="N", help=argparse.SUPPRESS)  # be the Nth process of the bare loop
    asked = parser.parse_args()
    if asked.bare is not None:
        _loop(asked.bundle, list(find_photos([asked.photos]))[asked.bare :: asked.processes])
        return
    count = sum(1 for _ in find_photos([asked.photos]))
    bare, batch = [], []
    for _ in range(asked.rounds):
        bare.append(count / _bare_s(asked))
        batch.append(count / _batch_s(asked))
    shares = [ours / theirs for ours, theirs in zip(batch, bare, strict=True)]
    print(
        json.dumps(
            {
                "photos": count,
                "processes": asked.processes,
                "bare_per_s": [round(each, 1) for each in bare],
                "batch_per_s": [round(each, 1) for each in batch],
                "share": round(statistics.median(shares), 3),
            }
        )
    )


def _loop(bundle: Path, photos: list[Path]) -> None:
    call = make_call("photo", bundle)
    for path in photos:
        call(path.read_bytes())


def _bare_s(asked: argparse.Namespace) -> float:
    same = ["--photos", str(asked.photos), "--bundle", str(asked.bundle), "--processes", str(asked.processes)]
    command = [sys.executable, "-m", "benchmarks.batch", *same]
    begin = time.perf_counter()
    running = [
        subprocess.Popen([*command, "--bare", str(number)], cwd=ROOT, env=_environment())
        for number in range(asked.processes)
    ]
    assert [process.wait() for process in running] == [0] * asked.processes
    return time.perf_counter() - begin


def _batch_s(asked: argparse.Namespace) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "scripts.main", "batch", str(asked.bundle), str(asked.photos), f"{folder}/out"]
        command += ["--device", "cpu", "--workers", str(asked.processes)]
        begin = time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=_environment(), check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    main()
