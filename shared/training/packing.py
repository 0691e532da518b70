"""From a trained network to a bundle: export, choose the file, judge what ships, fit the decision rule, write, report.

`pack` does it at the end of `percept fit`, `reexport` for `percept export`, `evaluate` for `percept evaluate`. A task
adds its module's `trained` and one class that is a `Judging`.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

import numpy as np
import torch
from pydantic import BaseModel
from safetensors import safe_open
from safetensors.torch import save

from shared.bundle.card import render_card
from shared.bundle.layout import (
    FORMAT_VERSION,
    ONNX,
    WEIGHTS,
    BundleConfig,
    OnnxExport,
    Provenance,
    Signature,
    TensorSignature,
)
from shared.bundle.read import Bundle, Golden, read_bundle, sha256_of
from shared.bundle.reference import Reference
from shared.bundle.seen import SPLITS_FILE, read_seen, seen_file
from shared.bundle.write import bundle_version, rewrite_bundle, write_bundle
from shared.errors import BundleError, DataError, ExportError
from shared.runtime.golden import FP32_TOLERANCE
from shared.runtime.protocol import Runtime
from shared.task import Evaluation, Task, resolve
from shared.training import plots
from shared.training.data import TaskData, examples_of
from shared.training.export import (
    OnnxFile,
    export_onnx,
    make_golden,
    read_signature,
    round_weights_fp16,
    stored_state,
)
from shared.training.module import TaskModule, Trained
from shared.training.outcomes import Outcomes
from shared.training.provenance import describe_run, leave_out_seen
from shared.training.recipe import recipe_file
from shared.training.shipping import Int8Trial, choose_file, merits_gate
from shared.training.worth import Worth, worth_lines

logger = logging.getLogger(__name__)

THREADS = 2
"""Of the runtime that judges."""
StoredWeights = Literal["float32", "float16"]
JudgedT = TypeVar("JudgedT")
RuleT = TypeVar("RuleT")


@dataclass(frozen=True)
class CardOptions:
    """What a person says about the model; goes into the model card.

    Args:
        summary: one or two sentences.
        license: SPDX name of the weights' licence.
        intended_use: what it is for.
        not_for: what it must not be used for.
        limits: known weaknesses.
        recipe: anything worth knowing about the training.
        languages: what a language model reads, as BCP 47 tags such as "en".
    """

    summary: str | None = None
    license: str | None = None
    intended_use: str | None = None
    not_for: str | None = None
    limits: str | None = None
    recipe: str | None = None
    languages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """One training run, as `pack` needs it."""

    checkpoint: Path
    folder: Path
    """Curves, checkpoints and pictures that stay out of the bundle."""
    output: Path
    """Where the bundle goes."""
    name: str
    card: CardOptions
    int8: bool
    max_int8_loss: float
    weights: StoredWeights
    """How weights are stored, in both files."""
    seed: int
    command: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """All settings as they were given; the bundle keeps those that are not of this machine."""


@dataclass(frozen=True)
class Fitted(Generic[RuleT]):
    """A decision rule that was fitted on what a network says of validation data."""

    rule: RuleT
    """What `Judging.measure` takes."""
    decision: BaseModel
    """The same as config.json holds it."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Arrays of the rule, in files of the bundle."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """How the rule was chosen; goes with the validation metrics."""
    languages: Sequence[str] = ()
    """What was found in the training texts; the card's go first."""


class Judging(Protocol[JudgedT, RuleT]):
    """How a task judges a network on its data, and the decision rule that follows; a task's class derives from it."""

    noun: ClassVar[str]
    """What an example is called: photo, utterance, question."""
    int8_kind: ClassVar[Literal["static", "dynamic"]] = "dynamic"
    most_wrong_suffix: ClassVar[str] = ".jsonl"
    pictures: ClassVar[tuple[str, ...]] = ("reliability",)
    """Which of the metrics the model card draws."""
    outputs: ClassVar[tuple[str, ...]] = ()
    """What the task's networks give since format 2, if it is more than before."""

    @classmethod
    def of_data(cls, data: Any) -> Self:
        """Return the judging with the labels and the preprocessing of the data, as a run ends."""

    @classmethod
    def of_bundle(cls, data: Any, bundle: Bundle) -> Self:
        """Return the judging with the labels and the preprocessing of a bundle."""

    def counting(self, labels: Iterable[str]) -> Self:
        """Return a judging whose `outcomes` also count examples of these labels, as wrong where it does not know them.

        Tasks without labels return themselves.
        """
        return self

    def judge(self, runtime: Runtime, split: str) -> JudgedT:
        """Return what a runtime says of every example of a split, or of "all"; with a progress bar."""

    def judge_training(self, runtime: Runtime) -> JudgedT | None:
        """Return what a runtime says of as many training examples as `fit` needs; None if it needs none."""
        return None

    def calibration(self, inputs: Sequence[str]) -> Iterable[Mapping[str, np.ndarray]]:
        """Yield batches of training data by the inputs' names, for int8; none if it needs none."""
        return ()

    def merits(self, judged: JudgedT) -> dict[str, float]:
        """Return what int8 must keep: "quality" and others, more is better."""

    def fit(self, module: Any, judged: Mapping[str, JudgedT]) -> Fitted[RuleT]:
        """Return the decision rule, fitted on "val", with the help of what `judge_training` gave as "train"."""

    def refit(self, bundle: Bundle, judged: JudgedT) -> Fitted[RuleT]:
        """Return a bundle's decision rule with its numbers fitted anew, on validation data as model.onnx judges it."""

    def reference(self, judged: JudgedT, rule: RuleT) -> Reference:
        """Return what later traffic is compared with."""

    def worth(self, judged: JudgedT) -> Worth | None:
        """Return how good the answers to held-out examples are, beside simpler means; None where none has a label."""

    def rule_of(self, bundle: Bundle) -> RuleT:
        """Return the decision rule of a bundle."""

    def measure(self, judged: JudgedT, rule: RuleT) -> dict[str, Any]:
        """Return all metrics, as JSON-able values."""

    def outcomes(self, judged: JudgedT, rule: RuleT) -> Outcomes:
        """Return how good each answer is, as it would be served; for comparisons."""

    def left_out(self, split: str) -> dict[str, Any]:
        """Return what is left out of a split, such as labels that a bundle does not know."""
        return {}

    def most_wrong(self, judged: JudgedT, rule: RuleT) -> bytes:
        """Return the content of a file that shows the surest wrong answers."""

    def table(self, report: Mapping[str, Any]) -> str:
        """Return `left_out` and `measure` together as people read them."""


def pack(task: Task, module: TaskModule, data: TaskData, run: Run) -> Bundle:
    """Return the bundle of the run's best checkpoint; the most wrong answers stay in the run's folder.

    Raises:
        CalibrationError: there is nothing to fit the decision rule on.
        ExportError: the exported network does not compute what the trained one does.
    """
    module.load_state_dict(torch.load(run.checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    module.eval().cpu().float()
    trained = module.trained(data)
    judging: Judging[Any, Any] = resolve(task.judging).of_data(data)
    if run.weights == "float16":
        round_weights_fp16(trained.network)
    judge = cache(lambda path, split: judging.judge(OnnxFile(path, read_signature(path), THREADS), split))
    with tempfile.TemporaryDirectory() as folder:
        trial = None
        if run.int8:
            trial = _int8_trial(judging, list(trained.example), run.max_int8_loss, lambda path: judge(path, "val"))
        exported = export(trained, Path(folder), trial=trial, weights=run.weights)
        judged = {split: judge(exported.path, split) for split in ("val", "test") if data.splits[split]}
        training = judging.judge_training(OnnxFile(exported.path, read_signature(exported.path), THREADS))
        fitted = judging.fit(module, judged if training is None else {**judged, "train": training})
        metrics = {split: judging.measure(found, fitted.rule) for split, found in judged.items()}
        metrics["val"] |= fitted.metrics
        held_out = "test" if "test" in judged else "val"
        worth = judging.worth(judged[held_out])
        if worth is not None:
            metrics[held_out]["worth"] = worth.summary()
        _report(run, data, metrics, judging.most_wrong_suffix, judging.most_wrong(judged["val"], fitted.rule))
        provenance = describe_run(
            [source.summary() | data.shares for source in data.sources],
            seed=run.seed,
            start_weights=trained.start_weights,
            command=run.command,
        )
        bundle = write(
            trained,
            exported,
            task=task.name,
            name=run.name,
            output=run.output,
            weights=run.weights,
            provenance=provenance,
            decision=fitted.decision.model_dump(),
            metrics=metrics,
            card={key: value for key, value in asdict(run.card).items() if value and key != "languages"},
            languages=run.card.languages or fitted.languages,
            files={
                **fitted.files,
                **judging.reference(judged["val"], fitted.rule).file(),
                SPLITS_FILE: seen_file(data.digests()),
                **(recipe_file(run.recipe) if run.recipe else {}),
                **_pictures(judging.pictures, metrics.get("test", metrics["val"]), run.folder),
            },
        )
    if worth is not None:
        for line in worth_lines(metrics[held_out]["worth"], held_out, judging.noun, worth.try_next):
            logger.warning(line)
    return bundle


@dataclass(frozen=True)
class Exported:
    """The ONNX file that ships."""

    path: Path
    onnx: OnnxExport
    golden: Golden


def export(trained: Trained, folder: Path, *, trial: Int8Trial | None, weights: StoredWeights = "float32") -> Exported:
    """Return the ONNX file that ships, held to what torch computes; it is written to `folder`."""
    example = {name: torch.from_numpy(array) for name, array in trained.example.items()}
    golden = make_golden(trained.network, example, outputs=trained.outputs)
    fp32 = folder / "fp32.onnx"
    export_onnx(trained.network, example, fp32, outputs=trained.outputs, dynamic=trained.dynamic)
    path, onnx = choose_file(fp32, golden, trial=trial, has_fp16_weights=weights == "float16")
    return Exported(path, onnx, _with_shipped(golden, path))


def _with_shipped(golden: Golden, path: Path) -> Golden:
    """Return the golden inputs with what an ONNX file gives for them."""
    return replace(golden, shipped=OnnxFile(path, read_signature(path)).run(golden.inputs))


def write(
    trained: Trained,
    exported: Exported,
    *,
    task: str,
    name: str,
    output: Path,
    provenance: Provenance,
    decision: Mapping[str, Any],
    weights: StoredWeights = "float32",
    metrics: Mapping[str, Any],
    card: Mapping[str, Any],
    languages: Sequence[str] = (),
    files: Mapping[str, bytes],
) -> Bundle:
    """Return the bundle, written to `output`."""
    config = BundleConfig.model_validate(
        {
            **trained.fields,
            "format_version": FORMAT_VERSION,
            "name": name,
            "version": bundle_version(provenance.created, sha256_of(exported.path)),
            "task": task,
            "id2label": dict(enumerate(trained.labels)),
            "label2id": {label: i for i, label in enumerate(trained.labels)},
            "signature": read_signature(exported.path),
            "decision": decision,
            "onnx": exported.onnx,
            "provenance": provenance,
            "metrics": metrics,
            "card": card,
            "languages": list(languages),
        }
    )
    stored = save(stored_state(trained.model, weights), metadata={"format": "pt"})
    pictures = sorted(file for file in files if file.endswith(".png"))
    return write_bundle(
        output,
        config,
        files={ONNX: exported.path, WEIGHTS: stored, **trained.files, **files},
        preprocessor=trained.preprocessor,
        golden=exported.golden,
        card_text=render_card(config, plots=pictures),
    )


def reexport(
    path: Path,
    task: Task,
    *,
    data: TaskData | None = None,
    int8: bool = False,
    max_int8_loss: float = 0.0,
    languages: Sequence[str] = (),
) -> Bundle:
    """Return the bundle in the newest format, with a new model.onnx if it has weights to make it from.

    The new file is checked against torch and against the golden outputs. model.onnx may be missing or damaged; the
    weights must be those that the bundle was written with. Weights that are stored as float16 stay so in the new file.
    With data, the bundle is judged anew too: its reference, its metrics and, of a new model.onnx, the numbers of its
    decision rule are those of the file that ships.

    Args:
        path: the bundle's folder.
        task: the bundle's.
        data: what the bundle was trained on. Its examples go into the splits where they were then, if the bundle says
            so; else seed and shares must be the same.
        int8: whether int8 is tried; needs data.
        max_int8_loss: the most of each merit that int8 may lose.
        languages: what a language model reads; none for what the bundle says.

    Raises:
        BundleError: the weights are missing and model.onnx or the data too, or they are not those of the bundle.
        DataError: there is nothing to judge it on.
        ExportError: the network does not give the golden outputs, or the new file computes something else.
    """
    has_weights = WEIGHTS in read_bundle(path, verify=False).config.files
    bundle = read_bundle(path, verify=not has_weights)
    if not has_weights and (data is None or int8):
        bundle.file(WEIGHTS)  # says what is missing
    judging: Judging[Any, Any] | None = None
    if data is not None:
        data.read()
        seen = read_seen(bundle)
        left_out = data.divide_as(seen.split_of) if seen else 0
        if left_out:
            logger.warning("%d examples were in no split as the bundle was made; they are left out", left_out)
        judging = resolve(task.judging).of_bundle(data, bundle)
    with tempfile.TemporaryDirectory() as folder:
        if has_weights:
            trial = None
            if int8 and data is not None and judging is not None:
                trial = _bundle_int8_trial(judging, bundle, data, max_int8_loss)
            exported = _export_again(bundle, task, Path(folder), trial)
        else:
            onnx = bundle.config.onnx
            assert onnx is not None, "a bundle without weights has a model.onnx"
            exported = Exported(bundle.file(ONNX), onnx, _with_shipped(bundle.golden, bundle.file(ONNX)))
        changes: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "onnx": exported.onnx,
            "signature": read_signature(exported.path),
            "languages": list(languages) or bundle.config.languages,
        }
        files: dict[str, bytes] = {}
        if data is not None and judging is not None:
            found, files = _judge_again(judging, bundle, data, exported.path, is_new=has_weights)
            changes |= found
        config = BundleConfig.model_validate(bundle.config.model_copy(update=changes).model_dump())
        return rewrite_bundle(bundle, bundle.path, config, onnx=exported.path, has_weights=has_weights,
                              golden=exported.golden, files=files)  # fmt: skip


def _export_again(bundle: Bundle, task: Task, folder: Path, trial: Int8Trial | None) -> Exported:
    """Return model.onnx, made anew from a bundle's weights in `folder`, with all outputs of the newest format."""
    _check_files(bundle)
    before = bundle.config.signature
    new = [name for name in resolve(task.judging).outputs if name not in bundle.golden.outputs]
    added = tuple(TensorSignature(name=name, dtype="float32", shape=("batch", name)) for name in new)
    signature = Signature(inputs=before.inputs, outputs=(*before.outputs, *added))
    network = resolve(task.network)(replace(bundle, config=bundle.config.model_copy(update={"signature": signature})))
    outputs = [spec.name for spec in signature.outputs]
    example = {spec.name: torch.from_numpy(bundle.golden.inputs[spec.name]) for spec in before.inputs}
    golden = make_golden(network, example, outputs=outputs)
    for name, expected in bundle.golden.outputs.items():
        difference = float(np.abs(golden.outputs[name].astype(np.float64) - expected).max())
        if not difference <= FP32_TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise ExportError(
                f"{bundle.path}/{WEIGHTS} does not give the golden outputs: {name} differs by {difference:.3g}. The "
                "weights are not those that this bundle was made with: copy it again from where it was made."
            )
    golden = replace(golden, outputs={**golden.outputs, **bundle.golden.outputs})
    dynamic = {
        spec.name: {axis: size for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in before.inputs
    }
    fp32 = folder / "fp32.onnx"
    export_onnx(network, example, fp32, outputs=outputs, dynamic=dynamic)
    path, onnx = choose_file(fp32, golden, trial=trial, has_fp16_weights=_has_fp16_weights(bundle))
    if not onnx.max_abs_difference <= onnx.tolerance:
        raise ExportError(
            f"the new {ONNX} differs from the golden outputs by {onnx.max_abs_difference:.3g}, allowed are "
            f"{onnx.tolerance:.3g}. {bundle.path} stays as it was."
        )
    return Exported(path, onnx, _with_shipped(golden, path))


def _judge_again(
    judging: Judging[Any, Any], bundle: Bundle, data: TaskData, onnx: Path, *, is_new: bool
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what changes in config.json, and the files, once a bundle's ONNX file is judged on its own data.

    Raises:
        DataError: nothing validates.
    """
    if not data.splits["val"]:
        raise DataError(f"no {judging.noun} of the data validates: name the data that the bundle was trained on.")
    runtime = OnnxFile(onnx, read_signature(onnx), THREADS)
    judged = {split: judging.judge(runtime, split) for split in ("val", "test") if data.splits[split]}
    runtime.close()
    rule = judging.rule_of(bundle)
    fitted = judging.refit(bundle, judged["val"]) if is_new else Fitted(rule, bundle.config.decision)
    metrics = {split: judging.measure(found, fitted.rule) for split, found in judged.items()}
    chosen = {key: value for key, value in bundle.config.metrics.get("val", {}).items() if key not in metrics["val"]}
    metrics["val"] |= chosen  # how the rule was chosen
    changes = {
        "decision": fitted.decision,
        "metrics": metrics,
        "version": bundle_version(bundle.config.provenance.created, sha256_of(onnx)),
    }
    files = {
        **fitted.files,
        **judging.reference(judged["val"], fitted.rule).file(),
        **({} if SPLITS_FILE in bundle.config.files else {SPLITS_FILE: seen_file(data.digests())}),
        **_drawings(judging.pictures, metrics.get("test", metrics["val"])),
    }
    return changes, files


def evaluate(task: Task, bundle: Bundle, runtime: Runtime, data: TaskData, split: str) -> Evaluation:
    """Return a bundle's metrics on a split, through a runtime.

    Args:
        task: the bundle's.
        bundle: its preprocessing, labels and decision rule hold; those of the data are ignored.
        runtime: of the bundle.
        data: the data module.
        split: "train", "val", "test", or "all" for data that was never trained on.

    Raises:
        DataError: the split is empty, or the bundle knows none of its labels.
    """
    data.read()
    judging: Judging[Any, Any] = resolve(task.judging).of_bundle(data, bundle)
    if not examples_of(data.splits, split):
        sizes = ", ".join(f"{name} {len(part)}" for name, part in data.splits.items())
        raise DataError(f"the split {split!r} has no {judging.noun} ({sizes}). Choose another with --split.")
    warnings = leave_out_seen(bundle, data, split, judging.noun)
    rule = judging.rule_of(bundle)
    judged = judging.judge(runtime, split)
    report = judging.left_out(split) | judging.measure(judged, rule)
    return Evaluation(report, judging.table(report), warnings, lambda: judging.most_wrong(judged, rule))


def json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the content of a JSON lines file."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _int8_trial(
    judging: Judging[JudgedT, Any], inputs: Sequence[str], max_loss: float, judge: Callable[[Path], JudgedT]
) -> Int8Trial:
    gate = merits_gate(lambda path: judging.merits(judge(path)), max_loss)
    return Int8Trial(gate, judging.int8_kind, judging.calibration(inputs))


def _bundle_int8_trial(judging: Judging[Any, Any], bundle: Bundle, data: TaskData, max_loss: float) -> Int8Trial:
    if not data.splits["train"] or not data.splits["val"]:
        raise DataError(
            f"int8 needs training {judging.noun}s for its ranges and validation {judging.noun}s for its quality; one "
            "of the two is empty."
        )
    return _int8_trial(
        judging,
        [spec.name for spec in bundle.config.signature.inputs],
        max_loss,
        lambda path: judging.judge(OnnxFile(path, read_signature(path), THREADS), "val"),
    )


def _drawings(kinds: Sequence[str], metrics: Mapping[str, Any]) -> dict[str, bytes]:
    return {f"{kind}.png": plots.OF_METRICS[kind](metrics[kind]) for kind in kinds if metrics[kind]}


def _pictures(kinds: Sequence[str], metrics: Mapping[str, Any], run_folder: Path) -> dict[str, bytes]:
    found = _drawings(kinds, metrics)
    tables = plots.curve_tables(run_folder)
    if tables:
        found["learning_curves.png"] = plots.learning_curves(*tables)
    return found


def _report(run: Run, data: TaskData, metrics: Mapping[str, Any], most_wrong_suffix: str, most_wrong: bytes) -> None:
    """Write what stays with the run: all metrics, what was left out of the data, and the surest wrong answers."""
    folder = run.folder / "report"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    for name, lines in data.notes().items():
        (folder / f"{name}.txt").write_text("\n".join(lines))
    (folder / f"most_wrong{most_wrong_suffix}").write_bytes(most_wrong)
    logger.info("report in %s", folder)


def _check_files(bundle: Bundle) -> None:
    """Refuse a bundle whose files are not those that were written, except for model.onnx, which is replaced."""
    for name, artifact in bundle.config.files.items():
        if name != ONNX and sha256_of(bundle.file(name)) != artifact.sha256:
            raise BundleError(
                f"{bundle.path / name} is not the file that was written. Copy the bundle again from where it was made."
            )


def _has_fp16_weights(bundle: Bundle) -> bool:
    with safe_open(bundle.file(WEIGHTS), framework="numpy") as weights:
        return any(weights.get_slice(name).get_dtype() == "F16" for name in weights.keys())  # noqa: SIM118
