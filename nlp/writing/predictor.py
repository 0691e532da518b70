"""Answers to sentences with a bundle and a runtime: one token after the other, then checked. Torch-free."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Tokenizer

from nlp.writing.checking import problem
from nlp.writing.pointing import LOGITS, point, points
from nlp.writing.wording import END, Ask, ask
from shared.bundle.layout import TOKENIZER, TOKENIZER_CONFIG, WriterDecision
from shared.bundle.read import Bundle
from shared.errors import BundleError
from shared.runtime.protocol import KEPT, Runtime

INPUT_IDS = "input_ids"
PAST = "past"
PRESENT = "present"
EOS = "eos_token"
MAX_READ = 256
"""Tokens of question, text and answer: what writers are trained on, and what bounds the time that one takes."""
_YES_OR_NO = re.compile(
    r"\s*(?:is|are|was|were|do|does|did|can|could|has|have|had|will|would|should|may|must)\b", re.IGNORECASE
)
"""Asks whether something is so: a place in a text answers that in words of its own, or not at all."""
WHOLE_ANSWER_WORDS = 15
"""An answer of so many words says what there is to say; a sentence around it would only be longer."""


@dataclass(frozen=True)
class Written:
    """What a writer made of an answer."""

    sentence: str
    """With the answer in it."""
    problem: str | None
    """Why it must not be given; None if it may."""
    confidence: float = 0.0
    """Geometric mean of the probabilities of its words or tokens."""

    def at(self, least_confidence: float) -> Written:
        """Return the same as it is given by a writer that must be so sure."""
        if self.problem is not None or self.confidence >= least_confidence:
            return self
        return replace(self, problem=f"the writer is not sure of it: {self.confidence:.2f} of {least_confidence:.2f}")


class Writing:
    """Writes with a runtime and a tokenizer; holds no state between calls. Safe to use from threads: one at a time.

    Args:
        runtime: takes `INPUT_IDS` and `PAST`, gives `LOGITS` and `PRESENT`; or points at words.
        tokenizer: of the network.
        end: its token that ends a text; the end of a line does, too.
        max_tokens: most tokens of a sentence.
        least_confidence: below it, a sentence must not be given.
    """

    def __init__(
        self, runtime: Runtime, tokenizer: Tokenizer, end: str, max_tokens: int, least_confidence: float = 0.0
    ) -> None:
        self.least_confidence = least_confidence
        self.runtime = runtime
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self._points = points(runtime)
        self._one_at_a_time = threading.Lock()
        if self._points:
            return
        self._end = tokenizer.token_to_id(end)
        shape = next(spec.shape for spec in runtime.inputs if spec.name == PAST)
        sizes = [0 if size == KEPT else 1 if isinstance(size, str) else size for size in shape]
        self._nothing = np.zeros(sizes, dtype=np.float32)

    def write(self, question: str, text: str, start: int, end: int) -> str | None:
        """Return an answer as a sentence; None where it is best quoted as it is.

        Args:
            question: as a person put it.
            text: what the answer is from.
            start: `text[start:end]` is the answer.
            end: likewise.
        """
        asked = ask(question, text, start, end)
        if len(asked.answer.split()) >= WHOLE_ANSWER_WORDS or not asked.answer.strip() or _YES_OR_NO.match(question):
            return None
        written = self.written(asked)
        return None if written.problem else written.sentence

    def written(self, asked: Ask) -> Written:
        """Return what the network writes, whatever it is worth."""
        if self._points:
            with self._one_at_a_time:
                said, confidence = point(self.runtime, self.tokenizer, asked)
            return Written(asked.filled(said), problem(asked, said), confidence).at(self.least_confidence)
        read = self.tokenizer.encode(asked.prompt).ids
        if len(read) > MAX_READ:
            return Written("", f"question and text have {len(read)} tokens; at most {MAX_READ} are read")
        with self._one_at_a_time:
            tokens = list(self._tokens(read))
        said = self.tokenizer.decode([token for token, _ in tokens], skip_special_tokens=True).strip()
        confidence = math.exp(sum(sure for _, sure in tokens) / max(1, len(tokens)))
        return Written(asked.filled(said), problem(asked, said), confidence).at(self.least_confidence)

    def _tokens(self, read: list[int]) -> Iterator[tuple[int, float]]:
        """Yield the most probable token, with the logarithm of its probability, until the sentence ends."""
        new = np.array([read], dtype=np.int64)
        past = self._nothing
        for _ in range(self.max_tokens):
            outputs = self.runtime.run({INPUT_IDS: new, PAST: past})
            logits = outputs[LOGITS][0].astype(np.float64)
            token = int(logits.argmax())
            if token == self._end or END in self.tokenizer.decode([token]):
                return
            yield token, -float(np.log(np.exp(logits - logits[token]).sum()))
            new, past = np.array([[token]], dtype=np.int64), outputs[PRESENT]


class AnswerWriter(Writing):
    """Writes as the bundle says."""

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        decision = bundle.config.decision
        if not isinstance(decision, WriterDecision):
            raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for answer-writer.")
        super().__init__(runtime, *read_tokenizer(bundle), decision.max_tokens, decision.least_confidence)
        self.bundle = bundle


def read_tokenizer(bundle: Bundle) -> tuple[Tokenizer, str]:
    """Return a bundle's tokenizer, and its token that ends a text.

    Raises:
        BundleError: it is missing or broken.
    """
    path = bundle.file(TOKENIZER)
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode("a")
    except BaseException as error:  # tokenizers raises plain Exception; a Rust panic is not even that
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise BundleError(f"{path.parent} has no readable tokenizer: {error}") from error
    settings = bundle.file(TOKENIZER_CONFIG)
    try:
        end = str(json.loads(settings.read_text(encoding="utf-8"))[EOS])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{settings} does not say which token ends a text ({EOS}): {error}") from error
    return tokenizer, end
