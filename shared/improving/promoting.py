"""A candidate that passed the gate becomes live: in the registry, then in a running service, which is watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.bundle.read import Bundle
from shared.errors import ConfigError, PerceptError
from shared.improving.registry import VERSIONS, Change, Registry
from shared.improving.watching import Limits, Service


@dataclass(frozen=True)
class Promotion:
    """What came of it."""

    change: Change
    """The line of the history that made the candidate live."""
    is_live: bool
    """False where it has been rolled back."""
    told: list[str]
    """What happened after, in sentences."""
    watched: Mapping[str, Any] | None = None
    """What the watch has measured."""

    def described(self) -> dict[str, Any]:
        """Return it JSON-able."""
        return {
            "version": self.change.to,
            "before": self.change.before,
            "by": self.change.by,
            "when": self.change.when,
            "reason": self.change.reason,
            "is_forced": self.change.is_forced,
            "is_live": self.is_live,
            "told": self.told,
            "watched": self.watched,
        }


def figures_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the history keeps of a gate."""
    quality = next(check for check in found["checks"] if check["kind"] == "quality")
    return {
        "measure": found["measure"],
        "examples": found["examples"],
        **{name: round(quality[name], 5) for name in ("live", "candidate", "value", "low")},
        "failed": [check["name"] for check in found["checks"] if check["state"] == "fails"],
        "open": [check["name"] for check in found["checks"] if check["state"] == "open"],
        "notices_loss": found["power"]["notices_loss"],
        "bounds": found["bounds"],
    }


def promote(
    registry: Registry,
    candidate: Bundle,
    live: Bundle,
    found: Mapping[str, Any],
    *,
    by: str | None = None,
    reason: str | None = None,
    is_forced: bool = False,
    service: Service | None = None,
    minutes: float = 0.0,
    limits: Limits | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Promotion:
    """Make a candidate live, and return what came of it.

    Where a running service refuses it, or its metrics move beyond the limits, the registry goes back to what was live
    before, and so does the service.

    Args:
        registry: gets the candidate.
        candidate: has passed the gate, or is forced.
        live: what it was compared with.
        found: of the gate.
        by: user@host if not given.
        reason: why.
        is_forced: whether it is promoted in spite of the gate.
        service: takes it up, if given. Its setting `bundles` has to name the registry's folder of versions.
        minutes: how long the service is watched.
        limits: how far its metrics may move.
        tell: is called with what is going on.

    Raises:
        ConfigError: the registry or the service cannot do it; nothing was changed.
    """
    served = service.model(candidate.name) if service else None  # before anything is changed
    before = service.counts(candidate.name) if service else None
    change = registry.promote(
        candidate, live, by=by, reason=reason, verdict=found["verdict"], is_forced=is_forced,
        figures=figures_of(found), url=service.url if service else None,
    )  # fmt: skip
    tell(f"{change.to} is live in {registry.folder}.")
    if service is None or served is None or before is None:
        return Promotion(change, is_live=True, told=[])

    def back(why: str, figures: Mapping[str, Any] | None = None) -> Promotion:
        tell(f"rolling back: {why}")
        told = [f"rolled back: {why}"]
        try:
            registry.roll_back(by=by, reason=why, figures=figures, only_from=change.to, url=service.url)
        except PerceptError as error:
            told.append(f"the registry was not rolled back: {error}")
        try:
            service.back(candidate.name, change.to, served.bundle)
            told.append(f"{service.url} serves {served.bundle} again.")
        except ConfigError as error:
            told.append(f"the service was not rolled back: {error}")
        return Promotion(change, is_live=False, told=told, watched=figures)

    try:
        service.swap(candidate.name, change.to)
    except ConfigError as error:
        return back(f"{error} (It takes bundles from the folder that PERCEPT_BUNDLES names as it starts, which has to "
                    f"be {registry.folder / VERSIONS}.)")  # fmt: skip
    tell(f"{service.url} serves {change.to}.")
    if minutes <= 0:
        return Promotion(change, is_live=True, told=[f"{service.url} serves it and was not watched."])
    tell(f"watching it for {minutes:g} minutes.")
    watched = service.watch(candidate.name, before, minutes, limits or Limits())
    if watched.moved:
        return back("; ".join(watched.moved), watched.figures)
    after = watched.after
    told = [f"watched for {minutes:g} minutes: {after.requests:,.0f} requests, {after.errors:,.0f} of them failed, and "
            f"nothing moved too far."]  # fmt: skip
    told += [f"not watched: {each}." for each in watched.not_watched]
    registry.note_watched(change.to, " ".join(told), watched.figures, url=service.url, by=by)
    return Promotion(change, is_live=True, told=told, watched=watched.figures)
