from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nlp.intent.data import IntentData
from nlp.intent.module import IntentModule
from shared.errors import ConfigError


def make(data: IntentData, encoder: str, **options) -> IntentModule:
    torch.manual_seed(0)
    return IntentModule(data.labels, data.vocabulary_size, encoder=encoder, **{"dropout": 0.0, **options})


def encoded_by(encoder: str, utterances: Path, cache_dir: str, **options) -> IntentData:
    data = IntentData(
        str(utterances), encoder=encoder, batch_size=16, vocabulary_size=200, cache_dir=cache_dir, **options
    )
    data.setup()
    return data


@pytest.mark.parametrize("kind", ["bilstm", "mean", "prototype", "cls"])
def test_one_batch_can_be_learned_by_heart(kind: str, encoder_folder: Path, utterances: Path, cache_dir: str):
    encoder = "bilstm" if kind == "bilstm" else str(encoder_folder)
    data = encoded_by(encoder, utterances, cache_dir)
    pooling = "cls" if kind == "cls" else "mean"
    head = "prototype" if kind == "prototype" else "linear"
    module = make(data, encoder, pooling=pooling, head=head, label_smoothing=0.0, hidden_size=32)
    module.train()
    batch = next(iter(data.train_dataloader()))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for _ in range(60):
        loss, logits, margin = module._shared_step(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    inside = batch["target"] >= 0
    assert loss.item() < 0.3
    assert torch.equal(logits[inside].argmax(1), batch["target"][inside])
    assert margin[inside].max() < margin[~inside].min()


@pytest.mark.parametrize("way", ["reject", "uniform", "none"])
def test_every_way_of_learning_what_is_out_of_scope_has_a_loss(data: IntentData, way: str):
    module = make(
        data, "bilstm", out_of_scope=way, mixed_outliers=8, contrastive_weight=0.1, consistency_weight=1
    ).train()
    loss, _, margin = module._shared_step(next(iter(data.train_dataloader())))
    loss.backward()
    assert loss.isfinite()
    assert margin.isfinite().all()
    assert (module.rejection is not None) == (way == "reject")


def test_word_vectors_stay_when_they_are_frozen(data: IntentData, encoder_folder: Path):
    module = make(data, str(encoder_folder), freeze_embeddings=True)
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    assert frozen == ["network.model.embeddings.word_embeddings.weight"]
    assert all(p.requires_grad for p in make(data, "bilstm", freeze_embeddings=True).parameters())


def test_logits_are_float32_under_autocast(data: IntentData, encoder_folder: Path, utterances: Path, cache_dir: str):
    data = encoded_by(str(encoder_folder), utterances, cache_dir)
    module = make(data, str(encoder_folder), head="prototype").eval()
    batch = next(iter(data.val_dataloader()))
    with torch.autocast("cpu", torch.bfloat16):
        logits, features = module.network(batch["input_ids"], batch["attention_mask"])
    assert logits.dtype == features.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_of_scope": "uniform", "detector": "rejection"}, "must be learned"),
        ({"acceptance": 0.0}, "acceptance"),
        ({"encoder": "no/such/folder/"}, "cannot be loaded"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options: dict, message: str, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=message):
        IntentModule(["a", "b"], 20, **{"encoder": "bilstm", **options})
