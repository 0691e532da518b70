"""The all-in-one service: what `bentoml serve .` starts and the root's `bentofile.yaml` builds.

Today it is the vision service alone; a second microservice joins it here.
"""

from __future__ import annotations

from vision.service import Vision as Percept

__all__ = ["Percept"]
