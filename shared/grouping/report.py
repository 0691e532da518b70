"""What `percept discover` writes: the page, the groups, a plan, and a dataset with the names that are proposed."""

from __future__ import annotations

import base64
import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shared.cleaning.plan import read_plan, write_plan
from shared.cleaning.run import clean
from shared.dataset.read import Dataset
from shared.errors import ConfigError
from shared.exploring.flat import flat
from shared.exploring.photos import THUMB
from shared.exploring.rows import Rows
from shared.grouping.discover import TYPICAL, Discovered
from shared.grouping.groups import NONE
from shared.pages import render

PAGE = "index.html"
GROUPS = "groups.jsonl"
PLAN = "plan.yaml"
NAMED = "dataset"
ROWS = "rows"
"""The rows as a dataset, where they were none."""
DECIDED_BY = "discover"
"""Kind of the decisions."""
SHOWN_MEMBERS = 60
SHOWN_ALONE = 400
SHOWN_CHARACTERS = 240
_LABEL = "label"


def check_output(out: Path) -> None:
    """Refuse to replace what is no earlier discovery; raises ConfigError."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / GROUPS).is_file())):
        raise ConfigError(f"{out} holds something else than a discovery. Name another folder.")


def write_discovery(folder: Path, rows: Rows, found: Discovered, eyes: str) -> Dataset:
    """Write everything into a folder; return the dataset with the names that are proposed.

    Rows of a group get its name as their label, rows that fit a known label that one; rows of no group are left out.
    """
    column = rows.label or _LABEL
    decisions = [
        {
            "sha256": rows.digests[row],
            "row": row,
            "kind": DECIDED_BY,
            "action": "relabel",
            "column": column,
            "value": name,
        }
        for name, members in [
            *((group.name, group.rows) for group in found.groups),
            *((name, [row]) for row, name in found.fits.items()),
        ]
        for row in members
    ]
    decisions += [
        {"sha256": rows.digests[row], "row": row, "kind": DECIDED_BY, "action": "drop"} for row in found.alone
    ]
    with (folder / GROUPS).open("w", encoding="utf-8") as file:
        for group in found.groups:
            said = {
                "name": group.name, "size": len(group.rows), "words": group.words, "tags": group.tags,
                "nearest": group.nearest, "likeness": group.likeness, "is_part": group.is_part, "rows": group.rows,
            }  # fmt: skip
            file.write(json.dumps(said, ensure_ascii=False) + "\n")
    plan = {"fingerprint": rows.dataset.info.fingerprint, "steps": [{"step": "decide"}]}
    write_plan(folder / PLAN, plan, decisions)
    done = clean(rows.dataset, *read_plan(folder / PLAN), folder / NAMED, lambda *_, **__: None)
    page = _page(rows, found, eyes, column)
    script = (files("shared.grouping") / "templates" / "discover.js").read_text("utf-8")
    (folder / PAGE).write_text(render("discover", rows.dataset.info.name, page, script), encoding="utf-8")
    return done.dataset


def _page(rows: Rows, found: Discovered, eyes: str, column: str) -> dict[str, Any]:
    shown = [row for group in found.groups for row in _shown_of(group.rows, group.second_half)] + found.alone[
        :SHOWN_MEMBERS
    ]
    shown = sorted(set(shown))
    grouping = found.grouping
    spots = [[x, y, found.examined[place], int(grouping.of[place])] for x, y, place in flat(grouping.space)]
    of_map = {int(spot[2]) for spot in spots}
    return {
        "eyes": eyes,
        "column": column,
        "fingerprint": rows.dataset.info.fingerprint,
        "examined": len(found.examined),
        "fits": _counted(found.fits),
        "alone": found.alone,
        "measures": {name: round(value, 4) for name, value in found.measures.items()},
        "typical": TYPICAL,
        "groups": [
            {
                "name": group.name, "words": group.words, "tags": group.tags, "nearest": group.nearest,
                "likeness": group.likeness, "is_part": group.is_part, "rows": group.rows,
                "second": [int(is_second) for is_second in np.isin(group.rows, group.second_half)],
            }
            for group in found.groups
        ],
        "texts": {row: _text(rows, row) for row in sorted({*shown, *of_map})} if rows.text is not None else {},
        "thumbs": _thumbs(rows, {*shown}) if rows.image is not None else {},
        "sha256": {row: rows.digests[row] for row in sorted({*found.examined, *found.fits})},
        "fitted": {str(row): name for row, name in found.fits.items()},
        "map": spots,
        "none": NONE,
    }  # fmt: skip


def _shown_of(members: list[int], second: list[int]) -> list[int]:
    """Return the rows of a group that can be looked at: the most typical of the whole and of its second half."""
    return [*members[:SHOWN_MEMBERS], *second[:SHOWN_MEMBERS]]


def _counted(fits: dict[int, str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for name in fits.values():
        counts[name] = counts.get(name, 0) + 1
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))


def _text(rows: Rows, row: int) -> str:
    return " ".join((rows.texts[row] or "").split())[:SHOWN_CHARACTERS]


def _thumbs(rows: Rows, wanted: set[int]) -> dict[int, str]:
    found = {}
    for row, content in rows.photos():
        if row in wanted and content is not None:
            with Image.open(io.BytesIO(content)) as photo:
                small = photo.convert("RGB")
            small.thumbnail((THUMB, THUMB))
            file = io.BytesIO()
            small.save(file, "JPEG", quality=70)
            found[row] = base64.b64encode(file.getvalue()).decode()
    return found
