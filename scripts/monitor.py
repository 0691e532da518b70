"""`percept monitor BUNDLE --records URL`: what the model answers now beside its validation data."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from scripts import options
from shared.errors import ConfigError

STATUS_OF = {"quiet": 0, "alarm": 1, "too few": 3}
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(\d{1,5}(?:\.\d{1,3})?)([mhd])")
_URL = re.compile(r"sqlite:///.+|postgresql(\+psycopg)?://.+")


def _duration(context: click.Context, option: click.Parameter, value: str | None) -> timedelta | None:
    found = _DURATION.fullmatch(value) if value is not None else None
    if value is not None and (found is None or float(found[1]) == 0):
        raise click.BadParameter(f"{value!r} is no duration: write 90m, 24h or 7d.", context, option)
    return timedelta(**{_UNITS[found[2]]: float(found[1])}) if found is not None else None


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--records", "url", required=True, envvar="PERCEPT_RECORDS", metavar="URL",
              help="The store, as the service has it; PERCEPT_RECORDS if not given.")  # fmt: skip
@click.option("--since", callback=_duration, metavar="24h", help="How far back, such as 90m, 24h or 7d. Default: 24h.")
@click.option("--last", type=click.IntRange(1, 100_000), metavar="N", help="The newest N records instead.")
@click.option("--against-hours", type=click.FloatRange(0, 87_600, min_open=True), metavar="HOURS",
              help="Compare with the records of so many hours before, not with the validation data.")  # fmt: skip
@click.option("--same-version", is_flag=True, help="Only records of the bundle's own version.")
@click.option("--metrics", type=click.Path(path_type=Path), metavar="FILE.prom",
              help="Write gauges for the textfile collector of Prometheus' node exporter.")  # fmt: skip
@options.as_json
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="HTML", help="Write a page to this file.")
@click.pass_context
def command(
    context: click.Context,
    folder: Path,
    url: str,
    since: timedelta | None,
    last: int | None,
    against_hours: float | None,
    same_version: bool,
    metrics: Path | None,
    as_json: bool,
    output: Path | None,
) -> None:
    """See from a service's records whether what it is asked has changed, and how good its answers are.

    \b
    percept monitor models/intent --records sqlite:////var/lib/percept/records.sqlite -o monitor.html
    percept monitor models/intent --records sqlite:////var/lib/percept/records.sqlite --since 7d --metrics percept.prom

    It ends with 0 if there is no alarm, 1 if there is one, and 3 if the records are too few to tell.
    """
    for file in (output, metrics):
        if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
            raise ConfigError(f"{file} cannot be written: name a file in a folder that is there.")
    if _URL.fullmatch(url) is None:
        raise ConfigError("--records takes sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE.")
    from shared.bundle.read import read_bundle
    from shared.monitoring.report import TOO_FEW, Wanted, lines, monitor, page_of, write_gauges
    from shared.records.store import Store, StoreError, check_url

    check_url(url)
    bundle = read_bundle(folder)
    if since is None and last is None:
        since = timedelta(hours=24)
    wanted = Wanted(since, last, against_hours, bundle.config.version if same_version else None)
    store = Store(url)
    try:
        found = monitor(bundle, store, wanted, datetime.now(UTC))
    except StoreError as error:
        raise ConfigError(f"the records in {store.place} cannot be read ({error.reason}): {error}") from error
    finally:
        store.close()
    if metrics is not None:
        write_gauges(found, metrics)
    if output is not None and found["state"] != TOO_FEW:
        output.write_text(page_of(found), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        for line in lines(found):
            click.echo(line)
        if output is not None and found["state"] != TOO_FEW:
            click.echo(f"Look at {output}")
    context.exit(STATUS_OF[found["state"]])
