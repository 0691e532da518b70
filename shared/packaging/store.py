"""Bundles in BentoML's model store, each under its version and under the aliases that people give it.

BentoML's store has no aliases, so an alias is a tag whose version is the alias, such as percept-tagger:production.
`bentoml models list`, `export` and `push` work on all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from shared.bundle.layout import CONFIG
from shared.bundle.read import Bundle, read_bundle, sha256_of
from shared.errors import ConfigError
from shared.packaging.bento import copy_files

_DIGEST = "config_sha256"
"""Label with the SHA-256 of config.json, which has that of every other file: it tells two bundles apart."""


def find_bundle(named: str) -> Bundle:
    """Return the bundle in a folder, or under a tag of the store such as "percept-tagger:production".

    Raises:
        BundleError: it cannot be read.
        ConfigError: it is neither.
    """
    if Path(named).is_dir():
        return read_bundle(named)
    import bentoml
    from bentoml.exceptions import BentoMLException

    try:
        return read_bundle(Path(bentoml.models.get(named).path))
    except (BentoMLException, ValueError) as error:
        known = ", ".join(sorted(str(model.tag) for model in bentoml.models.list())) or "no model"
        raise ConfigError(f"{named} is neither a folder nor a tag of the model store, which has {known}.") from error


def keep(bundle: Bundle, aliases: tuple[str, ...] = ()) -> str:
    """Put a bundle into the store under its version and these aliases, and return the tag of the version.

    A version that is there already stays; an alias moves.

    Raises:
        ConfigError: another bundle has this name and version, or BentoML does not accept the tag.
    """
    from bentoml.exceptions import BentoMLException

    digest = sha256_of(bundle.path / CONFIG)
    name = bundle.name.lower()
    tag = f"{name}:{bundle.version.lower().replace('+', '-')}"
    try:
        found = _labels(tag)
        if found is not None and found.get(_DIGEST) != digest:
            raise ConfigError(
                f"the model store has {tag} already, and it is another bundle. Give the new one another version, "
                f"or run: bentoml models delete {tag}"
            )
        for alias in aliases:  # before the version: for the store, the last one is "latest"
            _move_alias(bundle, f"{name}:{alias}", digest)
        if found is None:
            _create(bundle, tag, digest, "version")
    except (BentoMLException, ValueError) as error:
        raise ConfigError(f"BentoML's model store does not accept {bundle.path}: {error}") from error
    return tag


def _move_alias(bundle: Bundle, tag: str, digest: str) -> None:
    import bentoml

    if tag.endswith(":latest"):
        raise ConfigError("BentoML manages the tag `latest` itself; choose another alias.")
    there = _labels(tag)
    if there is not None:
        if there.get("kind") != "alias":
            raise ConfigError(f"{tag} is a version in the model store, not an alias. Choose another alias.")
        bentoml.models.delete(tag)
    _create(bundle, tag, digest, "alias")


def _labels(tag: str) -> dict[str, str] | None:
    """Return the labels of exactly this tag, if any; the store itself would also match the start of a version."""
    import bentoml
    from bentoml.exceptions import BentoMLException, NotFound

    try:
        found = bentoml.models.get(tag)
    except NotFound:
        return None
    except BentoMLException as error:
        if "Multiple" in str(error):
            return None
        raise
    return dict(found.info.labels) if str(found.tag) == tag else None


def _create(bundle: Bundle, tag: str, digest: str, kind: Literal["alias", "version"]) -> None:
    import bentoml

    labels = {
        "task": bundle.config.task,
        "version": bundle.version,
        "kind": kind,
        _DIGEST: digest,
    }
    with bentoml.models.create(tag, labels=labels) as model:
        copy_files(bundle, Path(model.path))
