"""The runtimes take what the signature says and nothing else, and give the golden outputs."""

from __future__ import annotations

import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import shared.runtime.choose
import shared.runtime.cpu
from shared.bundle.layout import TensorSignature
from shared.bundle.read import Bundle, Golden, read_bundle, sha256_of
from shared.bundle.write import write_bundle
from shared.errors import BundleError, ConfigError, InputError, RuntimeUnavailable
from shared.runtime.choose import choose_runtime
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.golden import check_golden
from shared.runtime.protocol import Runtime, Tensors, check_inputs
from tests.bundles import colour_model, colour_weight, make_tagger_bundle

PHOTOS = {"pixel_values": np.zeros((2, 3, 32, 32), dtype=np.float32)}


class FakeRuntime:
    """Gives what it is told to."""

    description = "a fake"

    def __init__(self, bundle: Bundle, outputs: Tensors, device: str = "cpu") -> None:
        self.inputs = bundle.config.signature.inputs
        self.outputs = bundle.config.signature.outputs
        self.device = device
        self._given = dict(outputs)

    def run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        return self._given

    def close(self) -> None:
        self._given = {}


@pytest.fixture
def with_weights(tagger_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A bundle that holds weights too, so that CUDA is not ruled out by it."""
    files = {"model.onnx": tagger_bundle.file("model.onnx"), "model.safetensors": b"weights"}
    return write_bundle(
        tmp_path / "tagger", tagger_bundle.config, files=files, preprocessor={}, golden=tagger_bundle.golden
    )


def test_onnx_runtime_gives_the_golden_outputs(tagger_bundle: Bundle) -> None:
    runtime = OnnxRuntime(tagger_bundle)
    assert isinstance(runtime, Runtime)
    assert check_golden(tagger_bundle, runtime) < 1e-5  # means of 1,024 float32 pixels, summed in another order
    assert runtime.device == "cpu"
    assert runtime.description.endswith("fp32, 1 thread")


def test_each_row_is_answered_as_if_it_were_alone(tagger_bundle: Bundle) -> None:
    runtime = OnnxRuntime(tagger_bundle, threads=2)
    photos = tagger_bundle.golden.inputs["pixel_values"]
    together = runtime.run({"pixel_values": photos})["logits"]
    for i in range(len(photos)):
        np.testing.assert_allclose(
            runtime.run({"pixel_values": photos[i : i + 1]})["logits"][0], together[i], atol=1e-6
        )


def test_several_threads_may_run_at_once(tagger_bundle: Bundle) -> None:
    runtime = OnnxRuntime(tagger_bundle)
    photos = np.random.default_rng(0).normal(size=(64, 3, 32, 32)).astype(np.float32)
    expected = runtime.run({"pixel_values": photos})["logits"]
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda i: runtime.run({"pixel_values": photos[i : i + 1]})["logits"][0], range(64)))
    np.testing.assert_allclose(rows, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"takes the inputs \['pixel_values'\]; came \[\]"),
        ({"image": PHOTOS["pixel_values"]}, r"came \['image'\]"),
        ({**PHOTOS, "mask": PHOTOS["pixel_values"]}, r"came \['mask', 'pixel_values'\]"),
        ({"pixel_values": np.zeros((1, 3, 32, 32))}, r"float32 \[batch, 3, 32, 32\].*came float64 \[1, 3, 32, 32\]"),
        ({"pixel_values": np.zeros((1, 3, 16, 16), np.float32)}, r"came float32 \[1, 3, 16, 16\]"),
        ({"pixel_values": np.zeros((3, 32, 32), np.float32)}, r"came float32 \[3, 32, 32\]"),
        ({"pixel_values": np.zeros((0, 3, 32, 32), np.float32)}, r"came float32 \[0, 3, 32, 32\]"),
        ({"pixel_values": [[1.0]]}, "came a list"),
    ],
)
def test_input_outside_the_signature_is_an_input_error(tagger_bundle: Bundle, inputs: Tensors, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OnnxRuntime(tagger_bundle).run(inputs)


def test_named_dimension_must_be_the_same_in_all_inputs() -> None:
    specs = [TensorSignature(name=name, dtype="int64", shape=("batch", "length")) for name in ("ids", "mask")]
    check_inputs(specs, {"ids": np.zeros((2, 9), np.int64), "mask": np.zeros((2, 9), np.int64)})
    with pytest.raises(
        InputError, match=r"'mask' must be int64 \[batch, length\], batch=2, length=9; came int64 \[2, 8\]"
    ):
        check_inputs(specs, {"ids": np.zeros((2, 9), np.int64), "mask": np.zeros((2, 8), np.int64)})


def test_no_thread_at_all_is_a_config_error(tagger_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="at least 1 thread"):
        OnnxRuntime(tagger_bundle, threads=0)


def replace_model(bundle: Bundle, folder: Path, model: bytes) -> Bundle:
    """Return a copy of a bundle with another model.onnx and the digest that goes with it."""
    shutil.copytree(bundle.path, folder)
    (folder / "model.onnx").write_bytes(model)
    config = json.loads((folder / "config.json").read_text())
    config["files"]["model.onnx"] = {"sha256": sha256_of(model), "bytes": len(model)}
    (folder / "config.json").write_text(json.dumps(config))
    return read_bundle(folder)


def test_file_that_is_no_onnx_model_is_a_bundle_error(tagger_bundle: Bundle, tmp_path: Path) -> None:
    broken = replace_model(tagger_bundle, tmp_path / "broken", b"not a model")
    with pytest.raises(BundleError, match=r"model\.onnx cannot be loaded.*Run: percept export"):
        OnnxRuntime(broken)


def test_onnx_model_with_another_signature_is_a_bundle_error(tagger_bundle: Bundle, tmp_path: Path) -> None:
    model = colour_model(colour_weight(3), np.zeros(3, np.float32), 32).replace(b"pixel_values", b"other_values")
    other = replace_model(tagger_bundle, tmp_path / "other", model)
    with pytest.raises(BundleError, match=r"other_values.*different models"):
        OnnxRuntime(other)


def test_onnx_model_with_another_answer_fails_the_golden_check(tagger_bundle: Bundle, tmp_path: Path) -> None:
    model = colour_model(colour_weight(3), np.zeros(3, np.float32), 32)  # without the bias of -2
    other = replace_model(tagger_bundle, tmp_path / "other", model)
    with pytest.raises(BundleError, match=r"logits differs from golden\.npz by 2; the limit is 0\.0001"):
        check_golden(other, OnnxRuntime(other))


@pytest.mark.parametrize(("error", "passes"), [(0.09, True), (0.11, False)])
def test_reduced_precision_may_differ_by_a_tenth_of_the_largest_value(
    tagger_bundle: Bundle, error: float, passes: bool
) -> None:
    golden = tagger_bundle.golden.outputs["logits"]
    runtime = FakeRuntime(tagger_bundle, {"logits": golden + error * np.abs(golden).max()}, device="cuda")
    if passes:
        assert check_golden(tagger_bundle, runtime) == pytest.approx(
            error * 5, rel=1e-3
        )  # the largest golden value is -5
    else:
        with pytest.raises(BundleError, match="differs"):
            check_golden(tagger_bundle, runtime)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"logits": np.full((3, 3), np.nan)}, "by nan"),
        ({"logits": np.zeros((3, 2))}, r"logits is \[3, 2\]; expected \[3, 3\]"),
        ({}, r"logits is nothing; expected \[3, 3\]"),
    ],
)
def test_runtime_that_gives_nonsense_fails_the_golden_check(
    tagger_bundle: Bundle, outputs: Tensors, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        check_golden(tagger_bundle, FakeRuntime(tagger_bundle, outputs))


def test_golden_inputs_that_the_model_does_not_take_are_a_bundle_error(tagger_bundle: Bundle, tmp_path: Path) -> None:
    golden = Golden({"pixel_values": np.zeros((1, 3, 8, 8), np.float32)}, {"logits": np.zeros((1, 3))})
    files = {"model.onnx": tagger_bundle.file("model.onnx")}
    bundle = write_bundle(tmp_path / "odd", tagger_bundle.config, files=files, preprocessor={}, golden=golden)
    with pytest.raises(BundleError, match=r"golden\.npz of .* does not fit the model"):
        check_golden(bundle, OnnxRuntime(bundle))


def test_auto_takes_the_cpu_and_says_why(tagger_bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert isinstance(choose_runtime(tagger_bundle), OnnxRuntime)
    assert "tiny-tagger 2026.11.23-00000000 runs on ONNX Runtime" in caplog.text
    assert "because this task names no torch network" in caplog.text


@pytest.mark.parametrize(
    ("torch_installed", "driver", "reason"),
    [(False, True, "torch is not installed"), (True, False, "there is no NVIDIA GPU with a driver")],
)
def test_cuda_that_cannot_be_had_is_refused_and_auto_takes_the_cpu(
    with_weights: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    torch_installed: bool,
    driver: bool,
    reason: str,
) -> None:
    monkeypatch.setattr(shared.runtime.choose, "find_spec", lambda _: SimpleNamespace() if torch_installed else None)
    monkeypatch.setattr(shared.runtime.choose, "_nvidia_gpus", lambda: int(driver))
    network = "no.such.module:network"  # never imported
    with caplog.at_level(logging.INFO):
        assert choose_runtime(with_weights, "auto", network=network).device == "cpu"
    assert f"because {reason}" in caplog.text
    with pytest.raises(RuntimeUnavailable, match=rf"cuda was asked for, but {reason}\. Available is: cpu \(ONNX"):
        choose_runtime(with_weights, "cuda", network=network)


def test_cuda_without_weights_in_the_bundle_is_refused(tagger_bundle: Bundle) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"the bundle has no model\.safetensors"):
        choose_runtime(tagger_bundle, "cuda", network="no.such.module:network")


def test_cpu_is_kept_without_a_look_at_cuda(with_weights: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared.runtime.choose, "_cuda_obstacle", lambda *_: pytest.fail("looked for CUDA"))
    assert choose_runtime(with_weights, "cpu", network="no.such.module:network").device == "cpu"


@pytest.mark.parametrize("device", ["gpu", "", "cuda:0", "CPU"])
def test_unknown_device_is_a_config_error(tagger_bundle: Bundle, device: str) -> None:
    with pytest.raises(ConfigError, match="device must be one of auto, cpu, cuda"):
        choose_runtime(tagger_bundle, device)


@pytest.mark.parametrize(
    ("machine", "flags", "saturates"),
    [
        ("x86_64", "flags : avx2 avx512_vnni", False),
        ("x86_64", "flags : avx2 avx_vnni", False),
        ("x86_64", "flags : avx2", True),
        ("AMD64", None, True),
        ("aarch64", None, False),
    ],
)
def test_int8_is_computed_exactly_where_the_cpu_would_saturate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str, flags: str | None, saturates: bool
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(flags)
    monkeypatch.setattr(shared.runtime.cpu, "_CPUINFO", cpuinfo)
    monkeypatch.setattr(shared.runtime.cpu.platform, "machine", lambda: machine)
    options = shared.runtime.cpu.session_options(1)
    if saturates:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError):
            options.get_session_config_entry("session.x64quantprecision")


def test_waiting_threads_do_not_spin() -> None:
    options = shared.runtime.cpu.session_options(4)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (4, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_single_label_bundle_runs_too(tmp_path: Path) -> None:
    bundle = make_tagger_bundle(tmp_path / "one", problem_type="single_label_classification", size=8)
    assert check_golden(bundle, OnnxRuntime(bundle)) < 1e-5
