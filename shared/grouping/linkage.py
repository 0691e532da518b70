"""Average linkage by cosine: the same tree as of all pairs, without ever holding all pairs.

The mean cosine between the members of two groups is the product of the means of their unit vectors. So a group is its
mean, and its nearest group is found in blocks. Two groups that are each other's nearest may be joined in any order
(average linkage is reducible), so that each round joins all such pairs at once. Source: Murtagh 1983, "A survey of
recent advances in hierarchical clustering algorithms".
"""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster
from tqdm import tqdm

_BLOCK = 2048
"""Groups whose products with all others are held at once."""
_SLOW = 3000
"""Rows from which it takes seconds, and shows how far it is."""


def average_linkage(features: np.ndarray) -> np.ndarray:
    """Return the tree as scipy's linkage matrix, float64 [N - 1, 4]; heights are 1 minus the mean cosine.

    Args:
        features: float [N, D] of length 1 each; N is 2 or more.
    """
    count = len(features)
    sums = features.astype(np.float64)
    sizes, ids = np.ones(count), np.arange(count)
    joined: list[tuple[int, int, float, float]] = []
    label = count
    with tqdm(total=count - 1, desc="grouping", unit="join", disable=count < _SLOW) as bar:
        while len(ids) > 1:
            near, cosine = _nearest((sums / sizes[:, np.newaxis]).astype(np.float32))
            here = np.arange(len(ids))
            first = here[(near[near] == here) & (here < near)]
            second = near[first]
            if not len(first):  # equal distances may form rings: join one pair
                first = np.array([int(cosine.argmax())])
                second = near[first]
            for one, other in zip(first, second, strict=True):
                joined.append((ids[one], ids[other], float(1 - cosine[one]), float(sizes[one] + sizes[other])))
            sums[first] += sums[second]
            sizes[first] += sizes[second]
            ids[first] = label + np.arange(len(first))
            label += len(first)
            kept = np.ones(len(ids), dtype=bool)
            kept[second] = False
            sums, sizes, ids = sums[kept], sizes[kept], ids[kept]
            bar.update(len(first))
    return _in_order(joined, count)


def cut(tree: np.ndarray, height: float) -> np.ndarray:
    """Return int [N]: the group of each row, where the tree is cut at a height; groups are numbered from 0."""
    return np.asarray(fcluster(tree, height, criterion="distance")) - 1


def _nearest(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest other group of each, int [G], and their mean cosine, float32 [G]."""
    near = np.empty(len(means), dtype=np.int64)
    cosine = np.empty(len(means), dtype=np.float32)
    for start in range(0, len(means), _BLOCK):
        block = means[start : start + _BLOCK] @ means.T
        rows = np.arange(len(block))
        block[rows, start + rows] = -np.inf
        best = block.argmax(axis=1)
        near[start : start + len(block)], cosine[start : start + len(block)] = best, block[rows, best]
    return near, cosine


def _in_order(joined: list[tuple[int, int, float, float]], count: int) -> np.ndarray:
    """Return the joins by rising height, numbered anew, as scipy expects them."""
    heights = np.array([each[2] for each in joined])
    # A join is never lower than those that it is made of; rounding in float32 must not say otherwise.
    for place, (one, other, _, _) in enumerate(joined):
        below = [heights[each - count] for each in (one, other) if each >= count]
        heights[place] = max([heights[place], 0.0, *below])
    order = np.argsort(heights, kind="stable")
    new = np.empty(len(joined), dtype=np.int64)
    new[order] = count + np.arange(len(joined))
    tree = np.empty((len(joined), 4))
    for row, place in enumerate(order):
        one, other = (int(new[each - count]) if each >= count else int(each) for each in joined[place][:2])
        tree[row] = min(one, other), max(one, other), heights[place], joined[place][3]
    return tree
