"""Heads that are no linear layer: cosines to one centroid per label, and the vote of the nearest training examples.

Imports nothing but torch: a service on a GPU builds them again from a bundle.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 16.0
"""Of cosines as logits: -1..1 must reach what softmax can tell apart. Learned, it does no better."""
DOUBT = 0.02
"""Votes that every label has from the start, so that a label without neighbours has a logit too."""


class Centroids(nn.Linear):
    """Gives `SCALE` times the cosine to one centroid per label, logits [N, C], of features [N, D]."""

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [N, C]; the bias, which a centroid does not need, is 0."""
        return SCALE * F.linear(F.normalize(features), F.normalize(self.weight)) + self.bias


class Neighbours(nn.Module):
    """Gives the logarithm of the votes of the k nearest training examples by cosine, logits [N, C].

    A neighbour's vote is how much larger its cosine is than that of the first one that has no vote. So a vote fades out
    before it changes hands: with the cosine itself, two runtimes that round differently would give logits far apart.

    Args:
        width: D, of the features.
        num_labels: C.
        count: training examples in the bank; more than `neighbours`.
        neighbours: k.

    Source: Dudani 1976, "The Distance-Weighted k-Nearest-Neighbor Rule", equation 1, without its division by the
    largest weight, which has no meaning where all are 0.
    """

    bias: None = None
    """As linear layers have one."""

    def __init__(self, width: int, num_labels: int, count: int, neighbours: int) -> None:
        super().__init__()
        if not 0 < neighbours < count:
            raise ValueError(f"{neighbours} neighbours of {count} examples")
        self.num_labels = num_labels
        self.neighbours = neighbours
        self.keys: Tensor
        self.labels: Tensor
        self.register_buffer("keys", torch.zeros(count, width))
        self.register_buffer("labels", torch.zeros(count, dtype=torch.int64))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [N, C], float32 whatever the weights are in: 8 bits cannot tell neighbours apart."""
        if torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                return self(features)  # type: ignore[no-any-return]
        cosines = F.linear(F.normalize(features.float()), self.keys.float())  # [N, M]
        best, places = cosines.topk(self.neighbours + 1, dim=1)
        votes = best[:, :-1] - best[:, -1:]  # [N, k]
        counted = torch.zeros(features.shape[0], self.num_labels, device=features.device)
        counted = counted.scatter_add(1, self.labels[places[:, :-1]], votes)
        return (counted + DOUBT).log()
