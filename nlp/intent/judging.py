"""How intents are judged: what a network says of the utterances, the rule that follows, and what to show of both.

Labels are matched by name; utterances whose intent a bundle does not know are left out and named, never counted as
wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from nlp.intent.data import IntentData
from nlp.intent.decision import (
    Judged,
    choose_detector,
    compare,
    cross_fitted,
    fit_decision,
    fit_detectors,
    fit_entities,
    int8_merits,
    measure,
    measure_entities,
    probabilities_of,
    scores_of,
)
from nlp.intent.entities import ENTITY_LOGITS, EntityRule, Kind, Span, fitted, found_spans, read_entities
from nlp.intent.module import IntentModule
from nlp.intent.network import BILSTM, TFIDF
from nlp.intent.predictor import FEATURES, LOGITS, MAX_WINDOWS, Detector, read_detector
from nlp.intent.sources import Example
from nlp.intent.teaching import judge_texts
from nlp.text import Encoding, TextEncoder, is_wordless
from shared.bundle.layout import IntentDecision
from shared.bundle.read import Bundle
from shared.bundle.reference import Reference
from shared.errors import DataError
from shared.exploring.languages import languages_of
from shared.runtime.protocol import Runtime
from shared.training.data import examples_of
from shared.training.metrics import confusion_line, table_lines
from shared.training.outcomes import Outcomes
from shared.training.packing import Fitted, Judging, json_lines
from shared.training.worth import Worth

BATCH_SIZE = 32
CALIBRATION = 128
"""Utterances that show the outliers among activations."""
UNKNOWN = -2
"""In place of an intent that is counted and not known."""
SHOWN = 5
SHOWN_WRONG = 100
LEAST_UTTERANCES = 20
COLUMNS = {
    "examples": "utterances",
    "out_of_scope": "outside",
    "accuracy": "accuracy",
    "macro_f1": "F1",
    "ece": "ECE",
    "auroc": "AUROC",
    "kept": "named",
    "out_of_scope_recall": "refused",
    "right": "right",
}


@dataclass(frozen=True)
class Rule:
    """What names an intent, or none."""

    detector: Detector
    decision: IntentDecision
    entities: EntityRule | None = None


@dataclass(frozen=True)
class IntentJudging(Judging[Judged, Rule]):
    """Judges networks on utterances."""

    noun = "utterance"

    data: IntentData
    encoder: TextEncoder
    labels: Sequence[str]
    counted: frozenset[str] = frozenset()
    """Intents that need not be known: whatever is answered to their utterances is wrong."""
    kinds: Sequence[Kind] = ()
    """Of entities, in the order of the tags."""

    @classmethod
    def of_data(cls, data: IntentData) -> IntentJudging:
        """Return the judging with the data's own intents and tokenizer."""
        return cls(data, data.encoder.reading_whole(MAX_WINDOWS), data.labels, kinds=data.kinds)

    @classmethod
    def of_bundle(cls, data: IntentData, bundle: Bundle) -> IntentJudging:
        """Return the judging with a bundle's intents and tokenizer."""
        entities = read_entities(bundle)
        encoder = TextEncoder.from_bundle(bundle, MAX_WINDOWS)
        return cls(data, encoder, bundle.labels, kinds=entities.kinds if entities else ())

    def counting(self, labels: Iterable[str]) -> IntentJudging:
        """Return the judging that also asks about utterances of these intents, known or not; for `outcomes` alone."""
        return replace(self, counted=frozenset(labels))

    def judge(self, runtime: Runtime, split: str) -> Judged:
        """Return what a runtime says of the utterances whose intent is known, or that have none.

        Raises:
            DataError: there is none.
        """
        chosen = examples_of(self.data.splits, split)
        examples = [e for e in chosen if e.label is None or e.label in self._index or e.label in self.counted]
        if not examples:
            raise DataError(
                f"the bundle knows none of the intents of these {len(chosen)} utterances, such as {chosen[0].label!r}; "
                f"it knows {', '.join(self.labels[:SHOWN])}, … Choose another bundle."
            )
        targets = [-1 if e.label is None else self._index.get(e.label, UNKNOWN) for e in examples]
        return self._judged(runtime, split, examples, np.array(targets))

    def _judged(self, runtime: Runtime, split: str, examples: Sequence[Example], targets: np.ndarray) -> Judged:
        texts, title = [e.text for e in examples], f"judging {split}"
        if not any(spec.name == ENTITY_LOGITS for spec in runtime.outputs):
            return Judged(judge_texts(runtime, self.encoder, texts, title), targets, examples)
        found: list[list[Span]] = [[] for _ in examples]
        marked: list[list[Span] | None] = [None for _ in examples]
        known = set(self.kinds)

        def keep(row: int, outputs: dict[str, np.ndarray], encoding: Encoding) -> None:
            entities = examples[row].entities
            if entities is not None:
                found[row] = found_spans(outputs[ENTITY_LOGITS], encoding, self.kinds)
                marked[row] = fitted([span for span in entities if span.kind in known], encoding)

        is_measured = split != "train"
        outputs = judge_texts(runtime, self.encoder, texts, title, keep if is_measured else None)
        return Judged(outputs, targets, examples, found, marked)

    def judge_training(self, runtime: Runtime) -> Judged:
        """Return what a runtime says of all training utterances: detectors are fitted on them."""
        return self.judge(runtime, "train")

    def calibration(self, inputs: Sequence[str]) -> Iterable[Mapping[str, np.ndarray]]:
        """Yield some training utterances: int8 evens out the outliers that they show.

        Without it int8 can lose everything: of 90 utterances of six intents, trained from the starter, every third got
        the same intent as in fp32; with it all did.
        """
        examples = self.data.splits["train"]
        chosen = examples[:: max(1, len(examples) // CALIBRATION)][:CALIBRATION]
        for start in range(0, len(chosen), BATCH_SIZE):
            texts = [example.text for example in chosen[start : start + BATCH_SIZE]]
            yield self.encoder.batch(self.encoder.encode_batch(texts), inputs)

    def merits(self, judged: Judged) -> dict[str, float]:
        """Return accuracy and, where it is defined, the AUROC of the energy."""
        return int8_merits(judged)

    def fit(self, module: IntentModule, judged: Mapping[str, Judged]) -> Fitted[Rule]:
        """Return the best detector, or the one that was asked for, with temperature and threshold.

        Raises:
            CalibrationError: no validation utterance belongs to an intent.
        """
        train, val = judged["train"], judged["val"]
        wanted, acceptance = module.hparams["detector"], module.hparams["acceptance"]
        learns = self.data.has_out_of_scope or module.hparams["mixed_outliers"]
        rejection = module.learned_detector() if learns else None
        detectors = fit_detectors(train.outputs, train.targets, rejection, self.data.seed)
        compared = compare(detectors, val, acceptance)
        detector = detectors[choose_detector(compared, wanted)]
        knows_wordless = any(e.label is not None and is_wordless(e.text) for e in train.examples)
        changes: dict[str, object] = {"knows_wordless": knows_wordless}
        if module.folds_temperature:  # `module.trained` has divided the logits
            changes["temperature"] = 1.0
        languages = module.hparams["languages"]
        if languages is None:
            languages = languages_of([e.text for e in train.examples if e.label is not None])
        changes["languages"] = tuple(languages)
        decision = fit_decision(val, detector, acceptance).model_copy(update=changes)
        chosen = {"detectors": compared, "cross_fitted": cross_fitted(val, detector, acceptance, self.data.seed)}
        entities = fit_entities(val, module.kinds, self.data.synonyms) if module.kinds else None
        files = {**detector.file(), **(entities.file() if entities else {})}
        rule = Rule(detector, decision, entities)
        return Fitted(rule, decision, files=files, metrics=chosen, languages=decision.languages)

    def refit(self, bundle: Bundle, judged: Judged) -> Fitted[Rule]:
        """Return temperature, out-of-scope score and threshold anew; the detector stays."""
        before = self.rule_of(bundle)
        decision = fit_decision(judged, before.detector, before.decision.acceptance)
        kept = {"knows_wordless": before.decision.knows_wordless, "languages": before.decision.languages}
        decision = decision.model_copy(update=kept)
        entities = before.entities
        if entities is not None and any(marked is not None for marked in judged.marked or ()):
            entities = fit_entities(judged, entities.kinds, entities.synonyms)
        files = entities.file() if entities else {}
        return Fitted(Rule(before.detector, decision, entities), decision, files=files)

    def reference(self, judged: Judged, rule: Rule) -> Reference:
        """Return the best intents' confidences, out-of-scope scores, the shares of each intent, and some features."""
        probabilities, scores = probabilities_of(judged, rule.decision), scores_of(judged, rule.detector, rule.decision)
        named = 1 - scores >= rule.decision.abstain_below
        counts = np.bincount(probabilities.argmax(axis=1)[named], minlength=len(self.labels))
        return Reference(
            probabilities.max(axis=1),
            counts / len(scores),
            out_of_scope=scores,
            features=judged.outputs.get(FEATURES),
        )

    def worth(self, judged: Judged) -> Worth | None:
        """Return the accuracy among utterances with an intent, beside the most frequent one and words alone."""
        inside = np.flatnonzero(judged.targets >= 0)
        if not len(inside):
            return None
        train = [e for e in self.data.splits["train"] if e.label in self._index]
        taught = np.array([self._index[e.label] for e in train if e.label is not None])
        targets = judged.targets[inside]
        words = TfidfVectorizer(analyzer=words_of, sublinear_tf=True)
        known = words.fit_transform([e.text for e in train])
        taught_by = csr_array((np.ones(len(taught)), (taught, np.arange(len(taught)))), (len(self.labels), len(taught)))
        centres = normalize(taught_by @ known)
        asked = words.transform([judged.examples[int(i)].text for i in inside])
        nearest = (asked @ centres.T).toarray().argmax(axis=1)
        frequent = np.bincount(taught, minlength=len(self.labels)).argmax()
        return Worth(
            "accuracy",
            (judged.outputs[LOGITS][inside].argmax(axis=1) == targets).astype(float),
            {
                "always the most frequent intent": (targets == frequent).astype(float),
                "the nearest intent by its words": (nearest == targets).astype(float),
            },
            self._try_next(len(train)),
        )

    def _try_next(self, count: int) -> list[str]:
        found = []
        if self.data.encoder_name == BILSTM:
            found.append("a pretrained encoder instead of the bilstm (-c configs/nlp/intent.yaml)")
        if self.data.encoder_name == TFIDF:
            found.append("a pretrained encoder, which knows words by their meaning (-c configs/nlp/intent.yaml)")
        if count < LEAST_UTTERANCES * len(self.labels):
            found.append(
                f"more utterances: {count / len(self.labels):.0f} of each intent train, {LEAST_UTTERANCES} help"
            )
        if self.data.encoder_name != TFIDF:
            found.append("more epochs")
        return [*found, "the utterances in report/most_wrong.jsonl, whose labels are often wrong"]

    def rule_of(self, bundle: Bundle) -> Rule:
        """Return the bundle's detector and decision."""
        detector = read_detector(bundle)
        assert isinstance(bundle.config.decision, IntentDecision), "read_detector refuses others"
        return Rule(detector, bundle.config.decision, read_entities(bundle))

    def measure(self, judged: Judged, rule: Rule) -> dict[str, Any]:
        """Return `evaluate`'s metrics."""
        source_ids = np.array([example.source for example in judged.examples])
        names = [source.name for source in self.data.sources]
        found = measure(judged, source_ids, rule.detector, rule.decision, self.labels, names)
        best = judged.outputs[LOGITS].argmax(axis=1)
        return found | (measure_entities(judged, rule.entities, best) if rule.entities else {})

    def outcomes(self, judged: Judged, rule: Rule) -> Outcomes:
        """Return which utterances get their intent, or none where they have none."""
        probabilities, given = probabilities_of(judged, rule.decision), self._given(judged, rule)
        names = [*self.labels, "out of scope"]  # -1 is the last
        targets, examples = judged.targets, judged.examples
        texts = [example.text for example in examples]
        return Outcomes(
            "right answers",
            "An intent that is not given counts as wrong; silence is right where an utterance has no intent.",
            examples,
            (given == targets).astype(float),
            [self.labels[intent] if intent >= 0 else None for intent in given],
            np.where(given >= 0, probabilities.max(axis=1), np.nan),
            [names[target] if target > UNKNOWN else str(e.label) for target, e in zip(targets, examples, strict=True)],
            [len(text.split()) for text in texts],
            "words",
            texts,
        )

    def _given(self, judged: Judged, rule: Rule) -> np.ndarray:
        """Return int [N]: the intent that each utterance gets; -1 for none."""
        scores = scores_of(judged, rule.detector, rule.decision)
        best = probabilities_of(judged, rule.decision).argmax(axis=1)
        return np.where(1 - scores >= rule.decision.abstain_below, best, -1)

    def left_out(self, split: str) -> dict[str, Any]:
        """Return how many utterances have an intent that is not known, and which intents these are."""
        strangers = Counter(
            e.label
            for e in examples_of(self.data.splits, split)
            if e.label is not None and e.label not in self._index and e.label not in self.counted
        )
        kinds, known = Counter[str](), set(self.kinds)
        for example in examples_of(self.data.splits, split) if self.kinds else ():
            kinds.update(span.kind.name for span in example.entities or () if span.kind not in known)
        return {
            "left_out": strangers.total(),
            "unknown_labels": dict(strangers.most_common()),
            **({"unknown_entities": dict(kinds.most_common())} if kinds else {}),
        }

    def most_wrong(self, judged: Judged, rule: Rule) -> bytes:
        """Return the surest wrong answers as JSON lines: look at these first, because often the label is wrong.

        A line has `text`, `given` and `right` (null for none), `confidence` and `out_of_scope_score`.
        """
        probabilities = probabilities_of(judged, rule.decision)
        scores = scores_of(judged, rule.detector, rule.decision)
        given = self._given(judged, rule)
        named = given >= 0
        wrong = np.flatnonzero(given != judged.targets)
        sureness = np.where(named, probabilities.max(axis=1) * (1 - scores), scores)
        names = [*self.labels, None]  # -1 is the last
        lines = [
            {
                "text": judged.examples[i].text,
                "given": names[given[i]],
                "right": names[judged.targets[i]],
                "confidence": round(float(probabilities[i].max()), 3),
                "out_of_scope_score": round(float(scores[i]), 3),
            }
            for i in wrong[np.argsort(-sureness[wrong], kind="stable")][:SHOWN_WRONG]
        ]
        return json_lines(lines)

    def table(self, report: Mapping[str, Any]) -> str:
        """Return the metrics of each set, the most frequent confusions, and what was left out."""
        lines = table_lines(report, COLUMNS)
        if report["confusions"]:
            lines += ["", confusion_line(report["confusions"])]
        if report["unknown_labels"]:
            listed = ", ".join(f"{label} ({count})" for label, count in list(report["unknown_labels"].items())[:SHOWN])
            lines.append(f"{report['left_out']:,} utterances were left out: the bundle does not know {listed}")
        if found := report.get("entities"):
            lines += ["", entity_line(found), *entity_lines(found["per_entity"])]
        if unknown := report.get("unknown_entities"):
            listed = ", ".join(f"{kind} ({count})" for kind, count in list(unknown.items())[:SHOWN])
            lines.append(f"{sum(unknown.values()):,} entities were left out: the bundle does not know {listed}")
        return "\n".join(lines)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.labels)}


def entity_line(found: Mapping[str, Any]) -> str:
    """Return in one line how good entities are."""
    values = {"precision": "precision", "recall": "recall", "f1": "F1", "ece": "ECE", "sentences": "whole sentences"}
    shown = ", ".join(f"{name} {found[key]:.3f}" for key, name in values.items() if found[key] is not None)
    return f"entities ({found['marked']:,} marked in {found['examples']:,} utterances): {shown}"


def entity_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each kind of entity."""
    width = max((len(row["entity"]) for row in rows), default=0)
    columns = ("precision", "recall", "f1")
    return [
        f"{row['entity']:<{width}}  {row['marked']:>6,}"
        + "".join(f"  {name} " + ("    -" if row[name] is None else f"{row[name]:.3f}") for name in columns)
        for row in rows
    ]


def words_of(text: str) -> list[str]:
    """Return the words of a text, and each sign between them.

    >>> words_of("Book a flight!")
    ['book', 'a', 'flight', '!']
    """
    return re.findall(r"\w+|[^\w\s]", text.casefold())
