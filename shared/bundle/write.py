"""Writing a bundle, whole or not at all, and copying one without the weights that only a GPU reads."""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shared.bundle.card import render_card
from shared.bundle.layout import CARD, CONFIG, GOLDEN, ONNX, PREPROCESSOR, WEIGHTS, Artifact, BundleConfig
from shared.bundle.read import Bundle, Golden, read_bundle, sha256_of
from shared.errors import BundleError
from shared.staging import staged

_OWN_FILES = (CONFIG, GOLDEN, CARD, PREPROCESSOR)


def write_bundle(
    path: str | Path,
    config: BundleConfig,
    *,
    files: Mapping[str, bytes | Path],
    preprocessor: Mapping[str, Any],
    golden: Golden,
    card_text: str | None = None,
) -> Bundle:
    """Return the bundle that was written to `path` and read back from there.

    It is written beside `path`, checked, and put in place in one step. Until then an older bundle at `path` stays as it
    was, whatever fails; afterwards it is gone.

    Args:
        path: the folder; its parents are made.
        config: what config.json will say; its `files` are computed here.
        files: name -> content, or the file to copy: model.safetensors, model.onnx, tokenizer.json, …
        preprocessor: what preprocessor_config.json will say; empty for none.
        golden: inputs and outputs that are checked at start-up.
        card_text: README.md; None for a card that only names the model.

    Raises:
        BundleError: a file to copy is missing, `path` holds something that is no bundle, or what was written does not
            read back.
    """
    target = Path(path)
    _check_target(target)
    contents: dict[str, bytes | Path] = {
        **_checked(files),
        GOLDEN: _golden_bytes(golden),
        CARD: (card_text or _bare_card(config)).encode(),
    }
    if preprocessor:
        contents[PREPROCESSOR] = _json_bytes(preprocessor)
    with staged(target) as staging:
        artifacts = {name: _write(staging / name, content) for name, content in sorted(contents.items())}
        final = config.model_copy(update={"files": artifacts})
        _write(staging / CONFIG, final.model_dump_json(indent=2).encode() + b"\n")
        bundle = read_bundle(staging)
    return dataclasses.replace(bundle, path=target)


def copy_without_weights(bundle: Bundle, path: Path) -> Bundle:
    """Return a copy of the bundle for serving on a CPU: all of it but model.safetensors.

    Raises:
        BundleError: there is no model.onnx, or `path` cannot be written.
    """
    return rewrite_bundle(bundle, path, bundle.config, onnx=bundle.file(ONNX), has_weights=False)


def rewrite_bundle(
    bundle: Bundle,
    path: Path,
    config: BundleConfig,
    *,
    onnx: Path,
    has_weights: bool = True,
    golden: Golden | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Return the bundle with another configuration and ONNX file, written to `path`; its other files stay.

    Args:
        bundle: as it was read.
        path: where the new one goes.
        config: of the new one.
        onnx: its model.onnx.
        has_weights: whether it keeps model.safetensors.
        golden: instead of the bundle's own.
        files: added, or put in the place of others.
    """
    left_out = (*_OWN_FILES, ONNX) if has_weights else (*_OWN_FILES, ONNX, WEIGHTS)
    kept = {name: bundle.file(name) for name in bundle.config.files if name not in left_out}
    pictures = sorted(name for name in {*kept, *(files or {})} if name.endswith(".png"))
    return write_bundle(
        path,
        config,
        files={**kept, ONNX: onnx, **(files or {})},
        preprocessor=bundle.preprocessor,
        golden=golden or bundle.golden,
        card_text=render_card(config, plots=pictures, has_weights=has_weights),
    )


def bundle_version(created: str, weights_sha256: str) -> str:
    """Return a version that sorts by day and tells two trainings of one day apart.

    >>> bundle_version("2026-11-23T03:40:00+00:00", "1a2b3c4d5e6f")
    '2026.11.23-1a2b3c4d'
    """
    day = datetime.datetime.fromisoformat(created).date()
    return f"{day:%Y.%m.%d}-{weights_sha256[:8]}"


def _check_target(target: Path) -> None:
    """Refuse to replace a folder that is neither a bundle nor empty: a mistyped path must not cost someone's work."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise BundleError(f"{target} is not a folder, so a bundle cannot be written there. Name a folder.")
    if target.is_dir() and any(target.iterdir()) and not (target / CONFIG).is_file():
        raise BundleError(
            f"{target} holds files but no {CONFIG}: it is not a bundle, so it is not replaced. Name another folder."
        )


def _checked(files: Mapping[str, bytes | Path]) -> dict[str, bytes | Path]:
    for name, content in files.items():
        if name in _OWN_FILES or Path(name).name != name:
            raise BundleError(
                f"{name!r} cannot be given as a file of the bundle: expected a plain name that is not in {_OWN_FILES}."
            )
        if isinstance(content, Path) and not content.is_file():
            raise BundleError(f"{name} was to be copied from {content}, which is not there.")
    return dict(files)


def _golden_bytes(golden: Golden) -> bytes:
    arrays = {f"inputs.{name}": array for name, array in golden.inputs.items()}
    arrays |= {f"outputs.{name}": array for name, array in golden.outputs.items()}
    arrays |= {f"shipped.{name}": array for name, array in golden.shipped.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _bare_card(config: BundleConfig) -> str:
    return f"# {config.name}\n\nA {config.task} model, version {config.version}. {CONFIG} says the rest.\n"


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(content), indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _write(path: Path, content: bytes | Path) -> Artifact:
    with path.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            with content.open("rb") as source:
                shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())
    return Artifact(sha256=sha256_of(content), bytes=path.stat().st_size)
