"""Bundles of somebody who means harm: their digests are right, their files are not. Each is refused, or ignored.

A model loads from ONNX (or safetensors, on a GPU), JSON and arrays alone; nothing of it is code.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nlp.text import TextEncoder
from shared.bundle import read
from shared.bundle.read import Bundle, read_bundle, sha256_of
from shared.errors import BundleError
from shared.serving.lifecycle.loading import load_runtime
from shared.serving.settings import Settings
from tests.bundles import OPSET
from tests.canary import pickled

PICKLES = ("pytorch_model.bin", "model.pt", "model.pkl", "training_args.bin", "preprocessor.joblib", "golden.npy")


@pytest.fixture
def copy(tagger_bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle that a test may change."""
    return Path(shutil.copytree(tagger_bundle.path, tmp_path / "tagger"))


def put(folder: Path, name: str, content: bytes) -> None:
    """Put a file into a bundle as who writes bundles does, with its size and digest."""
    (folder / name).write_bytes(content)
    config = json.loads((folder / "config.json").read_text())
    config["files"][name] = {"sha256": sha256_of(content), "bytes": len(content)}
    (folder / "config.json").write_text(json.dumps(config))


def serve(folder: Path) -> None:
    """Do what a worker does before it answers."""
    _, runtime = load_runtime(folder, None, Settings(device="cpu"))
    runtime.close()


def model(nodes: Sequence[onnx.NodeProto], *tensors: TensorProto, opsets: Sequence[str] = ("",)) -> bytes:
    """Return a model with a tagger's input and output."""
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        tensors,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid(each, OPSET) for each in opsets], ir_version=8)
    return bytes(made.SerializeToString())


CLS = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
POOLED = [
    helper.make_node("GlobalAveragePool", ["pixel_values"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["means"]),
]


def with_weights_in(location: str) -> bytes:
    weights = TensorProto(name="bias", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": "0", "length": "12"}.items():
        weights.external_data.add(key=key, value=value)
    return model([*POOLED, helper.make_node("Add", ["means", "bias"], ["logits"])], weights)


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("is_listed", [True, False])
def test_a_pickle_beside_the_model_is_never_loaded(copy: Path, name: str, is_listed: bool, tmp_path: Path):
    if is_listed:
        put(copy, name, pickled(tmp_path / "loaded"))
    else:
        (copy / name).write_bytes(pickled(tmp_path / "loaded"))
    serve(copy)
    assert not (tmp_path / "loaded").exists()


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "preprocessor_config.json", "config.json"])
def test_a_pickle_in_the_place_of_a_file_is_refused(copy: Path, name: str, tmp_path: Path):
    if name == "config.json":
        (copy / name).write_bytes(pickled(tmp_path / "loaded"))
    else:
        put(copy, name, pickled(tmp_path / "loaded"))
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        serve(copy)
    assert not (tmp_path / "loaded").exists()


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/hostname", "link.bin", "model.onnx"])
@pytest.mark.parametrize("where", ["bundle", "elsewhere"])
def test_weights_outside_of_the_model_s_file_are_not_read(
    copy: Path, location: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for folder in (copy, tmp_path):
        (folder / "weights.bin").write_bytes(np.ones(3, np.float32).tobytes())
    (copy / "link.bin").symlink_to(tmp_path / "weights.bin")
    put(copy, "model.onnx", with_weights_in(location))
    monkeypatch.chdir(copy if where == "bundle" else tmp_path)
    with pytest.raises(BundleError, match=r"model\.onnx cannot be loaded") as refused:
        serve(copy)
    assert len(str(refused.value).splitlines()) == 1


def test_an_operator_of_a_library_that_is_not_here_is_refused(copy: Path):
    node = helper.make_node("RunCommand", ["means"], ["logits"], domain="com.evil", library="/tmp/evil.so")  # noqa: S108
    put(copy, "model.onnx", model([*POOLED, node], opsets=("", "com.evil")))
    with pytest.raises(BundleError, match=r"model\.onnx cannot be loaded"):
        serve(copy)


def test_a_model_that_asks_for_terabytes_is_refused(copy: Path):
    size = numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "size")
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["zero"], keepdims=0),
        helper.make_node("Add", ["means", "zero"], ["logits"]),
    ]
    put(copy, "model.onnx", model([*POOLED, *nodes], size))
    with pytest.raises(BundleError, match=r"cannot answer golden\.npz"):
        serve(copy)


@pytest.mark.parametrize("content", [b"", b"\x08", b"\xff" * 64, b"<html>", b"\x0a\xff\xff\xff\xff\x07" + b"a" * 9])
def test_what_is_no_model_is_refused(copy: Path, content: bytes):
    put(copy, "model.onnx", content)
    with pytest.raises(BundleError, match=r"model\.onnx"):
        serve(copy)


def test_an_archive_that_unpacks_to_gigabytes_is_refused_unread(copy: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(read, "MAX_GOLDEN_BYTES", 4 << 20)
    with zipfile.ZipFile(copy / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inputs.pixel_values.npy", bytes(8 << 20))
    put(copy, "golden.npz", (copy / "bomb").read_bytes())
    with pytest.raises(BundleError, match="unpacks to 8388608 bytes; at most 4194304 are read"):
        read_bundle(copy)


def test_a_config_of_gigabytes_is_refused_unread(copy: Path):
    os.truncate(copy / "config.json", read.MAX_JSON_BYTES + 1)  # takes no place on the disk
    with pytest.raises(BundleError, match="This is no bundle of Percept"):
        read_bundle(copy)


def test_a_link_is_followed_only_to_what_config_says_the_file_is(copy: Path, tmp_path: Path):
    (copy / "model.onnx").rename(tmp_path / "elsewhere")
    (copy / "model.onnx").symlink_to(tmp_path / "elsewhere")  # as the Hugging Face hub's cache has it
    serve(copy)
    (copy / "model.onnx").unlink()
    (copy / "model.onnx").symlink_to("/etc/hostname")
    with pytest.raises(BundleError, match="is not the file that was written"):
        read_bundle(copy)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_in_the_place_of_a_file_does_not_hold_the_start_up(copy: Path):
    (copy / "golden.npz").unlink()
    os.mkfifo(copy / "golden.npz")
    with pytest.raises(BundleError, match=r"has no golden\.npz"):
        read_bundle(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"type": "WordPiece", "unk_token": "[UNK]", "max_input_chars_per_word": 100, "vocab": {}}},
        {"model": {"type": "WordPiece"}},
        {"post_processor": {"type": "TemplateProcessing", "single": CLS, "pair": CLS, "special_tokens": {}}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "((("}, "behavior": "Isolated", "invert": False}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    ],
)
def test_a_tokenizer_that_cannot_work_is_refused_even_where_it_panics(
    intent_bundle: Bundle, change: dict, tmp_path: Path
):
    folder = Path(shutil.copytree(intent_bundle.path, tmp_path / "intent"))
    content = json.loads((folder / "tokenizer.json").read_text()) | change
    put(folder, "tokenizer.json", json.dumps(content).encode())
    with pytest.raises(BundleError, match="has no readable tokenizer"):
        TextEncoder.from_bundle(read_bundle(folder))
