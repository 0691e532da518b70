"""`make bench` measures what it says; that it is fast is for the benchmark itself to say."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.parts import make_photo

ROOT = Path(__file__).resolve().parents[1]


def test_made_photo_has_the_size_that_was_asked_for():
    image = Image.open(io.BytesIO(make_photo(0.3)))
    assert image.format == "JPEG"
    assert image.width * image.height == pytest.approx(300_000, rel=0.01)
    assert image.width / image.height == pytest.approx(4 / 3, rel=0.01)


@pytest.mark.slow
@pytest.mark.server
def test_benchmark_measures_the_bare_loop_both_stacks_and_every_part():
    brief = ["--seconds=0.3", "--rounds=1", "--connections=1,4", "--workers=1", "--megapixels=0.3", "--json"]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks", *brief],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert set(found["parts_ms"]) == {"decode", "preprocess", "run", "decide"}
    rows = found["photos_per_s"]
    assert list(rows) == [
        "bare loop",
        *(f"{stack}, {n} connections" for stack in ("percept", "fastapi + torchvision") for n in (1, 4)),
    ]
    assert all(row["photos_per_s"] > 0 for row in rows.values())
