"""What each case of the fuzzing is and what may come of it: a good answer or an InputError, and nothing else."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from nlp.engine import AnswerEngine
from nlp.knowledge.documents import read_document
from nlp.knowledge.passages import split_passages
from nlp.knowledge.pdf import PdfLimits, read_pdf
from nlp.text import TextEncoder
from shared.errors import InputError
from shared.serving.settings import Settings
from tests.fuzz.documents import make_html, make_markdown, make_pdf_file
from tests.fuzz.images import make_image
from tests.language_bundles import make_qa_bundle
from tests.nlp.test_offsets import HOSTILE, TOKENIZERS, Hashing, check
from vision.images import DEFAULT_MAX_PIXELS, ImagePreprocessor, decode_image

PDF_LIMITS = PdfLimits(seconds=10)
_PREPROCESS = ImagePreprocessor(32, 0.875, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def numbered(kind: str, seed: int, number: int) -> random.Random:
    """Return the generator that makes a case."""
    return random.Random(f"{kind}:{seed}:{number}")


def image(rng: random.Random) -> tuple[bytes, Callable[[], str]]:
    """Decode a hostile picture and make it the network's input."""
    content = make_image(rng)

    def run() -> str:
        try:
            found = decode_image(content, target_size_px=_PREPROCESS.resize_px)
        except InputError as error:
            return type(error).__name__
        assert found.pixels.mode == "RGB"
        assert 0 < found.width * found.height <= DEFAULT_MAX_PIXELS
        pixels = _PREPROCESS(found.pixels)
        assert pixels.shape == (3, 32, 32)
        assert np.isfinite(pixels).all()
        return "decoded"

    return content, run


def text(rng: random.Random) -> tuple[bytes, Callable[[], str]]:
    """Cut a hostile context into windows and take answers out of it: each is what stands at its place."""
    question, heading, context = (_hostile_text(rng) for _ in range(3))
    above = rng.choice((0, len(heading) + 1))
    whole = f"{heading}\n{context}" if above else context
    seed = rng.randrange(1 << 16)
    engine = engines()[rng.randrange(len(TOKENIZERS))]

    def run() -> str:
        check(engine, question, whole, above, seed)
        return "answered"

    return f"{question}\0{whole}".encode(), run


def document(rng: random.Random) -> tuple[bytes, Callable[[], str]]:
    """Read a hostile Markdown or HTML document and cut it into passages."""
    name, content = rng.choice((make_markdown, make_html))(rng)

    def run() -> str:
        try:
            found = read_document(name, content)
        except InputError as error:
            return type(error).__name__
        for section in found.sections:
            assert 0 <= section.start <= section.end <= len(found.text)
        for passage in split_passages(found.text, found.sections):
            assert 0 <= passage.start < passage.end <= len(found.text)
        return "read"

    return content, run


def pdf(rng: random.Random) -> tuple[bytes, Callable[[], str]]:
    """Read a hostile PDF, which a process of its own does."""
    _, content = make_pdf_file(rng)

    def run() -> str:
        try:
            read_pdf(content, PDF_LIMITS)
        except InputError as error:
            return type(error).__name__
        return "read"

    return content, run


KINDS: dict[str, Callable[[random.Random], tuple[bytes, Callable[[], str]]]] = {
    "image": image,
    "text": text,
    "document": document,
    "pdf": pdf,
}


@cache
def engines() -> list[AnswerEngine]:
    """Return one answer engine for each family of tokenizers."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_qa_bundle(Path(folder) / "qa")
        made = []
        for tokenizer in TOKENIZERS.values():
            engine = AnswerEngine(bundle, Hashing(bundle), Settings(knowledge=Path("unused")))
            engine.predictor.encoder = TextEncoder(tokenizer(), 24, 6)
            made.append(engine)
    return made


def _hostile_text(rng: random.Random) -> str:
    pieces = [
        rng.choice(HOSTILE) if rng.random() < 0.6 else "".join(map(_character, [rng] * rng.randint(0, 6)))
        for _ in range(rng.randint(0, 24))
    ]
    return "".join(pieces)


def _character(rng: random.Random) -> str:
    code = rng.randrange(rng.choice((0x80, 0x800, 0x10000, 0x110000)))
    return "?" if 0xD800 <= code < 0xE000 else chr(code)
