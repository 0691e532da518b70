"""Fixtures that several folders of tests share."""

from __future__ import annotations

import pytest

from shared.bundle.read import Bundle
from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_intent_bundle, make_qa_bundle, make_writer_bundle


@pytest.fixture(scope="session")
def tagger_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tagging bundle that calls red photos "cat", green ones "dog" and blue ones "car". Read it, never change it."""
    return make_tagger_bundle(tmp_path_factory.mktemp("bundles") / "tagger")


@pytest.fixture(scope="session")
def intent_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An intent bundle that knows a few words. Read it, never change it."""
    return make_intent_bundle(tmp_path_factory.mktemp("bundles") / "intent")


@pytest.fixture(scope="session")
def qa_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A question-answering bundle that knows names and numbers. Read it, never change it."""
    return make_qa_bundle(tmp_path_factory.mktemp("bundles") / "qa")


@pytest.fixture(scope="session")
def writer_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A writer that writes "It is", then the answer. Read it, never change it."""
    return make_writer_bundle(tmp_path_factory.mktemp("bundles") / "writer")
