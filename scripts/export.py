"""`percept export BUNDLE [--int8]`: makes model.onnx anew from the bundle's weights."""

from __future__ import annotations

from pathlib import Path

import click

_DESCRIPTION = (
    "Make model.onnx anew from model.safetensors, hold it to torch and to the golden outputs, and put it into the "
    "bundle in one step. With --int8 a smaller file is tried; it ships if it keeps its quality on validation photos, "
    "so name the photos that the model was trained on: -c YAML or --data.source."
)


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(args: tuple[str, ...]) -> None:
    """Make model.onnx anew from the weights."""
    from scripts.settings import make_parser, parse
    from scripts.tasks import task_of
    from shared.bundle.read import read_bundle
    from shared.training.reexport import Int8Trial, reexport

    wants_int8 = "--int8" in args
    data_class: type | None = None
    if wants_int8:
        from vision.tagging.data import TaggingData as data_class  # noqa: N813
    parser = make_parser(data_class, prog="percept export", description=_DESCRIPTION)
    parser.add_argument("bundle", type=str, help="The model folder.")
    parser.add_argument("--int8", action="store_true", help="Try int8; with this, --help lists the --data options.")
    parser.add_argument("--max-int8-loss", type=float, default=0.003, help="Most quality that int8 may lose.")
    settings = parse(parser, args)

    bundle = read_bundle(settings.bundle, verify=False)
    task = task_of(bundle.config, only="tagging")
    trial: Int8Trial | None = None
    if wants_int8:
        from vision.tagging.int8_trial import int8_trial

        trial = int8_trial(bundle, parser.instantiate(settings).data, settings.max_int8_loss)
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
