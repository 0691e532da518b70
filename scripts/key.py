"""`percept key add NAME`, `percept key list`, `percept key remove NAME`: the API keys of a service."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import click

_FILE = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file of keys; PERCEPT_API_KEYS_FILE, or api_keys_file in the settings file, if not given.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Make, list and remove the API keys of a service.

    A service that is started with PERCEPT_API_KEYS_FILE only answers requests with one of these keys. Changes take
    effect within a second.
    """


@command.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="May also change the service, such as its documents.")
@click.option(
    "--rate", type=click.IntRange(min=1), metavar="N", help="At most N requests per minute; no limit if not given."
)
@click.option(
    "--expires", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="The last day on which it is valid, in UTC."
)
@_FILE
def add(name: str, admin: bool, rate: int | None, expires: datetime | None, path: Path | None) -> None:
    """Make a key for NAME and print it. The file only keeps its hash, so it cannot be shown again."""
    from shared.serving.access.keys import add_key

    last_day: date | None = expires.date() if expires else None
    file = _chosen(path)
    secret = add_key(file, name, role="admin" if admin else "user", expires=last_day, requests_per_minute=rate)
    click.echo(f"The key of {name}, now in {file}. It is only shown this once:", err=True)
    click.echo(secret)


@command.command(name="list")
@_FILE
def list_(path: Path | None) -> None:
    """List the keys: whose they are, and what each one may do."""
    from shared.serving.access.keys import read_keys

    for key in read_keys(_chosen(path)):
        rate = f"{key.requests_per_minute} per minute" if key.requests_per_minute else "no limit"
        end = "never expires" if key.expires is None else f"{'expired' if key.is_expired else 'until'} {key.expires}"
        click.echo(f"{key.name}  {key.role}  {rate}  {end}  made {key.created}")


@command.command()
@click.argument("name")
@_FILE
def remove(name: str, path: Path | None) -> None:
    """Remove the key of NAME; within a second no worker accepts it."""
    from shared.serving.access.keys import remove_key

    remove_key(_chosen(path), name)


def _chosen(path: Path | None) -> Path:
    from shared.errors import ConfigError
    from shared.serving.settings import read_settings

    file = path or read_settings().api_keys_file
    if file is None:
        raise ConfigError(
            "there is no file of keys. Name it with --file, or set PERCEPT_API_KEYS_FILE, which the service reads too."
        )
    return file
