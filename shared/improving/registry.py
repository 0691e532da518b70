"""The versions of a model in a folder, which of them is live, and how that came about.

    registry/
      versions/2026.11.25-0f8e3a1c/   a copy of each bundle that was live once
      live -> versions/…              a link, changed in one step: what a service is started with
      history.jsonl                   every change: when, by whom, from what to what, and why

`history.jsonl` is what counts. Before a change the line that will be written there is put into `pending.json`, so that
whoever comes after a crash finishes what was begun. One process at a time may change a registry.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.bundle.layout import CONFIG
from shared.bundle.read import Bundle, read_bundle, sha256_of
from shared.errors import BundleError, ConfigError
from shared.staging import staged, sync_file, write_whole

if sys.platform != "win32":
    import fcntl

VERSIONS, LIVE, HISTORY = "versions", "live", "history.jsonl"
_PENDING, _LOCK = "pending.json", "lock"
_WAIT_S = 60.0
"""For another process that is changing the registry, such as one that copies a large bundle."""
_LOOK_AGAIN_S = 0.05
_SHORT = 8


class Change(BaseModel):
    """One line of the history."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    serial: int
    """Counts the changes from 1."""
    what: Literal["taken up", "promoted", "rolled back", "changed by hand", "watched"]
    when: str
    """ISO 8601, UTC."""
    by: str
    """user@host, or whoever was named."""
    before: str | None = Field(alias="from")
    """The version that was live; None where there was none."""
    to: str
    """The version that is live from then on."""
    digest: str
    """SHA-256 of its config.json, which holds those of all its files."""
    reason: str | None = None
    verdict: str | None = None
    """Of the gate; None where it was not asked."""
    is_forced: bool = False
    """Whether it was promoted whatever the gate said."""
    figures: dict[str, Any] = Field(default_factory=dict)
    """What the gate or the watch has measured."""
    url: str | None = None
    """Of the service that was to follow."""


@dataclass(frozen=True)
class Version:
    """One version of the model."""

    name: str
    """Of its folder in `versions`."""
    digest: str
    is_live: bool


class Registry:
    """A registry in a folder, which need not be there yet.

    Args:
        folder: holds the versions of one model.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_alias(cls, path: Path) -> Registry | None:
        """Return the registry that a path to `live`, or to the folder, belongs to; None where it is something else."""
        folder = path.parent if path.name == LIVE else path
        return cls(folder) if (folder / HISTORY).is_file() or (folder / _PENDING).is_file() else None

    def history(self) -> list[Change]:
        """Return all changes, the oldest first.

        Raises:
            ConfigError: a line is not one of a registry's.
        """
        try:
            content = (self.folder / HISTORY).read_bytes()
        except FileNotFoundError:
            return []
        found = []
        for number, line in enumerate(content.splitlines(), 1):
            try:
                found.append(Change.model_validate_json(line))
            except ValidationError as error:
                raise ConfigError(
                    f"line {number} of {self.folder / HISTORY} is not one of a registry's history: "
                    f"{error.errors()[0]['msg']}. Restore the file from a backup."
                ) from error
        return found

    def live(self) -> str | None:
        """Return the version that the link leads to; None where there is none."""
        try:
            return (self.folder / LIVE).readlink().name
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(
                f"{self.folder / LIVE} is not a link, as it is in a registry: {error.strerror}."
            ) from error

    def versions(self) -> list[Version]:
        """Return the versions that are there, in the order in which they came."""
        order = {change.to: change.serial for change in reversed(self.history())}
        live = self.live()
        folder = self.folder / VERSIONS
        names = [each.name for each in folder.iterdir() if (each / CONFIG).is_file()] if folder.is_dir() else []
        names = [name for name in names if not name.startswith(".")]
        names.sort(key=lambda name: (order.get(name, len(order) + 1), name))
        return [Version(name, sha256_of(folder / name / CONFIG), name == live) for name in names]

    def path_of(self, version: str) -> Path:
        """Return the folder of a version."""
        return self.folder / VERSIONS / version

    def read_live(self) -> Bundle:
        """Return the live bundle, with every file checked.

        Raises:
            ConfigError: nothing is live.
            BundleError: it is broken, or not the one that was promoted.
        """
        self.finish()
        live = self.live()
        if live is None:
            raise ConfigError(f"nothing is live in {self.folder}. Name a bundle's folder with --over.")
        return self._checked(live)

    def expect(self, bundle: Bundle, over: Bundle) -> None:
        """Raise ConfigError unless a bundle could be promoted here over another one, for all that can be told now.

        Args:
            bundle: is to become live.
            over: has to be live, if anything is.
        """
        live = self.live()
        if live is not None and _digest(self.path_of(live)) != _digest(over.path):
            raise ConfigError(
                f"{live} is live in {self.folder}, and that is not {over.path}: somebody has promoted another version "
                f"meanwhile, or it never was. Compare with the live one: --over {self.folder / LIVE}"
            )
        if _digest(bundle.path) == _digest(over.path):
            raise ConfigError(f"{bundle.path} and {over.path} are the same bundle: there is nothing to promote.")
        if (bundle.name, bundle.config.task) != (over.name, over.config.task):
            raise ConfigError(
                f"{bundle.path} is {bundle.name!r} for {bundle.config.task}, and {over.path} {over.name!r} for "
                f"{over.config.task}. Clients know a model by its name: fit it with --name {over.name}."
            )

    def promote(
        self,
        bundle: Bundle,
        over: Bundle,
        *,
        by: str | None = None,
        reason: str | None = None,
        verdict: str | None = None,
        is_forced: bool = False,
        figures: Mapping[str, Any] | None = None,
        url: str | None = None,
    ) -> Change:
        """Make a bundle the live one, and return the line of the history.

        Args:
            bundle: is copied, if the registry does not have it yet.
            over: what it was compared with: the live one. In an empty registry it becomes the first version.
            by: user@host if not given.
            reason: why.
            verdict: of the gate.
            is_forced: whether it is promoted in spite of the verdict.
            figures: of the gate, JSON-able.
            url: of the service that is to follow.

        Raises:
            ConfigError: the live version is another than `over`, or holds another model; another process does not end.
            BundleError: a copy is not what was copied.
        """
        with self._changing():
            live = self.live()
            if live is None:
                first = self._add(over)
                self._commit(self._next("taken up", None, first, by, reason="the first version of this registry"))
                live = first
            self.expect(bundle, over)
            name = self._add(bundle)
            return self._commit(
                self._next("promoted", live, name, by, reason=reason, verdict=verdict, is_forced=is_forced,
                           figures=dict(figures or {}), url=url)
            )  # fmt: skip

    def roll_back(
        self,
        *,
        by: str | None = None,
        reason: str | None = None,
        figures: Mapping[str, Any] | None = None,
        only_from: str | None = None,
        url: str | None = None,
    ) -> Change:
        """Make the version live that was before this one, and return the line of the history.

        Called again it goes one further back, until the first one.

        Args:
            by: user@host if not given.
            reason: why.
            figures: what moved.
            only_from: the version that has to be live still.
            url: of the service that is to follow.

        Raises:
            ConfigError: there was none before, or another one is live.
            BundleError: the version is gone or broken; nothing was changed.
        """
        with self._changing():
            live = self.live()
            if live is None:
                raise ConfigError(f"nothing is live in {self.folder}.")
            if only_from is not None and live != only_from:
                raise ConfigError(f"{live} is live in {self.folder} by now, and not {only_from}: it is left as it is.")
            past = _past(self.history())
            if len(past) < 2:
                raise ConfigError(f"{live} is the first version in {self.folder}: there is none to go back to.")
            self._checked(past[-2])
            return self._commit(
                self._next("rolled back", live, past[-2], by, reason=reason, figures=dict(figures or {}), url=url)
            )

    def note_watched(self, version: str, reason: str, figures: Mapping[str, Any], *, url: str, by: str | None) -> None:
        """Write into the history how a version did after it was promoted."""
        with self._changing():
            if self.live() == version:
                self._commit(self._next("watched", version, version, by, reason=reason, figures=dict(figures), url=url))

    def finish(self) -> None:
        """Finish what a crash has interrupted, if there is something and nobody is at it."""
        if (self.folder / _PENDING).is_file():
            with contextlib.suppress(OSError), self._changing(wait_s=0.0):
                pass

    @contextlib.contextmanager
    def _changing(self, wait_s: float = _WAIT_S) -> Iterator[None]:
        """Hold the right to change the registry; begin by finishing what was interrupted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("ab") as lock:
            end = time.monotonic() + wait_s
            while sys.platform != "win32":
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= end:
                        raise ConfigError(
                            f"another process is changing {self.folder}. Run this again when it is done."
                        ) from None
                    time.sleep(_LOOK_AGAIN_S)
            self._finish()
            yield

    def _finish(self) -> None:
        for partial in (*self.folder.glob(".*.partial"), *(self.folder / VERSIONS).glob(".*.partial")):  # of a kill
            if partial.is_dir() and not partial.is_symlink():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            try:
                pending = Change.model_validate_json((self.folder / _PENDING).read_bytes())
            except ValueError as error:
                raise ConfigError(
                    f"{self.folder / _PENDING}, the change that was under way, is damaged. See what is live with "
                    f"`readlink {self.folder / LIVE}`, then delete the file, or restore it from a backup."
                ) from error
            self._carry_out(pending)
        history, live = self.history(), self.live()
        if history and live is not None and history[-1].to != live:
            self._commit(self._next("changed by hand", history[-1].to, live, None, reason="the link was changed"))

    def _add(self, bundle: Bundle) -> str:
        """Return the name of the version that holds this bundle, copied if it is not there."""
        digest = _digest(bundle.path)
        name = bundle.version.replace("+", "_")  # services do not take a plus in a folder's name
        if (self.path_of(name) / CONFIG).is_file() and _digest(self.path_of(name)) != digest:
            name = f"{name}-{digest[:_SHORT]}"
        with contextlib.suppress(BundleError):
            self._checked(name, digest)
            return name
        try:
            with staged(self.path_of(name)) as folder:
                for file in (CONFIG, *bundle.config.files):
                    (folder / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(bundle.path / file, folder / file)
                    sync_file(folder / file)
                read_bundle(folder)
                if _digest(folder) != digest:
                    raise BundleError(f"{bundle.path} was changed while it was copied. Promote it again.")
        except OSError as error:
            raise ConfigError(
                f"{bundle.path} cannot be copied into {self.folder} ({error.strerror}). Nothing was changed: make "
                "room, and promote it again."
            ) from error
        return name

    def _checked(self, name: str, digest: str | None = None) -> Bundle:
        """Return a version, each of whose files is what it was when it came.

        Raises:
            BundleError: it is not.
        """
        bundle = read_bundle(self.path_of(name))
        known = digest or next((each.digest for each in reversed(self.history()) if each.to == name), None)
        if known is not None and _digest(bundle.path) != known:
            raise BundleError(
                f"{bundle.path} is not the bundle that was promoted as {name}: its {CONFIG} was changed. Restore it "
                "from a backup, or promote it as a version of its own."
            )
        return bundle

    def _next(self, what: str, before: str | None, to: str, by: str | None, **more: Any) -> Change:
        history = self.history()
        return Change.model_validate(
            {
                "serial": history[-1].serial + 1 if history else 1,
                "what": what,
                "when": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
                "by": by or who(),
                "from": before,
                "to": to,
                "digest": _digest(self.path_of(to)),
                **more,
            }
        )

    def _commit(self, change: Change) -> Change:
        write_whole(self.folder / _PENDING, change.model_dump_json(by_alias=True).encode())
        self._carry_out(change)
        return change

    def _carry_out(self, change: Change) -> None:
        """Do what is pending; may be done again."""
        link = self.folder / f".{LIVE}.partial"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(VERSIONS) / change.to)
        link.replace(self.folder / LIVE)
        history = self.history()
        if not history or history[-1].serial < change.serial:
            file = self.folder / HISTORY
            lines = b"".join(each.model_dump_json(by_alias=True).encode() + b"\n" for each in [*history, change])
            write_whole(file, lines)
        (self.folder / _PENDING).unlink(missing_ok=True)


def who() -> str:
    """Return who runs this, as user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _digest(folder: Path) -> str:
    """Return what tells a bundle from all others: its config.json holds the digests of its files."""
    try:
        return sha256_of(folder / CONFIG)
    except OSError as error:
        raise BundleError(f"{folder / CONFIG} cannot be read: {error.strerror}.") from error


def _past(history: list[Change]) -> list[str]:
    """Return the versions that lead to the live one, which is the last: what was rolled back is not among them."""
    found: list[str] = []
    for change in history:
        if change.what == "rolled back":
            found.pop()
        elif change.what != "watched":
            found.append(change.to)
    return found
