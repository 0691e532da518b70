"""The dataset card: README.md in Hugging Face's format, rendered from dataset.json.

Source of the front matter: https://github.com/huggingface/hub-docs/blob/main/datasetcard.md
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import yaml

from shared.dataset.layout import DatasetInfo
from shared.templates import templates

_LICENCES = frozenset({
    "apache-2.0", "bsd-3-clause", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0", "mit", "odbl", "odc-by", "pddl", "unknown",
})  # fmt: skip
"""Some of those that the hub knows by name: https://huggingface.co/docs/hub/repositories-licenses"""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def render_card(info: DatasetInfo, *, left_out: int = 0, failed: int = 0) -> str:
    """Return README.md.

    Args:
        info: what dataset.json says.
        left_out: rows in left_out.parquet.
        failed: lines of failed.jsonl.
    """
    rows = sum(info.splits.values())
    front = yaml.safe_dump(_front_matter(info, rows), sort_keys=False, allow_unicode=True, width=1000).rstrip()
    history = [defaultdict(str, step) for step in info.history]
    text = _TEMPLATES.get_template("card.md").render(
        info=info.model_copy(update={"history": history}),
        front=front,
        rows=f"{rows:,}",
        left_out=left_out,
        failed=failed,
    )
    return text.rstrip() + "\n"


def licence_id(licence: str) -> str:
    """Return the hub's name of a licence, or "other".

    >>> licence_id("CC BY 4.0"), licence_id("Apache 2.0"), licence_id("as agreed with the city")
    ('cc-by-4.0', 'apache-2.0', 'other')
    """
    name = "-".join(licence.lower().split())
    return name if name in _LICENCES else "other"


def _front_matter(info: DatasetInfo, rows: int) -> dict[str, Any]:
    licences = {source.get("licence", "unknown") for step in info.history for source in step.get("sources", ())}
    files: dict[str, list[str]] = {}
    for name, file in info.files.items():
        files.setdefault(file.split, []).append(name)
    names = sorted({licence_id(licence) for licence in licences}) or ["unknown"]
    return {
        "pretty_name": info.name,
        "license": names[0] if len(names) == 1 else names,
        "size_categories": [next((name for most, name in _SIZES if rows < most), "n>1M")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": paths} for split, paths in files.items()],
            }
        ],
    }


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


_TEMPLATES = templates("shared.dataset", cell=_cell)
