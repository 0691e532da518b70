"""A candidate's silent answers beside the live ones: paired as they were asked, and judged as people said."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from scripts.main import main
from shared.bundle.read import Bundle
from shared.improving.shadowing import compare_silent
from shared.intervals import wilson
from shared.records.record import Record
from shared.records.reviewing import reviewed
from shared.records.shadowed import pairs
from shared.records.store import Store
from shared.records.tables import REVIEWS
from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_intent_bundle

NOW = time.time()


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_intent_bundle(tmp_path_factory.mktemp("shadowing") / "next", version="next")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path / 'records.sqlite'}")


def noted(request: str, label: str | None, *, shadow: bool = False, **changes: Any) -> Record:
    chosen: dict[str, Any] = {
        "request_id": request, "item": 0, "seconds": NOW + shadow, "key": "", "task": "intent", "model": "tiny-intent",
        "version": "next" if shadow else "live", "outcome": "out_of_scope" if label is None else "in_scope",
        "labels": [] if label is None else [label], "scores": [] if label is None else [0.9], "confidence": 0.9,
        "out_of_scope_score": 0.2, "share": 0.1 if shadow else 1.0, "shadow_of": "live" if shadow else None,
    }  # fmt: skip
    return Record(**{**chosen, **changes})


def both(request: str, live: str | None, next_: str | None, **changes: Any) -> list[dict[str, Any]]:
    return [noted(request, live, **changes).row(), noted(request, next_, shadow=True, **changes).row()]


def compared(store: Store, candidate: Bundle) -> dict[str, Any]:
    return compare_silent(candidate, pairs(store, "tiny-intent", "next", 1000))


def test_answers_are_paired_by_request_item_key_and_the_version_that_answered(store: Store, candidate: Bundle):
    rows = both("r1", "weather", "weather") + both("r1", "weather", "play_music", item=1)
    rows += both("r1", "hello", "weather", key="shop")
    rows += [noted("r2", "weather").row()]  # not sampled
    rows += [noted("r3", "hello", shadow=True, shadow_of="older").row()]  # its live answer is not kept
    rows += [noted("r4", "hello", model="another").row()]
    store.write(rows)
    found = pairs(store, "tiny-intent", "next", 1000)
    assert [(live["labels"], each["labels"]) for live, each in found] == [
        (["hello"], ["weather"]), (["weather"], ["play_music"]), (["weather"], ["weather"])
    ]  # fmt: skip
    assert [live["version"] for live, _ in found] == ["live"] * 3
    assert len(pairs(store, "tiny-intent", "next", 2)) == 2
    assert "text" not in found[0][0]


def test_a_request_id_that_was_used_again_pairs_with_the_answer_before_it(store: Store, candidate: Bundle):
    store.write([noted("r1", "hello", seconds=NOW - 50).row(), noted("r1", "weather", seconds=NOW - 10).row(),
                 noted("r1", "weather", shadow=True, seconds=NOW - 9).row(),
                 noted("r1", "hello", seconds=NOW - 1).row()])  # fmt: skip
    [(live, _)] = pairs(store, "tiny-intent", "next", 10)
    assert live["labels"] == ["weather"]


def test_agreement_has_wilsons_interval_and_changes_are_counted(store: Store, candidate: Bundle):
    rows = [row for place in range(90) for row in both(f"same{place}", "weather", "weather")]
    rows += [row for place in range(7) for row in both(f"moved{place}", "weather", "play_music")]
    rows += [row for place in range(3) for row in both(f"out{place}", "weather", None)]
    store.write(rows)
    found = compared(store, candidate)
    low, high = wilson(0.9, 100)
    assert found["agreement"] == {"value": 0.9, "low": pytest.approx(low), "high": pytest.approx(high)}
    assert [(each["from"], each["to"], each["count"]) for each in found["changes"]] == [
        ("weather", "play_music", 7), ("weather", "out of scope", 3)
    ]  # fmt: skip
    assert found["sides"]["live"]["without_answer"] == 0
    assert found["sides"]["candidate"]["without_answer"] == pytest.approx(0.03)
    assert found["judged"] is None
    assert "90.0 %" in found["sentence"]
    assert "Nobody has said yet" in found["sentence"]


def test_a_sampled_answer_counts_for_those_that_were_not_kept(store: Store, candidate: Bundle):
    store.write(both("rare", "weather", "hello") + both("sampled", "weather", "weather", share=0.1))
    store_rows = pairs(store, "tiny-intent", "next", 10)
    shares = sorted(each["share"] for _, each in store_rows)
    assert shares == [0.1, 0.1]
    store.write(both("often", "weather", "weather", share=0.01))
    assert compared(store, candidate)["agreement"]["value"] == pytest.approx((10 + 100) / 120)


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ({"labels": ["play_music"]}, (0.0, 1.0)),
        ({"labels": ["weather"]}, (1.0, 0.0)),
        ({"labels": ["hello"]}, (0.0, 0.0)),
        ({"right": True}, (1.0, 0.0)),
        ({"right": False}, None),  # the candidate's other answer may be right or not
        ({"helpful": True}, None),
    ],
)
def test_what_people_said_of_the_live_answer_tells_of_both_where_it_can(
    store: Store, candidate: Bundle, said: dict[str, Any], verdict: tuple[float, float] | None
):
    store.write(both("r1", "weather", "play_music"))
    kept = store.find("r1", 0, None)
    assert kept is not None
    store.give_feedback(kept, "r1", 0, "", **said)
    judged = compared(store, candidate)["judged"]
    assert (judged and (judged["live"], judged["candidate"])) == verdict


def test_a_wrong_answer_that_the_candidate_repeats_is_wrong_for_both(store: Store, candidate: Bundle):
    store.write(both("r1", "weather", "weather"))
    kept = store.find("r1", 0, None)
    assert kept is not None
    store.give_feedback(kept, "r1", 0, "", right=False)
    judged = compared(store, candidate)["judged"]
    assert (judged["live"], judged["candidate"]) == (0.0, 0.0)


def test_reviewers_come_before_feedback(store: Store, candidate: Bundle):
    store.write(both("r1", "weather", "play_music"))
    kept = store.find("r1", 0, None)
    assert kept is not None
    store.give_feedback(kept, "r1", 0, "", right=True)
    with store.writing() as connection:
        columns = {"record": kept.id, "reviewer": "ada", "time": store_time(), "labels": ["play_music"], "reason": ""}
        connection.execute(REVIEWS.insert().values(**columns))
    assert [row["id"] for row in reviewed(store, "tiny-intent")] == [kept.id]  # of the live answer alone
    judged = compared(store, candidate)["judged"]
    assert (judged["live"], judged["candidate"]) == (0.0, 1.0)


def store_time() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC).replace(tzinfo=None)


def test_the_test_is_mcnemars_exact_one(store: Store, candidate: Bundle):
    rows = [row for place in range(8) for row in both(f"b{place}", "weather", "play_music")]
    rows += both("w", "play_music", "weather")
    store.write(rows)
    for name in [f"b{place}" for place in range(8)] + ["w"]:
        kept = store.find(name, 0, None)
        assert kept is not None
        store.give_feedback(kept, name, 0, "", labels=["play_music"])
    judged = compared(store, candidate)["judged"]
    assert (judged["better"], judged["worse"]) == (8, 1)
    assert judged["p"] == pytest.approx(20 / 512)  # two-sided binomial, 1 of 9
    assert judged["is_sure"]


def test_whoever_names_a_tag_need_not_name_what_it_is_a_kind_of(store: Store, tmp_path: Path):
    bundle = make_tagger_bundle(tmp_path / "tagger", ("cat", "dog"), parents={"cat": ["animal"]}, version="next")
    given: dict[str, Any] = {"task": "tagging", "model": bundle.name, "outcome": "tagged"}
    store.write([
        noted("r1", None, **given, labels=["dog"]).row(),
        noted("r1", None, shadow=True, **given, labels=["cat", "animal"]).row(),
    ])  # fmt: skip
    kept = store.find("r1", 0, None)
    assert kept is not None
    store.give_feedback(kept, "r1", 0, "", labels=["cat"])
    judged = compare_silent(bundle, pairs(store, bundle.name, "next", 10))["judged"]
    assert (judged["live"], judged["candidate"]) == (0.0, 1.0)


def test_the_command_prints_a_sentence_writes_a_page_and_says_when_there_is_nothing(
    store: Store, candidate: Bundle, tmp_path: Path
):
    url, page = f"sqlite:///{tmp_path / 'records.sqlite'}", tmp_path / "shadow.html"
    words = ["shadow", str(candidate.path), "--records", url]
    nothing = CliRunner().invoke(main, words)
    assert (nothing.exit_code, nothing.output.count("answered silently. Start the service")) == (3, 1)
    assert not (tmp_path / "records.sqlite").exists()
    store.write(both("r1", "weather", "play_music"))
    shown = CliRunner().invoke(main, [*words, "-o", str(page)])
    assert shown.exit_code == 0, shown.output
    assert "     1  weather -> play_music" in shown.output
    assert "play_music" in page.read_text("utf-8")
    found = json.loads(CliRunner().invoke(main, [*words, "--json", "--since", "1h"]).stdout)
    assert (found["pairs"], found["candidate"], found["live"]) == (1, "next", ["live"])
    assert CliRunner().invoke(main, [*words[:2], "--records", "mysql://a:b@c/d"]).exit_code == 2
