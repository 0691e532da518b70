"""The requests to send: texts by number of tokens, questions by number of windows, photos by megapixels.

Every stack gets the same texts and photos, in the format it accepts (`stacks`).
"""

from __future__ import annotations

import io
import json
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from nlp.text import TextEncoder
from shared.bundle.read import read_bundle

Kind = Literal["intent", "qa", "documents", "photo"]
Family = Literal["language", "vision"]
Item = str | tuple[str, str] | bytes
"""An utterance or a question to documents, a question with its context, or a photo's bytes."""
ASKED = Path(__file__).resolve().parents[1] / "tests" / "nlp" / "knowledge" / "own_questions.jsonl"
"""Sixty questions about this project's own documentation."""

VARIANTS = 16
"""Number of different texts, sent in turn, so that caches do not help."""
_TEXT = (
    "please book a table for two people at the old harbour tonight and tell me how long the train to the city will "
    "take when it rains because my sister wants to see the green house near the river before the shop is closed"
)
_QUESTION = "when did the old house near the river open to the public"


@dataclass(frozen=True)
class Workload:
    """One kind of request, the numbers of connections to send it over, and how long to measure."""

    name: str
    title: str
    kind: Kind
    size: float
    """Tokens of a text, windows of a question that has several, megapixels of a photo; of documents, nothing."""
    levels: tuple[int, ...]
    stretch: float = 1.0
    """Factor on the seconds: more if one request takes long."""

    @property
    def family(self) -> Family:
        return "vision" if self.kind == "photo" else "language"


WORKLOADS = {
    each.name: each
    for each in (
        Workload("intent12", "Intent, 12 tokens", "intent", 12, (1, 8, 32, 128)),
        Workload("intent60", "Intent, 60 tokens", "intent", 60, (1, 32)),
        Workload("qa300", "Answer, one window of 300 tokens", "qa", 300, (1, 32)),
        Workload("qa10", "Answer, ten windows", "qa", 10, (1, 8), stretch=2),
        Workload("documents", "Answer from documents", "documents", 0, (1, 8), stretch=2),
        Workload("photo1", "Tags, photo of 1 megapixel", "photo", 1, (1, 8, 32, 128)),
        Workload("photo12", "Tags, photo of 12 megapixels", "photo", 12, (1, 32), stretch=2),
    )
}
QUICK = ("intent12", "photo1")
QUICK_LEVELS = (1, 32)
_MOST_WORDS = 6000
WINDOWS_FROM = 100
"""Below this, a question's `size` counts windows, not tokens."""


def items(workload: Workload, bundles: dict[str, Path]) -> list[Item]:
    """Return the items to send for a workload, in turn.

    Args:
        workload: kind and size.
        bundles: "intent" and "qa" -> bundle whose tokenizer counts the tokens.
    """
    return list(_items(workload.kind, workload.size, bundles.get(workload.kind)))


@cache
def _items(kind: Kind, size: float, bundle: Path | None) -> tuple[Item, ...]:
    if kind == "photo":
        return tuple(make_photo(size, seed) for seed in range(4 if size <= 2 else 2))
    if kind == "documents":
        return tuple(json.loads(line)["question"] for line in ASKED.read_text("utf-8").splitlines())
    assert bundle is not None
    encoder = TextEncoder.from_bundle(read_bundle(bundle))
    if kind == "intent":
        return tuple(make_text(encoder, int(size), seed) for seed in range(VARIANTS))
    return tuple((_QUESTION, make_context(encoder, int(size), seed)) for seed in range(VARIANTS))


def make_text(encoder: TextEncoder, tokens: int, seed: int = 0) -> str:
    """Return words that make exactly this many tokens, including special ones."""
    generator = np.random.default_rng(seed)
    words: list[str] = []
    while (length := len(encoder.encode(" ".join(words)))) < tokens:
        words.append(str(generator.choice(_TEXT.split())))
    assert length == tokens, f"{tokens} tokens cannot be reached; the bundle truncates after {encoder.max_length}"
    return " ".join(words)


def make_context(encoder: TextEncoder, size: int, seed: int = 0) -> str:
    """Return a context that, with the question, makes one window of this many tokens, or this many windows."""
    generator = np.random.default_rng(seed)
    words = [str(word) for word in generator.choice(_TEXT.split(), _MOST_WORDS)]

    def is_too_long(count: int) -> bool:
        windows = encoder.windows(_QUESTION, " ".join(words[:count]))
        return len(windows) > size if size < WINDOWS_FROM else len(windows) > 1 or len(windows[0]) > size

    most = bisect_left(range(_MOST_WORDS), True, key=is_too_long) - 1
    return " ".join(words[:most])


def make_photo(megapixels: float = 1.0, seed: int = 0) -> bytes:
    """Return a 4:3 JPEG with smooth shapes and some grain, so that it decodes like a photo."""
    generator = np.random.default_rng(seed)
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = height * 4 // 3
    coarse = Image.fromarray(generator.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    grain = generator.standard_normal(smooth.shape, dtype=np.float32) * 6
    buffer = io.BytesIO()
    Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
