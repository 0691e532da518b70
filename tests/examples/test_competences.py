"""docs/competences.md is true: each competence has a cell where the map says, and the commands do it there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
import pytest

from percept import Client
from scripts.main import SUBCOMMANDS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = "1234"


@dataclass(frozen=True)
class Competence:
    """A row of the map."""

    id: str
    notebooks: tuple[str, ...]
    command: str
    """Such as "percept fit" or "Client.intent"; empty where no command or call is named."""


def competences() -> list[Competence]:
    rows = re.findall(
        r"^\| [^|*]+ \| `([a-z-]+)` \| ([1-4, ]+) \| (?:`([^`|]+)` )?\|$",
        (ROOT / "docs" / "competences.md").read_text("utf-8"),
        re.MULTILINE,
    )
    return [Competence(id_, tuple(re.findall(r"\d", numbers)), name) for id_, numbers, name in rows]


@cache
def cells(number: str) -> list[nbformat.NotebookNode]:
    found = list(FOLDER.glob(f"{number}_*.ipynb"))
    assert len(found) == 1, f"expected one notebook {number}_….ipynb in {FOLDER}, found {len(found)}"
    return list(nbformat.read(found[0], as_version=4).cells)


def tagged(number: str, id_: str) -> list[str]:
    """The sources of the cells with a tag."""
    return [cell.source for cell in cells(number) if id_ in cell.metadata.get("tags", [])]


MAP = competences()
each_competence = pytest.mark.parametrize("competence", MAP, ids=lambda each: each.id)


def test_every_row_of_the_map_is_read_and_no_id_comes_twice():
    rows = re.findall(r"^\| .*`[a-z-]+` \|", (ROOT / "docs" / "competences.md").read_text("utf-8"), re.MULTILINE)
    assert len({each.id for each in MAP}) == len(MAP) == len(rows) > 30


@each_competence
def test_each_competence_has_a_cell_in_each_notebook_that_the_map_names(competence: Competence):
    assert [number for number in competence.notebooks if not tagged(number, competence.id)] == []


@each_competence
def test_the_command_or_call_exists_and_such_a_cell_has_it(competence: Competence):
    if not competence.command:
        return
    of, name = re.split(r"[ .]", competence.command)
    assert name in SUBCOMMANDS if of == "percept" else callable(getattr(Client, name))
    sources = [source for number in competence.notebooks for source in tagged(number, competence.id)]
    assert any(re.search(rf"{of.lower()}[ .]{name}\b", source) for source in sources)


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_every_tag_of_a_notebook_is_in_the_map_for_that_notebook(number: str):
    tags = {tag for cell in cells(number) for tag in cell.metadata.get("tags", [])}
    assert tags == {each.id for each in MAP if number in each.notebooks}
