"""What is read is what was written, and whatever else is refused with what to do about it."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.bundle.read import Bundle, read_bundle
from shared.errors import BundleError

DATA_FILES = ["README.md", "golden.npz", "model.onnx", "preprocessor_config.json"]


@pytest.fixture
def copy(tagger_bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(tagger_bundle.path, tmp_path / "tagger"))


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("name", DATA_FILES)
def test_truncated_file_is_refused(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-1])
    with pytest.raises(BundleError, match=f"{name} is not the file that was written.*bytes.*Copy the bundle again"):
        read_bundle(copy)


@pytest.mark.parametrize("name", DATA_FILES)
def test_flipped_bit_is_refused(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} is not the file that was written.*SHA-256"):
        read_bundle(copy)


@pytest.mark.parametrize("name", ["config.json", *DATA_FILES])
def test_missing_file_is_named_with_what_is_there(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=rf"tagger has no {name} \(found .*\)\. (Copy|Run: percept export)"):
        read_bundle(copy)


@pytest.mark.parametrize("cut", [0, 1, 200, -2], ids=["empty", "one byte", "200 bytes", "all but two"])
def test_truncated_config_is_refused(copy: Path, cut: int) -> None:
    content = (copy / "config.json").read_bytes()
    (copy / "config.json").write_bytes(content[:cut])
    with pytest.raises(BundleError, match=r"config\.json cannot be read as JSON"):
        read_bundle(copy)


@pytest.mark.parametrize("content", [b"[]", b'"text"', b"\xff\xfe", b"[" * 100_000, b"null"])
def test_config_that_is_no_json_object_is_refused(copy: Path, content: bytes) -> None:
    (copy / "config.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"config\.json"):
        read_bundle(copy)


def test_newer_format_says_which_percept_is_needed(copy: Path) -> None:
    def make_newer(config: dict[str, Any]) -> None:
        config["format_version"] = 3
        config["provenance"]["versions"]["percept"] = "3.1.4"

    change_config(copy, make_newer)
    with pytest.raises(BundleError, match=r"format_version 3; this percept reads up to 2.*'percept>=3\.1\.4'"):
        read_bundle(copy)


@pytest.mark.parametrize("version", [None, "1", 0, True])
def test_folder_of_another_program_is_no_bundle(copy: Path, version: object) -> None:
    change_config(copy, lambda config: config.update(format_version=version))
    with pytest.raises(BundleError, match="This is no bundle of Percept"):
        read_bundle(copy)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["decision"].pop("temperature"), "decision.temperature"),
        (lambda c: c["decision"].pop("thresholds"), "decision.thresholds"),
        (lambda c: c.pop("decision"), "decision"),
        (lambda c: c["decision"]["thresholds"].pop("dog"), "'dog'"),
        (lambda c: c["decision"].update(temperature=0), "decision.temperature"),
        (lambda c: c["decision"].update(temperature=float("inf")), "decision.temperature"),
        (lambda c: c["decision"]["thresholds"].update(dog=float("nan")), "decision.thresholds.dog"),
        (lambda c: c["decision"]["thresholds"].update(dog=50), "decision.thresholds.dog"),
        (lambda c: c["label2id"].update(dog=0), "label2id"),
        (lambda c: c["id2label"].pop("1"), "id2label"),
    ],
)
def test_config_without_a_decision_value_is_refused(copy: Path, change: Callable[..., object], named: str) -> None:
    change_config(copy, change)
    with pytest.raises(BundleError, match=named):
        read_bundle(copy)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/model.onnx", ".."])
def test_file_outside_the_folder_is_refused(copy: Path, name: str) -> None:
    change_config(copy, lambda config: config["files"].update({name: {"sha256": "0", "bytes": 1}}))
    with pytest.raises(BundleError, match="directly in its folder"):
        read_bundle(copy)


def test_required_file_without_digest_is_refused(copy: Path) -> None:
    change_config(copy, lambda config: config["files"].pop("golden.npz"))
    with pytest.raises(BundleError, match=r"no SHA-256 under files for golden\.npz"):
        read_bundle(copy)


def test_pickled_golden_outputs_are_never_loaded(copy: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (copy / "exploded",))

    pickled: Any = {"inputs.pixel_values": np.array([Bomb()], dtype=object), "outputs.logits": np.zeros((1, 3))}
    np.savez(copy / "golden.npz", allow_pickle=True, **pickled)
    with pytest.raises(BundleError, match=r"golden\.npz cannot be read"):
        read_bundle(copy, verify=False)
    assert not (copy / "exploded").exists()


def test_file_that_is_no_array_in_the_golden_archive_is_refused(copy: Path) -> None:
    with zipfile.ZipFile(copy / "golden.npz", "w") as archive:
        archive.writestr("inputs.pixel_values", b"text")
        archive.writestr("outputs.logits", b"text")
    with pytest.raises(BundleError, match="without a row"):
        read_bundle(copy, verify=False)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip file at all", b"\x93NUMPY\x01\x00"])
def test_broken_golden_archive_is_refused_even_unverified(copy: Path, content: bytes) -> None:
    (copy / "golden.npz").write_bytes(content)
    with pytest.raises(BundleError, match=r"golden\.npz cannot be read"):
        read_bundle(copy, verify=False)


def test_golden_outputs_of_another_model_are_refused(copy: Path) -> None:
    np.savez(copy / "golden.npz", **{"inputs.input_ids": np.zeros((1, 3)), "outputs.logits": np.zeros((1, 3))})
    with pytest.raises(BundleError, match=r"the signature in config\.json expects"):
        read_bundle(copy, verify=False)


def test_golden_outputs_without_a_row_are_refused(copy: Path) -> None:
    np.savez(copy / "golden.npz", **{"inputs.pixel_values": np.zeros((0, 3)), "outputs.logits": np.zeros((0, 3))})
    with pytest.raises(BundleError, match="without a row"):
        read_bundle(copy, verify=False)


@pytest.mark.parametrize("make", [lambda _: None, lambda path: path.write_text("x"), Path.mkdir])
def test_path_that_is_no_bundle_says_what_was_expected(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "tagger")
    with pytest.raises(BundleError, match=r"config\.json"):
        read_bundle(tmp_path / "tagger")


def test_missing_onnx_file_names_the_next_command(copy: Path) -> None:
    (copy / "model.onnx").unlink()
    change_config(copy, lambda config: config["files"].pop("model.onnx"))
    with pytest.raises(BundleError, match=r"has no model\.onnx \(found .*config\.json.*Run: percept export"):
        read_bundle(copy).file("model.onnx")


def test_file_that_config_does_not_list_is_not_handed_out(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"slipped in")
    with pytest.raises(BundleError, match=r"model\.safetensors is not listed"):
        read_bundle(copy).file("model.safetensors")
