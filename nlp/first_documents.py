"""The knowledge base as a service finds it: opened, with the documents that the settings name put into it.

Every worker does it at its start; what is there already stays untouched. Neighbour: `engine` loads it.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from nlp.knowledge import KnowledgeBase, Reranker
from shared.errors import InputError, NotFound, ServiceError
from shared.project import PROJECT_ROOT
from shared.serving.settings import Settings

OWN_FOLDER = "percept"
"""What the ids of this project's own documentation begin with."""

_log = logging.getLogger(__name__)


def open_knowledge(settings: Settings, reranker: Reranker | None = None) -> KnowledgeBase:
    """Return the knowledge base of these settings, with its first documents; the re-ranker sorts what it finds.

    Our own documentation leaves again where the settings do not ask for it: it came for a demonstration.

    Raises:
        ConfigError: the file cannot be opened, or there is no such folder of documents.
    """
    knowledge = KnowledgeBase.open(settings.knowledge_file, reranker=reranker)
    wanted = settings.knowledge_documents
    try:
        if isinstance(wanted, Path):
            knowledge.add_folder(wanted)
        for name, file in own_documents():
            if wanted == "own":
                knowledge.put(name, file.read_bytes())
            else:
                with contextlib.suppress(NotFound):
                    knowledge.delete(name)
    except (InputError, ServiceError, OSError) as error:  # another worker may have done it; questions can be answered
        _log.warning("the first documents were not put into the knowledge base: %s", error)
    return knowledge


def own_documents() -> list[tuple[str, Path]]:
    """Return id and file of each page of this project's documentation, as far as it lies here."""
    files = [PROJECT_ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
    files += sorted((PROJECT_ROOT / "docs").glob("*.md"))
    named = [(f"{OWN_FOLDER}/{file.relative_to(PROJECT_ROOT).as_posix()}", file) for file in files]
    return [(name, file) for name, file in named if file.is_file()]
