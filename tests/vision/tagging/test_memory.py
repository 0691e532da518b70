"""A set of photos that is larger than memory trains: what is held in memory does not grow with its bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.pictures import BLUE, GREEN, RED, plain

PHOTOS = 300
PHOTO_BYTES = 1_000_000
MOST_SHARE = 0.1
"""Of the set's bytes that an epoch may add to the process, once the set lies in the cache of `datasets`."""
EPOCH = """
import json, sys
from vision.tagging.data import TaggingData

def held():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["RssAnon"].split()[0]) * 1024

def run(source):
    data = TaggingData(source, image_size_px=32, batch_size=8, num_workers=0, cache_dir=sys.argv[3])
    data.setup()
    return sum(len(batch["targets"]) for batch in data.train_dataloader())

run(sys.argv[1])  # what is imported and cached is there before the large set comes
before = held()
print(json.dumps({"photos": run(sys.argv[2]), "grown": held() - before}))
"""


def write(path: Path, count: int, size: int) -> str:
    """Write a parquet file of photos of so many bytes, no two alike, a few at a time."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.string())])
    with pyarrow.parquet.ParquetWriter(path, schema, compression="none") as writer:
        for start in range(0, count, 20):
            rows = []
            for number in range(start, min(start + 20, count)):
                label, colour = [("cat", RED), ("dog", GREEN), ("car", BLUE)][number % 3]
                photo = plain(colour, (40, 40)) + str(number).encode()
                rows.append({"image": {"bytes": photo.ljust(size, b"\0"), "path": None}, "label": label})
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return str(path)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_an_epoch_over_a_large_set_holds_a_small_part_of_it(tmp_path: Path):
    small = write(tmp_path / "small.parquet", 30, 2_000)
    large = write(tmp_path / "large.parquet", PHOTOS, PHOTO_BYTES)
    command = [sys.executable, "-W", "ignore", "-c", EPOCH, small, large, str(tmp_path / "cache")]
    for _ in range(2):  # the first time, `datasets` copies the file and holds a part of it for that
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["photos"] > 0.7 * PHOTOS
    assert found["grown"] < MOST_SHARE * PHOTOS * PHOTO_BYTES
