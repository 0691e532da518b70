"""The end of a training run: the best checkpoint becomes an exported, calibrated, measured bundle.

Neighbours: `module` trained, `judging` and `detecting` decide, `evaluation` measures, `shared.training` exports and
draws, `shared.bundle` writes.
"""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from nlp.encoders import stored_state
from nlp.intent.data import IntentData
from nlp.intent.detecting import fit_detectors
from nlp.intent.detectors import FEATURES, LOGITS, Detector
from nlp.intent.judging import (
    Judged,
    choose_detector,
    compare,
    cross_fitted,
    fit_decision,
    int8_merits,
    judge_runtime,
    measure,
)
from nlp.intent.module import IntentModule
from nlp.intent.network import SCALE, FirstTokenEncoder, IntentNetwork, MeanEncoder
from nlp.intent.wrong import wrong_lines
from nlp.text import ATTENTION_MASK, INPUT_IDS, TextEncoder
from shared.bundle.card import render_card
from shared.bundle.layout import ONNX, WEIGHTS, BundleConfig, IntentDecision, OnnxExport
from shared.bundle.read import Bundle, Golden, sha256_of
from shared.bundle.write import bundle_version, write_bundle
from shared.training import plots
from shared.training.cli import Run, curve_tables
from shared.training.export import export_onnx, make_golden, read_signature
from shared.training.half import round_weights_fp16
from shared.training.onnx_file import OnnxFile
from shared.training.provenance import describe_run
from shared.training.shipping import Int8Trial, choose_file, merits_gate

logger = logging.getLogger(__name__)

OUTPUTS = [LOGITS, FEATURES]
DYNAMIC = {0: "batch", 1: "sequence"}
THREADS = 2
GOLDEN_UTTERANCES = ("Where is my parcel?", "please wake me at half past six tomorrow morning", "thanks")
"""Written for this: checked at every start of a service, padding included."""


def pack(module: IntentModule, data: IntentData, run: Run) -> Bundle:
    """Return the bundle of the run's best checkpoint; the most wrong utterances stay in the run's folder.

    Raises:
        CalibrationError: there is no validation utterance.
        ExportError: the exported network does not compute what the trained one does.
    """
    state = torch.load(run.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state)
    module.eval().cpu().float()
    network = module.network
    if isinstance(network, MeanEncoder | FirstTokenEncoder):
        network.model.set_attn_implementation("eager")  # a graph that every runtime knows and may fuse
    if run.weights == "float16":
        round_weights_fp16(network)
    with tempfile.TemporaryDirectory() as folder:
        golden = golden_of(network, data.encoder)
        path, export, judged = _export(network, golden, data, run, Path(folder))
        acceptance, wanted = module.hparams["acceptance"], module.hparams["detector"]
        detectors = fit_detectors(judged["train"].outputs, judged["train"].targets, _learned(module, data), data.seed)
        compared = compare(detectors, judged["val"], acceptance)
        detector = detectors[choose_detector(compared, wanted)]
        decision = fit_decision(judged["val"], detector, acceptance)
        metrics: dict[str, dict[str, Any]] = {
            split: measure(judged[split], _source_ids(data, split), detector, decision, data.labels,
                           [source.name for source in data.sources])
            for split in ("val", "test")
            if split in judged
        }  # fmt: skip
        metrics["val"]["detectors"] = compared
        metrics["val"]["cross_fitted"] = cross_fitted(judged["val"], detector, acceptance, data.seed)
        _report(run, data, judged["val"], detector, decision, metrics)
        return _write(module, data, run, detector, decision, metrics, golden, path, export)


def _learned(module: IntentModule, data: IntentData) -> Detector | None:
    """Return the logit of "none" as a detector, where there was something to learn it from."""
    rejection = module.rejection
    if rejection is None or not (data.has_out_of_scope or module.hparams["mixed_outliers"]):
        return None
    weight = rejection.weight[0].detach().numpy()
    bias = np.zeros(1, dtype=np.float32) if rejection.bias is None else rejection.bias.detach().numpy()
    if rejection.is_prototype:
        weight = SCALE * weight / np.linalg.norm(weight)
    is_cosine = np.array([rejection.is_prototype], dtype=np.uint8)
    return Detector("rejection", {"weight": weight.astype(np.float32), "bias": bias, "is_cosine": is_cosine})


def golden_of(network: IntentNetwork, encoder: TextEncoder) -> Golden:
    """Return three utterances of different lengths with what torch gives for them."""
    batch = encoder.batch(encoder.encode_batch(GOLDEN_UTTERANCES), (INPUT_IDS, ATTENTION_MASK))
    return make_golden(network, {name: torch.from_numpy(array) for name, array in batch.items()}, outputs=OUTPUTS)


def _export(
    network: IntentNetwork, golden: Golden, data: IntentData, run: Run, folder: Path
) -> tuple[Path, OnnxExport, dict[str, Judged]]:
    """Return the ONNX file that ships, what config.json says of it, and what it says of each split."""
    example = {name: torch.from_numpy(array) for name, array in golden.inputs.items()}
    fp32 = folder / "fp32.onnx"
    export_onnx(network, example, fp32, outputs=OUTPUTS, dynamic=dict.fromkeys(example, DYNAMIC))
    judge = cache(partial(_judge, data=data, split="val"))
    gate = merits_gate(lambda file: int8_merits(judge(file)), run.max_int8_loss)
    trial = Int8Trial(gate) if run.int8 else None
    path, export = choose_file(fp32, golden, trial=trial, has_fp16_weights=run.weights == "float16")
    judged = {"val": judge(path)}
    for split in ("train", "test"):
        if data.splits[split]:
            judged[split] = _judge(path, data, split)
    return path, export, judged


def _judge(path: Path, data: IntentData, split: str) -> Judged:
    examples = data.splits[split]
    return judge_runtime(
        OnnxFile(path, read_signature(path), THREADS), data.encoder, [example.text for example in examples],
        [data.target(example) for example in examples], f"{path.stem} on {split}",
    )  # fmt: skip


def _source_ids(data: IntentData, split: str) -> np.ndarray:
    return np.array([example.source for example in data.splits[split]])


def _write(
    module: IntentModule,
    data: IntentData,
    run: Run,
    detector: Detector,
    decision: IntentDecision,
    metrics: dict[str, dict[str, Any]],
    golden: Golden,
    onnx_path: Path,
    export: OnnxExport,
) -> Bundle:
    pictures: dict[str, bytes] = {}
    shown = metrics.get("test", metrics["val"])["reliability"]
    if shown:
        pictures["reliability.png"] = plots.reliability_diagram(shown)
    tables = curve_tables(run.folder)
    if tables:
        pictures["learning_curves.png"] = plots.learning_curves(*tables)
    provenance = describe_run(
        [source.summary() | data.shares for source in data.sources],
        seed=run.seed,
        start_weights=Path(module.hparams["encoder"]).name,
        command=run.command,
    )
    network = module.network
    is_hugging_face = isinstance(network, FirstTokenEncoder)
    inner = getattr(network, "model", network)
    config = BundleConfig.model_validate(
        {
            **network.fields(),
            "format_version": 1,
            "name": run.name,
            "version": bundle_version(provenance.created, sha256_of(onnx_path)),
            "task": "intent",
            "architectures": [type(inner).__name__],
            "problem_type": "single_label_classification",
            "id2label": dict(enumerate(data.labels)),
            "label2id": {label: i for i, label in enumerate(data.labels)},
            "signature": read_signature(onnx_path),
            "decision": decision.model_dump(),
            "onnx": export,
            "provenance": provenance,
            "metrics": metrics,
            "card": {key: value for key, value in asdict(run.card).items() if value is not None},
        }
    )
    weights = save(stored_state(inner if is_hugging_face else network, run.weights), metadata={"format": "pt"})
    files: dict[str, bytes | Path] = {
        ONNX: onnx_path,
        WEIGHTS: weights,
        **data.encoder.files(data.tokenizer_settings),
        **detector.file(),
        **pictures,
    }
    return write_bundle(
        run.output, config, files=files, preprocessor={}, golden=golden,
        card_text=render_card(config, plots=sorted(pictures)),
    )  # fmt: skip


def _report(
    run: Run, data: IntentData, val: Judged, detector: Detector, decision: IntentDecision, metrics: dict[str, Any]
) -> None:
    """Write what stays with the run: all metrics, what was left out of the data, and the surest wrong answers."""
    folder = run.folder / "report"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    (folder / "skipped.txt").write_text("\n".join(f"{s.name}: {line}" for s in data.sources for line in s.skipped))
    contradictions = [f"{source.name}: {line}" for source in data.sources for line in source.contradictions]
    (folder / "contradictions.txt").write_text("\n".join(contradictions))
    for line in contradictions[:5]:
        logger.warning("several labels for one utterance: %s", line)
    lines = wrong_lines(val, data.splits["val"], data.labels, detector, decision)
    (folder / "most_wrong.jsonl").write_text("\n".join(lines))
    logger.info("report in %s", folder)
