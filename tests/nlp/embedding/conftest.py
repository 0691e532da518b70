from __future__ import annotations

from pathlib import Path

import pytest

from nlp.embedding.packing import SENTENCES, pack_encoder
from shared.bundle.read import Bundle
from tests.encoders import make_encoder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random encoder, as transformers saves one."""
    return make_encoder(tmp_path_factory.mktemp("encoders") / "tiny-encoder", SENTENCES)


@pytest.fixture(scope="session")
def embedding_bundle(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its bundle. Read it, never change it."""
    return pack_encoder(encoder_folder, tmp_path_factory.mktemp("bundles") / "tiny")
