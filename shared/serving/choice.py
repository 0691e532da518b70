"""Which bundles were chosen while the server runs, in files that all its workers see: the choice, and what each serves.

The files live as long as the server: a worker that is started again takes the choice up, a server that is started again
serves what its settings name. Neighbours: `swaps` writes and follows the choice, the services load by it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from shared.errors import Overloaded, PerceptError
from shared.serving.metrics import DIRECTORY, is_alive
from shared.serving.run import SETTING_OF
from shared.serving.settings import Settings

if sys.platform != "win32":
    import fcntl

_FOLDER = "percept-models"
_RETRY_S = 5

Loaded = TypeVar("Loaded")
_log = logging.getLogger(__name__)


class Chosen(BaseModel):
    """The bundle that one task is answered with."""

    path: Path
    serial: int
    """Goes up with every choice: the same folder chosen again is read again."""
    since: str
    """ISO 8601, UTC."""
    previous: Path


class Serving(BaseModel):
    """What one worker answers one task with."""

    path: Path
    serial: int
    """Of the choice that it followed; 0 for what the settings name."""
    since: str


class Report(BaseModel):
    """What one worker says of itself."""

    models: dict[str, Serving]
    """By task."""
    problem: str | None = None
    """Why it did not follow the last choice."""


class _Choices(BaseModel):
    chosen: dict[str, Chosen] = {}


class SharedChoice:
    """The files. Every write is whole or not at all.

    Args:
        folder: made where there is none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "chosen.json"
        self._own = folder / f"worker-{os.getpid()}.json"

    @classmethod
    @contextlib.contextmanager
    def of_this_server(cls) -> Iterator[SharedChoice]:
        """Give the one of the server that this worker belongs to: beside its metrics, emptied when the server starts.

        A process that is no server's worker, as in tests, has one of its own.
        """
        parent = os.environ.get(DIRECTORY)
        with contextlib.ExitStack() as stack:
            parent = parent or stack.enter_context(tempfile.TemporaryDirectory(prefix="percept-"))
            yield cls(Path(parent) / _FOLDER)

    def read(self) -> dict[str, Chosen]:
        """Return what was chosen, by task; nothing where all is as the settings name it."""
        try:
            return _Choices.model_validate_json(self._file.read_bytes()).chosen
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            _log.warning("the chosen bundles cannot be read: %s", type(error).__name__)
            return {}

    def stamp(self) -> tuple[int, int] | None:
        """Return something that is another after every choice; cheap."""
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def write(self, chosen: dict[str, Chosen]) -> None:
        """Let all workers see it.

        Raises:
            OSError: it could not be written; what was chosen before stays.
        """
        self._replace(self._file, _Choices(chosen=chosen))

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the right to choose.

        Raises:
            Overloaded: another worker holds it.
            OSError: the folder cannot be written to.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("ab") as lock:
            if sys.platform != "win32":
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise Overloaded(
                        "another bundle is being loaded right now. Send it again when that is done.", _RETRY_S
                    ) from None
            yield

    def report(self, report: Report) -> None:
        """Say what this worker serves; where that cannot be written, it is missing from what others count."""
        try:
            self._replace(self._own, report)
        except OSError as error:
            _log.warning("what this worker serves could not be written down: %s", error.strerror)

    def forget(self) -> None:
        """Take back what this worker said; the last thing it does."""
        with contextlib.suppress(OSError):
            self._own.unlink(missing_ok=True)

    def reports(self) -> list[Report]:
        """Return what the workers say that live."""
        found = []
        for file in sorted(self._folder.glob("worker-*.json")):
            with contextlib.suppress(OSError, ValidationError, ValueError):
                if is_alive(int(file.stem.removeprefix("worker-"))):
                    found.append(Report.model_validate_json(file.read_bytes()))
                else:
                    file.unlink(missing_ok=True)  # a worker that was killed could not do it
        return found

    def _replace(self, file: Path, content: BaseModel) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        own = file.with_suffix(f".{os.getpid()}.new")
        try:
            own.write_text(content.model_dump_json(), encoding="utf-8")
            own.replace(file)
        except OSError:
            own.unlink(missing_ok=True)
            raise


def load_chosen(load: Callable[[Settings], Loaded], settings: Settings) -> Loaded:
    """Return what was loaded with the bundles that were chosen last; where they fail, with those of the settings.

    So a worker that is started again serves what the others serve, and a bundle that is gone meanwhile stops nobody.

    Raises:
        PerceptError: those of the settings fail too.
    """
    with SharedChoice.of_this_server() as shared:
        chosen = shared.read()
    changes: dict[str, Path] = {SETTING_OF[task]: each.path for task, each in chosen.items() if task in SETTING_OF}
    if not changes:
        return load(settings)
    try:
        return load(settings.model_copy(update=changes))
    except PerceptError as error:
        _log.error("the bundles that were chosen cannot be loaded, those of the settings are: %s", error)
        return load(settings)
