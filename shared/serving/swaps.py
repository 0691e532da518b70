"""Another bundle in the place of one that serves, in every worker of a server and without losing a request.

The worker that is asked, or that first sees a link lead elsewhere, loads the bundle beside the one that serves, checks
its golden outputs, writes the choice down and answers with it from then on. Every other worker looks at that choice
once a second and does the same. A bundle that fails changes nothing. For that while a worker holds both.

Neighbours: `model_api` has the routes, `choice` the files, `aliases` the links, `lifecycle` replaces the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic

from shared.bundle.read import read_bundle
from shared.errors import Forbidden, InputError, NotFound, NotReady, Overloaded, PerceptError, ServiceError
from shared.serving.aliases import Aliases
from shared.serving.choice import Chosen, Report, Serving, SharedChoice
from shared.serving.lifecycle import EngineT, Lifecycle, LoadedModel
from shared.serving.run import SETTING_OF
from shared.serving.settings import PREFIX, Settings

WATCH_EVERY_S = 1.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedBundle:
    """What one task is answered with."""

    name: str
    task: str
    version: str
    bundle: str
    """Name of its folder."""
    since: str
    previous: str | None
    """Name of the folder that served before; None where nothing was chosen yet."""
    workers: int
    """How many answer with it."""


class ModelSwaps(Generic[EngineT]):
    """Replaces the models of one worker, and lets the other workers follow.

    Args:
        lifecycle: holds the engine.
        settings: `bundles` is the folder whose own folders may be chosen; `follow_links` has the paths of the bundles
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
        """Follow what other workers choose, while the context lasts; entered when the engine is loaded."""
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

    def served(self) -> tuple[list[ServedBundle], int, list[str]]:
        """Return what each task is answered with, how many workers there are, and why some do not follow."""
        shared = self._needed()
        chosen, reports = shared.read(), shared.reports()
        found = []
        for model in self._lifecycle.newest().models:
            task = model.bundle.config.task
            mine, choice = self._mine[task], chosen.get(task)
            alike = [report.models.get(task) for report in reports]
            found.append(
                ServedBundle(
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
        """Answer with the bundle in the folder of that name; returns when this worker does.

        Raises:
            Forbidden: no folder of bundles is set.
            NotFound: there is no such bundle, or no model that it could take the place of.
            InputError: it is broken or another model, or does not answer as it did after training. Nothing changed.
            Overloaded: another worker loads one.
            ServiceError: the choice cannot be written down. Nothing changed.
        """
        await self._choose(self._path_of(bundle))

    async def roll_back(self, model: str | None) -> None:
        """Answer with the bundle that served before; raises as `choose`.

        Args:
            model: its name; None where there is but one.
        """
        if self._folder is None:
            raise _forbidden()
        models = self._lifecycle.newest().models
        if model is None and len(models) > 1:
            names = ", ".join(repr(each.name) for each in models)
            raise InputError(f"which model is meant? There are {names}. Send `?model=…`.")
        wanted = next((each for each in models if model in (None, each.name)), None)
        if wanted is None:
            raise NotFound(f"there is no model {str(model)[:80]!r} here.")
        task = wanted.bundle.config.task
        chosen = self._needed().read().get(task)
        if chosen is None:
            raise NotFound(f"no bundle served before the one that serves {wanted.name!r} now.")
        await self._change(task, chosen.previous)

    async def _choose(self, path: Path, link_of: str | None = None) -> None:
        """As `choose`, by path; `link_of` is the task whose link leads there, and then no choice made twice."""
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
                    return  # another worker saw it first, and this one follows
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
        self._mine[task] = Serving(path=choice.path, serial=choice.serial, since=choice.since)
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
        """Do as another worker did; what fails is said and not tried again before the next choice."""
        try:
            with _without_paths(choice.path):
                engine = await asyncio.to_thread(self._lifecycle.newest().replaced, task, choice.path)
            await self._replace(engine, task, choice)
        except PerceptError as error:
            self._tell(str(error))

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
                    pass  # another worker loads one, most likely this: looked at again in a second
                except PerceptError as error:
                    if aliases.put_off(task, target):
                        self._tell(f"{target.name}: {error}")
                        is_refused = True
            if is_refused and aliases.are_at_rest:  # it leads back to what serves
                self._problem, is_refused = None, False
                self._report()
            await asyncio.sleep(WATCH_EVERY_S)

    def _path_of(self, bundle: str) -> Path:
        if self._folder is None:
            raise _forbidden()
        if not _NAME.fullmatch(bundle):
            raise InputError(
                f"{bundle[:80]!r} is no name of a bundle's folder: letters, digits, dots, dashes and underscores."
            )
        path = self._folder / bundle
        if not path.is_dir():
            raise NotFound(f"there is no bundle {bundle!r} in the folder that this service takes bundles from.")
        return path.resolve()  # so that a link which is changed later changes nothing behind our back

    def _model_of(self, task: str, name: str) -> LoadedModel:
        for model in self._lifecycle.newest().models:
            if model.bundle.config.task == task:
                if model.name != name:
                    raise InputError(
                        f"the bundle holds the model {name!r}; the one that serves {task} is called {model.name!r}, "
                        "and clients ask for it by that name. Start the service with it instead."
                    )
                return model
        raise NotFound(f"the bundle is one of the task {task!r}, which this service does not answer.")

    def _report(self) -> None:
        if self._shared is not None:
            self._shared.report(Report(models=self._mine, problem=self._problem))

    def _needed(self) -> SharedChoice:
        if self._shared is None:
            raise NotReady("the service is starting or shutting down. Send the request again.")
        return self._shared


@contextlib.contextmanager
def _without_paths(path: Path) -> Iterator[None]:
    """Turn what is wrong with a bundle into an error that a client may read: with the folder's name, not its path."""
    try:
        yield
    except (InputError, ServiceError):
        raise
    except PerceptError as error:
        _log.warning("a bundle was refused: %s", error)
        reason = str(error).replace(str(path), path.name)
        raise InputError(f"the bundle was refused, and what served before goes on: {reason}") from error


@contextlib.contextmanager
def _written_or_refused() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _log.error("a choice of bundle could not be written down: %s", error)
        raise ServiceError(
            f"the choice could not be written down ({error.strerror}), so nothing was changed. Send it again later."
        ) from error


def _forbidden() -> Forbidden:
    return Forbidden(
        f"this service was started without a folder to take bundles from. Set {PREFIX}BUNDLES and start it again."
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
