"""`percept export BUNDLE`: makes model.onnx again from the weights, or a copy without weights for a CPU."""

from __future__ import annotations

from pathlib import Path

import click

from scripts import options


@click.command(cls=options.DataCommand)
@click.option("--int8", is_flag=True, help="Try int8; needs the data, by -c or --data.source.")
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
    max_int8_loss: float,
    recipes: tuple[str, ...],
    cpu_copy: Path | None,
) -> None:
    """Make BUNDLE's model.onnx again from model.safetensors.

    The new file is compared with torch and with the golden outputs, and replaces the old one in one step. With --int8 a
    smaller file is tried; it is kept if it keeps its quality on validation data, so name the data that the model was
    trained on.
    """
    from scripts.tasks import find_task
    from shared.bundle.read import read_bundle
    from shared.bundle.write import copy_without_weights
    from shared.errors import ConfigError
    from shared.training.packing import reexport

    if (recipes or data_options) and not int8:
        raise ConfigError(f"only --int8 needs data; got {' '.join([*recipes, *data_options])}.")
    if cpu_copy:
        copied = copy_without_weights(read_bundle(bundle), cpu_copy)
        click.echo(f"{copied.path}: {sum(file.bytes for file in copied.config.files.values()) / 1e6:.1f} MB")
        return
    data = options.read_data(bundle, recipes, data_options) if int8 else None
    found = read_bundle(bundle, verify=False)
    task = find_task(found.config.task)
    written = reexport(bundle, task, int8_data=data, max_int8_loss=max_int8_loss)
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
