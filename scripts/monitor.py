"""`percept monitor BUNDLE --records URL`: what the model answers now beside its validation data."""

from __future__ import annotations

import json
import signal
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import click

from scripts import options
from shared.errors import ConfigError

STATUS_OF = {"quiet": 0, "alarm": 1, "too few": 3}
LEAST_EVERY_S = 10


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path))
@options.records
@click.option(
    "--since", callback=options.duration, metavar="24h", help="How far back, such as 90m, 24h or 7d. Default: 24h."
)
@click.option("--last", type=click.IntRange(1, 100_000), metavar="N", help="The newest N records instead.")
@click.option("--against-hours", type=click.FloatRange(0, 87_600, min_open=True), metavar="HOURS",
              help="Compare with the records of so many hours before, not with the validation data.")  # fmt: skip
@click.option("--same-version", is_flag=True, help="Only records of the bundle's own version.")
@click.option("--every", callback=options.duration, metavar="30m", help="Look again so often until stopped.")
@click.option("--port", type=click.IntRange(1, 65_535), help="With --every: answer Prometheus on this port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where --port is opened; 0.0.0.0 for everywhere.")
@click.option("--no-write", is_flag=True, help="Keep nothing of what is found in the store.")
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
    every: timedelta | None,
    port: int | None,
    host: str,
    no_write: bool,
    metrics: Path | None,
    as_json: bool,
    output: Path | None,
) -> None:
    """See from a service's records whether what it is asked has changed, and how good its answers are.

    \b
    percept monitor models/intent --records sqlite:////var/lib/percept/records.sqlite -o monitor.html
    percept monitor models/intent --records sqlite:////var/lib/percept/records.sqlite --since 7d --metrics percept.prom
    percept monitor models/intent --records sqlite:////var/lib/percept/records.sqlite --every 30m --port 9400

    What it finds is kept in the store, where `GET /v1/quality` of the service reads it. It ends with 0 if there is no
    alarm, 1 if there is one, and 3 if the records are too few to tell; with --every it goes on until it is stopped.
    """
    options.check_writable(output, metrics)
    _check(every, port, as_json)
    from shared.bundle.read import read_bundle
    from shared.monitoring.report import TOO_FEW, Wanted
    from shared.monitoring.sentences import lines
    from shared.monitoring.watching import Monitor
    from shared.records.store import opened

    bundle = read_bundle(folder)
    if since is None and last is None:
        since = timedelta(hours=24)
    wanted = Wanted(since, last, against_hours, bundle.config.version if same_version else None)
    with opened(url) as store:
        look = Monitor(bundle, store, wanted, keeps=not no_write, page=output, metrics=metrics, say=_say)
        if every is not None:
            look.check()
            if port is not None:
                look.recall()
                look.gauges.serve(host, port)
            look.run(every.total_seconds(), _stopped(context))
            return
        found = look.look()
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        for line in lines(found):
            click.echo(line)
        if output is not None and found["state"] != TOO_FEW:
            click.echo(f"Look at {output}")
    context.exit(STATUS_OF[found["state"]])


def _check(every: timedelta | None, port: int | None, as_json: bool) -> None:
    """Refuse what the options say, before anything is loaded; raises ConfigError."""
    if every is None and port is not None:
        raise ConfigError("--port is for a monitor that goes on: say how often it looks, such as --every 30m.")
    if every is not None and as_json:
        raise ConfigError("--json prints one look, and --every looks again and again. Leave out one of the two.")
    if every is not None and every.total_seconds() < LEAST_EVERY_S:
        raise ConfigError(f"--every takes {LEAST_EVERY_S} seconds or more; a window changes little in less.")


def _stopped(context: click.Context) -> threading.Event:
    """Return what is set when this process is told to end; it ends after the look that is running."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        before = signal.signal(name, lambda *_: stop.set())
        context.call_on_close(partial(signal.signal, name, before))
    return stop


def _say(line: str) -> None:
    """Print a line with the time, on the stream for what happens, so that --json stays JSON."""
    click.echo(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}", err=True)
