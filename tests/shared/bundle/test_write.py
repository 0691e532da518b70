"""Bundles survive the trip to disk and back, and a write that fails costs nobody the older one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.bundle.layout import BundleConfig
from shared.bundle.read import Bundle, Golden, read_bundle
from shared.bundle.write import bundle_version, write_bundle
from shared.errors import BundleError
from tests.bundles import make_tagger_bundle

DATA_FILES = ["README.md", "golden.npz", "model.onnx", "preprocessor_config.json"]
KILLED = 9


def rewrite(bundle: Bundle, path: Path, **changes: Any) -> Bundle:
    arguments: dict[str, Any] = {
        "files": {"model.onnx": bundle.file("model.onnx")},
        "preprocessor": bundle.preprocessor,
        "golden": bundle.golden,
    }
    return write_bundle(path, changes.pop("config", bundle.config), **{**arguments, **changes})


def kill_a_write(target: Path, syncs: int) -> int:
    """Return the exit status of a process that dies at so many fsyncs of writing a bundle with two labels."""
    script = f"""
import itertools, os, pathlib
from tests.bundles import make_tagger_bundle
count = itertools.count(1)
os.fsync = lambda handle: os._exit({KILLED}) if next(count) == {syncs} else None
make_tagger_bundle(pathlib.Path({str(target)!r}), labels=("new", "labels"))
"""
    return subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[3], check=False).returncode


def test_written_bundle_reads_back_the_same(tagger_bundle: Bundle) -> None:
    again = read_bundle(tagger_bundle.path)
    assert again.config == tagger_bundle.config
    assert again.preprocessor == tagger_bundle.preprocessor
    assert again.labels == ["cat", "dog", "car"]
    assert (again.name, again.version) == ("tiny-tagger", "2026.11.23-00000000")
    for name, array in tagger_bundle.golden.inputs.items():
        np.testing.assert_array_equal(again.golden.inputs[name], array)
    for name, array in tagger_bundle.golden.outputs.items():
        np.testing.assert_array_equal(again.golden.outputs[name], array)
    assert sorted(again.config.files) == DATA_FILES


def test_bundle_without_preprocessor_reads_back_empty(tagger_bundle: Bundle, tmp_path: Path) -> None:
    written = rewrite(tagger_bundle, tmp_path / "plain", preprocessor={})
    assert not (written.path / "preprocessor_config.json").exists()
    assert read_bundle(written.path).preprocessor == {}


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (make_tagger_bundle(tmp_path / name) for name in ("one", "two"))
    for name in ["config.json", *DATA_FILES]:
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


def test_metric_that_could_not_be_measured_becomes_null(tagger_bundle: Bundle, tmp_path: Path) -> None:
    config = tagger_bundle.config.model_copy(update={"metrics": {"test": {"auroc": float("nan")}}})
    written = rewrite(tagger_bundle, tmp_path / "tagger", config=config)
    assert json.loads((written.path / "config.json").read_text())["metrics"] == {"test": {"auroc": None}}


def test_failed_write_leaves_the_older_bundle_and_no_litter(
    tmp_path: Path, tagger_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "tagger"
    older = rewrite(tagger_bundle, target)

    def break_off(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("shared.staging._sync_folder", break_off)
    with pytest.raises(OSError, match="no space left"):
        rewrite(tagger_bundle, target, card_text="new")
    monkeypatch.undo()
    assert read_bundle(target).config == older.config
    assert [entry.name for entry in tmp_path.iterdir()] == ["tagger"]


def test_bundle_that_does_not_read_back_leaves_the_older_one(tmp_path: Path, tagger_bundle: Bundle) -> None:
    target = tmp_path / "tagger"
    older = rewrite(tagger_bundle, target)
    golden = Golden(inputs={"wrong": np.zeros((1, 1))}, outputs={"logits": np.zeros((1, 3))})
    with pytest.raises(BundleError, match="signature"):
        rewrite(tagger_bundle, target, golden=golden)
    assert read_bundle(target).config == older.config
    assert [entry.name for entry in tmp_path.iterdir()] == ["tagger"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_newer_bundle_replaces_the_older_one_whole(
    tmp_path: Path, tagger_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr("shared.staging._exchange", lambda *_: False)
    target = tmp_path / "tagger"
    rewrite(tagger_bundle, target, files={"model.onnx": tagger_bundle.file("model.onnx"), "old.txt": b"old"})
    newer = rewrite(tagger_bundle, target, card_text="new")
    assert not (target / "old.txt").exists()
    assert (target / "README.md").read_text() == "new"
    assert read_bundle(target).config == newer.config
    assert [entry.name for entry in tmp_path.iterdir()] == ["tagger"]


def test_two_step_replacement_that_fails_puts_the_older_bundle_back(
    tmp_path: Path, tagger_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "tagger"
    older = rewrite(tagger_bundle, target)
    rename = Path.rename

    def fail_for_new(self: Path, to: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError("the file system went away")
        return rename(self, to)

    monkeypatch.setattr("shared.staging._exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(OSError, match="went away"):
        rewrite(tagger_bundle, target, card_text="new")
    assert read_bundle(target).config == older.config


def test_bundle_can_be_written_anew_from_its_own_files(tmp_path: Path, tagger_bundle: Bundle) -> None:
    target = tmp_path / "tagger"
    bundle = rewrite(tagger_bundle, target)
    again = rewrite(bundle, target)
    assert again.config == bundle.config


def test_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path, tagger_bundle: Bundle) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(BundleError, match="it is not a bundle, so it is not replaced"):
        rewrite(tagger_bundle, tmp_path)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("name", ["config.json", "golden.npz", "../model.onnx", "sub/model.onnx"])
def test_file_name_that_is_not_free_is_refused(tmp_path: Path, tagger_bundle: Bundle, name: str) -> None:
    with pytest.raises(BundleError, match="expected a plain name"):
        rewrite(tagger_bundle, tmp_path / "tagger", files={name: b""})


def test_file_to_copy_that_is_missing_is_named(tmp_path: Path, tagger_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx was to be copied from .*nowhere"):
        rewrite(tagger_bundle, tmp_path / "tagger", files={"model.onnx": tmp_path / "nowhere"})


def test_written_folder_can_be_read_by_other_users(tmp_path: Path, tagger_bundle: Bundle) -> None:
    assert rewrite(tagger_bundle, tmp_path / "tagger").path.stat().st_mode & 0o777 == 0o755


def test_version_sorts_by_day_and_fits_the_config(tagger_bundle: Bundle) -> None:
    versions = [bundle_version(f"2026-{month:02}-05T00:00:00+00:00", "ff00ff00ff") for month in (2, 10, 11)]
    assert versions == sorted(versions)
    content = tagger_bundle.config.model_dump()
    assert BundleConfig.model_validate({**content, "version": versions[0]}).version == "2026.02.05-ff00ff00"


@pytest.mark.parametrize("syncs", [1, 3, 6], ids=["at the first file", "between files", "before the exchange"])
def test_killed_write_leaves_the_older_bundle(tmp_path: Path, syncs: int) -> None:
    target = tmp_path / "tagger"
    older = make_tagger_bundle(target)
    assert kill_a_write(target, syncs) == KILLED
    assert read_bundle(target).config == older.config
    assert make_tagger_bundle(target, labels=("a", "b")).labels == ["a", "b"]


def test_write_killed_after_the_exchange_leaves_the_newer_bundle(tmp_path: Path) -> None:
    target = tmp_path / "tagger"
    make_tagger_bundle(target)
    assert kill_a_write(target, 7) == KILLED
    assert read_bundle(target).labels == ["new", "labels"]
