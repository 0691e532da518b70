"""Heads that are no linear layer: cosines to one centroid per label, and the vote of the nearest training examples.

Imports nothing but torch: a service on a GPU builds them again from a bundle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 16.0
"""Of cosines as logits: -1..1 must reach what softmax can tell apart. Learned, it does no better."""
DOUBT = 0.02
"""Votes that every label has from the start, so that a label without neighbours has a logit too."""


def carried_rows(
    own: Tensor, found: Tensor, labels: Sequence[str], known: Sequence[str]
) -> tuple[Tensor, list[int]] | None:
    """Return a head's weights or biases with the rows of the labels that another head knows, and the other rows.

    None if the two have nothing to do with each other: other sizes, or no label in common.

    Args:
        own: [len(labels), ...], as it was made.
        found: [len(known), ...], of the other head.
        labels: of the rows of `own`.
        known: of the rows of `found`.

    >>> carried_rows(torch.zeros(3), torch.tensor([5.0, 7.0]), ["a", "b", "new"], ["b", "a"])
    (tensor([7., 5., 0.]), [2])
    """
    places = {label: place for place, label in enumerate(known)}
    rows = [row for row, label in enumerate(labels) if label in places]
    if not rows or own.shape[1:] != found.shape[1:] or len(own) != len(labels) or len(found) != len(known):
        return None
    grown = own.detach().clone()
    grown[rows] = found[[places[labels[row]] for row in rows]].to(own.dtype)
    return grown, [row for row in range(len(labels)) if row not in set(rows)]


@torch.no_grad()
def imprint(weight: Tensor, bias: Tensor | None, rows: Sequence[int], means: Tensor, centre: Tensor) -> None:
    """Start new rows of a linear head, in place, towards the mean features of their labels.

    Each points from the centre of all to its label's mean, is as long as the old rows are on average, and says of the
    centre what the old ones say on average.

    Args:
        weight: [C, D].
        bias: [C]; None if the head has none.
        rows: the new ones.
        means: [C, D], mean features of the labels' examples.
        centre: [D], mean features of all examples.

    Source: Qi et al. 2018, "Low-Shot Learning with Imprinted Weights", for a head with biases and lengths of its own.
    """
    old = [row for row in range(len(weight)) if row not in set(rows)]
    if not old or not rows:
        return
    directions = F.normalize(means[list(rows)] - centre)
    weight[list(rows)] = (weight[old].norm(dim=1).mean() * directions).to(weight.dtype)
    if bias is not None:
        level = (weight[old] @ centre + bias[old]).mean()
        bias[list(rows)] = (level - weight[list(rows)] @ centre).to(bias.dtype)


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
