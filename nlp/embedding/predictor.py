"""Texts to embeddings with a bundle and a runtime. Torch-free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

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
        return in_batches(self.encoder.encode_batch(texts), self.infer, self.size)

    def infer(self, batch: Sequence[Encoding]) -> np.ndarray:
        """Return float32 [len(batch), size], one row for each encoding."""
        with self._one_call:
            return self.runtime.run(self.encoder.batch(batch, self._inputs))[EMBEDDINGS]


def in_batches(
    encodings: Sequence[Encoding], infer: Callable[[Sequence[Encoding]], np.ndarray], size: int
) -> np.ndarray:
    """Return float32 [N, size], a row for each encoding, from calls with encodings of like length.

    Args:
        encodings: of any lengths.
        infer: computes the rows of some.
        size: of a row.
    """
    embeddings = np.empty((len(encodings), size), dtype=np.float32)
    order = sorted(range(len(encodings)), key=lambda index: len(encodings[index]))
    while order:
        count = max(1, BATCH_TOKENS // len(encodings[order[-1]]))
        chosen, order = order[-count:], order[:-count]
        embeddings[chosen] = infer([encodings[index] for index in chosen])
    return embeddings
