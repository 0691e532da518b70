"""What tagging loses by beside cross-entropy: choices within each set, and weights for rare labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from shared.bundle.layout import ProblemType
from vision.tagging.data import TaggingData
from vision.tagging.evaluation import SourceView
from vision.tagging.taxonomy import Hierarchy


def choice_loss(
    logits: Tensor, targets: Tensor, sources: Tensor, views: Sequence[SourceView], hierarchy: Hierarchy
) -> Tensor:
    """Return the cross-entropy over each set's own labels, of photos whose set gives them exactly one.

    Args:
        logits: float32 [N, num_labels].
        targets: float32 [N, num_labels]: 1, 0, or NaN where unknown.
        sources: int64 [N], of which of the `views` each photo is.
        views: the sets.
        hierarchy: a photo's own label may stand below others of its set; those are no rivals.
    """
    loss = logits.new_zeros(())
    depths = torch.tensor([len(above) for above in hierarchy.ancestors], device=logits.device)
    for i, view in enumerate(views):
        rows = (sources == i).nonzero()[:, 0]
        if view.is_single_label and len(rows):
            columns = torch.tensor(view.label_indices, device=logits.device)
            own = targets[rows[:, None], columns]  # [rows, own labels]
            label = ((own == 1) * (1 + depths[columns])).argmax(dim=1)
            rivals = (own == 0).scatter(1, label[:, None], True)
            scores = logits[rows[:, None], columns].masked_fill(~rivals, -torch.inf)
            loss = loss + F.cross_entropy(scores, label, reduction="sum")
    return loss / len(logits)


def balanced_weights(data: TaggingData, problem_type: ProblemType) -> Tensor:
    """Return float32 [num_labels]: inverse frequency for cross-entropy, negatives to positives for BCE; 0.1..10."""
    targets = np.stack([data.targets(example) for example in data.splits["train"]])  # [N, num_labels]
    positives = (targets == 1).sum(0).clip(1)
    other = (targets == 0).sum(0) if problem_type == "multi_label_classification" else positives.mean()
    return torch.from_numpy((other / positives).clip(0.1, 10.0).astype(np.float32))
