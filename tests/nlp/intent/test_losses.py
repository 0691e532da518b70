from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from nlp.intent.module import (
    HIGHEST_MIX,
    LOWEST_MIX,
    consistency_loss,
    contrastive_loss,
    mixed_outliers,
    rejecting_loss,
    uniform_loss,
)

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
