"""Answers to sentences with a bundle and a runtime: one token after the other, then checked. Torch-free."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from nlp.writing.checking import problem
from nlp.writing.pointing import point, points
from nlp.writing.wording import END, Ask, ask
from shared.bundle.layout import TOKENIZER, TOKENIZER_CONFIG, WriterDecision
from shared.bundle.read import Bundle
from shared.errors import BundleError
from shared.runtime.protocol import KEPT, Runtime

INPUT_IDS = "input_ids"
PAST = "past"
LOGITS = "logits"
PRESENT = "present"
EOS = "eos_token"
MAX_READ = 256
"""Tokens of question, text and answer: what writers are trained on, and what bounds the time that one takes."""
WHOLE_ANSWER_WORDS = 15
"""An answer of so many words says what there is to say; a sentence around it would only be longer."""


@dataclass(frozen=True)
class Written:
    """What a writer made of an answer."""

    sentence: str
    """With the answer in it."""
    problem: str | None
    """Why it must not be given; None if it may."""


class Writing:
    """Writes with a runtime and a tokenizer; holds no state between calls. Safe to use from threads: one at a time.

    Args:
        runtime: takes `INPUT_IDS` and `PAST`, gives `LOGITS` and `PRESENT`; or points at words.
        tokenizer: of the network.
        end: its token that ends a text; the end of a line does, too.
        max_tokens: most tokens of a sentence.
    """

    def __init__(self, runtime: Runtime, tokenizer: Tokenizer, end: str, max_tokens: int) -> None:
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
        if len(asked.answer.split()) >= WHOLE_ANSWER_WORDS or not asked.answer.strip():
            return None
        written = self.written(asked)
        return None if written.problem else written.sentence

    def written(self, asked: Ask) -> Written:
        """Return what the network writes, whatever it is worth."""
        if self._points:
            with self._one_at_a_time:
                said = point(self.runtime, self.tokenizer, asked)
            return Written(asked.filled(said), problem(asked, said))
        read = self.tokenizer.encode(asked.prompt).ids
        if len(read) > MAX_READ:
            return Written("", f"question and text have {len(read)} tokens; at most {MAX_READ} are read")
        with self._one_at_a_time:
            said = self.tokenizer.decode(list(self._tokens(read)), skip_special_tokens=True).strip()
        return Written(asked.filled(said), problem(asked, said))

    def _tokens(self, read: list[int]) -> Iterator[int]:
        """Yield the most probable token, again and again, until the sentence ends."""
        new = np.array([read], dtype=np.int64)
        past = self._nothing
        for _ in range(self.max_tokens):
            outputs = self.runtime.run({INPUT_IDS: new, PAST: past})
            token = int(outputs[LOGITS][0].argmax())
            if token == self._end or END in self.tokenizer.decode([token]):
                return
            yield token
            new, past = np.array([[token]], dtype=np.int64), outputs[PRESENT]


class AnswerWriter(Writing):
    """Writes as the bundle says."""

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        decision = bundle.config.decision
        if not isinstance(decision, WriterDecision):
            raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for answer-writer.")
        super().__init__(runtime, *read_tokenizer(bundle), decision.max_tokens)
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
