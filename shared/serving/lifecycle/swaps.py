"""Replacing a bundle while the service runs, in every worker and without losing a request.

The worker that gets the request, or first sees a link change, loads the new bundle beside the old one, checks its
golden outputs, writes the choice to a file that all workers share, and switches. The other workers check that file once
a second and do the same. A bundle that fails changes nothing. Meanwhile a worker holds both. The files live as long as
the server: a restarted worker takes up the choice, a restarted server serves what its settings name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar

from pydantic import BaseModel, Field, ValidationError

from shared.bundle.read import read_bundle
from shared.errors import Forbidden, InputError, NotFound, NotReady, Overloaded, PerceptError, ServiceError
from shared.serving.lifecycle.engine import EngineT, Lifecycle, LoadedModel
from shared.serving.observe.metrics import DIRECTORY, is_alive
from shared.serving.settings import PREFIX, SETTING_OF, Settings

WATCH_EVERY_S = 1.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_log = logging.getLogger(__name__)


class ServedModelOut(BaseModel):
    """A model that serves."""

    name: str
    task: str
    version: str
    bundle: str = Field(description="Name of its folder.")
    since: str = Field(description="ISO 8601, UTC.")
    previous: str | None = Field(description="The folder that served before: what a rollback returns to.")
    workers: int = Field(description="How many workers answer with it; the others follow within seconds.")


class ModelSwaps(Generic[EngineT]):
    """Replaces the models of one worker, and lets the other workers follow.

    Args:
        lifecycle: holds the engine.
        settings: `bundles` is the folder whose bundles may be chosen; with `follow_links` the paths of the bundles are
            watched.
    """

    def __init__(self, lifecycle: Lifecycle[EngineT], settings: Settings) -> None:
        self._lifecycle = lifecycle
        self._folder = settings.bundles
        self._settings = settings
        self._shared: SharedChoice | None = None
        self._mine: dict[str, Serving] = {}
        self._problem: str | None = None
        self._one_at_a_time = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow the choices of other workers while the context lasts; entered once the engine is loaded."""
        with SharedChoice.of_this_server() as shared:
            self._shared = shared
            chosen = shared.read()
            for model in self._lifecycle.newest().models:
                task, path = model.bundle.config.task, model.bundle.path.resolve()
                known = chosen.get(task)
                serial, since = (known.serial, known.since) if known and known.path == path else (0, _now())
                self._mine[task] = Serving(path=path, serial=serial, since=since)
            self._report()
            followers = []
            if self._folder is not None or self._settings.follow_links:
                followers.append(asyncio.create_task(self._follow(shared)))
            if self._settings.follow_links:
                named = {task: getattr(self._settings, SETTING_OF[task]) for task in self._mine}
                aliases = Aliases(named, {task: mine.path for task, mine in self._mine.items() if task not in chosen})
                followers.append(asyncio.create_task(self._follow_links(aliases)))
            try:
                yield
            finally:
                for follower in followers:
                    follower.cancel()
                await asyncio.gather(*followers, return_exceptions=True)
                shared.forget()
                self._shared = None

    def served(self) -> tuple[list[ServedModelOut], int, list[str]]:
        """Return what serves each task, how many workers there are, and why some of them do not follow."""
        shared = self._needed()
        chosen, reports = shared.read(), shared.reports()
        found = []
        for model in self._lifecycle.newest().models:
            task = model.bundle.config.task
            mine, choice = self._mine[task], chosen.get(task)
            alike = [report.models.get(task) for report in reports]
            found.append(
                ServedModelOut(
                    name=model.name,
                    task=task,
                    version=model.version,
                    bundle=mine.path.name,
                    since=mine.since,
                    previous=choice.previous.name if choice else None,
                    workers=sum(
                        each is not None and (each.path, each.serial) == (mine.path, mine.serial) for each in alike
                    ),
                )
            )
        return found, len(reports), [report.problem for report in reports if report.problem]

    async def choose(self, bundle: str) -> None:
        """Answer with the bundle in the folder of that name; returns once this worker does.

        Raises:
            Forbidden: no folder of bundles is set.
            NotFound: there is no such bundle, or no model that it could replace.
            InputError: it is broken or another model, or does not answer as it did after training. Nothing changed.
            Overloaded: another worker is loading one.
            ServiceError: the choice cannot be written. Nothing changed.
        """
        await self._choose(self._path_of(bundle))

    async def roll_back(self, model: str | None) -> None:
        """Answer with the bundle that served before; raises as `choose`.

        Args:
            model: its name; None if there is only one.
        """
        if self._folder is None:
            raise _forbidden()
        models = self._lifecycle.newest().models
        if model is None and len(models) > 1:
            names = ", ".join(repr(each.name) for each in models)
            raise InputError(f"which model do you mean? There are {names}. Send `?model=…`.")
        wanted = next((each for each in models if model in (None, each.name)), None)
        if wanted is None:
            raise NotFound(f"there is no model {str(model)[:80]!r} here.")
        task = wanted.bundle.config.task
        chosen = self._needed().read().get(task)
        if chosen is None:
            raise NotFound(f"no bundle served before the one that serves {wanted.name!r} now.")
        await self._change(task, chosen.previous)

    async def _choose(self, path: Path, link_of: str | None = None) -> None:
        """As `choose`, by path; `link_of` is the task whose link leads there, which is not chosen twice."""
        with _without_paths(path):
            config = (await asyncio.to_thread(read_bundle, path, verify=False)).config
        if link_of not in (None, config.task):
            raise InputError(f"the link for {link_of} leads to a bundle of the task {config.task!r}.")
        self._model_of(config.task, config.name)
        await self._change(config.task, path, is_link=link_of is not None)

    async def _change(self, task: str, path: Path, *, is_link: bool = False) -> None:
        shared = self._needed()
        async with self._one_at_a_time:
            with _written_or_refused(), shared.changing():
                chosen = shared.read()
                known = chosen.get(task)
                if is_link and known is not None and known.path == path:
                    return  # another worker saw it first, and this one follows it
                choice = Chosen(
                    path=path,
                    serial=known.serial + 1 if known else 1,
                    since=_now(),
                    previous=known.path if known else self._mine[task].path,
                )
                with _without_paths(path):
                    engine = await asyncio.to_thread(self._lifecycle.newest().replaced, task, path)
                shared.write({**chosen, task: choice})
            await self._replace(engine, task, choice)

    async def _replace(self, engine: EngineT, task: str, choice: Chosen) -> None:
        old = next(model for model in self._lifecycle.newest().models if model.bundle.config.task == task)
        await self._lifecycle.replace(engine)
        new = next(model for model in engine.models if model.bundle.config.task == task)
        self._mine[task] = choice
        self._problem = None
        self._report()
        _log.info("model replaced", extra={"model": new.name, "version": new.version, "replaced_version": old.version})

    async def _follow(self, shared: SharedChoice) -> None:
        seen: object = None
        while True:
            stamp = shared.stamp()
            if stamp != seen:
                async with self._one_at_a_time:
                    for task, choice in shared.read().items():
                        if task in self._mine and choice.serial != self._mine[task].serial:
                            await self._take_up(task, choice)
                seen = stamp
            await asyncio.sleep(WATCH_EVERY_S)

    async def _take_up(self, task: str, choice: Chosen) -> None:
        """Do as another worker did; a failure is reported and not tried again before the next choice."""
        try:
            with _without_paths(choice.path):
                engine = await asyncio.to_thread(self._lifecycle.newest().replaced, task, choice.path)
            await self._replace(engine, task, choice)
        except PerceptError as error:
            self._tell(str(error))
        except Exception as error:  # noqa: BLE001 whatever it is, it must be told, and later choices followed
            self._tell_fault(choice.path, error)

    def _tell_fault(self, path: Path, error: Exception) -> None:
        _log.error("a bundle could not be taken up", exc_info=error)
        self._tell(f"{path.name}: {type(error).__name__}; this worker's log has more")

    def _tell(self, problem: str) -> None:
        self._problem = problem
        self._report()
        _log.error("this worker keeps its model: %s", problem)

    async def _follow_links(self, aliases: Aliases) -> None:
        is_refused = False
        while True:
            for task, target in aliases.changed():
                try:
                    await self._choose(target, task)
                    aliases.settle(task, target)
                except Overloaded:
                    pass  # another worker is loading one, most likely this one: try again in a second
                except PerceptError as error:
                    if aliases.put_off(task, target):
                        self._tell(f"{target.name}: {error}")
                        is_refused = True
                except Exception as error:  # noqa: BLE001 likewise
                    if aliases.put_off(task, target):
                        self._tell_fault(target, error)
                        is_refused = True
            if is_refused and aliases.are_at_rest:  # it leads back to what is being served
                self._problem, is_refused = None, False
                self._report()
            await asyncio.sleep(WATCH_EVERY_S)

    def _path_of(self, bundle: str) -> Path:
        if self._folder is None:
            raise _forbidden()
        if not _NAME.fullmatch(bundle):
            raise InputError(
                f"{bundle[:80]!r} is not a valid folder name: use letters, digits, dots, dashes and underscores."
            )
        path = (self._folder / bundle).resolve()  # so that changing a link later changes nothing behind our back
        if not path.is_dir() or not path.is_relative_to(self._folder.resolve()):
            raise NotFound(f"there is no bundle {bundle!r} in the folder that this service takes bundles from.")
        return path

    def _model_of(self, task: str, name: str) -> LoadedModel:
        for model in self._lifecycle.newest().models:
            if model.bundle.config.task == task:
                if model.name != name:
                    raise InputError(
                        f"the bundle holds the model {name!r}; the one that serves {task} is called {model.name!r}, "
                        "and clients ask for it by that name. Start the service with the bundle instead."
                    )
                return model
        raise NotFound(f"the bundle is for the task {task!r}, which this service does not serve.")

    def _report(self) -> None:
        if self._shared is not None:
            self._shared.report(Report(models=self._mine, problem=self._problem))

    def _needed(self) -> SharedChoice:
        if self._shared is None:
            raise NotReady("the service is starting or shutting down. Send the request again.")
        return self._shared


@contextlib.contextmanager
def _without_paths(path: Path) -> Iterator[None]:
    """Turn an error about a bundle into one that a client may read: with the folder's name, not its path."""
    try:
        yield
    except (InputError, ServiceError):
        raise
    except PerceptError as error:
        _log.warning("a bundle was refused: %s", error)
        reason = str(error).replace(str(path), path.name)
        raise InputError(f"the bundle was refused, and the previous one still serves: {reason}") from error


@contextlib.contextmanager
def _written_or_refused() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _log.error("a choice of bundle could not be written: %s", error)
        raise ServiceError(
            f"the choice could not be written ({error.strerror}), so nothing was changed. Send it again later."
        ) from error


def _forbidden() -> Forbidden:
    return Forbidden(
        f"this service was started without a folder to take bundles from. Set {PREFIX}BUNDLES and restart it."
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


if sys.platform != "win32":
    import fcntl

_FOLDER = "percept-models"
_RETRY_S = 5

Loaded = TypeVar("Loaded")
_log = logging.getLogger(__name__)


class Serving(BaseModel):
    """The bundle with which one worker serves one task."""

    path: Path
    serial: int
    """Of the choice that the worker followed; 0 for what the settings name."""
    since: str
    """ISO 8601, UTC."""


class Chosen(Serving):
    """The bundle that was chosen for one task. `serial` increases with every choice, even of the same folder."""

    previous: Path


class Report(BaseModel):
    """What one worker serves."""

    models: dict[str, Serving]
    """By task."""
    problem: str | None = None
    """Why it did not follow the last choice."""


class _Choices(BaseModel):
    chosen: dict[str, Chosen] = {}


class SharedChoice:
    """The files that all workers of a server see: the choice, and a report per worker. Writes are all or nothing.

    Args:
        folder: created if missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "chosen.json"
        self._own = folder / f"worker-{os.getpid()}.json"

    @classmethod
    @contextlib.contextmanager
    def of_this_server(cls) -> Iterator[SharedChoice]:
        """Return the files of this worker's server: beside its metrics, emptied when the server starts.

        A process that is not the worker of a server, as in tests, has files of its own.
        """
        parent = os.environ.get(DIRECTORY)
        with contextlib.ExitStack() as stack:
            parent = parent or stack.enter_context(tempfile.TemporaryDirectory(prefix="percept-"))
            yield cls(Path(parent) / _FOLDER)

    def read(self) -> dict[str, Chosen]:
        """Return what was chosen, by task; empty while everything is as the settings name it."""
        try:
            return _Choices.model_validate_json(self._file.read_bytes()).chosen
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            _log.warning("the chosen bundles cannot be read: %s", type(error).__name__)
            return {}

    def stamp(self) -> tuple[int, int] | None:
        """Return a value that changes with every choice; cheap."""
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def write(self, chosen: dict[str, Chosen]) -> None:
        """Show the choice to all workers.

        Raises:
            OSError: it could not be written; the previous choice stays.
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
                        "another bundle is being loaded right now. Send this again when that is done.", _RETRY_S
                    ) from None
            yield

    def report(self, report: Report) -> None:
        """Write what this worker serves; if that fails, the others do not count it."""
        try:
            self._replace(self._own, report)
        except OSError as error:
            _log.warning("what this worker serves could not be written: %s", error.strerror)

    def forget(self) -> None:
        """Delete the report of this worker, the last thing it does."""
        with contextlib.suppress(OSError):
            self._own.unlink(missing_ok=True)

    def reports(self) -> list[Report]:
        """Return the reports of the workers that are alive."""
        found = []
        for file in sorted(self._folder.glob("worker-*.json")):
            with contextlib.suppress(OSError, ValidationError, ValueError):
                if is_alive(int(file.stem.removeprefix("worker-"))):
                    found.append(Report.model_validate_json(file.read_bytes()))
                else:
                    file.unlink(missing_ok=True)  # a killed worker could not delete it
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
    """Return what `load` makes of the bundles chosen last or, if they fail, of those in the settings.

    So a restarted worker serves what the others serve, and a bundle that has been deleted does not stop it.

    Raises:
        PerceptError: those in the settings fail too.
    """
    with SharedChoice.of_this_server() as shared:
        chosen = shared.read()
    changes: dict[str, Path] = {SETTING_OF[task]: each.path for task, each in chosen.items() if task in SETTING_OF}
    if not changes:
        return load(settings)
    try:
        return load(settings.model_copy(update=changes))
    except PerceptError as error:
        _log.error("the chosen bundles cannot be loaded, so those in the settings are: %s", error)
        return load(settings)


SHORTEST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0


@dataclass
class _Link:
    path: Path
    leads_to: Path
    refused: Path | None = None
    wait_s: float = SHORTEST_WAIT_S
    not_before: float = 0.0


class Aliases:
    """Links that name the bundles to serve, and when one of them leads elsewhere than before.

    Args:
        paths: task -> bundle, as the settings name it.
        served: task -> folder it was loaded from, if the setting named that folder then, so that a link changed since
            counts as changed. Others count as unchanged.
    """

    def __init__(self, paths: Mapping[str, Path], served: Mapping[str, Path] = MappingProxyType({})) -> None:
        self._links = {task: _Link(path, served.get(task) or _target(path)) for task, path in paths.items()}

    def changed(self) -> Iterator[tuple[str, Path]]:
        """Yield (task, folder) for each link that leads elsewhere than when it was last settled."""
        for task, link in self._links.items():
            target = _target(link.path)
            if target == link.leads_to or not target.is_dir():  # a link may lead nowhere while it is replaced
                link.refused = None
                continue
            if target != link.refused:
                link.wait_s, link.not_before = SHORTEST_WAIT_S, 0.0
            if time.monotonic() >= link.not_before:
                yield task, target

    @property
    def are_at_rest(self) -> bool:
        """Whether no link leads to a refused bundle."""
        return all(link.refused is None for link in self._links.values())

    def settle(self, task: str, target: Path) -> None:
        """Note that the link's folder now serves."""
        link = self._links[task]
        link.leads_to, link.refused = target, None

    def put_off(self, task: str, target: Path) -> bool:
        """Have it come again later, after twice as long each time; return whether this is the first time.

        A bundle that cannot be served yet may still be arriving, file by file.
        """
        link = self._links[task]
        is_new = link.refused != target
        link.refused = target
        link.not_before = time.monotonic() + link.wait_s
        link.wait_s = min(2 * link.wait_s, LONGEST_WAIT_S)
        return is_new


def _target(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises if links lead in a circle
