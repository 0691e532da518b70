"""`percept export`: model.onnx anew from the weights, or the bundle stays as it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save

from scripts.main import main
from shared.bundle.layout import BundleConfig
from shared.bundle.read import Bundle, read_bundle, sha256_of
from shared.bundle.reference import read_reference
from shared.bundle.seen import read_seen
from shared.bundle.write import write_bundle
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.golden import check_golden
from shared.training.export import describe_export, export_onnx, make_golden, read_signature
from tests.bundles import make_tagger_bundle
from tests.photos import class_folders

LABELS = ["blue", "green", "red"]
SIZE_PX = 32
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of a random squeezenet, with a picture and its weights. Copy it, never change it."""
    from vision.tagging.network import build_network

    torch.manual_seed(0)
    network = build_network("squeezenet1_1", len(LABELS)).eval()
    folder = tmp_path_factory.mktemp("trained")
    example = {"pixel_values": torch.randn(2, 3, SIZE_PX, SIZE_PX)}
    export_onnx(network, example, folder / "model.onnx", outputs=["logits"])
    golden = make_golden(network, example, outputs=["logits"])
    plain = make_tagger_bundle(folder / "plain", LABELS, size=SIZE_PX)
    changes = {
        "architectures": ["squeezenet1_1"],
        "signature": read_signature(folder / "model.onnx").model_dump(),
        "onnx": describe_export(folder / "model.onnx", golden).model_dump(),
    }
    return write_bundle(
        folder / "bundle",
        BundleConfig.model_validate({**plain.config.model_dump(), **changes}),
        files={
            "model.onnx": folder / "model.onnx",
            "model.safetensors": save(network.state_dict()),
            "per_label.png": b"png",
        },
        preprocessor=plain.preprocessor,
        golden=golden,
    )


@pytest.fixture
def bundle(trained: Bundle, tmp_path: Path) -> Bundle:
    import shutil

    shutil.copytree(trained.path, tmp_path / "bundle")
    return read_bundle(tmp_path / "bundle")


def export(bundle: Bundle, *args: str | Path) -> Result:
    return CliRunner().invoke(main, ["export", str(bundle.path), *map(str, args)])


def test_a_missing_onnx_file_is_made_and_answers_as_the_network_did(bundle: Bundle):
    (bundle.path / "model.onnx").unlink()
    result = export(bundle)
    assert result.exit_code == 0, result.output
    assert "model.onnx: fp32" in result.stdout
    again = read_bundle(bundle.path)
    assert check_golden(again, OnnxRuntime(again)) < 1e-4


def test_a_damaged_onnx_file_is_replaced_and_everything_else_stays(bundle: Bundle):
    (bundle.path / "model.onnx").write_bytes(b"damaged")
    assert export(bundle).exit_code == 0
    again = read_bundle(bundle.path)
    assert set(again.config.files) == set(bundle.config.files)
    for name in ("model.safetensors", "per_label.png", "preprocessor_config.json"):
        assert again.config.files[name].sha256 == bundle.config.files[name].sha256, name
    np.testing.assert_array_equal(again.golden.outputs["logits"], bundle.golden.outputs["logits"])
    assert again.config.decision == bundle.config.decision
    assert again.config.version == bundle.config.version
    assert "](per_label.png)" in (again.path / "README.md").read_text()


def test_a_bundle_of_format_1_becomes_one_of_format_2_with_features_and_its_file_s_own_golden_outputs(bundle: Bundle):
    assert bundle.config.format_version == 1
    assert not bundle.golden.shipped
    assert export(bundle).exit_code == 0
    again = read_bundle(bundle.path)
    assert again.config.format_version == 2
    assert [spec.name for spec in again.config.signature.outputs] == ["logits", "features"]
    found = OnnxRuntime(again).run(again.golden.inputs)
    assert found["features"].shape == (2, 512)
    for name, expected in again.golden.shipped.items():
        np.testing.assert_array_equal(found[name], expected)


def test_with_its_data_a_bundle_is_judged_anew_on_the_file_that_ships(bundle: Bundle, tmp_path: Path):
    photos = class_folders(tmp_path / "photos", count=20)
    result = export(bundle, "--data.source", photos, "--data.image_size_px", str(SIZE_PX), "--data.num_workers", "0")
    assert result.exit_code == 0, result.output
    again = read_bundle(bundle.path)
    assert again.config.metrics["test"]["overall"]["examples"] == 6
    assert again.config.decision != bundle.config.decision
    assert again.config.version != bundle.config.version
    reference = read_reference(again)
    assert reference is not None
    assert reference.features is not None
    assert reference.confidence.shape == (5,)
    assert reference.label_shares.shape == (3,)
    assert reference.features.shape == (5, 512)
    seen = read_seen(again)
    assert seen is not None
    digests = [sha256_of(file) for file in photos.rglob("*.*")]
    assert Counter(seen.split_of(digest) for digest in digests) == {"train": 49, "val": 5, "test": 6}


def test_damaged_weights_are_refused_and_the_bundle_stays_as_it_was(bundle: Bundle):
    before = (bundle.path / "model.onnx").read_bytes()
    with (bundle.path / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\1\2\3\4")
    result = export(bundle)
    assert result.exit_code == 2
    assert "model.safetensors is not the file that was written" in result.stderr
    assert (bundle.path / "model.onnx").read_bytes() == before


def test_weights_that_do_not_give_the_golden_outputs_are_refused(bundle: Bundle, tmp_path: Path):
    state = load_file(bundle.path / "model.safetensors")
    other = write_bundle(
        tmp_path / "other",
        bundle.config,
        files={
            "model.onnx": bundle.path / "model.onnx",
            "model.safetensors": save({name: value * 1.1 for name, value in state.items()}),
        },
        preprocessor=bundle.preprocessor,
        golden=bundle.golden,
    )
    result = export(other)
    assert result.exit_code == 2
    assert "does not give the golden outputs: logits differs by" in result.stderr


def test_weights_stored_in_half_the_space_stay_so(bundle: Bundle, tmp_path: Path):
    from vision.tagging.network import load_network

    state = {name: value.half() for name, value in load_file(bundle.path / "model.safetensors").items()}
    network = load_network(bundle)
    network.load_state_dict({name: value.float() for name, value in state.items()})
    example = {"pixel_values": torch.from_numpy(bundle.golden.inputs["pixel_values"])}
    small = write_bundle(
        tmp_path / "small",
        bundle.config,
        files={"model.onnx": bundle.path / "model.onnx", "model.safetensors": save(state)},
        preprocessor=bundle.preprocessor,
        golden=make_golden(network, example, outputs=["logits"]),
    )
    result = export(small)
    assert result.exit_code == 0, result.output
    again = read_bundle(small.path)
    assert again.config.onnx is not None
    assert again.config.onnx.precision == "fp16_weights"
    assert again.config.files["model.onnx"].bytes < 0.6 * bundle.config.files["model.onnx"].bytes
    check_golden(again, OnnxRuntime(again))


def test_a_bundle_without_weights_says_where_they_are_missing(tmp_path: Path):
    result = export(make_tagger_bundle(tmp_path / "b"))
    assert result.exit_code == 2
    assert "colour_mean" in result.stderr or "model.safetensors" in result.stderr


def test_int8_ships_where_quality_holds_and_says_what_it_measured(bundle: Bundle, tmp_path: Path):
    photos = class_folders(tmp_path / "photos", LABELS, count=10)
    data = ("--data.source", photos, "--data.cache_dir", tmp_path / "cache")
    result = export(bundle, "--int8", "--max-int8-loss", "1", *data)
    assert result.exit_code == 0, result.output
    assert "int8 ships" in result.stdout
    again = read_bundle(bundle.path)
    assert again.config.onnx is not None
    assert again.config.onnx.precision == "int8"
    gate = again.config.onnx.int8_gate
    assert gate is not None
    assert gate["max_loss"] == 1
    assert "int8 gate passed" in (again.path / "README.md").read_text()
    logits = OnnxRuntime(again).run(again.golden.inputs)["logits"]
    assert not np.array_equal(logits, again.golden.outputs["logits"])


def test_int8_that_loses_too_much_does_not_ship(bundle: Bundle, tmp_path: Path):
    photos = class_folders(tmp_path / "photos", LABELS, count=10)
    data = ("--data.source", photos, "--data.cache_dir", tmp_path / "cache")
    result = export(bundle, "--int8", "--max-int8-loss", "-1", *data)
    assert result.exit_code == 0, result.output
    assert "int8 does not ship" in result.stdout
    again = read_bundle(bundle.path)
    assert again.config.onnx is not None
    assert again.config.onnx.precision == "fp32"
    assert again.config.onnx.int8_gate is not None


def test_int8_without_photos_says_what_to_give(bundle: Bundle):
    result = export(bundle, "--int8")
    assert result.exit_code == 2
    assert "Name the data with --data.source" in result.stderr
