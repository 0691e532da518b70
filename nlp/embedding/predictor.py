"""Texts to embeddings with a bundle and a runtime. Torch-free."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from nlp.text import Encoding, TextEncoder
from shared.bundle.layout import EmbeddingDecision
from shared.bundle.read import Bundle
from shared.errors import BundleError
from shared.runtime.protocol import Runtime

EMBEDDINGS = "embeddings"
"""Name of the network's output, float32 [N, d], rows of length 1."""
BATCH_TOKENS = 512
"""In one call of the network, padding included; texts are sorted by length, so that there is little of that."""


class EmbeddingPredictor:
    """Embeds as the bundle says; holds no state between calls."""

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        if not isinstance(bundle.config.decision, EmbeddingDecision):
            raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for embedding.")
        self.bundle = bundle
        self.runtime = runtime
        self.encoder = TextEncoder.from_bundle(bundle)
        self._one_call = threading.Lock()  # each call at the same time would keep memory of its own for ever
        self._inputs = [spec.name for spec in bundle.config.signature.inputs]
        (output,) = bundle.config.signature.outputs
        self.size = int(output.shape[-1])
        """Numbers of one embedding."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 [N, size], a row of length 1 for each text; long ones are cut off after `max_length` tokens.

        Raises:
            InputError: a text holds half a surrogate pair.
        """
        embeddings = np.empty((len(texts), self.size), dtype=np.float32)
        encodings = self.encoder.encode_batch(texts)
        order = sorted(range(len(texts)), key=lambda index: len(encodings[index]))
        while order:
            longest = len(encodings[order[-1]])
            count = max(1, BATCH_TOKENS // longest)
            chosen, order = order[-count:], order[:-count]
            embeddings[chosen] = self.infer([encodings[index] for index in chosen])
        return embeddings

    def infer(self, batch: Sequence[Encoding]) -> np.ndarray:
        """Return float32 [len(batch), size], one row for each encoding."""
        with self._one_call:
            return self.runtime.run(self.encoder.batch(batch, self._inputs))[EMBEDDINGS]
