"""Fixtures that several folders of tests share."""

from __future__ import annotations

import pytest

from shared.bundle.read import Bundle
from tests.bundles import make_tagger_bundle


@pytest.fixture(scope="session")
def tagger_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tagging bundle that calls red photos "cat", green ones "dog" and blue ones "car". Read it, never change it."""
    return make_tagger_bundle(tmp_path_factory.mktemp("bundles") / "tagger")
