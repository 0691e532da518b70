"""What entities cost: `python -m benchmarks --only entities` loads services that find them beside one that finds none.

All have the same intent model, one of them with a head for entities besides, one with built-in extractors, and are
loaded in turns, as for records. The head's weights are random: what it costs depends not on what it has learned, but on
how much it finds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from onnx import helper, numpy_helper
from tqdm import tqdm

from benchmarks.records import begun, beside, in_turns, table_of
from benchmarks.stacks import PERCEPT, STACKS, Setup
from benchmarks.workloads import WORKLOADS, items
from nlp.intent.entities import ENTITY_LOGITS, EntityRule, Kind, num_tags
from shared.bundle.layout import BundleConfig
from shared.bundle.read import read_bundle
from shared.bundle.write import write_bundle
from shared.serving.settings import BuiltIn
from shared.training.export import OnnxFile, read_signature

KINDS = 55
"""As many as the slots of MASSIVE (FitzGerald et al. 2022)."""
NONE, HEAD, RULES = "intents alone", "with a head for entities", "with all built-in extractors"
SIZES = ("intent12", "intent60")
_OUTSIDE_BIAS = 1.9
"""Log-odds that keep most words out of entities, and keep entities from going on where none has begun."""
_NOT_FILES = {"config.json", "golden.npz", "model.onnx", "README.md"}


def measure_entities(turns: int, seconds: float) -> dict[str, Any]:
    """Return the figures, ready for JSON; arguments as `measure_records`."""
    result = begun(turns, seconds)
    setup = Setup(workers=1)
    with tempfile.TemporaryDirectory(prefix="percept-bench-") as folder:
        headed = with_head(setup.bundles["intent"], Path(folder) / "headed")
        setups = {
            NONE: setup,
            HEAD: replace(setup, bundles={**setup.bundles, "intent": headed}),
            RULES: replace(setup, variables={"PERCEPT_EXTRACTORS": ",".join(get_args(BuiltIn))}),
        }
        with tqdm(total=len(SIZES) * len(setups) * turns, desc="entities", unit="load") as bar:
            for name in SIZES:
                result["rows"] += _rows(name, setups, turns, seconds, bar)
    return result


def render_entities(result: dict[str, Any]) -> str:
    """Return a table."""
    return table_of(result, f"of {NONE}", lambda row: row["variant"])


def with_head(bundle: Path, folder: Path) -> Path:
    """Write a copy of an intent bundle whose network also says something of each token, and return its folder."""
    source = read_bundle(bundle)
    model = onnx.load(bundle / "model.onnx")
    states = [node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"][-1]
    gain = next(node for node in model.graph.node if node.output[0] == states).input[1]
    width = next(each for each in model.graph.initializer if each.name == gain).dims[0]
    tags = num_tags(KINDS)
    weight = np.random.default_rng(0).normal(size=(width, tags)).astype(np.float32) / np.float32(width**0.5)
    bias = np.zeros(tags, dtype=np.float32)
    bias[0] = _OUTSIDE_BIAS
    bias[2::2] = -_OUTSIDE_BIAS
    model.graph.initializer.extend([numpy_helper.from_array(weight, "entity_weight")])
    model.graph.initializer.extend([numpy_helper.from_array(bias, "entity_bias")])
    model.graph.node.extend([
        helper.make_node("MatMul", [states, "entity_weight"], ["entity_products"]),
        helper.make_node("Add", ["entity_products", "entity_bias"], [ENTITY_LOGITS]),
    ])  # fmt: skip
    shape = ["batch", "tokens", tags]
    model.graph.output.extend([helper.make_tensor_value_info(ENTITY_LOGITS, onnx.TensorProto.FLOAT, shape)])
    config = source.config.model_dump(mode="json", by_alias=True)
    config["signature"]["outputs"].append({"name": ENTITY_LOGITS, "dtype": "float32", "shape": shape})
    files: dict[str, bytes | Path] = {
        path.name: path for path in bundle.iterdir() if path.is_file() and path.name not in _NOT_FILES
    }
    files["model.onnx"] = model.SerializeToString()
    rule = EntityRule(kinds=tuple(Kind(f"kind{place}") for place in range(KINDS)), temperature=1.0, shift=0.0)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(files["model.onnx"])
        file.flush()
        path = Path(file.name)
        found = OnnxFile(path, read_signature(path)).run(source.golden.inputs)[ENTITY_LOGITS]
    golden = replace(source.golden, outputs={**source.golden.outputs, ENTITY_LOGITS: found})
    if golden.shipped:
        golden = replace(golden, shipped={**golden.shipped, ENTITY_LOGITS: found})
    write_bundle(
        folder, BundleConfig.model_validate(config), files={**files, **rule.file()}, preprocessor={}, golden=golden
    )
    return folder


def _rows(name: str, setups: Mapping[str, Setup], turns: int, seconds: float, bar: tqdm[Any]) -> list[dict[str, Any]]:
    workload = WORKLOADS[name]
    requests = STACKS[PERCEPT].requests(workload.kind, items(workload, setups[NONE].bundles))
    rates, cpu = in_turns(setups, workload.family, requests, turns, seconds, bar)
    return [
        {
            "workload": name,
            "title": workload.title,
            "variant": variant,
            **beside(rates, cpu, variant, NONE),
        }
        for variant in setups
        if variant != NONE
    ]
