"""What networks say of many texts, and a teacher among them: one whose network is larger than the one that learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from nlp.distilling import read_teacher
from nlp.intent import TASK
from nlp.intent.entities import ENTITY_LOGITS
from nlp.intent.predictor import LOGITS, MAX_WINDOWS, infer
from nlp.text import Encoding, TextEncoder
from shared.errors import ConfigError
from shared.runtime.choose import choose_runtime
from shared.runtime.protocol import Runtime

BATCH_SIZE = 32
SHOWN = 5


def teacher_logits(named: str, texts: Sequence[str], labels: Sequence[str], threads: int = 1) -> np.ndarray:
    """Return what a teacher says of texts, float32 [N, C], in the order of the labels.

    Args:
        named: the folder of its bundle.
        texts: training utterances.
        labels: intents that are learned; it must know them all.
        threads: of the teacher on a CPU.

    Raises:
        ConfigError: it is no bundle of intents, or does not know one of them.
        BundleError: the bundle is broken.
    """
    bundle = read_teacher(named, TASK.name)
    place = {label: index for index, label in enumerate(bundle.labels)}
    unknown = [label for label in labels if label not in place]
    if unknown:
        raise ConfigError(
            f"the teacher {named} does not know {len(unknown)} of the {len(labels)} intents, such as "
            f"{', '.join(map(repr, unknown[:SHOWN]))}: train it on the same intents, or more."
        )
    runtime = choose_runtime(bundle, network=TASK.network, threads=threads)
    found = judge_texts(runtime, TextEncoder.from_bundle(bundle, MAX_WINDOWS), texts, f"asking {bundle.name}")
    return found[LOGITS][:, [place[label] for label in labels]]


def judge_texts(
    runtime: Runtime,
    encoder: TextEncoder,
    texts: Sequence[str],
    title: str,
    keep: Callable[[int, dict[str, np.ndarray], Encoding], None] | None = None,
) -> dict[str, np.ndarray]:
    """Return a runtime's outputs [N, …] for texts, computed in batches of similar length.

    Args:
        runtime: of the network.
        encoder: of the network.
        texts: any number.
        title: of the progress bar.
        keep: is called with the place of each text, its outputs and its encoding, before those outputs are dropped that
            are as long as the text.
    """
    encodings = encoder.encode_batch(texts)
    names = [spec.name for spec in runtime.inputs]
    order = sorted(range(len(texts)), key=lambda i: len(encodings[i]))
    whole = [spec.name for spec in runtime.outputs if spec.name != ENTITY_LOGITS]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in whole}
    for start in tqdm(range(0, len(order), BATCH_SIZE), desc=title, unit="batch"):
        rows = order[start : start + BATCH_SIZE]
        found = infer(runtime, encoder, [encodings[row] for row in rows], names)
        for row, outputs in zip(rows, found, strict=True):
            if keep is not None:
                keep(row, outputs, encodings[row])
        for name in whole:
            parts[name].append(np.stack([outputs[name] for outputs in found]))
    back = np.argsort(np.array(order), kind="stable")
    return {name: np.concatenate(found)[back] for name, found in parts.items()}
