"""How tags are judged: what a network says of photos, the temperature and thresholds that follow, and what to show.

Labels are matched by name; labels that a bundle does not know are left out and named, never counted as wrong.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image
from torch import nn
from tqdm import tqdm

from shared.bundle.calibration import fit_scale_and_shift, fit_temperature, fit_thresholds, probabilities_from_logits
from shared.bundle.layout import ProblemType, TagDecision
from shared.bundle.read import Bundle
from shared.bundle.reference import Reference
from shared.errors import BundleError, DataError
from shared.runtime.protocol import Runtime
from shared.training.data import examples_of
from shared.training.metrics import confusion_line, table_lines
from shared.training.outcomes import Outcomes
from shared.training.packing import Fitted, Judging
from shared.training.plots import contact_sheet
from shared.training.worth import Worth
from vision.images import ImagePreprocessor, open_photo
from vision.tagging.data import TaggingData, representative
from vision.tagging.evaluation import SourceView, evaluate, most_wrong, validation_summary
from vision.tagging.network import build_network, last_layer
from vision.tagging.predictor import CENTRES_FILE, FEATURES, INPUT, OUTPUT, likeness, read_centres
from vision.tagging.sources import Example
from vision.tagging.taxonomy import UNKNOWN, Hierarchy, all_labels

INT8_MERITS = ("quality", "map")
"""What an int8 file must keep: the order of the labels of a photo, and of the photos of a label."""
CENTRE_PHOTOS = 20
"""Of each label, for its centre: the mean of twenty is near that of all."""
WORTH_PHOTOS = 1000
"""Held-out photos of which a run says at its end how good it is."""
LEAST_PHOTOS = 50
"""Of each label, below which a run advises to collect more."""
SHEET_PHOTOS = 24
SHEET_TAGS = 3
SHOWN_LABELS = 10
COLUMNS = {
    "examples": "photos",
    "labels": "labels",
    "top1": "top-1",
    "top5": "top-5",
    "map": "mAP",
    "parents_map": "parents",
    "macro_f1": "F1",
    "ece": "ECE",
}


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Judged:
    """Photos with what a network says of them."""

    logits: np.ndarray
    """float32 [N, num_labels]."""
    targets: np.ndarray
    """int8 [N, num_labels]; 1 holds, 0 does not hold, -1 unknown."""
    source_ids: np.ndarray
    """int [N], places of the sets."""
    examples: Sequence[Example] = ()
    features: np.ndarray | None = None
    """float32 [N, D]; None of a network that gives none."""


@dataclass(frozen=True)
class Rule:
    """What gives tags to a photo, or none."""

    decision: TagDecision
    centres: np.ndarray | None = None
    """float32 [num_labels, D], as float16 holds them, where `decision.abstain_below` is set."""

    def foreign(self, judged: Judged) -> np.ndarray:
        """Return bool [N]: the photos that are unlike all that were learned."""
        if self.decision.abstain_below is None or self.centres is None or judged.features is None:
            return np.zeros(len(judged.logits), dtype=bool)
        return likeness(judged.features, self.centres) < self.decision.abstain_below

    def files(self) -> dict[str, bytes]:
        """Return the bundle's file as name -> content; nothing without centres."""
        if self.centres is None:
            return {}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, centres=self.centres.astype(np.float16))
        return {CENTRES_FILE: buffer.getvalue()}


@dataclass(frozen=True)
class TagJudging(Judging[Judged, Rule]):
    """Judges networks on photos."""

    noun = "photo"
    int8_kind = "static"
    most_wrong_suffix = ".png"
    pictures = ("reliability", "per_label", "confusions")
    outputs = (OUTPUT, FEATURES)

    data: TaggingData
    preprocessor: ImagePreprocessor
    hierarchy: Hierarchy
    problem_type: ProblemType
    counted: frozenset[str] = frozenset()
    """Labels that need not be known: a tag that lacks is wrong."""

    @classmethod
    def of_data(cls, data: TaggingData) -> TagJudging:
        """Return the judging with the data's own labels and preprocessing."""
        return cls(data, data.preprocessor, data.hierarchy, data.problem_type)

    @classmethod
    def of_bundle(cls, data: TaggingData, bundle: Bundle) -> TagJudging:
        """Return the judging with a bundle's labels, taxonomy and preprocessing."""
        problem_type = bundle.config.problem_type
        if problem_type is None:
            raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for tagging.")
        hierarchy = Hierarchy(bundle.labels, bundle.config.label_parents)
        return cls(data, ImagePreprocessor.from_config(bundle.preprocessor), hierarchy, problem_type)

    def counting(self, labels: Iterable[str]) -> TagJudging:
        """Return the judging that also asks about photos with these labels, known or not; for `outcomes` alone."""
        return replace(self, counted=frozenset(labels))

    def judge(self, runtime: Runtime, split: str) -> Judged:
        """Return what a runtime says of the photos that have a known label, or none at all.

        Raises:
            DataError: there is none.
        """
        chosen = examples_of(self.data.splits, split)
        known = self.counted.union(self.hierarchy.labels)
        examples = [e for e in chosen if known.intersection(e.labels) or not e.labels]
        if not examples:
            raise DataError(
                f"the bundle knows none of the labels of these {len(chosen)} photos, such as "
                f"{', '.join(sorted(set(chosen[0].labels)))!r}; it knows {', '.join(self.hierarchy.labels[:5])}, … "
                "Map them with --data.source.label_names or choose another bundle."
            )
        return self._judged(runtime, examples, f"judging {split}")

    def judge_training(self, runtime: Runtime) -> Judged | None:
        """Return what a runtime says of a few photos of each label, where a photo has one; None elsewhere."""
        if self.problem_type != "single_label_classification":
            return None
        return self._judged(runtime, self._few_of_each(CENTRE_PHOTOS), "judging train")

    def _few_of_each(self, count: int) -> list[Example]:
        """Return about so many training photos of each label; of a stream, those that were kept."""
        if self.data.stream:
            return representative(self.data)
        counts: Counter[str] = Counter()
        examples = []
        for example in self.data.splits["train"]:
            if any(counts[label] < count for label in example.labels):
                counts.update(example.labels)
                examples.append(example)
        return examples

    def _judged(self, runtime: Runtime, examples: Sequence[Example], title: str) -> Judged:
        targets = np.stack([self._targets(example) for example in examples])
        parts = list(self._outputs(runtime, examples, title))
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        source_ids = np.array([example.source for example in examples])
        return Judged(outputs[OUTPUT], targets, source_ids, examples, outputs.get(FEATURES))

    def calibration(self, inputs: Sequence[str]) -> Iterable[Mapping[str, np.ndarray]]:
        """Yield training photos as a service sees them: int8 measures the ranges of activations on them."""
        (name,) = inputs
        photos, size = representative(self.data), self.data.batch_size
        for start in range(0, len(photos), size):
            yield {name: np.stack([self._pixels(photo) for photo in photos[start : start + size]])}

    def merits(self, judged: Judged) -> dict[str, float]:
        """Return quality and, where it is defined, mean average precision; temperature and thresholds do not matter."""
        scores = self.scores(judged, 1.0)
        summary = validation_summary(scores, judged.targets, judged.source_ids, self.views, self.hierarchy)
        return {name: summary[name] for name in INT8_MERITS if name in summary}

    def fit(self, module: Any, judged: Mapping[str, Judged]) -> Fitted[Rule]:
        """Return the temperature, thresholds by F1, and what a photo must be like, fitted on validation photos."""
        can_shift = isinstance(last_layer(module.network), nn.Linear)
        temperature, _ = self.fit_scale(judged["val"], can_shift=can_shift)  # `module.trained` has shifted the logits
        decision, centres = self.fit_decision(judged["val"], temperature), None
        acceptance = module.hparams["acceptance"]
        if "train" in judged and acceptance < 1:
            centres = fit_centres(judged["train"])
            decision = fit_abstention(decision, judged["val"], centres, acceptance)
        rule = Rule(decision, centres)
        return Fitted(rule, decision, files=rule.files())

    def refit(self, bundle: Bundle, judged: Judged) -> Fitted[Rule]:
        """Return temperature and thresholds anew; the shift that training put into the head stays there."""
        network = build_network(bundle.config.architectures[0], len(bundle.labels))
        temperature, _ = self.fit_scale(judged, can_shift=isinstance(last_layer(network), nn.Linear))
        decision, before = self.fit_decision(judged, temperature), self.rule_of(bundle)
        if before.centres is not None and before.decision.acceptance is not None:
            decision = fit_abstention(decision, judged, before.centres, before.decision.acceptance)
        return Fitted(Rule(decision, before.centres), decision)

    def reference(self, judged: Judged, rule: Rule) -> Reference:
        """Return the best tags' scores, the shares of photos that get each tag, who gets none, and some features."""
        scores = self.scores(judged, rule.decision.temperature)
        thresholds = np.array([rule.decision.thresholds[label] for label in self.hierarchy.labels])
        given = self.hierarchy.given(scores, thresholds) & ~rule.foreign(judged)[:, np.newaxis]
        shares = given.mean(axis=0)
        return Reference(scores.max(axis=1), shares, features=judged.features, without=~given.any(axis=1))

    def worth(self, judged: Judged) -> Worth | None:
        """Return how often the best tag is right, beside the most frequent one and the nearest by colours.

        Labels that are parents of others are no answers: the topmost would be right too easily.
        """
        leaves = np.setdiff1d(np.arange(len(self.hierarchy.labels)), np.array(self.hierarchy.inner, dtype=np.int64))
        holds = judged.targets[:, leaves] == 1
        rows = np.flatnonzero(holds.any(axis=1))[:WORTH_PHOTOS]
        if not len(rows):
            return None
        known = judged.targets[rows][:, leaves] != UNKNOWN
        pool = self._few_of_each(CENTRE_PHOTOS)
        taught = np.stack([self._targets(example)[leaves] == 1 for example in pool])
        photos = [*pool, *(judged.examples[row] for row in rows)]
        colours = np.stack([self._colours(photo) for photo in tqdm(photos, desc="by colours", unit="photo")])
        sums = taught.T.astype(float) @ colours[: len(pool)]
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        seen = colours[len(pool) :] @ centres.T
        frequent = Counter(label for example in self.data.splits["train"] for label in example.labels)
        counts = np.array([frequent[self.hierarchy.labels[leaf]] for leaf in leaves], dtype=float)

        def right(scores: np.ndarray) -> np.ndarray:
            best = np.where(known, scores, -np.inf).argmax(axis=1)
            return np.asarray(holds[rows, best], dtype=float)

        few = len(self.data.splits["train"]) < LEAST_PHOTOS * len(leaves)
        return Worth(
            "share of photos whose best tag is right",
            right(judged.logits[rows][:, leaves]),
            {
                "always the most frequent tag": right(np.broadcast_to(counts, (len(rows), len(leaves)))),
                "the nearest label by colours": right(seen),
            },
            [
                *[f"more photos: fewer than {LEAST_PHOTOS} of each label train"][: int(few)],
                "start weights (--model.weights DEFAULT or models/tagger) if it started from none",
                "more epochs",
                "the photos in report/most_wrong.png, whose labels are often wrong",
            ],
        )

    def _colours(self, example: Example) -> np.ndarray:
        """Return float64 [3 x 64] of length 1: the photo as eight by eight blots, less its mean."""
        pixels = self._pixels(example)
        side = pixels.shape[1] // 8 * 8
        blots = pixels[:, :side, :side].reshape(3, 8, side // 8, 8, side // 8).mean(axis=(2, 4)).astype(np.float64)
        flat = blots.ravel() - blots.mean()
        return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-12))

    def rule_of(self, bundle: Bundle) -> Rule:
        """Return the bundle's temperature and thresholds, and its labels' centres if it has any."""
        assert isinstance(bundle.config.decision, TagDecision), "the task decides its kind"
        return Rule(bundle.config.decision, read_centres(bundle))

    def measure(self, judged: Judged, rule: Rule) -> dict[str, Any]:
        """Return `evaluate`'s metrics."""
        thresholds = np.array([rule.decision.thresholds[label] for label in self.hierarchy.labels])
        scores = self.scores(judged, rule.decision.temperature)
        return evaluate(
            scores,
            judged.targets,
            judged.source_ids,
            self.views,
            self.hierarchy,
            thresholds,
            foreign=rule.foreign(judged),
        )

    def outcomes(self, judged: Judged, rule: Rule) -> Outcomes:
        """Return whether the best tag of each photo is right; of photos with several labels the F1 of the tags given.

        To give none is right for a photo that has no label.
        """
        scores, foreign = self.scores(judged, rule.decision.temperature), rule.foreign(judged)
        thresholds = np.array([rule.decision.thresholds[label] for label in self.hierarchy.labels])
        given = self.hierarchy.given(scores, thresholds) & ~foreign[:, np.newaxis]
        holds = judged.targets == 1
        known = judged.targets != UNKNOWN
        strange = self.counted.difference(self.hierarchy.labels)
        missing = np.array([len(strange.intersection(example.labels)) for example in judged.examples])
        has_label = holds.any(axis=1) | (missing > 0)
        labels = np.array(self.hierarchy.labels, dtype=object)
        answers: list[str | None] = [", ".join(labels[tags]) or None for tags in given]
        if self.problem_type == "single_label_classification":
            leaves = np.setdiff1d(np.arange(len(self.hierarchy.labels)), np.array(self.hierarchy.inner, dtype=np.int64))
            best = leaves[np.where(known, scores, -np.inf)[:, leaves].argmax(axis=1)]
            measure, right = "share of photos whose best tag is right", holds[np.arange(len(holds)), best].astype(float)
            right[foreign] = 0.0
            for row in np.flatnonzero(has_label):
                answers[row] = None if foreign[row] else labels[best[row]]
            explained = "A photo's best tag counts. A photo that gets no tag counts as wrong, unless it has no label."
        else:
            hits = (given & holds).sum(axis=1)
            right = 2 * hits / np.maximum((given & known).sum(axis=1) + holds.sum(axis=1) + missing, 1)
            measure = "F1 of a photo's tags"
            explained = "F1 is how well a photo's tags match its labels. To give none is right where it has no label."
        right = np.where(has_label, right, ~given.any(axis=1))
        return Outcomes(
            measure,
            explained,
            judged.examples,
            right.astype(float),
            answers,
            np.where(foreign, np.nan, scores.max(axis=1)),
            [", ".join(example.labels) or "no label" for example in judged.examples],
            [self._shorter_side(example) for example in judged.examples],
            "px of the shorter side",
        )

    def _shorter_side(self, example: Example) -> int:
        with Image.open(io.BytesIO(self.data.sources[example.source].read(example))) as photo:
            return min(photo.size)

    def left_out(self, split: str) -> dict[str, Any]:
        """Return how many photos have unknown labels only, and set -> unknown label -> photos that have it."""
        known = self.counted.union(self.hierarchy.labels)
        examples = examples_of(self.data.splits, split)
        unknown = {source.name: Counter[str]() for source in self.data.sources}
        for example in examples:
            unknown[self.data.sources[example.source].name].update(set(example.labels) - known)
        return {
            "left_out": sum(bool(e.labels) and not known.intersection(e.labels) for e in examples),
            "unknown_labels": {name: dict(counts.most_common()) for name, counts in unknown.items() if counts},
        }

    def most_wrong(self, judged: Judged, rule: Rule) -> bytes:
        """Return a picture of the most wrong photos, each with its labels and the best tags."""
        scores, labels = self.scores(judged, rule.decision.temperature), self.hierarchy.labels
        photos = []
        for row in most_wrong(scores, judged.targets, SHEET_PHOTOS):
            example = judged.examples[row]
            best = np.argsort(-scores[row], kind="stable")[:SHEET_TAGS]
            given = ", ".join(f"{labels[i]} {scores[row, i]:.2f}" for i in best)
            photos.append((self.data.open_image(example), ", ".join(example.labels), given))
        return contact_sheet(photos)

    def table(self, report: Mapping[str, Any]) -> str:
        """Return the metrics of each set and over all, the hardest labels, confusions, and what was left out."""
        overall = report["overall"]
        lines = [
            *table_lines(report, COLUMNS),
            "",
            f"quality {_number(overall['quality'])}; at the thresholds: precision "
            f"{_number(overall['micro_precision'])}, recall {_number(overall['micro_recall'])}, "
            f"F1 {_number(overall['micro_f1'])}; {100 * (overall['untagged'] or 0):.1f} % of photos get no tag, "
            f"{100 * (overall['foreign'] or 0):.1f} % because they are unlike all that were learned",
        ]
        ranked = sorted((row for row in report["per_label"] if row["ap"] is not None), key=lambda row: row["ap"])
        if ranked:
            hardest = ", ".join(f"{row['label']} {row['ap']:.2f}" for row in ranked[:SHOWN_LABELS])
            lines.append(f"hardest labels by average precision: {hardest}")
        if report["confusions"]:
            lines.append(confusion_line(report["confusions"]))
        for name, counts in report["unknown_labels"].items():
            listed = ", ".join(f"{label} ({count})" for label, count in list(counts.items())[:SHOWN_LABELS])
            more = f" and {len(counts) - SHOWN_LABELS} more" if len(counts) > SHOWN_LABELS else ""
            lines.append(f"{name}: the bundle does not know {listed}{more} (photos in brackets)")
        if report["left_out"]:
            lines.append(f"{report['left_out']:,} photos were left out: the bundle knows none of their labels")
        return "\n".join(lines)

    @cached_property
    def views(self) -> list[SourceView]:
        """What the evaluation must know of each set."""
        return source_views(self.data, self.hierarchy)

    def scores(self, judged: Judged, temperature: float) -> np.ndarray:
        """Return calibrated and reconciled scores float64 [N, num_labels], as the predictor computes them."""
        return self.hierarchy.reconcile(probabilities_from_logits(judged.logits, temperature, self.problem_type))

    def fit_scale(self, judged: Judged, *, can_shift: bool) -> tuple[float, float]:
        """Return temperature and shift of the logits that make scores honest on validation photos.

        Yes-or-no labels are judged where an answer is given: of a set with one label per photo, the best of its own
        labels; of others, all own labels, which together count as one judgement. Over all pairs, hundreds of easy
        negatives per photo would decide.
        """
        if self.problem_type == "single_label_classification":
            targets = judged.targets.argmax(axis=1).astype(np.int64)
            return fit_temperature(judged.logits, targets, self.problem_type), 0.0
        weights = np.zeros(judged.logits.shape)
        for i, view in enumerate(self.views):
            rows, columns = np.flatnonzero(judged.source_ids == i), np.array(view.label_indices)
            if view.is_single_label:
                weights[rows, columns[judged.logits[np.ix_(rows, columns)].argmax(axis=1)]] = 1.0
            else:
                weights[np.ix_(rows, columns)] = 1 / len(columns)
        chosen = (weights > 0) & (judged.targets != UNKNOWN)
        logits, targets = judged.logits[chosen], judged.targets[chosen]
        if not can_shift:
            return fit_temperature(logits[:, None], targets[:, None], self.problem_type), 0.0
        return fit_scale_and_shift(logits, targets, weights[chosen])

    def fit_decision(self, judged: Judged, temperature: float) -> TagDecision:
        """Return the temperature with thresholds per label, fitted by F1 on validation photos."""
        fitted = fit_thresholds(self.scores(judged, temperature), judged.targets, default=0.5)
        thresholds = dict(zip(self.hierarchy.labels, map(float, fitted), strict=True))
        return TagDecision(temperature=temperature, thresholds=thresholds)

    def _targets(self, example: Example) -> np.ndarray:
        """Return int8 [num_labels]: what the data says of a photo, and what follows from it by the taxonomy."""
        labels = self.hierarchy.labels
        own = self._own_labels[example.source]
        said = dict(zip(self.data.labels, self.data.targets(example).tolist(), strict=True))
        known = np.array([said.get(label, 0 if label in own else UNKNOWN) != UNKNOWN for label in labels])
        targets = self.hierarchy.targets([label for label in example.labels if label in self.hierarchy.index], known)
        targets[[said.get(label) == 1 for label in labels]] = 1
        return targets

    @cached_property
    def _own_labels(self) -> list[set[str]]:
        """The labels of each set, and those above them."""
        return [set(all_labels(source.labels, self.hierarchy.parents)) for source in self.data.sources]

    def _pixels(self, example: Example) -> np.ndarray:
        """Return float32 [3, S, S]."""
        photo = open_photo(self.data.sources[example.source].read(example), self.preprocessor.resize_px)
        return self.preprocessor(photo.pixels)

    def _outputs(self, runtime: Runtime, examples: Sequence[Example], title: str) -> Iterator[Mapping[str, np.ndarray]]:
        """Yield the network's outputs, batch by batch; threads decode ahead, a batch or two of photos at most.

        On a CPU batches of one photo are as fast as larger ones.
        """
        size = 1 if runtime.device == "cpu" else self.data.batch_size
        waiting = iter(examples)
        with (
            ThreadPoolExecutor(max(1, self.data.num_workers)) as pool,
            tqdm(total=len(examples), desc=title, unit="photo") as bar,
        ):
            ahead = [pool.submit(self._pixels, e) for e in islice(waiting, 2 * size + self.data.num_workers)]
            while ahead:
                batch, ahead = ahead[:size], ahead[size:]
                pixels = np.stack([future.result() for future in batch])
                ahead += [pool.submit(self._pixels, e) for e in islice(waiting, len(batch))]
                yield runtime.run({INPUT: pixels})
                bar.update(len(batch))


def fit_centres(judged: Judged) -> np.ndarray:
    """Return the mean direction of each label's features; 0 for a label without a photo.

    float32 [num_labels, D], as float16 holds them: so they are stored.
    """
    assert judged.features is not None, "networks give features since format 2"
    features = judged.features.astype(np.float64)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    sums = (judged.targets == 1).T @ features
    return (
        np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12))
        .astype(np.float16)
        .astype(np.float32)
    )


def fit_abstention(decision: TagDecision, judged: Judged, centres: np.ndarray, acceptance: float) -> TagDecision:
    """Return the decision with the likeness that a share of the validation photos has at least.

    Nothing foreign is needed for it. Source: the nearest class mean of Mensink et al. 2013, "Distance-Based Image
    Classification"; by cosine, because the length of features says little of what they are.
    """
    assert judged.features is not None, "networks give features since format 2"
    least = float(np.quantile(likeness(judged.features, centres), 1 - acceptance))
    return decision.model_copy(update={"abstain_below": max(-1.0, min(1.0, least)), "acceptance": acceptance})


def source_views(data: TaggingData, hierarchy: Hierarchy) -> list[SourceView]:
    """Return what the evaluation must know of each set."""
    index = hierarchy.index
    return [
        SourceView(source.name, [index[label] for label in source.labels if label in index], source.is_single_label)
        for source in data.sources
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
