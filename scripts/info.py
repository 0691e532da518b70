"""`percept info BUNDLE`: what a model folder says of itself, with its files checked."""

from __future__ import annotations

import json
from pathlib import Path

import click

from shared.bundle.read import Bundle, read_bundle

_SHOWN_LABELS = 12


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE holds; each file is compared with the size and SHA-256 it was written with."""
    found = read_bundle(bundle)
    if as_json:
        click.echo(json.dumps(_described(found), ensure_ascii=False, indent=2))
        return
    config = found.config
    parents = sorted({name for above in config.label_parents.values() for name in above})
    thresholds = sorted(config.decision.thresholds[label] for label in found.labels)
    labels = ", ".join(found.labels[:_SHOWN_LABELS]) + (", …" if len(found.labels) > _SHOWN_LABELS else "")
    exported = config.onnx
    lines = {
        "name": config.name,
        "version": config.version,
        "task": f"{config.task}, {config.problem_type.replace('_', ' ')}",
        "network": ", ".join(config.architectures),
        "labels": f"{len(found.labels)}: {labels}",
        "parents": f"{len(parents)} of them stand above others" if parents else "none",
        "decision": f"temperature {config.decision.temperature:.3g}, thresholds {thresholds[0]:.2f} to "
        f"{thresholds[-1]:.2f} (median {thresholds[len(thresholds) // 2]:.2f})",
        "model.onnx": f"{exported.precision}, opset {exported.opset}" if exported else "none",
        "trained": f"{config.provenance.created}, from {config.provenance.start_weights}",
    }
    for name, value in lines.items():
        click.echo(f"{name:<11} {value}")
    click.echo("files")
    for name, artifact in sorted(config.files.items()):
        click.echo(f"  {name:<26} {_size(artifact.bytes):>9}  {artifact.sha256[:12]}  as written")


def _described(bundle: Bundle) -> dict[str, object]:
    config = bundle.config
    return {
        "name": config.name,
        "version": config.version,
        "task": config.task,
        "problem_type": config.problem_type,
        "architectures": config.architectures,
        "labels": bundle.labels,
        "label_parents": config.label_parents,
        "decision": config.decision.model_dump(),
        "onnx": config.onnx.model_dump() if config.onnx else None,
        "provenance": config.provenance.model_dump(),
        "files": {name: {**artifact.model_dump(), "verified": True} for name, artifact in config.files.items()},
    }


def _size(count: int) -> str:
    """Return a count of bytes as people write it.

    >>> _size(950), _size(14_200), _size(9_100_000)
    ('950 B', '14 kB', '9.1 MB')
    """
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.0f} kB" if count < 1_000_000 else f"{count / 1e6:.1f} MB"
