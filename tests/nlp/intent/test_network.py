from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from nlp.intent.network import Bilstm, Classifier, FirstTokenEncoder, MeanEncoder, build_network
from shared.errors import ConfigError

IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 9, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def bilstm() -> Bilstm:
    torch.manual_seed(0)
    network = build_network("bilstm", 4, vocabulary_size=20, size=8)
    assert isinstance(network, Bilstm)
    return network.eval()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_changes_nothing(encoder_folder: Path, pooling):
    for network in (bilstm(), build_network(str(encoder_folder), 4, pooling=pooling).eval()):
        logits, features = network(IDS, MASK)
        alone_logits, alone_features = network(IDS[1:, :3], MASK[1:, :3])
        torch.testing.assert_close(logits[1:], alone_logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(features[1:], alone_features, atol=1e-5, rtol=0)


def test_the_recurrent_network_reads_both_ways_as_torchs_own_does():
    network = bilstm()
    reference = torch.nn.LSTM(8, 8, batch_first=True, bidirectional=True)
    state = {**network.forwards.state_dict(), **{f"{k}_reverse": v for k, v in network.backwards.state_dict().items()}}
    reference.load_state_dict(state)
    packed = torch.nn.utils.rnn.pack_padded_sequence(network.words(IDS), MASK.sum(1), batch_first=True)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True)
    found = network.states(IDS, MASK) * MASK[..., None]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_mean_pooling_is_the_mean_of_the_encoders_states(encoder_folder: Path):
    network = build_network(str(encoder_folder), 4).eval()
    states = AutoModel.from_pretrained(encoder_folder).eval()(input_ids=IDS[1:, :3]).last_hidden_state
    torch.testing.assert_close(network(IDS, MASK)[1][1:], states.mean(dim=1), atol=1e-5, rtol=0)


def test_the_first_tokens_head_is_hugging_faces_own(encoder_folder: Path):
    torch.manual_seed(0)
    network = build_network(str(encoder_folder), 4, pooling="cls").eval()
    assert isinstance(network, FirstTokenEncoder)
    logits, features = network(IDS, MASK)
    expected = network.model(input_ids=IDS, attention_mask=MASK).logits
    assert type(network.model) is type(AutoModelForSequenceClassification.from_config(network.model.config))
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(network.head(features), expected)


def test_a_prototype_head_gives_scaled_cosines():
    torch.manual_seed(0)
    head = Classifier(6, 3, "prototype")
    features = torch.randn(5, 6)
    expected = 16 * torch.nn.functional.cosine_similarity(features[:, None], head.weight, dim=-1)
    torch.testing.assert_close(head(features), expected)


def test_gradients_reach_every_weight(encoder_folder: Path):
    for network in (
        bilstm(),
        build_network(str(encoder_folder), 4),
        build_network(str(encoder_folder), 4, pooling="cls"),
    ):
        logits, _ = network(IDS, MASK)
        logits.sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_an_own_pooling_of_the_encoder_is_left_out(encoder_folder: Path):
    network = build_network(str(encoder_folder), 4)
    assert isinstance(network, MeanEncoder)
    assert not any("pooler" in name for name in network.state_dict())


def test_settings_that_do_not_go_together_are_refused(encoder_folder: Path):
    with pytest.raises(ConfigError, match="pooling cls"):
        build_network(str(encoder_folder), 4, pooling="cls", head="prototype")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        build_network(str(encoder_folder / "nothing"), 4)
