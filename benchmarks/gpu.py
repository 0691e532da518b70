"""`python -m benchmarks.gpu`: compares the GPU runtime with plain fp32 torch on one NVIDIA GPU. Parity, then speed.

The networks have the shapes that Percept ships, with random weights, which do not affect speed. Every figure includes
the transfer to the GPU and back. The two alternate, so that both see the same clock rate.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

import click
import numpy as np
import torch
from torch import nn
from transformers import BertConfig, BertForQuestionAnswering, BertModel

from nlp.intent.network import MeanEncoder
from nlp.qa.network import AnswerNetwork
from nlp.text import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from shared.bundle.layout import TensorSignature
from shared.bundle.read import Bundle
from shared.runtime.cuda import TorchRuntime
from vision.tagging.network import build_network

ROUNDS = 7
SECONDS = 0.3
WARM_UP_CALLS = 5
PARITY_ROWS = 64
VOCABULARY = 30_000


@dataclass(frozen=True)
class Subject:
    """One network with inputs of its kind."""

    name: str
    network: nn.Module
    inputs: Callable[[int], dict[str, np.ndarray]]
    """Rows -> arrays by input name."""
    outputs: tuple[str, ...]


def photos(architecture: str, size_px: int, labels: int) -> Subject:
    """Return a torchvision network for photos of a size."""
    rng = np.random.default_rng(0)

    def inputs(rows: int) -> dict[str, np.ndarray]:
        return {"pixel_values": rng.standard_normal((rows, 3, size_px, size_px), dtype=np.float32)}

    network = build_network(architecture, labels)
    settle(network, [torch.from_numpy(inputs(16)["pixel_values"]) for _ in range(2)])
    return Subject(f"{architecture}, {size_px} px", network, inputs, ("logits",))


def settle(network: nn.Module, batches: Sequence[torch.Tensor]) -> None:
    """Let batch normalisation measure its inputs; as it starts, activations die out and any parity test passes."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over the batches
    network.train()
    with torch.no_grad():
        for batch in batches:
            network(batch)


def texts(name: str, network: nn.Module, names: tuple[str, ...], outputs: tuple[str, ...], tokens: int) -> Subject:
    """Return a text network for sentences of so many tokens."""
    rng = np.random.default_rng(0)

    def inputs(rows: int) -> dict[str, np.ndarray]:
        every = {
            INPUT_IDS: rng.integers(5, VOCABULARY, (rows, tokens), dtype=np.int64),
            ATTENTION_MASK: np.ones((rows, tokens), dtype=np.int64),
            TOKEN_TYPE_IDS: np.zeros((rows, tokens), dtype=np.int64),
        }
        return {name: every[name] for name in names}

    return Subject(f"{name}, {tokens} tokens", network, inputs, outputs)


def subjects() -> Iterator[Subject]:
    """Yield the networks that are measured."""
    torch.manual_seed(0)
    yield photos("mobilenet_v2", 160, 200)
    yield photos("resnet50", 224, 200)
    shape: dict[str, Any] = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
                             "intermediate_size": 1536, "vocab_size": VOCABULARY}  # fmt: skip
    config = BertConfig(**shape)
    intents = MeanEncoder(BertModel(config, add_pooling_layer=False), 150, "cosine", 0.0)
    answers = AnswerNetwork(BertForQuestionAnswering(config))
    for tokens in (12, 60):
        yield texts("intents", intents, (INPUT_IDS, ATTENTION_MASK), ("logits", "features"), tokens)
    names = (INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS)
    yield texts("answers", answers, names, ("start_logits", "end_logits"), 384)


def runtime_of(subject: Subject) -> TorchRuntime:
    """Return the GPU runtime over a network that is in no bundle."""
    example = subject.inputs(1)
    specs = tuple(
        TensorSignature(
            name=name, dtype=cast("Any", str(array.dtype)), shape=[f"{name}_{i}" for i in range(array.ndim)]
        )
        for name, array in example.items()
    )
    outputs = [SimpleNamespace(name=name) for name in subject.outputs]
    bundle = SimpleNamespace(config=SimpleNamespace(signature=SimpleNamespace(inputs=specs, outputs=outputs)))
    return TorchRuntime(cast("Bundle", bundle), lambda _: subject.network, device="cuda")


def plain(network: nn.Module, names: tuple[str, ...]) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """Return what one would write first: torch in fp32, arrays to the GPU and back."""

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            result = network(*(torch.from_numpy(inputs[name]).cuda() for name in names))
        found = result if isinstance(result, tuple) else (result,)
        return [tensor.cpu().numpy() for tensor in found]

    return run


def items_per_s(call: Callable[[], object], rows: int) -> float:
    """Return rows per second over a short while."""
    start = time.perf_counter()
    done = 0
    while (elapsed := time.perf_counter() - start) < SECONDS:
        call()
        done += rows
    return done / elapsed


def compare(subject: Subject, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield how far the runtime is from torch in fp32 on the CPU, then for each batch size its speed and the peer's."""
    network = subject.network.eval().requires_grad_(False)
    inputs = subject.inputs(PARITY_ROWS)
    peer = plain(deepcopy(network).cuda(), tuple(inputs))  # the runtime casts the network that it is given
    with torch.inference_mode():
        result = network(*map(torch.from_numpy, inputs.values()))
    expected = [tensor.numpy() for tensor in (result if isinstance(result, tuple) else (result,))]
    runtime = runtime_of(subject)
    found = list(runtime.run(inputs).values())
    yield {
        "network": subject.name,
        "largest_difference": [float(np.abs(f - e).max()) for f, e in zip(found, expected, strict=True)],
        "spread": [float(e.std()) for e in expected],
        "same_best": float((found[0].argmax(-1) == expected[0].argmax(-1)).mean()),
    }
    for rows in sizes:
        batch = subject.inputs(rows)
        calls = {"plain": partial(peer, batch), "percept": partial(runtime.run, batch)}
        for call in calls.values():
            for _ in range(WARM_UP_CALLS):
                call()
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                rates[name].append(items_per_s(call, rows))
        yield {
            "network": subject.name,
            "rows": rows,
            **{f"{name}_per_s": round(median(of_name), 1) for name, of_name in rates.items()},
            "ratio": round(median(p / q for p, q in zip(rates["percept"], rates["plain"], strict=True)), 2),
        }
    runtime.close()


@click.command()
@click.option("--rows", default="1,8,32,64", show_default=True, help="Batch sizes, separated by commas.")
def main(rows: str) -> None:
    """Print one line of JSON per network on parity, and one per network and batch size on speed."""
    if not torch.cuda.is_available():
        sys.exit("There is no CUDA GPU here, and this benchmark measures nothing else.")
    print(json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}))
    for subject in subjects():
        for line in compare(subject, [int(size) for size in rows.split(",")]):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
