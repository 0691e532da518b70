"""How fast data are collected and explored, and how well explore finds what is wrong.

    python -m benchmarks.data rows                  # a million rows from SQL to parquet, beside two bare loops
    python -m benchmarks.data labels UTTERANCES     # wrong labels put into a table of text and label
    python -m benchmarks.data photos FOLDER         # changed copies of photos, and wrong labels, in class folders
    python -m benchmarks.data regain UTTERANCES     # accuracy that a reviewer of the queue wins back

UTTERANCES is a table with text and label, FOLDER has one folder of photos per label. Each prints a line per figure.
"""

from __future__ import annotations

import io
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from nlp.embedding.offline import text_embeddings
from shared.bundle.read import read_bundle
from shared.exploring.labels import check_labels, normalised
from shared.exploring.photos import Album, Looked, look, nearly_same
from shared.project import PROJECT_ROOT
from shared.runtime.choose import choose_runtime
from shared.sources.files import walk
from shared.sources.tables import open_table
from vision.images import PHOTO_SUFFIXES
from vision.tagging.offline import photo_features

ROWS = 1_000_000
NOISE = 0.05
HEAVY_NOISE = 0.20
READ_SHARE = 0.25
SEEDS = (0, 1, 2)
PHOTOS = 150
LABELLED = 4_000
TIMES = 3

PANDAS = """
import pandas, sqlite3, pyarrow as pa, pyarrow.parquet as pq
connection, writer = sqlite3.connect({database!r}), None
for chunk in pandas.read_sql("SELECT * FROM orders", connection, chunksize=10000):
    table = pa.Table.from_pandas(chunk, preserve_index=False)
    writer = writer or pq.ParquetWriter({out!r}, table.schema, compression="zstd")
    writer.write_table(table)
writer.close()
"""
ARROW = """
import sqlite3, pyarrow as pa, pyarrow.parquet as pq
cursor, writer = sqlite3.connect({database!r}).execute("SELECT * FROM orders"), None
names = [each[0] for each in cursor.description]
while rows := cursor.fetchmany(10000):
    table = pa.table(dict(zip(names, map(list, zip(*rows)))))
    writer = writer or pq.ParquetWriter({out!r}, table.schema, compression="zstd")
    writer.write_table(table)
writer.close()
"""
COLLECT = "from scripts.main import main; main(['collect', {spec!r}, {out!r}])"
SPEC = """
name: orders
licence: MIT
sources:
- {kind: sql, url: "sqlite:///orders.db", query: SELECT * FROM orders, key: id}
"""


def rows() -> None:
    """Print seconds and memory of a collection from SQLite, and of loops that keep neither origin nor digest."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with sqlite3.connect(place / "orders.db") as database:
            database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, price REAL, note TEXT)")
            made = ((i, f"thing {i % 999}", i / 7, f"a note about order {i}") for i in range(ROWS))
            database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", made)
        database.close()
        (place / "spec.yaml").write_text(SPEC)
        codes = {
            "percept collect": lambda i: COLLECT.format(spec=str(place / "spec.yaml"), out=str(place / f"out{i}")),
            "pandas": lambda i: PANDAS.format(database=str(place / "orders.db"), out=str(place / f"pandas{i}.parquet")),
            "pyarrow": lambda i: ARROW.format(database=str(place / "orders.db"), out=str(place / f"arrow{i}.parquet")),
        }
        best: dict[str, float] = {}
        for i in range(TIMES):
            for name, code in codes.items():
                seconds, megabytes = _timed(code(i))
                best[name] = min(best.get(name, seconds), seconds)
                print(f"{name}, run {i + 1}: {seconds:.1f} s, {megabytes:.0f} MB")
        for name in ("pandas", "pyarrow"):
            print(f"percept collect takes {best['percept collect'] / best[name]:.2f} times as long as {name}")


def labels(table: Path) -> None:
    """Print the average precision with which wrong labels are found: drawn at random, and near ones."""
    texts, codes = _utterances(table)
    started = time.monotonic()
    features = _text_features(texts)
    print(f"{len(texts):,} utterances read in {time.monotonic() - started:.1f} s")
    for kind in ("any label", "one of the five nearest labels"):
        found = []
        for seed in SEEDS:
            noisy, is_wrong = _with_noise(codes, features, NOISE, near=kind != "any label", seed=seed)
            found.append(_precision(features, noisy, is_wrong))
        print(f"{NOISE:.0%} wrong, {kind}: average precision {', '.join(f'{each:.3f}' for each in found)}")


def photos(folder: Path) -> None:
    """Print the recall of changed copies, the pairs among other photos, and the precision on wrong labels."""
    files = [file for file in walk(folder) if file.suffix.lower() in PHOTO_SUFFIXES]
    names = sorted({file.parent.name for file in files})
    bundle = read_bundle(PROJECT_ROOT / "models" / "tagger")
    runtime = choose_runtime(bundle, "cpu", threads=2)

    def looked_at(contents: Sequence[bytes]) -> tuple[list[Looked], np.ndarray]:
        looked = [found for content in contents if not isinstance(found := look(content), str)]
        return looked, photo_features(bundle, runtime, contents)

    chosen = random.Random(0).sample(files, PHOTOS)
    contents = [file.read_bytes() for file in chosen]
    seen, features = looked_at(contents)
    pairs = list(nearly_same(Album.of(seen), features))
    for one, other, _ in pairs:
        print(f"alike: {chosen[one].parent.name}/{chosen[one].name}, {chosen[other].parent.name}/{chosen[other].name}")
    print(f"{len(chosen)} photos: {len(pairs)} pairs, {100 * len(pairs) / len(chosen):.2f} of 100 photos")
    for name, change in CHANGES.items():
        changed = [_changed(content, change) for content in contents]
        more, features_of_more = looked_at(changed)
        together = Album.of([*seen, *more])
        found = {(a, b) for a, b, _ in nearly_same(together, np.concatenate([features, features_of_more]))}
        hits = sum((i, i + len(chosen)) in found for i in range(len(chosen)))
        print(f"{name}: recall {hits / len(chosen):.3f}")
    several = random.Random(1).sample(files, min(len(files), LABELLED))
    all_features = photo_features(bundle, runtime, [file.read_bytes() for file in several])
    codes = np.array([names.index(file.parent.name) for file in several])
    for seed in SEEDS:
        noisy, is_wrong = _with_noise(codes, all_features, NOISE, near=False, seed=seed)
        print(f"{NOISE:.0%} wrong: average precision {_precision(all_features, noisy, is_wrong):.3f}")


def regain(table: Path) -> None:
    """Print accuracies of a linear model on clean and wrong labels, and after a reviewer read a share of the queue."""
    texts, codes = _utterances(table)
    features = normalised(_text_features(texts))
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(codes))
        held, kept = order[: len(order) // 5], order[len(order) // 5 :]

        def accuracy(rows: np.ndarray, given: np.ndarray, held: np.ndarray = held) -> float:
            model = LogisticRegression(C=10.0, max_iter=200).fit(features[rows], given)
            return float((model.predict(features[held]) == codes[held]).mean())

        noisy, _ = _with_noise(codes[kept], features[kept], HEAVY_NOISE, near=False, seed=seed)
        clean, wrong = accuracy(kept, codes[kept]), accuracy(kept, noisy)
        queue = np.argsort(check_labels(features[kept], noisy).margin)[: int(READ_SHARE * len(kept))]
        reviewed = noisy.copy()
        reviewed[queue] = codes[kept][queue]
        mended = accuracy(kept, reviewed)
        print(f"seed {seed}: clean {clean:.4f}, {HEAVY_NOISE:.0%} wrong {wrong:.4f}, reviewed {mended:.4f}, "
              f"regained {(mended - wrong) / (clean - wrong):.2f}")  # fmt: skip


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 30": lambda photo: Image.open(io.BytesIO(_jpeg(photo, 30))),
    "half the size": lambda photo: photo.resize((max(8, photo.width // 2), max(8, photo.height // 2))),
    "a quarter brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.25),
    "mirrored": ImageOps.mirror,
    "cropped by a tenth on each side": lambda photo: photo.crop(_inner(photo, 0.1)),
    "turned by 5 degrees": lambda photo: photo.rotate(5, Image.Resampling.BICUBIC).crop(_inner(photo, 0.08)),
    "squeezed by a fifth": lambda photo: photo.resize((int(photo.width * 0.8), photo.height)),
}


def _timed(code: str) -> tuple[float, float]:
    """Return the seconds that a process took, and its memory in MB."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, code
    return time.monotonic() - started, used.ru_maxrss / 1024


def _utterances(table: Path) -> tuple[list[str], np.ndarray]:
    found = list(open_table(table).checked_rows())
    names = sorted({str(row["label"]) for row in found})
    code_of = {name: code for code, name in enumerate(names)}
    return [str(row["text"]) for row in found], np.array([code_of[str(row["label"])] for row in found])


def _text_features(texts: Sequence[str]) -> np.ndarray:
    bundle = read_bundle(PROJECT_ROOT / "models" / "encoder")
    return text_embeddings(bundle, choose_runtime(bundle, "cpu", threads=2), texts)


def _with_noise(
    codes: np.ndarray, features: np.ndarray, share: float, *, near: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels some of which are wrong, and which; near: one of the five labels whose means are nearest."""
    rng = np.random.default_rng(seed)
    count = int(codes.max()) + 1
    centres = normalised(np.stack([features[codes == code].mean(axis=0) for code in range(count)]))
    likeness = centres @ centres.T
    np.fill_diagonal(likeness, -2)
    noisy = codes.copy()
    chosen = rng.choice(len(codes), int(share * len(codes)), replace=False)
    for row in chosen:
        others = np.argsort(-likeness[codes[row]])[:5] if near else np.delete(np.arange(count), codes[row])
        noisy[row] = rng.choice(others)
    is_wrong = np.zeros(len(codes), dtype=bool)
    is_wrong[chosen] = True
    return noisy, is_wrong


def _precision(features: np.ndarray, noisy: np.ndarray, is_wrong: np.ndarray) -> float:
    return float(average_precision_score(is_wrong, -check_labels(features, noisy).margin))


def _changed(content: bytes, change: Callable[[Image.Image], Image.Image]) -> bytes:
    return _jpeg(change(Image.open(io.BytesIO(content)).convert("RGB")), 90)


def _jpeg(photo: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    photo.convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def _inner(photo: Image.Image, edge: float) -> tuple[int, int, int, int]:
    x, y = int(photo.width * edge), int(photo.height * edge)
    return x, y, photo.width - x, photo.height - y


if __name__ == "__main__":
    what, *where = sys.argv[1:] or ["rows"]
    {"rows": rows, "labels": labels, "photos": photos, "regain": regain}[what](*map(Path, where))
