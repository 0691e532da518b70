"""How good a sentence encoder is: how often a question in other words finds its own first among those of its group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from tqdm import tqdm

from nlp.embedding.data import PairData
from nlp.embedding.evaluation import Found, Search, measured, summary
from nlp.embedding.predictor import EMBEDDINGS, in_batches
from nlp.embedding.sources import Example
from nlp.text import Encoding, TextEncoder
from shared.bundle.layout import EmbeddingDecision
from shared.bundle.read import Bundle
from shared.bundle.reference import Reference
from shared.errors import BundleError
from shared.runtime.protocol import Runtime
from shared.training.data import examples_of
from shared.training.metrics import table_lines
from shared.training.outcomes import Outcomes
from shared.training.packing import Fitted, Judging, json_lines
from shared.training.worth import Worth

CALIBRATION = 128
"""Texts that show the outliers among activations."""
CALIBRATION_BATCH = 32
SHOWN_WRONG = 100
SHOWN_GROUPS = 5
LEAST_QUESTIONS = 200
COLUMNS = {"examples": "asked", "recall_at_1": "first", "recall_at_5": "of 5", "mrr": "MRR"}
EXPLAINED = (
    "first, of 5: a question in other words finds its own first, or among the first five, of those of its group."
)


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Judged:
    """Questions in other words, and what an encoder found for them."""

    search: Search
    found: Found

    @property
    def examples(self) -> list[Example]:
        return self.search.examples

    @property
    def is_first(self) -> np.ndarray:
        """bool [N]: its own question was found first."""
        return np.asarray(self.found.ranks == 1)


@dataclass(frozen=True)
class EncoderJudging(Judging[Judged, EmbeddingDecision]):
    """Judges networks on questions in other words."""

    noun = "paraphrase"
    pictures = ()

    data: PairData
    encoder: TextEncoder

    @classmethod
    def of_data(cls, data: PairData) -> EncoderJudging:
        """Return the judging with the data's own tokenizer."""
        return cls(data, data.encoder)

    @classmethod
    def of_bundle(cls, data: PairData, bundle: Bundle) -> EncoderJudging:
        """Return the judging with a bundle's tokenizer."""
        return cls(data, TextEncoder.from_bundle(bundle))

    def judge(self, runtime: Runtime, split: str) -> Judged:
        """Return what an encoder finds for every question in other words."""
        search = self.data.search(examples_of(self.data.splits, split))
        names = [spec.name for spec in runtime.inputs]
        size = int(runtime.outputs[0].shape[-1])
        with tqdm(total=len(search.texts), desc=f"judging {split}", unit="text") as bar:

            def infer(batch: Sequence[Encoding]) -> np.ndarray:
                bar.update(len(batch))
                return runtime.run(self.encoder.batch(batch, names))[EMBEDDINGS]

            embeddings = in_batches(self.encoder.encode_batch(search.texts), infer, size)
        return Judged(search, search.found(embeddings))

    def calibration(self, inputs: Sequence[str]) -> Iterable[Mapping[str, np.ndarray]]:
        """Yield some training texts, asked and found: int8 evens out the outliers that they show."""
        examples = self.data.splits["train"]
        chosen = examples[:: max(1, 2 * len(examples) // CALIBRATION)][: CALIBRATION // 2]
        texts = [text for example in chosen for text in (example.paraphrase, example.passage)]
        for start in range(0, len(texts), CALIBRATION_BATCH):
            yield self.encoder.batch(self.encoder.encode_batch(texts[start : start + CALIBRATION_BATCH]), inputs)

    def merits(self, judged: Judged) -> dict[str, float]:
        """Return the mean reciprocal rank, and the share that is found first."""
        means = summary(judged.found.ranks)
        return {"quality": means["mrr"], "recall_at_1": means["recall_at_1"]}

    def fit(self, module: object, judged: Mapping[str, Judged]) -> Fitted[EmbeddingDecision]:
        """Return the rule that decides nothing."""
        return Fitted(EmbeddingDecision(), EmbeddingDecision())

    def refit(self, bundle: Bundle, judged: Judged) -> Fitted[EmbeddingDecision]:
        """Return the rule that decides nothing."""
        return self.fit(None, {"val": judged})

    def reference(self, judged: Judged, rule: EmbeddingDecision) -> Reference:
        """Return the cosines of what is found, and the share of it that is right."""
        return Reference(judged.found.cosines, np.array([judged.is_first.mean()]))

    def worth(self, judged: Judged) -> Worth | None:
        """Return how much is found first, beside the encoder before training and shared words."""
        if not judged.examples:
            return None
        before = [self.data.found_before.get(example) for example in judged.examples]
        baselines = {"the words in common": (_found_by_words(judged.search).ranks == 1).astype(float)}
        if None not in before:
            baselines = {"the encoder before training": np.array(before, dtype=float)} | baselines
        return Worth("share found first", judged.is_first.astype(float), baselines, self._try_next())

    def _try_next(self) -> list[str]:
        questions = len({(each.place, each.question) for each in self.data.splits["train"]})
        return [
            *([f"more questions: {questions} train, {LEAST_QUESTIONS} help"] if questions < LEAST_QUESTIONS else []),
            "other words that share less with question and answer",
            "a smaller --model.lr or --model.keep_weight 0.2 if the encoder was better before",
            "more epochs",
            "the pairs in report/most_wrong.jsonl, whose questions may mean the same",
        ]

    def rule_of(self, bundle: Bundle) -> EmbeddingDecision:
        """Return the bundle's decision."""
        decision = bundle.config.decision
        if not isinstance(decision, EmbeddingDecision):
            raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for embedding.")
        return decision

    def measure(self, judged: Judged, rule: EmbeddingDecision) -> dict[str, Any]:
        """Return the metrics of each set, of all and of each group."""
        return measured(judged.examples, judged.found.ranks, [source.name for source in self.data.sources])

    def outcomes(self, judged: Judged, rule: EmbeddingDecision) -> Outcomes:
        """Return which questions in other words find their own first."""
        texts = [example.paraphrase for example in judged.examples]
        return Outcomes(
            "found first",
            "A question in other words is right if its own question is the nearest of its group.",
            judged.examples,
            judged.is_first.astype(float),
            [judged.search.texts[place] for place in judged.found.first],
            judged.found.cosines.clip(0, 1),
            [example.group for example in judged.examples],
            [len(text.split()) for text in texts],
            "words",
            texts,
        )

    def most_wrong(self, judged: Judged, rule: EmbeddingDecision) -> bytes:
        """Return what is farthest behind another question, as JSON lines: often both questions mean the same.

        A line has `text`, `group`, `found` and `right` (question with answer), their cosines, and `rank` of the right.
        """
        found = judged.found
        wrong = np.flatnonzero(~judged.is_first)
        order = wrong[np.argsort((found.own - found.cosines)[wrong], kind="stable")][:SHOWN_WRONG]
        return json_lines(
            {
                "text": judged.examples[i].paraphrase,
                "group": judged.examples[i].group,
                "found": judged.search.texts[found.first[i]],
                "right": judged.examples[i].passage,
                "cosine_found": round(float(found.cosines[i]), 3),
                "cosine_right": round(float(found.own[i]), 3),
                "rank": int(found.ranks[i]),
            }
            for i in order
        )

    def table(self, report: Mapping[str, Any]) -> str:
        """Return the metrics of each set, and the groups that do worst."""
        lines = [*table_lines(report, COLUMNS), EXPLAINED]
        if len(report["groups"]) > 1:
            worst = (f"{row['group']} {row['recall_at_1']:.3f}" for row in report["groups"][:SHOWN_GROUPS])
            lines.append(f"found first least often: {', '.join(worst)}")
        return "\n".join(lines)


def _found_by_words(search: Search) -> Found:
    """Return what is found by the words in common, rare ones counting more: the cosine of TF-IDF.

    It is fitted on the passages that are searched.
    """
    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")  # noqa: S106 no password
    words.fit(search.texts[: search.count])
    return search.found(words.transform(search.texts).toarray())
