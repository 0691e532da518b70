"""How good a writer is: how many answers it phrases in words that can be trusted, and how near to what was meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from nlp.writing.data import WriterData
from nlp.writing.predictor import Writing, Written, read_tokenizer
from nlp.writing.sources import Example
from shared.bundle.layout import WriterDecision
from shared.bundle.read import Bundle
from shared.bundle.reference import Reference
from shared.errors import BundleError
from shared.runtime.protocol import Runtime
from shared.training.data import examples_of
from shared.training.metrics import DIGITS, table_lines
from shared.training.outcomes import Outcomes
from shared.training.packing import Fitted, Judging, json_lines
from shared.training.worth import Worth

GIVEN_SHARE = 0.75
"""Of validation answers that become a sentence, where the writer is less than `SURE_ENOUGH`; the others are quoted. Of
the quarter that is left out on questions of other titles, about half read badly (35 read)."""
SURE_ENOUGH = 0.9
GOOD = 0.95
"""Mean F1 of what passes the rules, from which nothing of it is left out."""
MAX_TOKENS = 64
"""Of a sentence; the answer is one blank in it."""
SHOWN_WRONG = 40
COLUMNS = {"examples": "answers", "given": "given", "exact": "exact", "f1": "F1"}
EXPLAINED = "given: every word can be trusted. exact, F1: against the sentence that was meant, answer included."


@dataclass(frozen=True)
class Judged:
    """Answers with the sentence that was written for each."""

    examples: list[Example]
    written: list[Written]

    def at(self, rule: WriterDecision) -> Judged:
        """Return the same as a writer gives it that must be so sure."""
        return Judged(self.examples, [each.at(rule.least_confidence) for each in self.written])

    @property
    def given(self) -> np.ndarray:
        """bool [N]: it may be given."""
        return np.array([each.problem is None for each in self.written])

    @property
    def exact(self) -> np.ndarray:
        """bool [N]: it is the sentence that was meant."""
        pairs = zip(self.examples, self.written, strict=True)
        return np.array([example.sentence.casefold() == each.sentence.casefold() for example, each in pairs])

    @property
    def f1(self) -> np.ndarray:
        """float [N]: words that it shares with the sentence that was meant; 0 where it may not be given."""
        pairs = zip(self.examples, self.written, strict=True)
        return np.array([0.0 if w.problem else _shared(e.sentence, w.sentence) for e, w in pairs])


@dataclass(frozen=True)
class WriterJudging(Judging[Judged, WriterDecision]):
    """Judges networks on answers."""

    noun = "answer"
    pictures = ()

    data: WriterData
    tokenizer: Any
    end: str

    @classmethod
    def of_data(cls, data: WriterData) -> WriterJudging:
        """Return the judging with the data's own tokenizer."""
        return cls(data, data.tokenizer, data.tokenizer_settings["eos_token"])

    @classmethod
    def of_bundle(cls, data: WriterData, bundle: Bundle) -> WriterJudging:
        """Return the judging with a bundle's tokenizer."""
        return cls(data, *read_tokenizer(bundle))

    def judge(self, runtime: Runtime, split: str) -> Judged:
        """Return what a runtime writes for every answer."""
        examples = examples_of(self.data.splits, split)
        writing = Writing(runtime, self.tokenizer, self.end, MAX_TOKENS)
        written = [writing.written(each.ask) for each in tqdm(examples, desc=f"judging {split}", unit="answer")]
        return Judged(examples, written)

    def merits(self, judged: Judged) -> dict[str, float]:
        """Return how many sentences may be given, and how near they are."""
        return {"quality": float(judged.f1.mean()), "given": float(judged.given.mean())}

    def fit(self, module: object, judged: Mapping[str, Judged]) -> Fitted[WriterDecision]:
        """Return how sure the writer must be, so that the surest sentences are given: three of four answers."""
        val = judged["val"]
        sure = sorted((each.confidence for each in val.written if each.problem is None), reverse=True)
        wanted = int(GIVEN_SHARE * len(val.written))
        is_good = bool(val.given.any()) and float(val.f1[val.given].mean()) >= GOOD
        least = 0.0 if is_good or wanted >= len(sure) else min(SURE_ENOUGH, sure[wanted])
        decision = WriterDecision(max_tokens=MAX_TOKENS, least_confidence=round(least, 4))
        return Fitted(decision, decision)

    def refit(self, bundle: Bundle, judged: Judged) -> Fitted[WriterDecision]:
        """Return how sure the writer must be, anew."""
        return self.fit(None, {"val": judged})

    def reference(self, judged: Judged, rule: WriterDecision) -> Reference:
        """Return which validation answers were phrased, and their share."""
        given = judged.at(rule).given.astype(float)
        return Reference(given, np.array([given.mean()]))

    def worth(self, judged: Judged) -> Worth | None:
        """Return F1 against what was meant, beside the answer alone and the sentence that it is from."""
        if not judged.examples:
            return None
        quoted = np.array([_shared(e.sentence, e.ask.answer) for e in judged.examples])
        whole = np.array([_shared(e.sentence, e.ask.evidence) for e in judged.examples])
        return Worth(
            "F1 of the sentence",
            judged.f1,
            {"the answer alone": quoted, "the sentence that it is from": whole},
            [
                "--model.language_model of a larger one, such as HuggingFaceTB/SmolLM2-135M",
                f"more sentences: {len(self.data.splits['train']):,} trained",
                "more epochs",
                "the sentences in report/most_wrong.jsonl, which may be badly phrased themselves",
            ],
        )

    def rule_of(self, bundle: Bundle) -> WriterDecision:
        """Return the bundle's decision."""
        decision = bundle.config.decision
        if not isinstance(decision, WriterDecision):
            raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for answer-writer.")
        return decision

    def outcomes(self, judged: Judged, rule: WriterDecision) -> Outcomes:
        """Return the F1 of each sentence against the one that was meant; 0 where it may not be given."""
        judged = judged.at(rule)
        names = [source.name for source in self.data.sources]
        return Outcomes(
            "F1 of the sentence",
            "F1 is how many words a sentence shares with the one that was meant. A sentence that may not be given "
            "counts as 0.",
            judged.examples,
            judged.f1.astype(float),
            [None if each.problem else each.sentence for each in judged.written],
            np.full(len(judged.examples), np.nan),
            [names[example.source] for example in judged.examples],
            [len(example.ask.evidence.split()) for example in judged.examples],
            "words of the text",
            [example.ask.question for example in judged.examples],
        )

    def measure(self, judged: Judged, rule: WriterDecision) -> dict[str, Any]:
        """Return `sources` and `overall` metrics, and why sentences were not given."""
        judged = judged.at(rule)
        sets = np.array([example.source for example in judged.examples], dtype=int)
        values = {"given": judged.given, "exact": judged.exact, "f1": judged.f1}

        def part(rows: np.ndarray) -> dict[str, Any]:
            means = {name: round(float(array[rows].mean()), DIGITS) for name, array in values.items() if len(rows)}
            return {"examples": len(rows), **means}

        kinds = Counter(each.problem.split("' ")[-1] for each in judged.written if each.problem)
        places = {source.name: np.flatnonzero(sets == i) for i, source in enumerate(self.data.sources)}
        return {
            "sources": {name: part(rows) for name, rows in places.items() if len(rows)},
            "overall": part(np.arange(len(sets))),
            "not_given": dict(kinds.most_common()),
        }

    def most_wrong(self, judged: Judged, rule: WriterDecision) -> bytes:
        """Return sentences that were not given, then the farthest from what was meant, as JSON lines."""
        order = np.argsort(judged.f1, kind="stable")[:SHOWN_WRONG]
        return json_lines(
            {
                "question": judged.examples[i].ask.question,
                "text": judged.examples[i].ask.evidence,
                "answer": judged.examples[i].ask.answer,
                "written": judged.written[i].sentence,
                "problem": judged.written[i].problem,
                "meant": judged.examples[i].sentence,
            }
            for i in order
        )

    def table(self, report: Mapping[str, Any]) -> str:
        """Return the metrics of each set."""
        reasons = ", ".join(f"{reason} ({count})" for reason, count in report["not_given"].items())
        return "\n".join([*table_lines(report, COLUMNS), EXPLAINED, *([f"not given: {reasons}"] if reasons else [])])


def _shared(one: str, other: str) -> float:
    """Return the F1 of the words of two sentences."""
    words = [Counter(_words(text)) for text in (one, other)]
    shared = (words[0] & words[1]).total()
    return 2 * shared / max(1, words[0].total() + words[1].total())


def _words(text: str) -> Sequence[str]:
    return "".join(c if c.isalnum() else " " for c in text.casefold()).split()
