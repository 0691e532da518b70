"""`percept batch`: what goes in comes out as rows, bad ones too, and a run that was killed goes on."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from scripts.main import main
from shared.batch.run import PLAN, Plan, opened
from shared.bundle.read import Bundle
from shared.errors import ConfigError
from tests.pictures import BLUE, GREEN, RED, plain

ROOT = Path(__file__).resolve().parents[3]
COLOURS = {"cat": RED, "dog": GREEN, "car": BLUE}


def batch(*args: object) -> Result:
    return CliRunner().invoke(main, ["batch", *map(str, args), "--device", "cpu"])


def read(folder: Path) -> list[dict[str, Any]]:
    """All rows, as any reader of a parquet folder finds them."""
    return pyarrow.dataset.dataset(folder, format="parquet").to_table().sort_by("row").to_pylist()


def photos(folder: Path, count: int) -> list[str]:
    """Write `count` photos and return the label of each, in the order of their names."""
    labels = [list(COLOURS)[number % 3] for number in range(count)]
    for number, label in enumerate(labels):
        file = folder / label / f"{number:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(plain(COLOURS[label], (48, 48)))
    return sorted(f"{label}/{number:04d}.png" for number, label in enumerate(labels))


def test_a_folder_of_photos_becomes_a_table_in_order_with_its_errors(tagger_bundle: Bundle, tmp_path: Path):
    names = photos(tmp_path / "photos", 10)
    (tmp_path / "photos" / "cat" / "0000.png").write_bytes(b"no photo")
    result = batch(tagger_bundle.path, tmp_path / "photos", tmp_path / "out", "--shard-rows", 4, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "10 rows, 1 with an error now" in result.output
    rows = read(tmp_path / "out")
    assert [row["row"] for row in rows] == list(range(10))
    assert [row["file"] for row in rows] == names
    for row in rows:
        if row["file"] == "cat/0000.png":
            assert row["tags"] is None
            assert "picture" in row["error"]
        else:
            assert row["error"] is None
            assert [tag["label"] for tag in row["tags"]] == [row["file"].partition("/")[0]]
            assert row["tags"][0]["score"] == pytest.approx(0.982, abs=1e-3)
    parts = sorted(path.name for path in (tmp_path / "out").glob("part-*"))
    assert parts == [f"part-{number:05d}.parquet" for number in range(3)]


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_a_table_of_utterances_is_classified(name: str, intent_bundle: Bundle, tmp_path: Path):
    rows = [{"id": "a", "text": "play a song, please"}, {"id": "b", "text": " "}, {"id": "c", "text": "xyzzy"},
            {"id": "d", "text": "météo"}]  # fmt: skip
    table = write_table(tmp_path / name, rows)
    result = batch(intent_bundle.path, table, tmp_path / "out", "--keep", "id", "--top-k", 2, "--workers", 1)
    assert result.exit_code == 0, result.output
    found = read(tmp_path / "out")
    assert [row["id"] for row in found] == ["a", "b", "c", "d"]
    assert [row["intent"] for row in found] == ["play_music", None, None, "weather"]
    assert [row["error"] for row in found] == [None, "'text' is blank.", None, None]
    assert found[2]["out_of_scope"] is True
    assert [len(row["ranking"] or ()) for row in found] == [2, 0, 2, 2]


def test_bulk_answers_are_those_of_one_at_a_time(intent_bundle: Bundle, tmp_path: Path):
    from nlp.intent.predictor import IntentPredictor
    from shared.runtime.choose import choose_runtime

    texts = [f"{'play ' * (number % 7)}a song number {number}" for number in range(50)]
    table = write_table(tmp_path / "t.csv", [{"text": text} for text in texts])
    assert batch(intent_bundle.path, table, tmp_path / "out", "--workers", 1).exit_code == 0
    predictor = IntentPredictor(intent_bundle, choose_runtime(intent_bundle, "cpu"))
    for row, text in zip(read(tmp_path / "out"), texts, strict=True):
        [alone] = predictor.predict([text])
        assert (row["text"], row["intent"]) == (text, alone.intent)
        assert row["confidence"] == pytest.approx(alone.confidence, abs=1e-5)


def test_broken_lines_of_json_are_rows_with_their_error(qa_bundle: Bundle, tmp_path: Path):
    lines = ['{"question": "Qui ?", "context": "C\'est Émile."}', "{broken", '["a"]', '{"question": 7, "context": "x"}',
             '{"question": "Qui ?", "context": "Personne."}']  # fmt: skip
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    result = batch(qa_bundle.path, tmp_path / "t.jsonl", tmp_path / "out", "--workers", 1)
    assert result.exit_code == 0, result.output
    first, broken, array, number, none = read(tmp_path / "out")
    assert first["answer"]["text"] == "Émile"
    assert "line 2 is not JSON" in broken["error"]
    assert array["error"] == "line 3 must be an object; got list."
    assert number["error"] == "'question' must be a text; came int."
    assert (none["answer"], none["error"]) == (None, None)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_with_nothing_lost_or_done_twice(tagger_bundle: Bundle, tmp_path: Path):
    names = photos(tmp_path / "photos", 1500)
    out = tmp_path / "out"
    asked = [tagger_bundle.path, tmp_path / "photos", out, "--shard-rows", 20, "--workers", 2]
    command = [sys.executable, "-m", "scripts.main", "batch", *map(str, asked), "--device", "cpu"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while len(list(out.glob("part-*"))) < 5 and time.monotonic() < end:
        time.sleep(0.005)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout
    process.kill()
    process.wait()
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in children.split()) and time.monotonic() < end:
        time.sleep(0.05)  # a killed run leaves no process behind
    assert time.monotonic() < end
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 5 <= len(before) < 75
    result = batch(*asked)
    assert result.exit_code == 0, result.output
    assert f"1500 rows, {20 * len(before)} of them before, 0 with an error now" in result.output
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert {name: after[name] for name in before} == before
    rows = read(out)
    assert [row["row"] for row in rows] == list(range(1500))
    assert [row["file"] for row in rows] == names
    assert {path.name for path in out.iterdir()} == {PLAN, *after}
    again = batch(*asked)
    assert "1500 rows, 1500 of them before" in again.output


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_run_with_what_to_do(tagger_bundle: Bundle, tmp_path: Path):
    photos(tmp_path / "photos", 1500)
    asked = [tagger_bundle.path, tmp_path / "photos", tmp_path / "out", "--shard-rows", 20, "--workers", 2]
    command = [sys.executable, "-m", "scripts.main", "batch", *map(str, asked), "--device", "cpu"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    end = time.monotonic() + 120
    while len(list((tmp_path / "out").glob("part-*"))) < 3 and time.monotonic() < end:
        time.sleep(0.005)
    found = subprocess.run(
        ["pgrep", "-f", "-P", str(process.pid), "spawn_main"], capture_output=True, text=True, check=False
    )
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert "a process died" in said.splitlines()[-1]
    assert "run the same command again" in said.splitlines()[-1]


def test_results_of_another_run_are_never_mixed(tagger_bundle: Bundle, tmp_path: Path):
    photos(tmp_path / "photos", 3)
    asked = [tagger_bundle.path, tmp_path / "photos", tmp_path / "out", "--workers", 1]
    assert batch(*asked).exit_code == 0
    other = batch(*asked, "--top-k", 1)
    assert other.exit_code == 2
    assert "results of another run: options differ" in other.output
    photos(tmp_path / "photos", 4)
    assert "inputs, rows differ" in batch(*asked).output
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    assert "has other files in it" in batch(tagger_bundle.path, tmp_path / "photos", tmp_path / "mine").output


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path):
    plan = Plan("m", "1", "f", 3, 2, {})
    with opened(tmp_path / "out", plan) as missing:
        assert missing == [0, 1]
        with pytest.raises(ConfigError, match="another run is writing"), opened(tmp_path / "out", plan):
            pass
    with opened(tmp_path / "out", plan) as missing:
        assert missing == [0, 1]


@pytest.mark.parametrize(("extra", "said"), [
    (["--text", "utterance"], "has no column 'utterance'; it has text"),
    (["--context", "x"], "--context is not for intent"),
    (["--min-score", "0.5"], "--min-score is not for intent"),
    (["--keep", "id"], "has no column 'id'"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(extra: list[str], said: str, intent_bundle: Bundle, tmp_path: Path):
    table = write_table(tmp_path / "t.csv", [{"text": "play"}])
    result = batch(intent_bundle.path, table, tmp_path / "out", *extra)
    assert result.exit_code == 2
    assert said in result.output
    assert not (tmp_path / "out").exists()


def test_inputs_that_are_not_there_are_named(intent_bundle: Bundle, tagger_bundle: Bundle, tmp_path: Path):
    (tmp_path / "empty.csv").write_text("text\n")
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    for name, said in [("none.csv", "cannot be read"),
                       ("t.docx", "expected .csv"), ("t.xlsx", "cannot be read"), ("empty.csv", "has no rows"),
                       ("broken.parquet", "cannot be read")]:  # fmt: skip
        result = batch(intent_bundle.path, tmp_path / name, tmp_path / "out")
        assert (result.exit_code, said in result.output) == (2, True), result.output
    assert "is not a folder" in batch(tagger_bundle.path, tmp_path / "none", tmp_path / "out").output


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs pip install 'percept[ray]'")
def test_ray_gives_the_same_rows(tagger_bundle: Bundle, tmp_path: Path):
    photos(tmp_path / "photos", 30)
    asked = [tagger_bundle.path, tmp_path / "photos"]
    assert batch(*asked, tmp_path / "here", "--shard-rows", 10, "--workers", 1).exit_code == 0
    command = [sys.executable, "-m", "scripts.main", "batch", *map(str, asked), str(tmp_path / "there")]
    command += ["--shard-rows", "10", "--workers", "2", "--ray", "local", "--device", "cpu"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert read(tmp_path / "there") == read(tmp_path / "here")
