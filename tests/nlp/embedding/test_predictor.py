from __future__ import annotations

import numpy as np
import pytest

from nlp.embedding.packing import SENTENCES
from nlp.embedding.predictor import EmbeddingPredictor
from shared.bundle.read import Bundle
from shared.errors import BundleError, InputError
from shared.runtime.choose import choose_runtime


@pytest.fixture(scope="module")
def predictor(embedding_bundle: Bundle) -> EmbeddingPredictor:
    return EmbeddingPredictor(embedding_bundle, choose_runtime(embedding_bundle, "cpu"))


def test_texts_keep_their_order_and_neighbours_change_nothing(predictor: EmbeddingPredictor):
    texts = [*SENTENCES, *reversed(SENTENCES), ""]
    together = predictor.embed(texts)
    assert together.shape == (len(texts), predictor.size)
    assert together.dtype == np.float32
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_allclose(predictor.embed([text])[0], row, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_no_text_has_no_embedding(predictor: EmbeddingPredictor):
    assert predictor.embed([]).shape == (0, predictor.size)


def test_half_a_surrogate_pair_is_refused(predictor: EmbeddingPredictor):
    with pytest.raises(InputError, match="half a surrogate pair"):
        predictor.embed(["\ud800"])


def test_bundle_of_another_task_is_refused(intent_bundle: Bundle):
    with pytest.raises(BundleError, match="is a bundle for intent; expected one for embedding"):
        EmbeddingPredictor(intent_bundle, choose_runtime(intent_bundle, "cpu"))
