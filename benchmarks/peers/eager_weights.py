"""Writes fp32 networks for the eager peers: `python -m benchmarks.peers.eager_weights OUT KIND=BUNDLE …`.

The language bundles that ship with Percept contain only ONNX, so these networks have the same architecture with random
weights. They are as fast as trained ones; their answers are ignored.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoModelForSequenceClassification

MODELS = {"intent": AutoModelForSequenceClassification, "qa": AutoModelForQuestionAnswering}


def make(kind: str, bundle: Path, folder: Path) -> None:
    """Write a Hugging Face folder with the bundle's architecture."""
    written = json.loads((bundle / "config.json").read_text())
    values = dict(written.get("encoder_config", written))
    labels = {"id2label": written["id2label"], "label2id": written["label2id"]} if kind == "intent" else {}
    config = AutoConfig.for_model(values.pop("model_type"), **{**values, **labels})
    torch.manual_seed(0)
    MODELS[kind].from_config(config).eval().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundle / name, folder / name)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    for argument in sys.argv[2:]:
        of_kind, _, of_bundle = argument.partition("=")
        make(of_kind, Path(of_bundle), out / of_kind)
