"""Links that name the bundles to serve: where each leads, and when one leads elsewhere than before.

Neighbour: `swaps` looks here once a second where the setting `follow_links` is on, and serves what it finds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

SHORTEST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0


@dataclass
class _Link:
    path: Path
    leads_to: Path
    refused: Path | None = None
    wait_s: float = SHORTEST_WAIT_S
    not_before: float = 0.0


class Aliases:
    """The links among the paths of the served bundles.

    Args:
        paths: task -> bundle, as the settings name it.
        served: task -> folder that it was loaded from, where that is what the setting named then: a link that was
            changed since has changed. Others are taken to be at rest.
    """

    def __init__(self, paths: Mapping[str, Path], served: Mapping[str, Path] = MappingProxyType({})) -> None:
        self._links = {task: _Link(path, served.get(task) or _target(path)) for task, path in paths.items()}

    def changed(self) -> Iterator[tuple[str, Path]]:
        """Yield (task, folder) for each link that leads elsewhere than when it was last settled; one at rest is not."""
        for task, link in self._links.items():
            target = _target(link.path)
            if target == link.leads_to or not target.is_dir():  # while a link is replaced it may lead nowhere
                link.refused = None
                continue
            if target != link.refused:
                link.wait_s, link.not_before = SHORTEST_WAIT_S, 0.0
            if time.monotonic() >= link.not_before:
                yield task, target

    @property
    def are_at_rest(self) -> bool:
        """Whether no link leads to what was refused."""
        return all(link.refused is None for link in self._links.values())

    def settle(self, task: str, target: Path) -> None:
        """Take note that the link's folder serves."""
        link = self._links[task]
        link.leads_to, link.refused = target, None

    def put_off(self, task: str, target: Path) -> bool:
        """Have it come again later, each time after twice as long; return whether it is the first time.

        What cannot be served yet may be on its way: files that are still being copied.
        """
        link = self._links[task]
        is_new = link.refused != target
        link.refused = target
        link.not_before = time.monotonic() + link.wait_s
        link.wait_s = min(2 * link.wait_s, LONGEST_WAIT_S)
        return is_new


def _target(path: Path) -> Path:
    return Path(os.path.realpath(path))  # where links lead in a circle, Path.resolve raises
