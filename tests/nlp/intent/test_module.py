from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nlp.intent.data import IntentData
from nlp.intent.module import (
    HIGHEST_MIX,
    LOWEST_MIX,
    IntentModule,
    consistency_loss,
    contrastive_loss,
    mixed_outliers,
    rejecting_loss,
    two_wishes_loss,
    uniform_loss,
)
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
        loss, logits, margin, _ = module._shared_step(batch)
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
    loss, _, margin, _ = module._shared_step(next(iter(data.train_dataloader())))
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


torch.manual_seed(3)
LOGITS, REJECTION, FEATURES = torch.randn(6, 3), torch.randn(6, 1), torch.randn(6, 4)
TARGETS = torch.tensor([0, 2, -1, 0, 1, -1])


def test_rejection_is_one_more_class():
    inside, outside = rejecting_loss(LOGITS, REJECTION, TARGETS, smoothing=0.0)
    chances = torch.cat([LOGITS, REJECTION], dim=1).softmax(dim=1)
    known = [i for i in range(6) if TARGETS[i] >= 0]
    torch.testing.assert_close(inside, -chances[known, TARGETS[known]].log().mean())
    torch.testing.assert_close(outside, -chances[[2, 5], 3].log().mean())


def test_without_anything_out_of_scope_its_loss_is_nought():
    for loss in (
        rejecting_loss(LOGITS[:2], REJECTION[:2], TARGETS[:2], 0.1),
        uniform_loss(LOGITS[:2], TARGETS[:2], 0.1),
    ):
        assert loss[1] == 0
        assert loss[0] > 0


def test_uniform_targets_are_cross_entropy_with_every_intent_alike():
    inside, outside = uniform_loss(LOGITS, TARGETS, smoothing=0.0)
    torch.testing.assert_close(inside, F.cross_entropy(LOGITS[TARGETS >= 0], TARGETS[TARGETS >= 0]))
    torch.testing.assert_close(outside, F.cross_entropy(LOGITS[TARGETS < 0], torch.full((2, 3), 1 / 3)))


def test_mixed_outliers_lie_between_utterances_of_two_intents():
    points = torch.eye(6)
    found = mixed_outliers(points, TARGETS, 20)
    assert 0 < len(found) <= 20
    for row in found:
        left, right = row.nonzero()[:, 0].tolist()
        assert TARGETS[left] != TARGETS[right]
        assert TARGETS[left] >= 0
        assert TARGETS[right] >= 0
        torch.testing.assert_close(row.sum(), torch.tensor(1.0))
        assert LOWEST_MIX - 1e-6 <= row[left] <= HIGHEST_MIX + 1e-6


def test_one_intent_alone_cannot_be_mixed():
    assert mixed_outliers(FEATURES, torch.zeros(6, dtype=torch.int64), 8).shape == (0, 4)


def test_contrastive_loss_is_equation_2_of_its_paper():
    found = contrastive_loss(FEATURES, TARGETS, temperature=0.5)
    unit = (FEATURES / FEATURES.norm(dim=1, keepdim=True)).double().numpy()
    losses = []
    for i in range(6):
        partners = [j for j in range(6) if j != i and TARGETS[j] == TARGETS[i] >= 0]
        if partners:
            scores = unit @ unit[i] / 0.5
            others = np.log(sum(np.exp(scores[j]) for j in range(6) if j != i))
            losses.append(-np.mean([scores[j] - others for j in partners]))
    assert len(losses) == 2
    np.testing.assert_allclose(found.item(), np.mean(losses), rtol=1e-5)


def test_consistency_is_torchs_divergence_both_ways():
    one, other = (torch.distributions.Categorical(logits=logits) for logits in (LOGITS, LOGITS.flip(0)))
    divergence = torch.distributions.kl_divergence
    expected = (divergence(one, other) + divergence(other, one)).mean() / 2
    torch.testing.assert_close(consistency_loss(LOGITS, LOGITS.flip(0)), expected)
    assert consistency_loss(LOGITS, LOGITS + 3).abs() < 1e-6


def test_contrastive_loss_without_a_pair_is_nought():
    assert contrastive_loss(FEATURES[:3], torch.tensor([0, 1, -1]), 0.1) == 0


def test_contrastive_loss_has_finite_gradients():
    features = FEATURES.clone().requires_grad_()
    contrastive_loss(features, TARGETS, 0.1).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_a_student_comes_to_say_what_its_teacher_says(utterances: Path, cache_dir: str):
    data = encoded_by("bilstm", utterances, cache_dir)
    count = sum(example.label is not None for example in data.splits["train"])
    data.teacher_logits = np.random.default_rng(0).normal(size=(count, len(data.labels))).astype(np.float32)
    module = make(data, "bilstm", teacher_weight=1.0, teacher_temperature=1.0)
    batch = next(iter(data.train_dataloader()))
    known = batch["target"] >= 0
    assert not known.all()
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    for _ in range(200):
        loss, logits, _, _ = module._shared_step(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (logits.softmax(1) - batch["teacher_logits"].softmax(1))[known].abs().max() < 0.1
    assert "teacher_logits" not in next(iter(data.val_dataloader()))


def test_a_teacher_must_know_every_intent(utterances: Path, cache_dir: str):
    starter = Path(__file__).resolve().parents[3] / "models" / "intent"
    data = encoded_by("bilstm", utterances, cache_dir, teacher=str(starter))
    with pytest.raises(ConfigError, match="does not know 2 of the 3 intents, such as 'greet', 'pay': train it on"):
        data.train_dataloader()
    data = encoded_by("bilstm", utterances, cache_dir, teacher=str(starter.parent / "qa"))
    with pytest.raises(ConfigError, match="is a bundle for qa; expected one for intent"):
        data.train_dataloader()


def test_two_wishes_are_learned_as_less_than_half_of_each():
    both = torch.tensor([[0, 2], [-1, -1]])
    logits = torch.zeros(2, 4, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(300):
        optimizer.zero_grad()
        two_wishes_loss(logits, both).backward()
        optimizer.step()
    assert logits.softmax(dim=1)[0].tolist() == pytest.approx([0.45, 0.05, 0.45, 0.05], abs=0.01)
    assert not logits[1].any(), "others are left alone"
    assert two_wishes_loss(logits, both[1:].expand(2, 2)).item() == 0
