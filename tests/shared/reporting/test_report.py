"""`percept report`: from a bundle and what other commands printed to one page in two languages."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from scripts.main import main
from shared.bundle.read import Bundle
from shared.improving.gate import judge_gate
from shared.project import PROJECT_ROOT
from shared.reporting.evidence import NONE, RIGHT, WRONG, measured_of
from shared.reporting.worth import Assumed, worth_of
from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_qa_bundle
from tests.photos import photo
from tests.shared.monitoring.conftest import answers, bundle, url, write  # noqa: F401 - fixtures
from tests.shared.reporting.conftest import HOSTILE, compared, entry, intent_bundle, metrics

WORDS = PROJECT_ROOT / "shared" / "reporting" / "templates" / "words.yaml"


def report(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, args)])


def text_of(page: Path) -> str:
    """What a reader sees, in one line."""
    html = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", page.read_text(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def page_of(folder: Path, *args: str | Path) -> str:
    """The text of the page; the command must have worked."""
    result = report(*args, "-o", folder / "report.html")
    assert result.exit_code == 0, result.output
    return text_of(folder / "report.html")


def steps(text: str) -> str:
    """What it says to do next."""
    return text.rpartition("What next")[2]


@pytest.fixture
def model(tmp_path: Path) -> Bundle:
    return intent_bundle(tmp_path)


def test_it_says_of_100_what_the_bundle_says(model: Bundle, tmp_path: Path):
    measured = measured_of(model)
    assert measured is not None
    parts = measured.outcomes[0].parts
    shown = {name: round(100 * parts[name]) for name in (RIGHT, WRONG, NONE)}
    assert sum(shown.values()) == 100  # else this test would have to know how the page rounds
    said = page_of(tmp_path, model.path)
    assert (f"Of 100 sentences about something it knows, {shown[RIGHT]} get the right intent, {shown[WRONG]} a wrong "
            f"one, and {shown[NONE]} none.") in said  # fmt: skip
    dots = (tmp_path / "report.html").read_text()
    first = dots[dots.index("<figure") : dots.index("</svg>", dots.index("<figure"))]
    assert (first.count('class="right"'), first.count('class="wrong"'), first.count('class="none"')) == tuple(
        shown[name] for name in (RIGHT, WRONG, NONE)
    )


def test_the_weak_label_is_named_and_more_of_it_is_asked_for(model: Bundle, tmp_path: Path):
    said = page_of(tmp_path, model.path)
    assert "more than chance among so many: weather." in said
    assert "Collect more examples of “weather”" in steps(said)


def test_it_is_said_in_french(model: Bundle, tmp_path: Path):
    said = page_of(tmp_path, model.path, "--language", "fr", "--per-day", "12345", "--minutes-saved", "1.5")
    assert '<html lang="fr">' in (tmp_path / "report.html").read_text()
    assert "Sur 100 phrases sur un sujet connu" in said
    assert "toujours l'intention la plus fréquente" in said
    assert "12 345 cas par jour et 1,5 minutes" in said.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert not {"right", "wrong", "unknown", "What", "sentence"} & set(re.findall(r"\w+", said))


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("name", ["intent", "qa", "tagger", "encoder", "writer"])
def test_every_task_has_a_page_in_both_languages(name: str, language: str, tmp_path: Path):
    said = page_of(tmp_path, PROJECT_ROOT / "models" / name, "--language", language)
    assert {"en": "How good it is Of 100", "fr": "Sa qualité Sur 100"}[language] in said
    assert (tmp_path / "report.html").read_text().count("<section") == 10  # all but other models


def test_both_languages_fill_the_same_blanks_of_all_texts():
    said = yaml.safe_load(WORDS.read_text())
    for key, texts in said["texts"].items():
        assert set(texts) == {"en", "fr"}, key
        english, french = (sorted(re.findall(r"{(\w+)}", texts[language])) for language in ("en", "fr"))
        assert english == french, key
    source = "".join(path.read_text() for path in WORDS.parents[1].glob("*.py"))
    for key in re.findall(r'words\("([^"{}]+)"', source):
        assert key in said["texts"]


def test_what_it_is_worth_is_computed_from_what_was_given(model: Bundle, tmp_path: Path):
    options = ("--per-day", "400", "--minutes-saved", "3", "--cost-per-hour", "40", "--cost-of-wrong", "5")
    said = page_of(tmp_path, model.path, *options, "--currency", "CHF").replace("\xa0", " ")
    measured = measured_of(model)
    assert measured is not None
    parts = measured.outcomes[0].parts
    saved, lost = 400 * parts[RIGHT] * 3 / 60 * 40, 400 * parts[WRONG] * 5
    assert f"left {saved - lost:,.0f} CHF {30 * (saved - lost):,.0f} CHF" in said
    assert f"a wrong answer costs less than {saved / (400 * parts[WRONG]):,.0f} CHF" in said


def test_wrong_answers_that_cost_more_than_is_saved_are_warned_of(model: Bundle, tmp_path: Path):
    options = ("--minutes-saved", "1", "--cost-per-hour", "30", "--cost-of-wrong", "900")
    said = page_of(tmp_path, model.path, *options)
    assert "wrong answers cost more than right ones save" in said
    assert "Let it answer only where it is surer" in steps(said)


def test_what_is_not_given_is_left_out_of_the_sum():
    worth = worth_of(Assumed(minutes_saved=6), {RIGHT: 0.5, WRONG: 0.1}, 100)
    assert (worth.hours, worth.saved, worth.cost, worth.net) == (5.0, None, None, None)


def test_what_nobody_said_is_called_unknown(tmp_path: Path):
    said = page_of(tmp_path, make_tagger_bundle(tmp_path / "bundle").path)
    assert "Unknown: neither the model nor a file that was named says how good it is." in said
    assert "Unknown: nobody said what a right answer saves" in said
    assert "Unknown: no look at the model in use was given." in said
    assert "what it was not made for is unknown" in said
    assert "training unknown" in said
    assert "Measure it on examples of your own" in steps(said)


def test_hostile_names_are_shown_as_they_are_and_do_nothing(tmp_path: Path):
    split = metrics()
    split["per_label"][0]["label"] = split["confusions"][0]["label"] = HOSTILE
    model = intent_bundle(tmp_path, {"test": split}, card={"summary": HOSTILE, "limits": HOSTILE, "not_for": HOSTILE})
    said = page_of(
        tmp_path, model.path, "--title", HOSTILE, "--value", HOSTILE, "--currency", HOSTILE, "--per-day", "1"
    )
    assert said.count(HOSTILE) >= 6
    html = (tmp_path / "report.html").read_text()
    assert "<script" not in html
    assert "{{" not in html


def test_the_page_loads_nothing(model: Bundle, tmp_path: Path):
    page_of(tmp_path, model.path)
    html = (tmp_path / "report.html").read_text()
    assert "default-src 'none'" in html
    assert not re.findall(r"(?:src|href)=|url\(|@import|https?://", html)


def test_a_small_test_set_has_wide_limits_and_more_is_asked_for(tmp_path: Path):
    split = metrics()
    split["overall"] |= {"examples": 40, "out_of_scope": 0, "kept": 0.9, "right": 0.8, "out_of_scope_recall": None}
    said = page_of(tmp_path, intent_bundle(tmp_path, {"test": split}).path)
    assert "between 65 and 90 of 100 are right" in said  # Wilson's interval of 32 of 40
    assert "These limits are wide" in said
    assert "Measure on more examples: about 160 would halve the doubt." in steps(said)


def test_a_model_that_is_no_better_than_a_rule_is_not_recommended(tmp_path: Path):
    split = metrics()
    rules = {"always the most frequent intent": 0.3333, "the nearest intent by its words": 0.9}
    split["worth"] |= {"beaten_by": ["the nearest intent by its words"], "baselines": rules}
    said = page_of(tmp_path, intent_bundle(tmp_path, {"test": split}).path)
    assert "It is not better than this: the nearest intent by its words." in said
    assert steps(said).strip().startswith("Do not put it to work")


def test_a_model_that_may_be_better_than_a_rule_is_measured_on_more(tmp_path: Path):
    split = metrics()
    split["worth"] |= {"beaten_by": ["the nearest intent by its words"]}  # 0.86 against 0.7
    said = page_of(tmp_path, intent_bundle(tmp_path, {"test": split}).path)
    assert "too few to tell whether it is better than this: the nearest intent by its words." in said
    assert "Do not put it to work" not in said
    assert steps(said).strip().startswith("Find out on more examples")


def test_a_comparison_says_which_is_better_and_where_it_is_worst(model: Bundle, tmp_path: Path):
    file = tmp_path / "compare.json"
    file.write_text(json.dumps(compared(model)))
    said = page_of(tmp_path, model.path, "--comparison", file)
    assert "It is better than other, and that is more than chance." in said
    assert "Right answers, of 100, on the same 200 examples." in said
    file.write_text(json.dumps(compared(model, ours=3, other=10)))
    said = page_of(tmp_path, model.path, "--comparison", file)
    assert "It is worse than other" in said
    assert "Take other instead" in steps(said)
    file.write_text(json.dumps(compared(model, ours=10, other=11)))
    assert "These examples cannot tell it from other." in page_of(tmp_path, model.path, "--comparison", file)


def test_an_undecided_gate_asks_for_as_many_examples_as_it_takes(model: Bundle, tmp_path: Path):
    found = judge_gate(entry(model, "candidate", 10), entry(model, "live", 11))
    assert found["verdict"] == "undecided"
    versions = {"name": model.name, "version": model.version}
    file = tmp_path / "promote.json"
    file.write_text(json.dumps({**found, "candidate": versions, "over": {**versions, "version": "the-live-one"}}))
    said = page_of(tmp_path, model.path, "--gate", file)
    assert "Undecided: 200 examples are too few" in said
    assert f"Add about {found['more']:,} labelled examples" in steps(said)


def monitored(bundle: Bundle, url: str, file: Path) -> Path:  # noqa: F811 - the fixtures
    result = CliRunner().invoke(main, ["monitor", str(bundle.path), "--records", url, "--json"])
    file.write_text(result.stdout)
    return file


def test_an_alarm_is_told_and_acted_on(bundle: Bundle, write, tmp_path: Path):  # noqa: F811 - the fixtures
    file = monitored(bundle, write(answers(bundle, 500, foreign=0.1)), tmp_path / "monitor.json")
    said = page_of(tmp_path, bundle.path, "--monitoring", file)
    assert "500 answers from" in said
    assert "Alarm: what it is asked, or how sure it is, has changed." in said
    assert re.search(r"Without an answer: \d+ of 100; before, \d", said)
    assert "Look into the alarm" in steps(said)
    assert "People ask about something that it has no label for" in said


def test_quiet_records_are_told_as_quiet(bundle: Bundle, write, tmp_path: Path):  # noqa: F811 - the fixtures
    file = monitored(bundle, write(answers(bundle, 500)), tmp_path / "monitor.json")
    said = page_of(tmp_path, bundle.path, "--monitoring", file)
    assert "No alarm" in said
    assert "Look into the alarm" not in said


def test_monitoring_of_another_model_is_refused(bundle: Bundle, write, tmp_path: Path):  # noqa: F811
    file = monitored(bundle, write(answers(bundle, 120)), tmp_path / "monitor.json")
    result = report(make_qa_bundle(tmp_path / "qa").path, "--monitoring", file, "-o", tmp_path / "report.html")
    assert result.exit_code == 2
    assert "the monitoring is of tiny-intent, and not of tiny-qa" in result.output
    assert not (tmp_path / "report.html").exists()


def test_results_of_ones_own_make_a_page_without_a_bundle(tmp_path: Path):
    example = re.search(r"```json\n(.*?)```", (PROJECT_ROOT / "docs" / "reporting.md").read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "results.json").write_text(example[1])
    said = page_of(tmp_path, "--results", tmp_path / "results.json")
    assert "Mean error: 3.1 minutes; a simple rule comes to 5.9 minutes." in said
    assert "2.8 and 3.4 minutes" in said
    assert "Monday mornings 7.4 minutes 96 examples" in said
    assert "It knows nothing of holidays." in said
    assert "Ask the telephone system" in steps(said)


def test_a_share_that_people_measured_can_be_valued(tmp_path: Path):
    measure = {"name": "answered rightly", "value": 0.8, "low": 0.58, "high": 0.92, "unit": "share", "examples": 20}
    (tmp_path / "results.json").write_text(json.dumps({"title": "t", "question": "q", "measures": [measure]}))
    options = ("--per-day", "50", "--minutes-saved", "6", "--language", "en")
    said = page_of(tmp_path, "--results", tmp_path / "results.json", *options)
    assert "Answered rightly: 80 of 100." in said
    assert "hours saved 4 120" in said


def test_what_people_tried_goes_before_what_the_bundle_says(model: Bundle, tmp_path: Path):
    results = {
        "title": "t", "question": "Does it do?", "measures": [{"name": "n", "value": 1}],
        "outcomes": {"right": 12, "wrong": 1, "none": 2},
    }  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps(results))
    options = (
        "--results",
        tmp_path / "results.json",
        "--per-day",
        "60",
        "--minutes-saved",
        "3",
        "--cost-of-wrong",
        "2",
    )
    said = page_of(tmp_path, model.path, *options)
    assert (
        "In short Does it do? Of 100 cases like those that were tried, 80 get the right answer, 7 a wrong one" in said
    )
    assert "Measured on 15 cases. Of all such cases, very probably between 55 and 93 of 100" in said  # Wilson's
    assert "hours saved 2.4 72" in said
    assert "cost of wrong answers 8 EUR 240 EUR" in said.replace("\xa0", " ")
    assert "It was measured on other data than the figures above. Of 100 sentences" in said


def test_an_example_is_asked_as_the_page_is_made(model: Bundle, tmp_path: Path):
    said = page_of(tmp_path, model.path, "--example", "book a flight", "--example", "the unknown")
    assert re.search(r"“book a flight” book_flight \(sure to [\d.]+ of 100\)", said)
    assert "“the unknown” no answer" in said
    photo("red", 1, size=64).save(tmp_path / "red.jpg")
    said = page_of(tmp_path, make_tagger_bundle(tmp_path / "tagger").path, "--example", tmp_path / "red.jpg")
    assert re.search(r"cat \(sure to [\d.]+ of 100\)", said)
    assert 'src="data:image/jpeg;base64,' in (tmp_path / "report.html").read_text()
    qa = make_qa_bundle(tmp_path / "qa")
    said = page_of(tmp_path, qa.path, "--example", "who is it", "--context", "it is ada")
    assert "“who is it” ada" in said


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "name a BUNDLE, or results of your own"),
        (["--results", "none.json"], "none.json cannot be read: No such file"),
        (["--results", "none.json", "--gate", "g.json"], "--gate is about a bundle"),
    ],
)
def test_what_cannot_be_a_page_ends_with_2_and_a_reason(tmp_path: Path, args: list[str], said: str):
    result = report(*args, "-o", tmp_path / "report.html")
    assert result.exit_code == 2
    assert said in result.output


def test_answers_are_never_said_to_sum_to_more_than_100():
    from shared.reporting.telling import whole

    rng = np.random.default_rng(0)
    for shares in rng.dirichlet([5.0, 0.5, 0.5, 1.0], 300):
        found = whole(shares)
        assert sum(found) == 100
        assert found[0] == round(100 * shares[0])
        assert all(abs(each - 100 * share) < 1 for each, share in zip(found, shares, strict=True))
