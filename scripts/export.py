"""`percept export BUNDLE`: makes model.onnx again from the weights, or a copy without weights for a CPU."""

from __future__ import annotations

from pathlib import Path

import click

from scripts import options


@click.command(cls=options.DataCommand)
@click.option("--int8", is_flag=True, help="Try int8; needs the data, by -c or --data.source.")
@click.option("--language", "languages", multiple=True, metavar="TAG", help='What the model reads, such as "en".')
@click.option("--max-int8-loss", type=float, default=0.003, show_default=True, help="The most quality int8 may lose.")
@options.recipes
@click.option(
    "--cpu-copy",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Leave the bundle as it is and write a copy without model.safetensors, to serve on a CPU.",
)
def command(
    bundle: Path,
    data_options: tuple[str, ...],
    int8: bool,
    languages: tuple[str, ...],
    max_int8_loss: float,
    recipes: tuple[str, ...],
    cpu_copy: Path | None,
) -> None:
    """Make BUNDLE's model.onnx again from model.safetensors, in the newest format.

    The new file is compared with torch and with the golden outputs, and replaces the old one in one step. With the
    data that the model was trained on, by -c or --data.source, scores, thresholds, metrics and reference are those of
    the new file too. With --int8 a smaller file is tried; it is kept if it keeps its quality on validation data. A
    bundle without weights keeps its model.onnx, and is judged anew.
    """
    from scripts.tasks import find_task
    from shared.bundle.read import read_bundle
    from shared.bundle.write import copy_without_weights
    from shared.training.packing import reexport

    if cpu_copy:
        copied = copy_without_weights(read_bundle(bundle), cpu_copy)
        click.echo(f"{copied.path}: {sum(file.bytes for file in copied.config.files.values()) / 1e6:.1f} MB")
        return
    data = options.read_data(bundle, recipes, data_options) if int8 or recipes or data_options else None
    found = read_bundle(bundle, verify=False)
    task = find_task(found.config.task)
    written = reexport(bundle, task, data=data, int8=int8, max_int8_loss=max_int8_loss, languages=languages)
    onnx = written.config.onnx
    if onnx is None:
        return
    click.echo(f"{written.path}/model.onnx: {onnx.summary(written.config.files['model.onnx'].bytes)}")
    if onnx.int8_gate:
        gate = onnx.int8_gate
        click.echo(
            f"int8 {'ships' if gate['passed'] else 'does not ship'}: quality {gate['quality_int8']:.4f} against "
            f"{gate['quality_fp32']:.4f} in fp32, a loss of at most {gate['max_loss']} is allowed"
        )
