"""The end of a training run: the best checkpoint becomes an exported, calibrated, measured bundle.

Neighbours: `module` trained, `judging` and `evaluation` measure, `shared.training` exports and draws, `shared.bundle`
writes.
"""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from nlp.encoders import hugging_face_fields, stored_state
from nlp.qa.data import AnswerData
from nlp.qa.evaluation import evaluate
from nlp.qa.judging import Judged, fit_decision, judge_runtime, scores_of, wrong_lines
from nlp.qa.module import AnswerModule
from nlp.qa.network import ID2LABEL, AnswerNetwork
from nlp.qa.predictor import END_LOGITS, START_LOGITS
from nlp.qa.windows import sample_batches
from nlp.text import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS, TextEncoder
from shared.bundle.card import render_card
from shared.bundle.layout import ONNX, WEIGHTS, AnswerDecision, BundleConfig, OnnxExport
from shared.bundle.read import Bundle, Golden, sha256_of
from shared.bundle.write import bundle_version, write_bundle
from shared.training import plots
from shared.training.cli import Run, curve_tables
from shared.training.export import export_onnx, make_golden, read_signature
from shared.training.half import round_weights_fp16
from shared.training.onnx_file import OnnxFile
from shared.training.provenance import describe_run
from shared.training.shipping import Int8Trial, choose_file, quality_gate

logger = logging.getLogger(__name__)

OUTPUTS = [START_LOGITS, END_LOGITS]
DYNAMIC = {0: "batch", 1: "sequence"}
THREADS = 2
GOLDEN_QUESTIONS = (
    ("Who keeps the light?", "The light on the rock is kept by Ada Brandt, who has lived there since 1962."),
    (
        "How long does the ferry take?",
        "In summer a ferry leaves every morning at seven and takes forty minutes to the island. In winter it goes on "
        "Mondays alone, and only when the sea is calm.",
    ),
    ("What does a ticket cost?", "The museum opens at ten."),
)
"""Written for this: checked at every start of a service, one of them without an answer."""


def pack(module: AnswerModule, data: AnswerData, run: Run) -> Bundle:
    """Return the bundle of the run's best checkpoint; the most wrong answers stay in the run's folder.

    Raises:
        CalibrationError: there is no validation question.
        ExportError: the exported network does not compute what the trained one does.
    """
    state = torch.load(run.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state)
    network = module.network.eval().cpu().float()
    network.model.set_attn_implementation("eager")  # a graph that every runtime knows and may fuse
    if run.weights == "float16":
        round_weights_fp16(network)
    with tempfile.TemporaryDirectory() as folder:
        golden = golden_of(network, data.encoder)
        path, export, judged = _export(network, golden, data, run, Path(folder))
        decision = fit_decision(judged["val"], data.max_answer_tokens)
        metrics = {
            split: evaluate(
                found.examples, found.predictions, scores_of(found, decision), decision.abstain_below,
                [source.name for source in data.sources],
            )
            for split, found in judged.items()
        }  # fmt: skip
        _report(run, data, decision, judged["val"], metrics)
        return _write(module, data, run, decision, metrics, golden, path, export)


def input_names(network: AnswerNetwork) -> list[str]:
    """Return the names of the network's inputs, in their order."""
    return [INPUT_IDS, ATTENTION_MASK, *([TOKEN_TYPE_IDS] if network.has_token_types else [])]


def golden_of(network: AnswerNetwork, encoder: TextEncoder) -> Golden:
    """Return three questions of different lengths with the logits that torch gives, padding included."""
    windows = [encoder.windows(question, context)[0] for question, context in GOLDEN_QUESTIONS]
    batch = encoder.batch(windows, input_names(network))
    return make_golden(network, {name: torch.from_numpy(array) for name, array in batch.items()}, outputs=OUTPUTS)


def _export(
    network: AnswerNetwork, golden: Golden, data: AnswerData, run: Run, folder: Path
) -> tuple[Path, OnnxExport, dict[str, Judged]]:
    """Return the ONNX file that ships, what config.json says of it, and what it says of validation and test."""
    example = {name: torch.from_numpy(array) for name, array in golden.inputs.items()}
    fp32 = folder / "fp32.onnx"
    export_onnx(network, example, fp32, outputs=OUTPUTS, dynamic=dict.fromkeys(example, DYNAMIC))
    judge = cache(partial(_judge, data=data, split="val"))
    trial = None
    if run.int8:
        seen = sample_batches(data.splits["train"], data.encoder, list(example))
        trial = Int8Trial(quality_gate(lambda path: judge(path).quality, run.max_int8_loss), calibration=seen)
    path, export = choose_file(fp32, golden, trial=trial, has_fp16_weights=run.weights == "float16")
    judged = {"val": judge(path)}
    if data.splits["test"]:
        judged["test"] = _judge(path, data, "test")
    return path, export, judged


def _judge(path: Path, data: AnswerData, split: str) -> Judged:
    runtime = OnnxFile(path, read_signature(path), THREADS)
    return judge_runtime(
        runtime, data.encoder, data.splits[split], max_answer_tokens=data.max_answer_tokens,
        title=f"{path.stem} on {split}",
    )  # fmt: skip


def _write(
    module: AnswerModule,
    data: AnswerData,
    run: Run,
    decision: AnswerDecision,
    metrics: dict[str, dict[str, Any]],
    golden: Golden,
    onnx_path: Path,
    export: OnnxExport,
) -> Bundle:
    pictures = {"reliability.png": plots.reliability_diagram(metrics.get("test", metrics["val"])["reliability"])}
    tables = curve_tables(run.folder)
    if tables:
        pictures["learning_curves.png"] = plots.learning_curves(*tables)
    provenance = describe_run(
        [source.summary() | data.shares for source in data.sources],
        seed=run.seed,
        start_weights=Path(module.hparams["encoder"]).name,
        command=run.command,
    )
    model = module.network.model
    config = BundleConfig.model_validate(
        {
            **hugging_face_fields(model.config),
            "format_version": 1,
            "name": run.name,
            "version": bundle_version(provenance.created, sha256_of(onnx_path)),
            "task": "qa",
            "architectures": [type(model).__name__],
            "problem_type": None,
            "id2label": ID2LABEL,
            "label2id": {name: index for index, name in ID2LABEL.items()},
            "signature": read_signature(onnx_path),
            "decision": decision.model_dump(),
            "onnx": export,
            "provenance": provenance,
            "metrics": metrics,
            "card": {key: value for key, value in asdict(run.card).items() if value is not None},
        }
    )
    files: dict[str, bytes | Path] = {
        ONNX: onnx_path,
        WEIGHTS: save(stored_state(model, run.weights), metadata={"format": "pt"}),
        **data.encoder.files(data.tokenizer_settings),
        **pictures,
    }
    return write_bundle(
        run.output, config, files=files, preprocessor={}, golden=golden,
        card_text=render_card(config, plots=sorted(pictures)),
    )  # fmt: skip


def _report(run: Run, data: AnswerData, decision: AnswerDecision, val: Judged, metrics: dict[str, Any]) -> None:
    """Write what stays with the run: all metrics, what was left out of the data, and the surest wrong answers."""
    folder = run.folder / "report"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    (folder / "skipped.txt").write_text("\n".join(f"{s.name}: {line}" for s in data.sources for line in s.skipped))
    (folder / "most_wrong.jsonl").write_text("\n".join(wrong_lines(val, decision)))
    logger.info("report in %s", folder)
