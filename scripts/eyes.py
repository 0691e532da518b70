"""Which bundle looks at texts and photos for `percept explore` and `percept clean`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ConfigError
from shared.project import PROJECT_ROOT

if TYPE_CHECKING:
    from shared.exploring.eyes import Eyes
    from shared.exploring.rows import Rows

TEXT_EYES, PHOTO_EYES = "models/encoder", "models/tagger"
"""The bundles that look by default."""


def eyes_on(bundle: Path | None, rows: Rows) -> Eyes | None:
    """Return the model that looks at rows; None if they have neither texts nor photos. Raises as `eyes_for`."""
    if rows.image is None and rows.text is None:
        return None
    return eyes_for(bundle, photos=rows.image is not None)


def eyes_for(bundle: Path | None, *, photos: bool) -> Eyes | None:
    """Return the model that looks at texts, or at photos; None if none was named and no default is there.

    Raises:
        ConfigError: the bundle cannot look at these.
    """
    from shared.bundle.read import read_bundle
    from shared.exploring.eyes import Eyes
    from shared.runtime.choose import choose_runtime

    default = PROJECT_ROOT / (PHOTO_EYES if photos else TEXT_EYES)
    if bundle is None and not default.exists():
        return None
    found = read_bundle(bundle or default)
    task = found.config.task
    wanted = ("tagging",) if photos else ("embedding", "intent")
    if task not in wanted:
        raise ConfigError(f"{found.path} is a bundle for {task}; {'photos' if photos else 'texts'} need one for "
                          f"{' or '.join(wanted)}.")  # fmt: skip
    runtime = choose_runtime(found, "cpu", threads=os.cpu_count() or 1)
    name = f"{found.name} {found.version}"
    if task == "tagging":
        from vision.tagging.offline import best_tags, photo_features

        return Eyes(
            name,
            of_photos=lambda files: photo_features(found, runtime, files),
            names=lambda files: best_tags(found, runtime, files),
        )
    if task == "intent":
        from nlp.intent.offline import intents_of, text_features

        return Eyes(
            name,
            of_texts=lambda texts: text_features(found, runtime, texts),
            names=lambda texts: intents_of(found, runtime, texts),
        )
    from nlp.embedding.offline import text_embeddings

    return Eyes(name, of_texts=lambda texts: text_embeddings(found, runtime, texts))
