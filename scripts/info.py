"""`percept info FOLDER`: shows what is in a bundle or a dataset, and checks its files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from shared.bundle.layout import Decision
from shared.bundle.read import Bundle, read_bundle

_SHOWN_LABELS = 12


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(folder: Path, as_json: bool) -> None:
    """Show what is in FOLDER, a bundle or a dataset, and check that each file is as it was written."""
    if (folder / "dataset.json").is_file():
        _show_dataset(folder, as_json)
        return
    found = read_bundle(folder)
    if as_json:
        click.echo(json.dumps(_described(found), ensure_ascii=False, indent=2))
        return
    config = found.config
    parents = sorted({name for above in config.label_parents.values() for name in above})
    labels = ", ".join(found.labels[:_SHOWN_LABELS]) + (", …" if len(found.labels) > _SHOWN_LABELS else "")
    exported = config.onnx
    lines = {
        "name": config.name,
        "version": config.version,
        "task": f"{config.task}, {config.problem_type.replace('_', ' ')}" if config.problem_type else config.task,
        "network": ", ".join(config.architectures),
        "labels": f"{len(found.labels)}: {labels}",
        "parents": f"{len(parents)} of them are above others" if parents else "none",
        "decision": _decided(config.decision),
        "model.onnx": f"{exported.precision}, opset {exported.opset}" if exported else "none",
        "trained": f"{config.provenance.created}, from {config.provenance.start_weights}",
    }
    for name, value in lines.items():
        click.echo(f"{name:<11} {value}")
    click.echo("files")
    for name, artifact in sorted(config.files.items()):
        click.echo(f"  {name:<26} {_size(artifact.bytes):>9}  {artifact.sha256[:12]}  as written")


def _show_dataset(folder: Path, as_json: bool) -> None:
    from shared.dataset.read import read_dataset

    found = read_dataset(folder)
    found.verify()
    if as_json:
        click.echo(found.info.model_dump_json(indent=2))
        return
    info = found.info
    click.echo(f"{'name':<11} {info.name}")
    click.echo(f"{'rows':<11} {', '.join(f'{rows:,} {split}' for split, rows in info.splits.items())}")
    click.echo(f"{'columns':<11} {', '.join(f'{name} ({kind})' for name, kind in info.columns.items())}")
    click.echo(f"{'fingerprint':<11} {info.fingerprint[:12]}")
    for step in info.history:
        click.echo(f"{'step':<11} {step['step']} {step.get('time', '')}".rstrip())
    click.echo("files")
    for name, file in info.files.items():
        click.echo(f"  {name:<26} {_size(file.bytes):>9}  {file.sha256[:12]}  as written")


def _decided(decision: Decision) -> str:
    """Return the values of the decision rule in one line; thresholds as their range.

    >>> from shared.bundle.layout import AnswerDecision
    >>> _decided(AnswerDecision(temperature=2.0, shift=-1.5, abstain_below=0.4, max_answer_tokens=30))
    'temperature 2, shift -1.5, abstain_below 0.4, max_answer_tokens 30'
    """
    parts = []
    for name, value in decision:
        if isinstance(value, dict):
            values = sorted(value.values())
            parts.append(f"{name} {values[0]:.2f} to {values[-1]:.2f} (median {values[len(values) // 2]:.2f})")
        elif name != "task":
            parts.append(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(parts) or "none"


def _described(bundle: Bundle) -> dict[str, object]:
    shown = {
        "name",
        "version",
        "task",
        "problem_type",
        "architectures",
        "label_parents",
        "decision",
        "onnx",
        "provenance",
    }
    files = {name: {**file.model_dump(), "verified": True} for name, file in bundle.config.files.items()}
    return {**bundle.config.model_dump(include=shown), "labels": bundle.labels, "files": files}


def _size(count: int) -> str:
    """Return a number of bytes as people write it.

    >>> _size(950), _size(14_200), _size(9_100_000)
    ('950 B', '14 kB', '9.1 MB')
    """
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.0f} kB" if count < 1_000_000 else f"{count / 1e6:.1f} MB"
