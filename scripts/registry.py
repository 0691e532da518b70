"""`percept registry FOLDER`: a model's versions, and who made which live; `percept registry rollback FOLDER`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from scripts import options
from shared.errors import ConfigError


class _RegistryGroup(click.Group):
    """Lists where a folder stands in place of a subcommand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


_FOLDER = click.argument("folder", type=click.Path(path_type=Path))


@click.group(cls=_RegistryGroup, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show the versions in a registry, or go back to the one before.

    \b
    percept registry registry
    percept registry rollback registry --reason "refunds are answered as invoices"
    """


@command.command(name="list")
@_FOLDER
@options.as_json
def list_(folder: Path, as_json: bool) -> None:
    """List the versions, what is live, and who promoted what and why. `percept registry FOLDER` does the same."""
    from shared.improving.registry import Registry

    registry = Registry(folder)
    registry.finish()
    history = registry.history()
    if not history:
        raise ConfigError(f"{folder} is no registry: it has no history. `percept promote` makes one.")
    versions = registry.versions()
    if as_json:
        told = {
            "live": registry.live(),
            "versions": [{"name": each.name, "digest": each.digest, "is_live": each.is_live} for each in versions],
            "history": [change.model_dump(by_alias=True) for change in history],
        }
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
        return
    if registry.live() not in [each.name for each in versions]:
        click.echo(f"percept: the version that is live, {registry.live()}, is gone from {folder}. Put it back from a "
                   "backup, or promote another.", err=True)  # fmt: skip
    for version in versions:
        click.echo(f"{'live' if version.is_live else '    '}  {version.name}  {version.digest[:12]}")
    click.echo()
    for change in history:
        whence = f" (before: {change.before})" if change.before not in (None, change.to) else ""
        gate = f"; gate: {change.verdict}{', forced' if change.is_forced else ''}" if change.verdict else ""
        click.echo(f"{change.when}  {change.by}  {change.what}: {change.to}{whence}{gate}")
        if {"live", "candidate", "examples", "measure"} <= set(change.figures):
            of = change.figures
            click.echo(f"    {of['measure']} {100 * of['live']:.1f} -> {100 * of['candidate']:.1f} % on "
                       f"{of['examples']:,} examples")  # fmt: skip
        if change.reason:
            click.echo(f"    {_printable(change.reason)}")


def _printable(text: str) -> str:
    """Return a text in one line that cannot pass for others."""
    return "".join(character if character.isprintable() else " " for character in text)


@command.command()
@_FOLDER
@click.option("--reason", help="Why; goes into the history.")
@click.option("--by", help="Who; user@host if not given.")
@click.option("--url", help="A running service that goes back too; its administrator's key comes from PERCEPT_KEY.")
@options.mlflow
def rollback(folder: Path, reason: str | None, by: str | None, url: str | None, mlflow: str | None) -> None:
    """Make the version live again that was live before."""
    from shared.bundle.read import read_bundle
    from shared.improving.registry import Registry
    from shared.improving.watching import Service

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no registry: there is no such folder.")
    registry = Registry(folder)
    service = Service(url, os.environ.get("PERCEPT_KEY")) if url else None
    name = registry.read_live().name if service else None
    if service is not None and name is not None:
        service.model(name)  # before anything is changed
    change = registry.roll_back(by=by, reason=reason, url=url)
    click.echo(f"{change.to} is live in {folder}; before, it was {change.before}.")
    if mlflow is not None:
        from shared.improving.tracking import log_change

        name_of = read_bundle(registry.path_of(change.to), verify=False).name
        click.echo(f"percept: {log_change(mlflow, name_of, change)[1]}", err=True)
    if service is not None:
        try:
            service.swap(read_bundle(registry.path_of(change.to), verify=False).name, change.to)
        finally:
            service.close()
        click.echo(f"{url} serves it.")
