"""Reading a bundle from disk, so that what is served is what was written. Needs neither torch nor pickle."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from pydantic import ValidationError

from shared.bundle.layout import CONFIG, FORMAT_VERSION, GOLDEN, ONNX, PREPROCESSOR, REQUIRED, WEIGHTS, BundleConfig
from shared.errors import BundleError, ConfigError

_CHUNK_BYTES = 1 << 20
MAX_JSON_BYTES = 64 << 20
"""Of config.json and preprocessor_config.json; a tagger of 10,000 labels has a few megabytes."""
MAX_GOLDEN_BYTES = 256 << 20
"""Of golden.npz as it is unpacked; a few photos have some megabytes."""
_SHOWN_PROBLEMS = 5


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Golden:
    """A few inputs of the network with the outputs that they gave."""

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    """Of torch in fp32."""
    shipped: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Of model.onnx on a CPU; empty where the bundle has none, and in format 1."""


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Bundle:
    """A model folder that was read and checked."""

    path: Path
    config: BundleConfig
    preprocessor: Mapping[str, Any]
    """What preprocessor_config.json says; empty where the task has none."""
    golden: Golden

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def version(self) -> str:
        return self.config.version

    @property
    def labels(self) -> list[str]:
        """Label names in the order of the logits."""
        return self.config.labels

    def output_size(self, name: str) -> int:
        """Return how many numbers an output has for each input.

        Raises:
            ConfigError: the network has no such output.
        """
        for spec in self.config.signature.outputs:
            if spec.name == name:
                return int(spec.shape[-1])
        raise ConfigError(f"{self.path} gives no {name}: it is of an older format. Export it again: percept export.")

    def file(self, name: str) -> Path:
        """Return the path of one of the bundle's files.

        Raises:
            BundleError: the folder does not have it, or config.json does not list it, so that it cannot be checked.
        """
        path = self.path / name
        if not path.is_file():
            raise BundleError(_missing(self.path, [name]))
        if name not in self.config.files and name != CONFIG:
            raise BundleError(
                f"{path} is not listed under files in {CONFIG} (listed: {', '.join(sorted(self.config.files))}), "
                "so it is not part of the bundle. Write the bundle again with all its files."
            )
        return path


def read_bundle(path: str | Path, *, verify: bool = True) -> Bundle:
    """Return the bundle in a folder.

    Args:
        path: the folder.
        verify: compare each file that config.json lists with its size and SHA-256; off only where that was just done.
            config.json itself is the root of that trust: its values are checked for sense, not against a digest.

    Raises:
        BundleError: the folder or a file is missing, a file is not the one that was written, the format is newer than
            this percept reads, or config.json lacks a value, a decision value among them.
    """
    folder = Path(path)
    if not folder.is_dir():
        there = "is a file" if folder.exists() else "does not exist"
        raise BundleError(f"no bundle at {folder}: it {there}; expected a folder with {', '.join(REQUIRED)}.")
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise BundleError(_missing(folder, missing))
    config = _read_config(folder / CONFIG)
    if verify:
        _verify(folder, config)
    preprocessor = _read_json(folder / PREPROCESSOR) if PREPROCESSOR in config.files else {}
    return Bundle(folder, config, preprocessor, _read_golden(folder / GOLDEN, config))


def sha256_of(content: bytes | Path) -> str:
    """Return the SHA-256 of bytes or of a file, in hexadecimal.

    >>> sha256_of(b"percept")[:8]
    'a29859d7'
    """
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if (size := path.stat().st_size) > MAX_JSON_BYTES:
            raise BundleError(
                f"{path} has {size} bytes; at most {MAX_JSON_BYTES} are read. This is no bundle of Percept."
            )
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(
            f"{path} cannot be read as JSON: {error}. Copy the bundle again from where it was made."
        ) from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} must hold a JSON object; it holds {type(content).__name__}.")
    return content


def _read_config(path: Path) -> BundleConfig:
    content = _read_json(path)
    _check_version(path, content)
    try:
        return BundleConfig.model_validate(content)
    except ValidationError as error:
        problems = [f"{_place(p['loc'])}: {p['msg']}" for p in error.errors(include_url=False)]
        more = f" (and {len(problems) - _SHOWN_PROBLEMS} more)" if len(problems) > _SHOWN_PROBLEMS else ""
        raise BundleError(
            f"{path} does not describe a bundle: {'; '.join(problems[:_SHOWN_PROBLEMS])}{more}. "
            "Copy the bundle again from where it was made, or train it again."
        ) from error


def _place(loc: tuple[int | str, ...]) -> str:
    """Return where in config.json a value is; pydantic adds to `decision` which task's kind was expected.

    >>> _place(("decision", "tagging", "thresholds", "dog"))
    'decision.thresholds.dog'
    """
    parts = (loc[0], *loc[2:]) if loc[:1] == ("decision",) and len(loc) > 2 else loc
    return ".".join(map(str, parts)) or "config"


def _check_version(path: Path, content: Mapping[str, Any]) -> None:
    version = content.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(
            f"{path} has format_version {version!r}; expected {FORMAT_VERSION}. This is no bundle of Percept."
        )
    if version > FORMAT_VERSION:
        provenance = content.get("provenance")
        versions = provenance.get("versions") if isinstance(provenance, dict) else None
        writer = versions.get("percept") if isinstance(versions, dict) else None
        needed = f"percept>={writer}" if isinstance(writer, str) else "percept"
        raise BundleError(
            f"{path} has format_version {version}; this percept reads up to {FORMAT_VERSION}. "
            f"Run: pip install --upgrade '{needed}'"
        )


def _verify(folder: Path, config: BundleConfig) -> None:
    inside = [name for name in config.files if PurePosixPath(name).name == name and name not in (".", "..")]
    strangers = sorted(set(config.files) - set(inside))
    if strangers:
        raise BundleError(f"{folder / CONFIG} lists {strangers[0]!r}; a bundle's files are directly in its folder.")
    unlisted = [name for name in REQUIRED if name not in config.files and name != CONFIG]
    if unlisted:
        raise BundleError(
            f"{folder / CONFIG} has no SHA-256 under files for {', '.join(unlisted)}. Write the bundle again."
        )
    missing = [name for name in config.files if not (folder / name).is_file()]
    if missing:
        raise BundleError(_missing(folder, missing))
    for name, artifact in config.files.items():
        path = folder / name
        size = path.stat().st_size
        if size != artifact.bytes:
            came, expected = f"{size} bytes", f"{artifact.bytes}"
        elif (digest := sha256_of(path)) != artifact.sha256:
            came, expected = f"SHA-256 {digest[:12]}…", f"{artifact.sha256[:12]}…"
        else:
            continue
        raise BundleError(
            f"{path} is not the file that was written: {came}, expected {expected}. "
            "Copy the bundle again from where it was made."
        )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file of a bundle.

    Raises:
        BundleError: it is broken, holds objects, or unpacks to more than `MAX_GOLDEN_BYTES`.
    """
    try:
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
            size = sum(member.file_size for member in archive.zip.infolist()) if archive.zip else 0
            if size > MAX_GOLDEN_BYTES:
                raise BundleError(f"{path} unpacks to {size} bytes; at most {MAX_GOLDEN_BYTES} are read.")
            return {name: archive[name] for name in archive.files}
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        MemoryError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise BundleError(f"{path} cannot be read: {error}. Copy the bundle again from where it was made.") from error


def _read_golden(path: Path, config: BundleConfig) -> Golden:
    arrays = read_arrays(path)
    outputs = [spec.name for spec in config.signature.outputs]
    expected = {f"inputs.{spec.name}" for spec in config.signature.inputs}
    expected |= {f"outputs.{name}" for name in outputs}
    if config.format_version > 1 and config.onnx is not None:
        expected |= {f"shipped.{name}" for name in outputs}
    if set(arrays) != expected:
        raise BundleError(f"{path} holds {sorted(arrays)}; the signature in {CONFIG} expects {sorted(expected)}.")
    if any(not isinstance(array, np.ndarray) or array.ndim == 0 or array.size == 0 for array in arrays.values()):
        raise BundleError(f"{path} holds something without a row; expected at least one input with its outputs.")
    parts: dict[str, dict[str, np.ndarray]] = {"inputs": {}, "outputs": {}, "shipped": {}}
    for key, array in arrays.items():
        part, _, name = key.partition(".")
        parts[part][name] = array
    return Golden(**parts)


def _missing(folder: Path, names: list[str]) -> str:
    found = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    if names == [ONNX]:
        step = f"Run: percept export {folder}"
    elif names == [WEIGHTS]:
        step = f"A copy made for CPU serving lacks it: use the complete bundle, or serve with --device cpu ({ONNX})."
    else:
        step = "Copy the bundle again from where it was made."
    return f"{folder} has no {', '.join(names)} (found {', '.join(found) or 'nothing'}). {step}"
