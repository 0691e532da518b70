"""What an intent network learns from: intents, utterances that belong to none, and which utterances belong together.

Neighbour: `module` adds them up.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LOWEST_MIX, HIGHEST_MIX = 0.3, 0.7
"""Share of one utterance in a mixed one: beyond, it would still be the other's intent."""


def rejecting_loss(logits: Tensor, rejection: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Return (loss of the intents, loss of what belongs to none): cross-entropy with "none" as one more class.

    Args:
        logits: float32 [N, C].
        rejection: float32 [N, 1], the logit of "none".
        targets: int64 [N], -1 for none.
        smoothing: moves the targets of intents towards chance.
    """
    joint = torch.cat([logits, rejection], dim=1)  # [N, C + 1]
    inside = targets >= 0
    none = torch.full_like(targets[~inside], logits.shape[1])
    return (
        F.cross_entropy(joint[inside], targets[inside], label_smoothing=smoothing),
        F.cross_entropy(joint[~inside], none) if len(none) else logits.new_zeros(()),
    )


def uniform_loss(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Return (loss of the intents, loss of what belongs to none): the latter should look like every intent a little.

    Arguments as for `rejecting_loss`. Source: Hendrycks et al. 2019, "Deep Anomaly Detection with Outlier Exposure",
    section 3.
    """
    inside = targets >= 0
    return (
        F.cross_entropy(logits[inside], targets[inside], label_smoothing=smoothing),
        -logits[~inside].log_softmax(dim=1).mean() if (~inside).any() else logits.new_zeros(()),
    )


def mixed_outliers(features: Tensor, targets: Tensor, count: int) -> Tensor:
    """Return at most `count` rows [M, D] between two utterances of different intents: they belong to neither.

    Args:
        features: [N, D].
        targets: int64 [N], -1 for none; those are not mixed.

    Source: Zhan et al. 2021, "Out-of-Scope Intent Detection with Self-Supervision and Discriminative Training".
    """
    inside = (targets >= 0).nonzero()[:, 0]
    left = inside[torch.randint(len(inside), (2 * count,), device=inside.device)]
    right = inside[torch.randint(len(inside), (2 * count,), device=inside.device)]
    differ = (targets[left] != targets[right]).nonzero()[:count, 0]
    share = LOWEST_MIX + (HIGHEST_MIX - LOWEST_MIX) * torch.rand(len(differ), 1, device=features.device)
    return share * features[left[differ]] + (1 - share) * features[right[differ]]


def consistency_loss(first: Tensor, second: Tensor) -> Tensor:
    """Return how far apart two passes with different dropout are: the mean of both Kullback-Leibler divergences.

    Args:
        first: float32 [N, C], logits.
        second: likewise, of the same utterances.

    Source: Liang et al. 2021, "R-Drop: Regularized Dropout for Neural Networks", equation 2.
    """
    left, right = first.log_softmax(dim=1), second.log_softmax(dim=1)
    both = F.kl_div(left, right, reduction="batchmean", log_target=True)
    return (both + F.kl_div(right, left, reduction="batchmean", log_target=True)) / 2


def contrastive_loss(features: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss: utterances of one intent near, others far, by cosine.

    Args:
        features: float32 [N, D].
        targets: int64 [N], -1 for none: those are far from all.
        temperature: divides the cosines.

    Source: Khosla et al. 2020, "Supervised Contrastive Learning", equation 2.
    """
    unit = F.normalize(features)
    own = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    cosines = (unit @ unit.T / temperature).masked_fill(own, -torch.inf)  # [N, N]
    together = (targets[:, None] == targets) & ~own & (targets >= 0)
    counts = together.sum(dim=1)
    if not counts.any():
        return features.new_zeros(())
    chances = cosines.log_softmax(dim=1).masked_fill(~together, 0.0).sum(dim=1)  # [N]
    return -(chances[counts > 0] / counts[counts > 0]).mean()
