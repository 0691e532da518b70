"""A monitor beside a service: what it keeps, what it shows Prometheus, and that nothing of a store ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from click.testing import CliRunner, Result

from scripts.main import main
from shared.bundle.read import Bundle
from shared.monitoring.gauges import Gauges
from shared.monitoring.report import Wanted
from shared.monitoring.watching import Monitor
from shared.project import PROJECT_ROOT
from shared.records import migrating
from shared.records.findings import MOST_KEPT, Finding, bounded, keep_finding, newest_findings
from shared.records.store import Store
from shared.records.tables import FINDINGS, RECORDS
from tests.language_bundles import make_intent_bundle
from tests.live import wait_until
from tests.promql import OF_MONITOR, SCRAPED, exposed, expressions, used
from tests.server import environment, free_port
from tests.shared.monitoring.conftest import Write, answers

NEAR_NOTHING = "where can i park my car"


@contextmanager
def store_of(url: str) -> Iterator[Store]:
    store = Store(url)
    try:
        yield store
    finally:
        store.close()


def kept(url: str, model: str | None = None) -> list[Finding]:
    with store_of(url) as store:
        return newest_findings(store, model)


def monitor(bundle: Bundle, url: str, *args: str | Path) -> Result:
    arguments = ["monitor", str(bundle.path), "--records", url, *map(str, args)]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def run(bundle: Bundle, url: str, say: Callable[[str, threading.Event], None], **changes: Any) -> list[str]:
    """Let a monitor look until `say` sets the event; return what it said."""
    told: list[str] = []
    stop = threading.Event()

    def hear(line: str) -> None:
        told.append(line)
        assert len(told) < 50
        say(line, stop)

    with store_of(url) as store:
        Monitor(bundle, store, Wanted(), say=hear, **changes).run(0.01, stop)
    return told


def test_a_look_is_kept_without_texts_paths_or_the_store(bundle: Bundle, write: Write):
    url = write(answers(bundle, 400, foreign=0.1, text=NEAR_NOTHING))
    result = monitor(bundle, url)
    assert result.exit_code == 1, result.output
    [finding] = kept(url)
    assert (finding.model, finding.version, finding.state) == (bundle.config.name, bundle.config.version, "alarm")
    assert finding.found["sentence"] in result.output
    assert finding.found["groups"][0]["records"]
    text = json.dumps(finding.found)
    assert NEAR_NOTHING not in text
    assert str(bundle.path) not in text
    assert "sqlite" not in text


def test_no_write_keeps_nothing(bundle: Bundle, write: Write):
    url = write(answers(bundle, 200))
    assert monitor(bundle, url, "--no-write").exit_code == 0
    assert kept(url) == []


def test_a_store_that_refuses_findings_is_told_and_the_look_goes_on(bundle: Bundle, write: Write):
    url = write(answers(bundle, 200))
    with store_of(url) as store, store.writing() as connection:
        connection.exec_driver_sql("CREATE TRIGGER no BEFORE INSERT ON percept_findings "
                                   "BEGIN SELECT RAISE(ABORT, 'read only'); END")  # fmt: skip
    result = monitor(bundle, url)
    assert result.exit_code == 0
    assert "the finding is not kept (refused)" in result.stderr
    assert result.stdout.startswith("No alarm")


def test_only_the_newest_findings_of_a_model_stay(url: str):
    def finding(model: str, number: int) -> Finding:
        return Finding(datetime(2026, 1, 1), model, "1", "quiet", {"number": number})

    with store_of(url) as store:
        keep_finding(store, finding("other", 0))
        with store.writing() as connection:
            made = [{"time": datetime(2026, 1, 1), "model": "m", "version": "1", "state": "quiet", "found": {}}]
            connection.execute(sa.insert(FINDINGS), made * (MOST_KEPT + 5))
        keep_finding(store, finding("m", 7))
        with store.reading() as connection:
            models = list(connection.scalars(sa.select(FINDINGS.c.model)))
        assert (models.count("m"), models.count("other")) == (MOST_KEPT, 1)
        assert [each.found for each in newest_findings(store)] == [{"number": 7}, {"number": 0}]
        assert [each.model for each in newest_findings(store, "other")] == ["other"]


def test_a_finding_is_bounded_and_its_state_stays():
    groups = [{"name": str(number), "size": 900, "records": list(range(500))} for number in range(50)]
    found = bounded({"sentence": "s", "groups": groups, "diagnosis": {"x": "y" * 3000}}, 2000)
    assert len(json.dumps(found)) < 2500
    assert found["sentence"] == "s"


def test_a_store_that_comes_later_or_goes_for_a_while_is_tried_again(bundle: Bundle, write: Write, url: str):
    file, away = Path(url.removeprefix("sqlite:///")), []

    def say(line: str, stop: threading.Event) -> None:
        if "there is no store" in line:
            write(answers(bundle, 200))
        elif "200 records. No alarm" in line and not away:
            away.append(file.read_bytes())
            file.with_name("moved").write_bytes(away[0])
            for each in file.parent.glob("records.sqlite*"):
                each.unlink()
            file.write_bytes(b"no database at all" * 1000)
        elif "broken" in line:
            file.unlink()
            write(answers(bundle, 300))
        elif "300 records" in line:
            stop.set()

    told = run(bundle, url, say)
    assert "could not look" in told[0]
    assert any("broken" in line for line in told)
    assert told[-1].startswith("300 records. No alarm")


def test_a_bug_in_a_look_costs_that_look_alone(bundle: Bundle, write: Write):
    url = write(answers(bundle, 200))
    times = iter([None, datetime.now(UTC)])
    told = run(bundle, url, lambda line, stop: stop.set() if "No alarm" in line else None, clock=lambda: next(times))
    assert "could not look (AttributeError" in told[0]
    assert told[-1].startswith("200 records")


def older(url: str) -> None:
    """Make a store as the first Percept made it, with 150 records."""
    with store_of(url) as store, store.engine.connect() as connection:
        token = migrating.CONNECTION.set(connection)
        try:
            command.upgrade(migrating._config(), "1")
            connection.commit()
        finally:
            migrating.CONNECTION.reset(token)


def test_a_store_of_an_older_version_is_brought_up_to_date(bundle: Bundle, url: str, tmp_path: Path):
    older(url)
    rows = [record.row() for record in answers(bundle, 150)]
    with store_of(url) as store, store.engine.connect() as connection:
        there = [row[1] for row in connection.exec_driver_sql("PRAGMA table_info(percept_records)")]
        columns = [name for name in there if name != "id"]
        assert "shadow_of" not in columns
        old = sa.Table("percept_records", sa.MetaData(), *(sa.Column(name, RECORDS.c[name].type) for name in columns))
        connection.execute(sa.insert(old), [{name: row[name] for name in columns} for row in rows])
        connection.commit()
    assert monitor(bundle, url).exit_code == 0
    assert len(kept(url)) == 1


def test_a_clock_that_was_wrong_is_told_and_the_last_look_stays_the_newest(bundle: Bundle, write: Write):
    url = write([*answers(bundle, 150), *answers(bundle, 30, hours_ago=-48)])
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with store_of(url) as store:
        fast = Monitor(bundle, store, Wanted(), clock=lambda: tomorrow)
        fast.look()
        found = Monitor(bundle, store, Wanted()).look()
        restarted = Monitor(bundle, store, Wanted())
        [newest] = newest_findings(store)
        keep_finding(store, Finding(tomorrow.replace(tzinfo=None), newest.model, "1", "quiet", newest.found))
        restarted.recall()
    last_look = restarted.gauges.registry.get_sample_value(
        "percept_monitor_last_look_timestamp_seconds", {"model": newest.model}
    )
    assert last_look is not None
    assert last_look <= datetime.now(UTC).timestamp()
    assert found["window"]["records"] == 150
    assert any("a clock is or was wrong" in note for note in found["notes"])
    assert newest.time < tomorrow.replace(tzinfo=None) - timedelta(hours=23)


def test_a_bundle_without_features_has_no_groups_and_all_else(bundle: Bundle, write: Write, tmp_path: Path):
    plain = make_intent_bundle(tmp_path / "plain")
    url = write([*answers(plain, 200, features=None), *answers(plain, 200, hours_ago=30, features=None)])
    result = monitor(plain, url, "--against-hours", "48", "--json")
    found = json.loads(result.stdout)
    assert (found["groups"], found["diagnosis"]["features"]) == ([], None)
    assert len(found["alarms"]) == 2


def test_the_monitor_shows_all_that_the_dashboard_and_the_alerts_ask_of_it(bundle: Bundle, write: Write):
    url = write(answers(bundle, 300))
    with store_of(url) as store:
        look = Monitor(bundle, store, Wanted())
        look.look()
    from prometheus_client import generate_latest

    shown = exposed(generate_latest(look.gauges.registry).decode())
    asked = [item for expression in expressions() for item in used(expression).items()]
    of_monitor = [(metric, labels) for metric, labels in asked if metric.startswith(OF_MONITOR)]
    names = {metric for metric, _ in of_monitor}
    assert names == {"percept_drift", "percept_quality", "percept_monitor_last_look_timestamp_seconds"}
    for metric, labels in of_monitor:
        assert labels - SCRAPED <= shown[metric], metric


def test_what_a_look_no_longer_finds_is_gone_from_the_gauges(bundle: Bundle):
    from prometheus_client import generate_latest

    gauges = Gauges("m")
    quality = {"low": 0.8, "value": 0.9, "high": 0.95, "corrected": None, "expected": 0.9,
               "audited": {"low": 0.7, "value": 0.8, "high": 0.85}}  # fmt: skip
    found = {"window": {"records": 200}, "state": "quiet", "alarms": [], "groups": [], "diagnosis": None}
    gauges.show({**found, "quality": quality}, datetime(2026, 1, 1, tzinfo=UTC))
    assert 'percept_quality{bound="audited_high",model="m"} 0.85' in generate_latest(gauges.registry).decode()
    gauges.show({**found, "quality": None, "state": "too few"}, datetime(2026, 1, 2, tzinfo=UTC))
    shown = generate_latest(gauges.registry).decode()
    assert "percept_quality{" not in shown
    assert 'stat="alarm"' not in shown


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--port", "9400"), "--every 30m"),
        (("--every", "30m", "--json"), "Leave out one"),
        (("--every", "0.1m"), "10 seconds or more"),
        (("--every", "soon"), "no duration"),
        (("--every", "30m", "--metrics", "/proc/percept.prom"), "/proc/percept.prom cannot be written"),
        (("--every", "30m", "-o", "/no/such/folder/monitor.html"), "a folder that is there"),
    ],
)
def test_options_that_do_not_fit_are_refused(bundle: Bundle, url: str, options: tuple[str, ...], says: str):
    result = monitor(bundle, url, *options)
    assert result.exit_code == 2
    assert says in result.output


@pytest.mark.server
def test_a_killed_monitor_loses_nothing_and_one_that_is_told_to_end_ends_well(
    bundle: Bundle, write: Write, tmp_path: Path
):
    url, port = write(answers(bundle, 300)), free_port()
    program = [sys.executable, "-m", "scripts.main", "monitor", str(bundle.path), "--records", url]
    program += ["--every", "1h", "--port", str(port)]

    def started(log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as stream:
            return subprocess.Popen(program, cwd=PROJECT_ROOT, env=environment(), stdout=stream, stderr=stream)

    def gauges() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    first = started(tmp_path / "first.log")
    try:
        wait_until(lambda: "300 records. No alarm" in (tmp_path / "first.log").read_text())
        assert "percept_drift" in gauges()
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    assert len(kept(url)) == 1
    with store_of(url) as store, store.writing() as connection:  # what it found before is there without a record
        connection.execute(sa.delete(RECORDS))
    second = started(tmp_path / "second.log")
    try:
        wait_until(lambda: "could not look" in (tmp_path / "second.log").read_text())
        assert 'stat="records"} 300.0' in gauges()
    finally:
        second.terminate()
        assert second.wait(30) == 0, (tmp_path / "second.log").read_text()
