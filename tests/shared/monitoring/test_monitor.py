"""`percept monitor`: from a store to an exit status, sentences, a page and gauges."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from scripts.main import main
from shared.bundle.read import Bundle
from shared.records.queue import draw
from shared.records.reviewing import Review, keep_reviews
from shared.records.store import Store
from tests.language_bundles import make_intent_bundle
from tests.shared.monitoring.conftest import Write, answers


def monitor(bundle: Bundle | Path, url: str, *args: str | Path) -> Result:
    folder = bundle.path if isinstance(bundle, Bundle) else bundle
    return CliRunner().invoke(main, ["monitor", str(folder), "--records", url, *map(str, args)])


def test_usual_traffic_ends_with_0_and_names_what_would_have_been_seen(bundle: Bundle, write: Write):
    result = monitor(bundle, write(answers(bundle, 500)))
    assert result.exit_code == 0, result.output
    assert result.output.startswith("No alarm")
    assert re.search(r"ok    out of scope: [\d.]+ % of 500 records, 5(\.\d)? % of 2,000 validation", result.output)
    assert result.output.count("Four times in five") == 2
    assert "nobody has said yet" in result.output
    assert "characters: mostly 2" in result.output


def test_foreign_traffic_ends_with_1_and_an_alarm(bundle: Bundle, write: Write):
    result = monitor(bundle, write(answers(bundle, 500, foreign=0.1)), "--json")
    assert result.exit_code == 1, result.output
    found = json.loads(result.output)
    assert found["state"] == "alarm"
    assert [alarm["is_raised"] for alarm in found["alarms"]] == [True, True]
    assert found["diagnosis"]["features"]["far"] > 0.08
    assert "more is out of scope and the model is less sure" in found["sentence"]


def test_too_few_records_end_with_3_and_say_how_many_more(bundle: Bundle, write: Write, tmp_path: Path):
    page = tmp_path / "page.html"
    result = monitor(bundle, write(answers(bundle, 57)), "-o", page, "--metrics", tmp_path / "percept.prom")
    assert result.exit_code == 3, result.output
    assert "it takes 100, so 43 more" in result.output
    assert not page.exists()
    assert "percept_drift" in (tmp_path / "percept.prom").read_text()


def test_a_model_that_the_store_does_not_know_ends_with_2_and_those_it_knows(bundle: Bundle, write: Write):
    result = monitor(bundle, write(answers(bundle, 3, model="another", version="7")))
    assert result.exit_code == 2
    assert f"no records of {bundle.config.name}. It has records of: another 7 (3)." in result.output


def test_a_store_that_is_not_there_ends_with_2_and_is_not_made(bundle: Bundle, tmp_path: Path):
    result = monitor(bundle, f"sqlite:///{tmp_path / 'none.sqlite'}")
    assert result.exit_code == 2
    assert "there is no store of records" in result.output
    assert not (tmp_path / "none.sqlite").exists()


def test_another_database_is_left_as_it_is(bundle: Bundle, tmp_path: Path):
    file = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    assert monitor(bundle, f"sqlite:///{file}").exit_code == 2
    with closing(sqlite3.connect(file)) as connection:
        assert list(connection.execute("SELECT name FROM sqlite_master")) == [("mine",)]


def test_a_file_that_is_no_database_is_named(bundle: Bundle, tmp_path: Path):
    (tmp_path / "text.sqlite").write_text("no database at all\n" * 100)
    result = monitor(bundle, f"sqlite:///{tmp_path / 'text.sqlite'}")
    assert result.exit_code == 2
    assert "text.sqlite cannot be used (broken)" in result.output


@pytest.mark.parametrize("url", ["records.sqlite", "mysql://db/x", "sqlite://"])
def test_a_url_of_no_store_is_refused(bundle: Bundle, url: str):
    result = monitor(bundle, url)
    assert result.exit_code == 2
    assert "--records takes" in result.output


def test_feedback_in_the_store_becomes_quality(bundle: Bundle, write: Write):
    url = write(answers(bundle, 200))
    store = Store(url)
    for place in range(40):
        kept = store.find(f"r{place}", 0, None)
        assert kept is not None
        store.give_feedback(kept, f"r{place}", 0, "", right=place >= 4)
    store.close()
    result = monitor(bundle, url)
    assert "90 % of 40 answers with feedback are right (95 % interval 76.9 % to 96 %)" in result.output
    assert "no random sample" in result.output
    assert "which is optimistic" in result.output


def test_reviews_of_a_random_sample_in_the_store_become_quality(bundle: Bundle, write: Write):
    url = write([replace(row, text=f"text {place}") for place, row in enumerate(answers(bundle, 300))])
    store = Store(url)
    drawn = sorted(store.newest(bundle.config.name, 300), key=lambda row: draw(row["id"]))[:40]
    said = [Review(row["id"], row["labels"] if place >= 10 else ["another"], None, None, "audit")
            for place, row in enumerate(drawn)]  # fmt: skip
    assert keep_reviews(store, bundle.config.name, "ada", said) == ([], 0)
    store.close()
    found = json.loads(monitor(bundle, url, "--json").output)["quality"]["audited"]
    assert found["said"] == 40
    assert found["value"] == pytest.approx(0.75)
    assert found["low"] < 0.75 < found["high"]


def test_the_window_is_a_day_unless_another_is_asked_for(bundle: Bundle, write: Write):
    url = write(answers(bundle, 300, hours_ago=30))
    assert monitor(bundle, url).exit_code == 3
    found = json.loads(monitor(bundle, url, "--since", "2d", "--json").output)
    assert found["window"]["records"] == 300
    found = json.loads(monitor(bundle, url, "--last", 120, "--json").output)
    assert found["window"]["records"] == 120


def test_earlier_records_take_the_place_of_a_reference(bundle: Bundle, write: Write, tmp_path: Path):
    plain = make_intent_bundle(tmp_path / "plain")
    url = write([*answers(plain, 400, foreign=0.1), *answers(plain, 800, hours_ago=30)])
    refused = monitor(plain, url)
    assert refused.exit_code == 2
    assert "--against-hours" in refused.output
    result = monitor(plain, url, "--against-hours", 48)
    assert result.exit_code == 1, result.output
    assert "of 800 in the 48 hours before" in result.output
    assert monitor(plain, url, "--last", 400, "--against-hours", 48).exit_code == 1
    assert monitor(plain, url, "--against-hours", 2).exit_code == 3


def test_other_versions_are_named_and_can_be_left_out(bundle: Bundle, write: Write):
    url = write([*answers(bundle, 150), *answers(bundle, 50, version="older")])
    assert "50 of the records are of other versions (older)" in monitor(bundle, url).output
    found = json.loads(monitor(bundle, url, "--same-version", "--json").output)
    assert (found["window"]["records"], found["notes"]) == (150, [])


def test_the_page_needs_nothing_but_itself(bundle: Bundle, write: Write, tmp_path: Path):
    page = tmp_path / "page.html"
    result = monitor(bundle, write(answers(bundle, 200, foreign=0.1)), "-o", page)
    assert f"Look at {page}" in result.output
    html = page.read_text("utf-8")
    assert "Something has changed" in html
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", html)


def test_gauges_are_as_prometheus_reads_them(bundle: Bundle, write: Write, tmp_path: Path):
    file = tmp_path / "percept.prom"
    assert monitor(bundle, write(answers(bundle, 300, foreign=0.1)), "--metrics", file).exit_code == 1
    samples = [each for family in text_string_to_metric_families(file.read_text()) for each in family.samples]
    drift = {each.labels["stat"]: each.value for each in samples if each.name == "percept_drift"}
    assert (drift["records"], drift["alarm"], drift["no_answer_rate_alarm"]) == (300, 1, 1)
    assert drift["no_answer_rate"] > drift["no_answer_rate_before"]
    assert {each.labels["model"] for each in samples} == {bundle.config.name}
    assert [each.labels["bound"] for each in samples if each.name == "percept_quality"] == ["expected"]


@pytest.mark.parametrize("args", [["--since", "soon"], ["--last", "0"], ["-o", "no/such/folder/page.html"]])
def test_wrong_use_ends_with_2(bundle: Bundle, url: str, args: list[str]):
    assert monitor(bundle, url, *args).exit_code == 2
