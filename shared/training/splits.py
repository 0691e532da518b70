"""Takes a share out of examples, stratified, from a fixed seed. Neighbours: the tasks' data modules."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence


def stratified_share(strata: Sequence[str], share: float, rng: random.Random) -> set[int]:
    """Return the places of about `share` of the examples, in each stratum and in total.

    Of each stratum one example stays at least; what it cannot give, no other has to.

    Args:
        strata: of each example; such as its label.
        share: of each stratum; what rounding leaves is carried over to the next.
        rng: decides which.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(strata):
        members[key].append(place)
    taken: set[int] = set()
    owed = 0.0
    for key in sorted(members):
        rng.shuffle(members[key])
        owed += share * len(members[key])
        count = min(round(owed), len(members[key]) - 1)
        owed = min(0.5, owed - count)
        taken.update(members[key][:count])
    return taken
