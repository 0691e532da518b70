"""`percept import-encoder FOLDER`: makes a bundle from a Hugging Face sentence encoder."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The bundle's folder.")
@click.option("--name", help="The model's name; that of the bundle's folder if not given.")
@click.option("--int8", is_flag=True, help="Try int8: a quarter of the size, and faster.")
@click.option(
    "--max-int8-loss", default=0.02, show_default=True, help="The most that int8 may change similarities, on average."
)
def command(folder: Path, output: Path, name: str | None, int8: bool, max_int8_loss: float) -> None:
    """Make a bundle from the sentence encoder in FOLDER, to re-rank what the knowledge base finds.

    FOLDER is as sentence-transformers saves it. The embedding must be the mean of the tokens.
    """
    from nlp.embedding.packing import pack_encoder

    written = pack_encoder(folder, output, name=name, int8=int8, max_int8_loss=max_int8_loss)
    onnx = written.config.onnx
    if onnx is None:
        return
    click.echo(f"{written.path}: {onnx.summary(written.config.files['model.onnx'].bytes)}")
    if onnx.int8_gate:
        gate = onnx.int8_gate
        click.echo(
            f"int8 {'ships' if gate['passed'] else 'does not ship'}: similarities change by {gate['loss']:.4f} on "
            f"average, {gate['max_loss']} is allowed"
        )
