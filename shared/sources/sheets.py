"""Workbooks, read by a process of their own: a file of two kilobytes may name a cell so far away that no memory holds
what lies between, and the reader would take the command along.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from shared.errors import DataError, shown

MAX_MEMORY = 4 << 30
MAX_S = 900


def read_sheets(path: Path) -> dict[str, list[list[str]]]:
    """Return sheet -> rows of cells as the sheet shows them: whole numbers without a point, dates as ISO 8601.

    Raises:
        DataError: it is no workbook, or too large.
    """
    import python_calamine  # noqa: F401 where it is missing, it is said here how to install it

    path.open("rb").close()  # says what is wrong with the file itself
    with tempfile.TemporaryDirectory(prefix="percept-sheets-") as folder:
        out = Path(folder, "sheets.json")
        command = [sys.executable, "-P", "-m", __name__, str(path), str(out)]  # -P: not what lies in this folder
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_S, check=False)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise DataError(f"{path} was not read in {MAX_S // 60} minutes. Save it as CSV.") from error
        if out.is_file() and done.returncode == 0:
            found: dict[str, list[list[str]]] = json.loads(out.read_text(encoding="utf-8"))
            return found
    if done.returncode == _NO_WORKBOOK:
        raise DataError(f"{path} cannot be read as a workbook: {done.stdout.strip()}")
    raise DataError(
        f"{path} takes more than {MAX_MEMORY >> 30} GB to read: a cell may be very far from the rest. Save it as CSV. "
        f"({shown(done.stderr.strip()[-80:])})"
    )


_NO_WORKBOOK = 3


def _main(path: str, out: str) -> int:
    import resource

    from python_calamine import CalamineError, CalamineWorkbook

    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    try:
        workbook = CalamineWorkbook.from_path(path)
        sheets = {name: workbook.get_sheet_by_name(name).to_python() for name in workbook.sheet_names}
    except CalamineError as error:
        print(error)
        return _NO_WORKBOOK
    cells = {name: [[_cell(value) for value in row] for row in rows] for name, rows in sheets.items()}
    Path(out).write_text(json.dumps(cells), encoding="utf-8")
    return 0


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
