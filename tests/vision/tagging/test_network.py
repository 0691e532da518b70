from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from shared.errors import ConfigError
from tests.networks import photos, settled_network
from vision.tagging.network import (
    FeatureNetwork,
    build_network,
    has_untouched_batch_norm,
    last_layer,
    load_start_weights,
    stages,
    unfold_batch_norm,
)

SMALL = ["mobilenet_v2", "mobilenet_v3_small", "resnet18", "efficientnet_b0", "shufflenet_v2_x0_5", "squeezenet1_1",
         "regnet_y_400mf", "mnasnet0_5", "densenet121"]  # fmt: skip


@pytest.mark.parametrize("architecture", SMALL)
def test_a_network_of_any_kind_has_as_many_outputs_as_labels(architecture: str):
    network = build_network(architecture, 7).eval()
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize("architecture", SMALL)
def test_stages_hold_every_parameter_once_with_the_head_last(architecture: str):
    network = build_network(architecture, 7)
    parts = stages(network)
    found = [id(p) for stage in parts for p in stage.parameters()]
    assert sorted(found) == sorted(id(p) for p in network.parameters())
    assert any(p.shape[0] == 7 for p in parts[-1].parameters())


def test_an_unknown_network_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="resnet50"):
        build_network("resnet51", 3)


def test_start_weights_fill_all_but_the_head(tmp_path):
    donor = settled_network("mobilenet_v2", 9)
    save_file(donor.state_dict(), tmp_path / "w.safetensors")
    network = build_network("mobilenet_v2", 4)
    left, _ = load_start_weights(network, "mobilenet_v2", str(tmp_path / "w.safetensors"))
    assert left == ["classifier.1.bias", "classifier.1.weight"]
    assert torch.equal(network.features[3].conv[0][0].weight, donor.features[3].conv[0][0].weight)


def test_weights_of_another_architecture_are_refused(tmp_path):
    save_file(settled_network("resnet18").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="not those of mobilenet_v2"):
        load_start_weights(build_network("mobilenet_v2", 4), "mobilenet_v2", str(tmp_path / "w.safetensors"))


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"PK\x03\x04 a pickle perhaps")
    with pytest.raises(ConfigError, match="no safetensors file"):
        load_start_weights(build_network("resnet18", 4), "resnet18", str(tmp_path / "w.pt"))


def test_weights_that_cannot_be_downloaded_name_the_way_out(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(ConfigError, match=r"--model\.weights FILE\.safetensors"):
        load_start_weights(build_network("resnet18", 4), "resnet18", "DEFAULT")


def test_unfolding_batch_norm_changes_no_output_and_lets_it_train():
    network = build_network("mobilenet_v2", 5)
    for module in network.modules():  # as after folding: nothing in the norms, all in the convolutions
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_in")
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias, 0.3, 0.5)
    assert has_untouched_batch_norm(network)
    network.eval()
    batch = photos(64)
    with torch.no_grad():
        before = network(batch)
        unfold_batch_norm(network, [batch])
        after = network(batch)
        assert not has_untouched_batch_norm(network)
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3 * before.abs().max().item())
        network.train()
        network.classifier[0].eval()  # dropout
        training = network(batch)  # batch statistics are now those that were stored
    torch.testing.assert_close(training, before, rtol=0.02, atol=0.02 * before.abs().max().item())


@pytest.mark.parametrize("architecture", ["mobilenet_v2", "squeezenet1_1", "resnet18", "densenet121", "vit_b_16"])
def test_features_are_what_the_last_layer_reads_and_logits_stay_the_same(architecture: str):
    torch.manual_seed(0)
    network = build_network(architecture, 5).eval()
    photos = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = network(photos)
        logits, features = FeatureNetwork(network)(photos)
        layer = last_layer(network)
        if isinstance(layer, nn.Linear):
            torch.testing.assert_close(layer(features), logits)
    torch.testing.assert_close(logits, expected)
    assert features.shape == (2, layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features)


def test_features_of_two_threads_never_mix():
    torch.manual_seed(0)
    network = FeatureNetwork(build_network("squeezenet1_1", 5).eval())
    photos = [torch.full((1, 3, 64, 64), float(i)) for i in range(8)]
    with torch.no_grad():
        expected = [network(photo)[1] for photo in photos]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: network(photos[i % 8])[1], range(64)))
    for i, features in enumerate(found):
        torch.testing.assert_close(features, expected[i % 8])
