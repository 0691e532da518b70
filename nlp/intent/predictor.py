"""Utterances to intents, or to none, with a bundle and a runtime. Torch-free.

Encoding and `decide` work on one utterance, `infer` on a batch: a bad utterance never fails others, and the service
batches only the network. A `Detector` tells which utterances belong to no intent: one number each, higher if it belongs
to none; some have arrays that training fitted, which the bundle keeps in out_of_scope.npz.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from nlp.intent.entities import ENTITY_LOGITS, Entity, multi_intent, read_entities
from nlp.text import Encoding, TextEncoder, parts_of
from shared.bundle.calibration import probabilities_from_logits, probability_from_logit
from shared.bundle.layout import IntentDecision
from shared.bundle.read import Bundle, read_arrays
from shared.errors import BundleError
from shared.exploring.languages import is_foreign
from shared.runtime.protocol import Runtime

DETECTOR_FILE = "out_of_scope.npz"
LOGITS = "logits"
FEATURES = "features"
MAX_WINDOWS = 8
"""Parts of a long utterance that are read; of one that has more the middle is left out."""
_ROWS = 32
"""Windows in one call of the network."""
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class IntentScore:
    """One intent with its calibrated probability, given that the utterance belongs to one."""

    name: str
    confidence: float


@dataclass(frozen=True)
class IntentResult:
    """What one utterance wants."""

    intent: str | None
    """None if it is out of scope."""
    confidence: float
    """Of the best intent, even if it is not given."""
    out_of_scope: bool
    out_of_scope_score: float
    """0 to 1; higher if the utterance belongs to no intent."""
    ranking: list[IntentScore]
    """Best first."""
    truncated: bool = False
    """Whether the middle of the utterance was left out, because the network reads no more."""
    intents: tuple[str, ...] = ()
    """What it wants, several if the intent's name is `one+other`; none if it is out of scope."""
    entities: tuple[Entity, ...] = ()
    """What it names, in the utterance's order, also if it is out of scope."""


class IntentPredictor:
    """Classifies utterances as the bundle says; holds no state between calls."""

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        decision = bundle.config.decision
        if not isinstance(decision, IntentDecision):
            raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for intent.")
        self.bundle = bundle
        self.runtime = runtime
        self.encoder = TextEncoder.from_bundle(bundle, MAX_WINDOWS)
        self.labels = bundle.labels
        self.decision = decision
        self.detector = read_detector(bundle)
        self.entities = read_entities(bundle)
        self._is_foreign("loads what tells languages apart, before the first utterance")
        self._inputs = [spec.name for spec in bundle.config.signature.inputs]

    def infer(self, batch: Sequence[Encoding]) -> list[dict[str, np.ndarray]]:
        """Return each utterance's row of the network's outputs.

        They are `logits` float32 [C], `features` [D] if any, and `entity_logits` [T or more, E] if any.
        """
        return infer(self.runtime, self.encoder, batch, self._inputs)

    def decide(
        self, outputs: Mapping[str, np.ndarray], encoding: Encoding, *, top_k: int | None = None
    ) -> IntentResult:
        """Return what one utterance wants; "nothing that is known" is a normal answer.

        An utterance without a word is out of scope, whatever the network makes of it, unless one was trained. So is one
        that is clearly in another language than those that the bundle knows.

        Args:
            outputs: an item of what `infer` returns.
            encoding: what it was given.
            top_k: most intents in the ranking; None for all.
        """
        decision = self.decision
        probabilities = probabilities_from_logits(
            outputs[LOGITS], decision.temperature, "single_label_classification"
        )  # float64 [C], given that it is one of the intents
        [value] = self.detector.values({name: row[np.newaxis] for name, row in outputs.items()})
        score = probability_from_logit(float(value) + decision.detector_shift, decision.detector_temperature)
        order = np.argsort(-probabilities, kind="stable")
        best = int(order[0])
        ranking = [IntentScore(self.labels[place], float(probabilities[place])) for place in order[:top_k].tolist()]
        is_out = 1 - score < decision.abstain_below
        if (encoding.is_wordless and not decision.knows_wordless) or (not is_out and self._is_foreign(encoding.text)):
            is_out, score = True, 1.0
        return IntentResult(
            intent=None if is_out else self.labels[best],
            confidence=float(probabilities[best]),
            out_of_scope=is_out,
            out_of_scope_score=score,
            ranking=ranking,
            truncated=encoding.is_cut,
            intents=() if is_out else multi_intent(self.labels[best]),
            entities=self.entities.entities(outputs, encoding) if self.entities else (),
        )

    def _is_foreign(self, text: str) -> bool:
        return bool(self.decision.languages) and is_foreign(text, self.decision.languages)

    def predict(self, texts: Sequence[str], *, top_k: int | None = None) -> list[IntentResult]:
        """Return what each utterance wants, in their order; for notebooks and `percept predict`."""
        encodings = [self.encoder.encode(text) for text in texts]
        found = zip(self.infer(encodings), encodings, strict=True)
        return [self.decide(outputs, encoding, top_k=top_k) for outputs, encoding in found]


def infer(
    runtime: Runtime, encoder: TextEncoder, batch: Sequence[Encoding], inputs: Sequence[str]
) -> list[dict[str, np.ndarray]]:
    """Return each text's row of a network's outputs; of one that is read in windows what they say together.

    Args:
        runtime: of the network.
        encoder: that encoded the texts.
        batch: any number of them, of similar length.
        inputs: names of the network's inputs.
    """
    if not batch:
        return []
    if not any(each.windows for each in batch):
        outputs = runtime.run(encoder.batch(batch, inputs))
        return [{name: values[row] for name, values in outputs.items()} for row in range(len(batch))]
    read = [parts_of(each) for each in batch]
    flat = [part for parts in read for part in parts]
    rows: list[dict[str, np.ndarray]] = []
    for start in range(0, len(flat), _ROWS):
        found = runtime.run(encoder.batch(flat[start : start + _ROWS], inputs))
        rows += [
            {name: values[row] for name, values in found.items()} for row in range(len(flat[start : start + _ROWS]))
        ]
    left = iter(rows)
    return [_together(each, [next(left) for _ in parts]) for each, parts in zip(batch, read, strict=True)]


def _together(encoding: Encoding, rows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return what the windows of a text say together: of intents what the surest says, of each token the most central.

    The surest window is the one with the least energy.
    """
    if not encoding.windows:
        return rows[0]
    surest = int(np.argmax([np.logaddexp.reduce(row[LOGITS].astype(np.float64)) for row in rows]))
    outputs = {name: value for name, value in rows[surest].items() if name != ENTITY_LOGITS}
    if ENTITY_LOGITS not in rows[0]:
        return outputs
    first = encoding.windows[0].start
    tags = np.zeros((len(encoding), rows[0][ENTITY_LOGITS].shape[-1]), dtype=np.float32)
    centres = np.array([(part.start + part.stop - 1) / 2 for part in encoding.windows])
    for place in range(first, encoding.windows[-1].stop):
        window = int(np.abs(centres - place).argmin())
        tags[place] = rows[window][ENTITY_LOGITS][first + place - encoding.windows[window].start]
    return {**outputs, ENTITY_LOGITS: tags}


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Detector:
    """One of `KINDS` with its arrays."""

    name: str
    arrays: Arrays = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in KINDS:
            raise BundleError(f"there is no detector {self.name!r}; there are {', '.join(KINDS)}.")

    @property
    def needs_features(self) -> bool:
        return KINDS[self.name].needs_features

    @cached_property
    def values(self) -> Callable[[Arrays], np.ndarray]:
        """Maps the network's outputs to float64 [N], higher if an utterance belongs to no intent.

        The outputs are `logits` [N, C] and, if `needs_features`, `features` [N, D].
        """
        return partial(KINDS[self.name].values, self.arrays)

    def file(self) -> dict[str, bytes]:
        """Return the bundle's file as name -> content; nothing if the detector has no arrays."""
        if not self.arrays:
            return {}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **dict(self.arrays))
        return {DETECTOR_FILE: buffer.getvalue()}

    def check(self, where: str, num_labels: int, width: int | None) -> None:
        """Refuse arrays whose names or shapes do not fit the network's outputs.

        Raises:
            BundleError: says what was expected and what came.
        """
        kind = KINDS[self.name]
        sizes = {"C": num_labels, "D": width, "1": 1}
        if kind.needs_features and width is None:
            raise BundleError(f"{where}: the detector {self.name} needs the network's output {FEATURES}.")
        if set(self.arrays) != set(kind.shapes):
            raise BundleError(
                f"{where} has {sorted(self.arrays)}; the detector {self.name} needs {sorted(kind.shapes)}."
            )
        for name, shape in kind.shapes.items():
            array = self.arrays[name]
            pairs = list(zip(shape, array.shape, strict=False))
            fits = array.ndim == len(shape) and all(sizes.setdefault(axis, size) == size for axis, size in pairs)
            if not fits or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
                raise BundleError(
                    f"{where}: {name} is {array.dtype} {list(array.shape)}; expected finite numbers "
                    f"[{', '.join(shape)}] with {sizes}."
                )


def read_detector(bundle: Bundle) -> Detector:
    """Return the detector that the bundle's decision rule names.

    Raises:
        BundleError: there is no such detector, or its file is missing, broken or does not fit the network.
    """
    decision = bundle.config.decision
    if not isinstance(decision, IntentDecision):
        raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for intent.")
    outputs = {spec.name: spec.shape for spec in bundle.config.signature.outputs}
    width = outputs.get(FEATURES, (None,))[-1]
    arrays: dict[str, np.ndarray] = {}
    if decision.detector in KINDS and KINDS[decision.detector].shapes:
        arrays = read_arrays(bundle.file(DETECTOR_FILE))
    detector = Detector(decision.detector, arrays)
    detector.check(f"{bundle.path}/{DETECTOR_FILE}", len(bundle.labels), width if isinstance(width, int) else None)
    return detector


def _max_softmax(_: Arrays, outputs: Arrays) -> np.ndarray:
    """Minus the largest probability. Source: Hendrycks and Gimpel 2017, "A Baseline for Detecting …"."""
    best: np.ndarray = probabilities_from_logits(outputs[LOGITS], 1.0, "single_label_classification").max(axis=-1)
    return -best


def _energy(_: Arrays, outputs: Arrays) -> np.ndarray:
    """-log(sum(exp(logits))). Source: Liu et al. 2020, "Energy-based Out-of-distribution Detection", equation 4."""
    return np.asarray(-np.logaddexp.reduce(outputs[LOGITS].astype(np.float64), axis=-1))


def _rejection(arrays: Arrays, outputs: Arrays) -> np.ndarray:
    """The logit of "none", learned along with the intents, minus the largest of theirs."""
    features = outputs[FEATURES].astype(np.float64)
    if arrays["is_cosine"][0]:
        features = _unit(features)
    none = features @ arrays["weight"].astype(np.float64) + float(arrays["bias"][0])
    best: np.ndarray = outputs[LOGITS].astype(np.float64).max(axis=-1)
    return np.asarray(none - best)


def _mahalanobis(arrays: Arrays, outputs: Arrays) -> np.ndarray:
    """Smallest squared distance to an intent's centre, in a space in which all intents have the same spread.

    Source: Lee et al. 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples", equation 2.
    """
    points = outputs[FEATURES].astype(np.float64) @ arrays["projection"].astype(np.float64)  # [N, R]
    centres = arrays["centres"].astype(np.float64)  # [C, R]
    squares = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * points @ centres.T  # [N, C]
    return np.asarray(np.maximum(squares, 0).min(axis=1))


def _knn(arrays: Arrays, outputs: Arrays) -> np.ndarray:
    """Minus the cosine to the k-th nearest training utterance.

    Source: Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors".
    """
    cosines = _unit(outputs[FEATURES].astype(np.float64)) @ arrays["keys"].astype(np.float64).T  # [N, K]
    rank = min(int(arrays["rank"][0]), cosines.shape[1])
    return np.asarray(-np.partition(cosines, -rank, axis=1)[:, -rank])


def _gaussian_process(arrays: Arrays, outputs: Arrays) -> np.ndarray:
    """Energy of the logits, flattened by the variance of a Gaussian process over the features.

    Source: Liu et al. 2020, "Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via Distance
    Awareness" (SNGP), equations 8 and 9; its spectral normalisation of the encoder is left out.
    """
    waves = random_waves(outputs[FEATURES], arrays["frequencies"], arrays["phases"])  # [N, R]
    variance = np.einsum("nr,rs,ns->n", waves, arrays["covariance"].astype(np.float64), waves)
    flat = np.asarray(outputs[LOGITS], dtype=np.float64) / np.sqrt(1 + np.pi / 8 * np.maximum(variance, 0))[:, None]
    return np.asarray(-np.logaddexp.reduce(flat, axis=-1))


def random_waves(features: np.ndarray, frequencies: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Return float64 [N, R], random Fourier features of unit-length features [N, D]: a Gaussian kernel's.

    Source: Rahimi and Recht 2007, "Random Features for Large-Scale Kernel Machines".
    """
    waves: np.ndarray = np.cos(
        _unit(features.astype(np.float64)) @ frequencies.astype(np.float64) + phases.astype(np.float64)
    )
    return np.asarray(waves * np.sqrt(2 / len(phases)))


def _unit(features: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, 1e-12))


@dataclass(frozen=True)
class _Kind:
    values: Callable[[Arrays, Arrays], np.ndarray]
    shapes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Array -> its axes: C labels, D features, 1 a single number; others may have any size."""

    @property
    def needs_features(self) -> bool:
        return bool(self.shapes)


KINDS = {
    "max_softmax": _Kind(_max_softmax),
    "energy": _Kind(_energy),
    "rejection": _Kind(_rejection, {"weight": ("D",), "bias": ("1",), "is_cosine": ("1",)}),
    "mahalanobis": _Kind(_mahalanobis, {"projection": ("D", "R"), "centres": ("C", "R")}),
    "knn": _Kind(_knn, {"keys": ("K", "D"), "rank": ("1",)}),
    "gaussian_process": _Kind(
        _gaussian_process, {"frequencies": ("D", "R"), "phases": ("R",), "covariance": ("R", "R")}
    ),
}
"""Name -> how it is computed and which arrays it needs."""
