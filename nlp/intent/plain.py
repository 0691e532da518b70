"""What plain methods learn intents from: a frozen network's features, or TF-IDF, which is weighed here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import normalize
from tqdm import tqdm

from nlp.intent.data import IntentData
from nlp.intent.network import IntentNetwork, TfIdf
from nlp.intent.sources import Example
from nlp.text import ATTENTION_MASK, INPUT_IDS
from shared.training.plain import Examples

MAX_WIDTH = 256
"""Directions of the features of TF-IDF: detectors and explorations compare them in pairs."""
POWER_STEPS = 2
"""Of the randomised SVD: more did not change the accuracy of the neighbours among CLINC150's validation utterances."""


def weigh_words(network: TfIdf, data: IntentData) -> None:
    """Set how much each piece and pair counts, and what the features are, by all training utterances.

    The weights are scikit-learn's: log((1 + N) / (1 + n)) + 1 of what n of N utterances have, and 0 of what none has.
    """
    network.is_piece[data.special_ids] = 0
    counts, _ = _counts(network, data, data.splits["train"])
    having = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.where(having > 0, np.log((1 + counts.shape[0]) / (1 + having)) + 1, 0)
    network.idf.copy_(torch.from_numpy(idf))
    width = max(1, min(MAX_WIDTH, counts.shape[0] - 1, int((having > 0).sum()) - 1))
    directions = TruncatedSVD(width, n_iter=POWER_STEPS, random_state=data.seed).fit(_vectors(counts, idf)).components_
    network.width = width
    network.projection = torch.from_numpy(np.ascontiguousarray(directions.T)).to(network.idf)


def intent_examples(network: IntentNetwork, data: IntentData, split: str, *, sparse: bool) -> Examples:
    """Return the utterances of a split that have an intent, as a frozen network sees them.

    Args:
        network: in eval mode.
        data: the utterances.
        split: "train" or "val".
        sparse: whether TF-IDF's whole vectors are wanted; else the features.
    """
    examples = [example for example in data.splits[split] if example.label is not None]
    if isinstance(network, TfIdf):
        counts, targets = _counts(network, data, examples)
        vectors = _vectors(counts, network.idf.cpu().numpy())
        return Examples(vectors if sparse else vectors @ network.projection.cpu().numpy(), targets)
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    device = next(network.parameters()).device
    for batch in tqdm(data.plain_dataloader(examples), desc=f"features of {split}", unit="batch"):
        found = network(batch[INPUT_IDS].to(device), batch[ATTENTION_MASK].to(device))[1]
        parts.append((found.float().cpu().numpy(), batch["target"].numpy()))
    if not parts:
        return Examples(np.zeros((0, network.width), dtype=np.float32), np.zeros(0, dtype=np.int64))
    features, targets = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Examples(features, targets)


def _counts(network: TfIdf, data: IntentData, examples: Sequence[Example]) -> tuple[csr_array, np.ndarray]:
    """Return how often each piece and pair is in each utterance, [N, places], and the targets, int64 [N]."""
    parts, targets = [], []
    size = len(network.idf)
    for batch in tqdm(data.plain_dataloader(list(examples)), desc="words", unit="batch"):
        ids, mask = (batch[name].to(network.idf.device) for name in (INPUT_IDS, ATTENTION_MASK))
        places, counted = network.places(ids, mask)
        rows = np.repeat(np.arange(len(places)), places.shape[1])
        columns = places.cpu().numpy().ravel().astype(np.int32)  # what scikit-learn's solvers take
        part = csr_array((counted.cpu().numpy().ravel(), (rows.astype(np.int32), columns)), (len(places), size))
        part.sum_duplicates()
        part.eliminate_zeros()
        parts.append(part)
        targets.append(batch["target"].numpy())
    if not parts:
        return csr_array((0, size), dtype=np.float32), np.zeros(0, dtype=np.int64)
    return vstack(parts, format="csr"), np.concatenate(targets)


def _vectors(counts: csr_array, idf: np.ndarray) -> csr_array:
    """Return what `TfIdf.vectors` gives, from its counts."""
    weighed = counts.copy()
    weighed.data = (1 + np.log(counts.data)) * idf[counts.indices]
    return normalize(weighed)
