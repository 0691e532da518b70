"""Every notebook runs from beginning to end, can be read on a screen, and brings little with it."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_LINES = 20
"""Of a cell: what needs more belongs into Percept."""
MOST_BYTES = 500_000
"""Of a notebook, with what it shows."""
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_notebooks():
    assert NOTEBOOKS


@each_notebook
@pytest.mark.slow
@pytest.mark.server
def test_runs_from_beginning_to_end(path: Path):
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(FOLDER)}})
    client.execute()


@each_notebook
def test_is_valid_and_small(path: Path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert path.stat().st_size < MOST_BYTES
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@each_notebook
def test_no_cell_is_longer_than_a_screen(path: Path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.source for cell in cells if cell.source.count("\n") >= MOST_LINES] == []


@each_notebook
def test_shows_nothing_of_the_machine_that_it_was_run_on(path: Path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    shown = "\n".join(str(output) for cell in cells for output in cell.outputs if "image/png" not in str(output))
    assert re.findall(r"/(?:home|root|work|tmp|Users)/\S+", shown) == []
    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
