"""`percept export BUNDLE`: makes model.onnx anew from the bundle's weights, or a copy without them for CPU serving."""

from __future__ import annotations

from pathlib import Path

import click

_DESCRIPTION = (
    "Make model.onnx anew from model.safetensors, hold it to torch and to the golden outputs, and put it into the "
    "bundle in one step. With --int8 a smaller file is tried; it ships if it keeps its quality on validation data, "
    "so name the data that the model was trained on: -c YAML or --data.source."
)


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(args: tuple[str, ...]) -> None:
    """Make model.onnx anew from the weights."""
    from scripts.settings import make_parser, parse, task_named
    from scripts.tasks import find_task
    from shared.bundle.cpu_copy import copy_without_weights
    from shared.bundle.read import read_bundle
    from shared.task import resolve
    from shared.training.reexport import reexport
    from shared.training.shipping import Int8Trial

    wants_int8 = "--int8" in args
    data_class: type | None = resolve(task_named(args).data) if wants_int8 else None
    parser = make_parser(data_class, prog="percept export", description=_DESCRIPTION)
    parser.add_argument("bundle", type=str, help="The model folder.")
    parser.add_argument("--int8", action="store_true", help="Try int8; with this, --help lists the --data options.")
    parser.add_argument("--max-int8-loss", type=float, default=0.003, help="Most quality that int8 may lose.")
    parser.add_argument(
        "--cpu-copy", type=str, metavar="FOLDER",
        help="Leave the bundle as it is and write a copy without model.safetensors, for serving on a CPU.",
    )  # fmt: skip
    settings = parse(parser, args)

    if settings.cpu_copy:
        copied = copy_without_weights(read_bundle(settings.bundle), Path(settings.cpu_copy))
        click.echo(f"{copied.path}: {sum(file.bytes for file in copied.config.files.values()) / 1e6:.1f} MB")
        return
    bundle = read_bundle(settings.bundle, verify=False)
    task = find_task(bundle.config.task)
    trial: Int8Trial | None = None
    if wants_int8:
        trial = resolve(task.int8_trial)(bundle, parser.instantiate(settings).data, settings.max_int8_loss)
    written = reexport(Path(settings.bundle), task, int8=trial)
    onnx = written.config.onnx
    if onnx is None:
        return
    size = written.config.files["model.onnx"].bytes / 1e6
    click.echo(
        f"{written.path}/model.onnx: {onnx.precision}, opset {onnx.opset}, {size:.1f} MB; differs from torch by at "
        f"most {onnx.max_abs_difference:.2g} (allowed {onnx.tolerance:.2g})"
    )
    if onnx.int8_gate:
        gate = onnx.int8_gate
        click.echo(
            f"int8 {'ships' if gate['passed'] else 'does not ship'}: quality {gate['quality_int8']:.4f} against "
            f"{gate['quality_fp32']:.4f} in fp32, a loss of at most {gate['max_loss']} is allowed"
        )
