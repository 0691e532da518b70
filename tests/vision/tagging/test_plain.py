"""Plain methods for photos: a frozen network, and heads that are found at once, all the way to a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from shared.bundle.read import Bundle
from shared.errors import BundleError, ConfigError
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.cuda import TorchRuntime
from shared.runtime.golden import check_golden
from shared.training.cli import fit_main
from shared.training.heads import SCALE, Centroids, Neighbours
from shared.training.plain import fit_head, quality, scores_of
from tests.networks import photos, settled_network
from tests.photos import class_folders, photo
from vision.tagging import TASK
from vision.tagging.data import TaggingData
from vision.tagging.module import TaggingModule
from vision.tagging.network import build_network, head_fields, last_layer, load_network, replace_last_layer
from vision.tagging.predictor import TagPredictor

SMOKE = Path(__file__).parents[3] / "configs" / "vision" / "tagging_smoke.yaml"
METHODS = ("logistic_regression", "linear_svm", "nearest_centroid", "knn")
ARCHITECTURE = "resnet18"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Of a random network whose features tell colours apart: what a pretrained one would be."""
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    save_file(settled_network(ARCHITECTURE).state_dict(), path)
    return path


def fit(run_dir: Path, folder: Path, weights: Path, *more: str) -> Bundle:
    found = fit_main(
        TASK,
        ["-c", str(SMOKE), "--run_dir", str(run_dir), "--data.source", str(folder), f"--model.weights={weights}",
         f"--model.architecture={ARCHITECTURE}", f"--data.cache_dir={run_dir.with_name('cache')}",
         "--trainer.enable_progress_bar=false", *more],
    )  # fmt: skip
    assert found is not None
    return found


@pytest.mark.parametrize("method", METHODS)
def test_every_method_tells_colours_apart_and_leaves_the_body_as_it_is(
    method: str, weights: Path, tmp_path: Path, monkeypatch
):
    data = TaggingData(str(class_folders(tmp_path / "photos", count=24)), image_size_px=32, num_workers=0)
    data.setup()
    module = TaggingModule(data.labels, data.problem_type, ARCHITECTURE, str(weights), method).eval()
    monkeypatch.setattr(TaggingModule, "data", data)
    with torch.no_grad():
        train, val = (module.features_of(split) for split in ("train", "val"))
        head = fit_head(method, train, val, 3, seed=0)
        module.take_head(head)
        batches = [(module(batch["pixel_values"]), batch["targets"]) for batch in data.plain_dataloader("test")]
        logits, targets = (torch.cat(part) for part in zip(*batches, strict=True))
        assert (logits.argmax(1) == targets.argmax(1)).float().mean() > 0.8  # chance is 0.33
        found = torch.cat([module(batch["pixel_values"]) for batch in data.plain_dataloader("val")]).numpy()
    expected = scores_of(head, val.features, 3) * (SCALE if method == "nearest_centroid" else 1)
    np.testing.assert_allclose(found, expected, atol=1e-3 * max(1.0, float(np.abs(expected).max())))
    start = load_file(weights)
    kept = module.network.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in start.items() if not name.startswith("fc."))


@pytest.fixture(scope="module")
def bundles(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Method -> a bundle of those whose last layer is no linear one."""
    root = tmp_path_factory.mktemp("plain")
    folder = class_folders(root / "photos", count=24)
    methods = ("nearest_centroid", "knn")
    return {m: fit(root / m, folder, weights, f"--model.method={m}", "--model.acceptance=1") for m in methods}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["nearest_centroid", "knn"])
def test_photos_become_a_bundle_that_serves(method: str, bundles: dict[str, Bundle]):
    bundle = bundles[method]
    onnx, torched = OnnxRuntime(bundle), TorchRuntime(bundle, load_network, device="cpu")
    check_golden(bundle, onnx)
    check_golden(bundle, torched)
    pixels = photos(4).numpy()
    for name, values in onnx.run({"pixel_values": pixels}).items():  # fp32 sums in another order
        expected = torched.run({"pixel_values": pixels})[name]
        np.testing.assert_allclose(values, expected, atol=1e-3 * max(1.0, float(np.abs(expected).max())))
    predictor = TagPredictor(bundle, onnx)
    asked = [(label, 500 + i) for label in ("red", "green", "blue") for i in range(5)]
    outputs = predictor.infer([predictor.preprocess(photo(*each)) for each in asked])
    best = [bundle.labels[int(row["logits"].argmax())] for row in outputs]
    assert np.mean([tag == label for tag, (label, _) in zip(best, asked, strict=True)]) > 0.8
    assert bundle.config.model_extra is not None
    assert bundle.config.model_extra["method"] == method
    assert "train/loss" not in (bundle.path.parent / "metrics.csv").read_text()


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Photos with one label or two."""
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = []
    for number in range(36):
        names = [["red"], ["blue"], ["red", "blue"], ["green"]][number % 4]
        mixed = Image.blend(photo(names[0], number).resize((40, 40)), photo(names[-1], number).resize((40, 40)), 0.5)
        mixed.save(folder / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "labels": names}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_photos_with_several_labels_get_one_regression_per_label(
    several: Path, weights: Path, tmp_path: Path, monkeypatch
):
    data = TaggingData(str(several), image_size_px=32, num_workers=0, val_share=0.2, cache_dir=str(tmp_path / "cache"))
    data.setup()
    module = TaggingModule(data.labels, data.problem_type, ARCHITECTURE, str(weights), "logistic_regression").eval()
    monkeypatch.setattr(TaggingModule, "data", data)
    with torch.no_grad():
        train, val = (module.features_of(split) for split in ("train", "val"))
    assert train.targets.shape == (len(data.splits["train"]), 3)
    head = fit_head("logistic_regression", train, val, 3, seed=0)
    assert quality(scores_of(head, val.features, 3), val.targets) > 0.7


def test_other_methods_refuse_several_labels_a_photo(several: Path, weights: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"knn takes one label per photo.*use logistic_regression"):
        fit(tmp_path / "run", several, weights, "--model.method=knn")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "none"}, "must have learned before; came model.weights none"),
        ({"architecture": "squeezenet1_0"}, "that of SqueezeNet is a convolution"),
        ({"mixup_alpha": 0.2}, "leave out model.mixup_alpha"),
        ({"class_weights": "balanced"}, "and class_weights"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options: dict, message: str, weights: Path):
    settings = {"architecture": ARCHITECTURE, "weights": str(weights), **options}
    with pytest.raises(ConfigError, match=message):
        TaggingModule(["a", "b"], "single_label_classification", method="linear_svm", **settings)


def test_a_stream_is_refused(weights: Path, tmp_path: Path):
    folder = class_folders(tmp_path / "photos", count=10)
    with pytest.raises(ConfigError, match=r"which a stream cannot: leave out data\.stream"):
        fit(tmp_path / "run", folder, weights, "--model.method=knn", "--data.stream=true")


@pytest.mark.parametrize("architecture", ["mobilenet_v2", "resnet18", "vit_b_16"])
@pytest.mark.parametrize("layer", [Centroids(7, 3), Neighbours(7, 3, 9, 2)])
def test_the_last_layer_of_any_network_is_replaced_and_found(architecture: str, layer: nn.Module):
    with torch.device("meta"):
        network = build_network(architecture, 3)
    replace_last_layer(network, layer)
    assert last_layer(network) is layer
    expected = {"head": "knn", "bank": 9, "neighbours": 2} if isinstance(layer, Neighbours) else {"head": "prototype"}
    assert head_fields(network) == expected


def test_a_network_as_it_comes_has_no_head_of_its_own_to_describe():
    assert head_fields(settled_network(ARCHITECTURE)) == {}


@pytest.mark.slow
def test_a_bundle_whose_config_does_not_describe_its_head_is_refused(bundles: dict[str, Bundle]):
    bundle = bundles["knn"]
    fields = {name: value for name, value in bundle.config.model_dump().items() if name != "bank"}
    broken = type(bundle)(**{**bundle.__dict__, "config": type(bundle.config).model_validate(fields)})
    with pytest.raises(BundleError, match="describes no head: KeyError"):
        load_network(broken)
