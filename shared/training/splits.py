"""What every data module checks, and a share of examples, stratified, from a fixed seed.

Neighbours: the tasks' data modules.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from shared.errors import ConfigError


def check_shares(val_share: float, test_share: float) -> None:
    """Refuse shares of which nothing is left to train on.

    Raises:
        ConfigError: they add up to 1 or more, or one is less than 0.
    """
    if val_share < 0 or test_share < 0 or val_share + test_share >= 1:
        raise ConfigError(f"val_share and test_share must add up to less than 1, not {val_share} + {test_share}.")


def check_names(names: Iterable[str]) -> None:
    """Refuse two sets of one name: reports tell them apart by it.

    Raises:
        ConfigError: names it.
    """
    (name, count), *_ = Counter(names).most_common(1)
    if count > 1:
        raise ConfigError(f"two sources are called {name!r}: give them different names.")


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
