"""Plain methods: a network that stays as it is, and a head that scikit-learn finds in seconds, for comparison.

`fit_head` finds it from features, whatever they are of; `PlainModule` makes of it a run of Lightning's like any other.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning.callbacks import WeightAveraging
from scipy.optimize import minimize
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC
from torch import Tensor
from tqdm import tqdm

from shared.errors import ConfigError, DataError
from shared.training.heads import Neighbours
from shared.training.module import TaskModule

Method = Literal["fine_tune", "logistic_regression", "linear_svm", "nearest_centroid", "knn"]
Kind = Literal["linear", "prototype", "knn"]
FINE_TUNE = "fine_tune"
STRENGTHS: Mapping[str, tuple[float, ...]] = {"logistic_regression": (3.0, 30.0), "linear_svm": (0.1, 1.0, 10.0)}
"""Of C, the weight of the examples beside that of small weights; features have a length of about 1. The regression has
fewer: its accuracy hardly changes with C, and of 150 intents by their words each takes half a minute."""
NEIGHBOURS = (1, 5, 10, 20)
MAX_BANK = 20_000
"""Training examples that are kept as neighbours; more are drawn at random."""
MAX_STEPS = 200
"""Of L-BFGS. What stops there is a head like any other: validation says how good it is."""
ABSENT = -30.0
"""Logit of a label that no training example has."""
ROWS = 256
"""Examples whose neighbours are looked for at a time."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Examples:
    """What a frozen network says of examples, with what is right."""

    features: np.ndarray | csr_array
    """float [N, D]."""
    targets: np.ndarray
    """int64 [N], or float [N, C] of 0, 1 and NaN where unknown, if an example may have several labels."""

    @property
    def has_several(self) -> bool:
        """Whether an example may have several labels."""
        return self.targets.ndim == 2


@dataclass(frozen=True, eq=False)
class Head:
    """A head that was found."""

    kind: Kind
    weight: np.ndarray
    """float32: weights or centroids of length 1, [C, D]; of "knn" training features of length 1, [M, D]."""
    bias: np.ndarray | None = None
    """float32 [C], of "linear"."""
    labels: np.ndarray | None = None
    """int64 [M], of "knn"."""
    neighbours: int = 0
    """Of "knn": k."""
    chosen: Mapping[str, float] = field(default_factory=dict)
    """What validation chose, such as C."""

    def voters(self, num_labels: int) -> Neighbours:
        """Return the head of "knn" as a module."""
        count, width = self.weight.shape
        module = Neighbours(width, num_labels, count, self.neighbours)
        module.keys.copy_(torch.from_numpy(self.weight))
        module.labels.copy_(torch.from_numpy(self.labels))
        return module


def fit_head(method: Method, train: Examples, val: Examples, num_labels: int, seed: int) -> Head:
    """Return the head that a method finds on training examples.

    Strength or number of neighbours is the one of a few that does best on validation examples: by accuracy, or by mean
    average precision where an example may have several labels; the first of equals.

    Args:
        method: any but "fine_tune".
        train: to learn from.
        val: to choose with; may be empty, then the first is taken.
        num_labels: C.
        seed: of the neighbours that are kept, and of the order in which the SVM looks at examples.

    Raises:
        DataError: fewer than two labels have training examples.
    """
    if train.has_several:
        assert method == "logistic_regression", "PlainModule's tasks refuse others"
        return _best(method, (_one_versus_rest(train, c) for c in STRENGTHS[method]), val, num_labels)
    present = np.unique(train.targets)
    if len(present) < 2:
        raise DataError(f"{len(present)} of {num_labels} labels have training examples; {method} needs at least two.")
    if method == "nearest_centroid":
        return Head("prototype", _centroids(train, num_labels))
    if method == "knn":
        return _best(method, _banks(train, seed), val, num_labels)
    return _best(method, _linear(method, train, num_labels, seed), val, num_labels)


def scores_of(head: Head, features: np.ndarray | csr_array, num_labels: int) -> np.ndarray:
    """Return the head's logits, float [N, C]; of centroids the cosines."""
    if head.kind == "knn":
        module = head.voters(num_labels)
        parts = [features[start : start + ROWS] for start in range(0, features.shape[0], ROWS)]
        return np.concatenate([module(torch.from_numpy(part)).numpy() for part in parts])
    if head.kind == "prototype":
        return np.asarray(normalize(features) @ head.weight.T)
    assert head.bias is not None
    return np.asarray(features @ head.weight.T + head.bias)


def quality(scores: np.ndarray, targets: np.ndarray) -> float:
    """Return accuracy, or mean average precision where an example may have several labels; 0 where neither is defined.

    >>> quality(np.array([[1.0, 2.0], [3.0, 1.0]]), np.array([1, 1]))
    0.5
    """
    if targets.ndim == 1:
        return float((scores.argmax(axis=1) == targets).mean()) if len(targets) else 0.0
    found = []
    for column in range(targets.shape[1]):
        known = ~np.isnan(targets[:, column])
        right = targets[known, column]
        if right.sum() > 0:
            found.append(average_precision_score(right, scores[known, column]))
    return float(np.mean(found)) if found else 0.0


def _best(method: Method, heads: Iterable[Head], val: Examples, num_labels: int) -> Head:
    """Return the best of some heads on validation examples."""
    best: Head | None = None
    highest, tried = -1.0, []
    for head in tqdm(heads, desc=method, unit="head"):
        reached = quality(scores_of(head, val.features, num_labels), val.targets) if len(val.targets) else 0.0
        tried.append(f"{', '.join(f'{name} {value:g}' for name, value in head.chosen.items())}: {reached:.3f}")
        if reached > highest:
            best, highest = head, reached
    assert best is not None, "there is always one to try"
    measure = "mean average precision" if val.has_several else "accuracy"
    logger.info("%s: %s on %d validation examples: %s", method, measure, len(val.targets), "; ".join(tried))
    return best


def _linear(method: Method, train: Examples, num_labels: int, seed: int) -> Iterator[Head]:
    """Yield a linear head per strength: softmax regression, or one support vector machine per label."""
    features, undo = _scaled(train.features)
    # The stronger starts where the weaker ended: half the steps.
    model: Any = LogisticRegression(max_iter=MAX_STEPS, warm_start=True)
    if method == "linear_svm":
        model = _Machines() if isinstance(features, np.ndarray) else LinearSVC(random_state=seed)
    for strength in STRENGTHS[method]:
        model.set_params(C=strength)
        _fit(model, features, train.targets)
        weight, bias = np.array(model.coef_), np.array(model.intercept_)
        if len(weight) == 1:  # of two labels scikit-learn gives the second's margin over the first
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        weight, bias = undo(weight, bias)
        all_weights = np.zeros((num_labels, weight.shape[1]), dtype=np.float32)
        all_biases = np.full(num_labels, ABSENT, dtype=np.float32)
        all_weights[model.classes_], all_biases[model.classes_] = weight, bias
        yield Head("linear", all_weights, all_biases, chosen={"C": strength})


class _Machines:
    """Support vector machines of dense features, with scikit-learn's names: one per label, all found together.

    The objective is LinearSVC's, squared hinge and a bias that counts among the weights. For 4,685 rows of 1,280
    features and 101 labels that took 41 s, and L-BFGS over all labels 3 s, to within 0.02 % of the same minimum
    (scikit-learn 1.9, one core, 2026-12-01). For sparse features LinearSVC is the faster one.
    """

    def __init__(self) -> None:
        self.strength = 1.0
        self.found: np.ndarray | None = None

    def set_params(self, C: float) -> None:  # noqa: N803 scikit-learn's name
        """Set the strength of the next fit, which starts where the last one ended."""
        self.strength = C

    def fit(self, features: np.ndarray, targets: np.ndarray) -> None:
        """Find `coef_` [P, D] and `intercept_` [P] of the `classes_` [P]."""
        self.classes_ = np.unique(targets)
        rows = np.concatenate([features, np.ones((len(features), 1), features.dtype)], axis=1)  # [N, D + 1]
        signs = np.where(targets[:, None] == self.classes_, 1, -1).astype(features.dtype)  # [N, P]

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(len(self.classes_), -1)
            slack = np.maximum(0, 1 - signs * (rows @ weights.T.astype(rows.dtype)))
            gradient = weights - 2 * self.strength * ((signs * slack).T @ rows)
            loss = np.square(flat).sum() / 2 + self.strength * np.square(slack, dtype=np.float64).sum()
            return float(loss), gradient.ravel().astype(np.float64)

        start = np.zeros(len(self.classes_) * rows.shape[1]) if self.found is None else self.found
        options = {"maxiter": MAX_STEPS, "ftol": 1e-6}
        self.found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x
        weights = self.found.reshape(len(self.classes_), -1)
        self.coef_, self.intercept_ = weights[:, :-1], weights[:, -1]


def _one_versus_rest(train: Examples, strength: float) -> Head:
    """Return a linear head of one logistic regression per label, each on the examples that know it.

    A label that all of them have, or none, has its log-odds for a bias alone.
    """
    num_labels = train.targets.shape[1]
    features, undo = _scaled(train.features)
    weight, bias = np.zeros((num_labels, train.features.shape[1])), np.zeros(num_labels)
    for label in range(num_labels):
        known = np.flatnonzero(~np.isnan(train.targets[:, label]))
        right = train.targets[known, label]
        if 0 < right.sum() < len(right):
            model = LogisticRegression(C=strength, max_iter=MAX_STEPS)
            _fit(model, features[known], right)
            weight[label], bias[label] = model.coef_[0], model.intercept_[0]
        else:
            bias[label] = np.log((right.sum() + 0.5) / (len(right) - right.sum() + 0.5))
    weight, bias = undo(weight, bias)
    return Head("linear", weight.astype(np.float32), bias.astype(np.float32), chosen={"C": strength})


def _fit(model: Any, features: np.ndarray | csr_array, targets: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, targets)


Undo = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _scaled(features: np.ndarray | csr_array) -> tuple[np.ndarray | csr_array, Undo]:
    """Return features around 0 and of a length of about 1, and what makes weights and biases those of the original.

    So one strength means the same for all networks. Sparse features have length 1 already, and stay sparse.
    """
    if not isinstance(features, np.ndarray):
        return features, lambda weight, bias: (weight, bias)
    centre = features.mean(axis=0)
    length = float(np.sqrt(np.square(features - centre).sum(axis=1).mean())) or 1.0

    def undo(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return weight / length, bias - weight @ centre / length

    return (features - centre) / length, undo


def _centroids(train: Examples, num_labels: int) -> np.ndarray:
    """Return float32 [C, D]: the mean of each label's features of length 1, scaled to length 1; 0 without any."""
    count = len(train.targets)
    of_label = csr_array((np.ones(count), (train.targets, np.arange(count))), (num_labels, count))
    sums = of_label @ normalize(train.features)
    return np.asarray(normalize(sums if isinstance(sums, np.ndarray) else sums.toarray()), dtype=np.float32)


def _banks(train: Examples, seed: int) -> Iterator[Head]:
    """Yield the training examples as neighbours, with each number of them that may vote."""
    assert isinstance(train.features, np.ndarray), "a bank of sparse features would be too large"
    chosen = np.sort(np.random.default_rng(seed).permutation(len(train.targets))[:MAX_BANK])
    keys = normalize(train.features[chosen]).astype(np.float32)
    for neighbours in sorted({min(k, len(chosen) - 1) for k in NEIGHBOURS}):
        yield Head("knn", keys, labels=train.targets[chosen], neighbours=neighbours, chosen={"k": neighbours})


class PlainModule(TaskModule):
    """A module that learns as its task says, or by a plain method: `method` among its settings says which.

    A plain run is one of Lightning's: it has one epoch, whose head is found before it begins. Its one step moves
    nothing, because no checkpoint is saved without a step, and it logs no loss, because there is none.
    """

    @property
    def is_plain(self) -> bool:
        """Whether the network stays as it is."""
        return bool(self.hparams["method"] != FINE_TUNE)

    def prepare_features(self) -> None:
        """Fit what the features need of the training examples, if anything."""

    def features_of(self, split: str) -> Examples:
        """Return what the frozen network says of the examples of a split; with a progress bar."""
        raise NotImplementedError

    def take_head(self, head: Head) -> None:
        """Put a head that was found into the network."""
        raise NotImplementedError

    def on_fit_start(self) -> None:
        """Find the head, and leave a single step to the loop, if the method is a plain one.

        Raises:
            ConfigError: several processes would each find it.
        """
        if not self.is_plain:
            return
        trainer = self.trainer
        if trainer.world_size > 1:
            raise ConfigError(
                f"model.method {self.hparams['method']} runs in one process; came {trainer.world_size}. Set "
                "--trainer.devices 1, and leave out --trainer.num_nodes."
            )
        trainer.fit_loop.max_epochs = 1
        trainer.limit_train_batches = 1
        self.eval()
        with torch.no_grad():
            self.prepare_features()
            found = fit_head(
                self.hparams["method"],
                self.features_of("train"),
                self.features_of("val"),
                len(self.hparams["labels"]),
                self.hparams["seed"],
            )
            self.take_head(found)
        self.to(self.device).train()  # as Lightning expects it; nothing of it trains
        self.found = found.chosen
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):  # its copy is of the network as it was
                callback.setup(trainer, self, "fit")

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one batch; of a plain method 0, which is not logged."""
        if not self.is_plain:
            return super().training_step(batch, batch_idx)
        return 0.0 * self._unmoved()[0].sum()

    def no_optimizer(self) -> torch.optim.Optimizer:
        """Return an optimizer that moves nothing."""
        return torch.optim.SGD([parameter for parameter in self.parameters() if parameter.requires_grad], lr=0.0)

    def _unmoved(self) -> list[Tensor]:
        parameters: list[Tensor] = self.trainer.optimizers[0].param_groups[0]["params"]
        return parameters

    def plain_fields(self) -> dict[str, Any]:
        """Return what config.json says of a plain method: its name, and what validation chose."""
        return {"method": self.hparams["method"], "chosen": dict(self.found)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on where there is nothing to go on with, or with other labels.

        Raises:
            ConfigError: the method is a plain one, or names some labels.
        """
        if self.is_plain:
            raise ConfigError(
                f"model.method {self.hparams['method']} has no epochs to go on with: leave out --ckpt_path."
            )
        super().on_load_checkpoint(checkpoint)
