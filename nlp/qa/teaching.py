"""A teacher: what a larger reader says of the training questions, so that a smaller one learns its doubts as well.

The teacher is asked once about each question with its passage, and what it says is kept by characters. So teacher and
student may have different tokenizers and windows, and a file of what a teacher said can be used again without it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nlp.distilling import read_teacher
from nlp.qa import TASK
from nlp.qa.predictor import END_LOGITS, START_LOGITS
from nlp.qa.sources import Example
from nlp.qa.spans import NO_ANSWER
from nlp.qa.windows import WindowBatches, cut
from nlp.text import Encoding, TextEncoder
from shared.bundle.read import Bundle
from shared.errors import ConfigError
from shared.runtime.choose import choose_runtime
from shared.runtime.protocol import Runtime

KEPT = 8
"""Places that are kept of what a teacher says of a start or an end; the others have hardly any share."""
NOWHERE = -1
"""Stands where a teacher named fewer places."""
SUFFIX = ".npz"
BATCH_TOKENS = 4096
ASKED_TOGETHER = 2000
"""Questions after which what was said is written down, so that a run that is stopped need not ask again."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Said:
    """What a teacher says of one question about one passage: row 0 of where the answer starts, row 1 of where it ends.

    The chance of a place grows with exp(margin); that there is no answer has the margin 0.
    """

    characters: np.ndarray
    """int64 [2, KEPT]: the first character of an answer, and its last; `NOWHERE` after the last place."""
    margins: np.ndarray
    """float32 [2, KEPT]: the place's logit minus that of no answer in its window."""

    def targets(self, window: Encoding, temperature: float) -> np.ndarray:
        """Return what it says of a window's tokens, float32 [2, T]; each row adds up to 1.

        What lies outside of the window counts for no answer, as it does where a label is learned.
        """
        spread = np.zeros((2, len(window)), dtype=np.float64)
        spread[:, NO_ANSWER] = 1.0
        tokens = np.flatnonzero(window.is_text)
        first, behind = window.offsets[tokens, 0], window.offsets[tokens, 1]
        for row in range(2):
            for character, margin in zip(self.characters[row], self.margins[row], strict=True):
                found = tokens[(first <= character) & (character < behind)] if character != NOWHERE else tokens[:0]
                if len(found):
                    spread[row, found[0]] += np.exp(min(float(margin), 50.0) / temperature)
        return np.asarray(spread / spread.sum(axis=1, keepdims=True), dtype=np.float32)


class Teacher:
    """What a teacher has said so far, and the teacher itself where there is one to ask.

    Args:
        named: the folder of a bundle, or a file that `save` wrote.
        threads: of the teacher on a CPU.

    Raises:
        ConfigError: it is neither, or a bundle for another task.
        BundleError: the bundle is broken.
    """

    def __init__(self, named: str, threads: int = 1) -> None:
        place = Path(named).expanduser()
        self.said: dict[bytes, Said] = {}
        self.name = place.name
        self._bundle: Bundle | None = None
        self._threads = threads
        if place.suffix == SUFFIX:
            self.name, self.said = _read(place)
        else:
            self._bundle = read_teacher(named, TASK.name, f" or a {SUFFIX} file of what one said in an earlier run")
            self.name = f"{self._bundle.name} {self._bundle.version}"

    def ask(self, examples: Sequence[Example], *, kept: Path | None = None) -> None:
        """Ask about each question that it has not been asked about; a bar shows how far it is.

        Args:
            examples: training questions with their passages.
            kept: a file that holds what the same teacher said before, and where all is written to as it comes.
        """
        if kept is not None and kept.is_file() and self._bundle is not None:
            name, said = _read(kept)
            if name == self.name:
                self.said |= said
        new = list({_key(each): each for each in examples if _key(each) not in self.said}.values())
        if not new:
            return
        if self._bundle is None:
            logger.warning(
                "what the teacher %s said leaves out %d of %d training questions: these learn from their labels alone",
                self.name, len(new), len(examples),
            )  # fmt: skip
            return
        encoder = TextEncoder.from_bundle(self._bundle)
        runtime = choose_runtime(self._bundle, network=TASK.network, threads=self._threads)
        with tqdm(total=len(new), desc=f"asking {self.name}", unit="question") as bar:
            for start in range(0, len(new), ASKED_TOGETHER):
                part = new[start : start + ASKED_TOGETHER]
                self._answer(runtime, encoder, part, bar)
                if kept is not None:
                    self.save(kept)
        runtime.close()

    def of(self, example: Example) -> Said | None:
        """Return what it said of a question; None where it was not asked."""
        return self.said.get(_key(example))

    def save(self, path: Path) -> None:
        """Write all that it said: no text, only digests, places and margins."""
        keys = sorted(self.said)
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            allow_pickle=False,
            teacher=np.array(self.name),
            digests=np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), -1),
            characters=np.array([self.said[key].characters for key in keys], dtype=np.int32),
            margins=np.array([self.said[key].margins for key in keys], dtype=np.float16),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(buffer.getvalue())
        part.replace(path)

    def _answer(self, runtime: Runtime, encoder: TextEncoder, examples: Sequence[Example], bar: tqdm[Any]) -> None:
        names = [spec.name for spec in runtime.inputs]
        windows = cut(examples, encoder)
        places: dict[int, list[list[tuple[int, float]]]] = {}
        batches = WindowBatches(windows, BATCH_TOKENS)
        for i in range(len(batches)):
            outputs = runtime.run(encoder.batch([window.encoding for window in batches[i]], names))
            for row, window in enumerate(batches[i]):
                found = places.setdefault(window.example, [[], []])
                bar.update(not found[0])
                for kind, name in enumerate((START_LOGITS, END_LOGITS)):
                    found[kind] += _best(outputs[name][row], window.encoding, kind)
        for index, found in places.items():
            self.said[_key(examples[index])] = _said(found)


def _best(logits: np.ndarray, window: Encoding, kind: int) -> list[tuple[int, float]]:
    """Return (character, margin) of a window's best tokens: their first characters, or of kind 1 their last."""
    tokens = np.flatnonzero(window.is_text)
    best = tokens[np.argsort(-logits[tokens], kind="stable")[:KEPT]]
    characters = window.offsets[best, 0] if kind == 0 else window.offsets[best, 1] - 1
    margins = logits[best].astype(np.float64) - float(logits[NO_ANSWER])
    return list(zip(characters.tolist(), margins.tolist(), strict=True))


def _said(found: Sequence[Iterable[tuple[int, float]]]) -> Said:
    """Return the best places over all windows; of a place in two of them, the better margin."""
    characters = np.full((2, KEPT), NOWHERE, dtype=np.int64)
    margins = np.zeros((2, KEPT), dtype=np.float32)
    for row, places in enumerate(found):
        best: dict[int, float] = {}
        for character, margin in places:
            best[character] = max(margin, best.get(character, margin))
        chosen = sorted(best.items(), key=lambda each: -each[1])[:KEPT]
        for column, (character, margin) in enumerate(chosen):
            characters[row, column], margins[row, column] = character, margin
    return Said(characters, margins)


def _key(example: Example) -> bytes:
    return hashlib.sha256(f"{example.question}\0{example.context}".encode()).digest()[:8]


def _read(path: Path) -> tuple[str, dict[bytes, Said]]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            stored: Mapping[str, np.ndarray] = {name: arrays[name] for name in arrays.files}
        digests, characters, margins = stored["digests"], stored["characters"], stored["margins"]
        name = str(stored["teacher"])
        if characters.shape != (len(digests), 2, KEPT) or margins.shape != characters.shape:
            raise ValueError(f"places of the shape {characters.shape} for {len(digests)} questions")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} cannot be read as what a teacher said ({error}); name its bundle.") from error
    return name, {
        row.tobytes(): Said(characters[i].astype(np.int64), margins[i].astype(np.float32))
        for i, row in enumerate(digests)
    }
