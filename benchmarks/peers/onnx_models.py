"""Models in ONNX Runtime, written competently: tokenizers or a full decode, run, softmax or best span."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer

from benchmarks.peers import FOLDERS

MAX_ANSWER_TOKENS = 60


def session(folder: Path) -> onnxruntime.InferenceSession:
    """Return a one-thread session for model.onnx."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last dimension."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


class _Model:
    """Folder, configuration and session of a model."""

    kind: str

    def __init__(self) -> None:
        self.folder = Path(os.environ[FOLDERS[self.kind]])
        self.config = json.loads((self.folder / "config.json").read_text())
        self.session = session(self.folder)
        self.labels = [self.config["id2label"][str(i)] for i in range(len(self.config["id2label"]))]

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer, which truncates and pads for the network."""
        found = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        limits = json.loads((self.folder / "tokenizer_config.json").read_text())
        strategy = "only_second" if limits["stride"] else "longest_first"
        found.enable_truncation(limits["max_length"], stride=limits["stride"], strategy=strategy)
        found.enable_padding()
        return found


class Intents(_Model):
    """Maps utterances to their five most probable intents."""

    kind = "intent"

    def __init__(self) -> None:
        super().__init__()
        self.tokens = self.tokenizer()

    def __call__(self, texts: list[str]) -> list[list[dict[str, Any]]]:
        found = self.tokens.encode_batch(texts)
        inputs = {"input_ids": [each.ids for each in found], "attention_mask": [each.attention_mask for each in found]}
        arrays = {name: np.array(rows, dtype=np.int64) for name, rows in inputs.items()}
        probabilities = softmax(self.session.run(["logits"], arrays)[0])
        best = np.argsort(-probabilities, axis=1)[:, :5]
        return [
            [{"label": self.labels[i], "score": float(row[i])} for i in order]
            for row, order in zip(probabilities, best, strict=True)
        ]


class Answers(_Model):
    """Maps a question and context to the best span over all windows, which run as one batch."""

    kind = "qa"

    def __init__(self) -> None:
        super().__init__()
        self.tokens = self.tokenizer()

    def __call__(self, question: str, context: str) -> dict[str, Any]:
        first = self.tokens.encode(question, context)
        windows = [first, *first.overflowing]
        inputs = {
            "input_ids": np.array([each.ids for each in windows], dtype=np.int64),
            "attention_mask": np.array([each.attention_mask for each in windows], dtype=np.int64),
            "token_type_ids": np.array([each.type_ids for each in windows], dtype=np.int64),
        }
        starts, ends = self.session.run(["start_logits", "end_logits"], inputs)
        return best_span(context, windows, starts, ends)


def best_span(context: str, windows: list[Any], starts: np.ndarray, ends: np.ndarray) -> dict[str, Any]:
    """Return the span of at most `MAX_ANSWER_TOKENS` tokens with the largest sum of logits, minus those of [CLS]."""
    best = {"score": -np.inf, "answer": "", "start": 0, "end": 0}
    for window, start_logits, end_logits in zip(windows, starts, ends, strict=True):
        inside = np.array([each == 1 for each in window.sequence_ids])
        scores = np.where(inside, start_logits, -np.inf)[:, None] + np.where(inside, end_logits, -np.inf)[None, :]
        scores = _allowed(scores)
        first, last = np.unravel_index(int(scores.argmax()), scores.shape)
        score = float(scores[first, last] - start_logits[0] - end_logits[0])
        if score > best["score"]:
            start, end = window.offsets[first][0], window.offsets[last][1]
            best = {"score": score, "answer": context[start:end], "start": start, "end": end}
    return best


def _allowed(scores: np.ndarray) -> np.ndarray:
    """Return [T, T] with -inf where the end is before the start or too far after it."""
    places = np.arange(len(scores))
    length = places[None, :] - places[:, None]
    return np.where((length >= 0) & (length < MAX_ANSWER_TOKENS), scores, -np.inf)


class Tags(_Model):
    """Maps fully decoded photos to their five most probable labels."""

    kind = "photo"

    def __init__(self) -> None:
        super().__init__()
        values = json.loads((self.folder / "preprocessor_config.json").read_text())
        self.size = values["size"]
        self.mean = np.array(values["mean"], dtype=np.float32)
        self.std = np.array(values["std"], dtype=np.float32)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return float32 [3, size, size]."""
        image = image.convert("RGB")
        scale = self.size / min(image.size)
        width, height = round(image.width * scale), round(image.height * scale)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        image = image.crop((left, top, left + self.size, top + self.size))
        values = np.asarray(image, dtype=np.float32) / 255
        return ((values - self.mean) / self.std).transpose(2, 0, 1)

    def __call__(self, images: list[Image.Image]) -> list[list[dict[str, Any]]]:
        batch = np.stack([self.pixels(image) for image in images])
        scores = 1 / (1 + np.exp(-self.session.run(["logits"], {"pixel_values": batch})[0]))
        best = np.argsort(-scores, axis=1)[:, :5]
        return [
            [{"label": self.labels[i], "score": float(row[i])} for i in order]
            for row, order in zip(scores, best, strict=True)
        ]


def opened(body: bytes) -> Image.Image:
    """Open a photo from the bytes of a file."""
    return Image.open(io.BytesIO(body))
