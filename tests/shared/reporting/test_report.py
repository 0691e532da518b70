"""`percept report`: from a bundle and what other commands printed to one page in two languages."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from scripts.main import main
from shared.bundle.read import Bundle
from shared.bundle.write import rewrite_bundle
from shared.improving.gate import judge_gate
from shared.intervals import wilson
from shared.project import PROJECT_ROOT
from shared.reporting.evidence import NONE, RIGHT, WRONG, measured_of, outcome
from shared.reporting.wording import Words
from shared.reporting.worth import Assumed, limits, worth_of
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
    assert "12 345 cas par jour et 1,5 minute d'économie" in re.sub(r"[\u202f\xa0]", " ", said)
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


WORTH = ("--per-day", "100", "--minutes-saved", "6", "--cost-per-hour", "30", "--cost-of-wrong", "2")


def test_wrong_answers_that_nobody_counted_are_unknown_and_cost_nothing_that_is_told(tmp_path: Path):
    said = page_of(tmp_path, PROJECT_ROOT / "models" / "encoder", *WORTH).replace("\xa0", " ")
    assert "wrong answers unknown unknown" in said
    assert "hours saved" in said
    assert not re.search(r"cost of wrong answers \d|left \d|are left|It pays as long as", said)


def test_labels_of_photos_are_not_taken_for_cases(tmp_path: Path):
    said = page_of(tmp_path, PROJECT_ROOT / "models" / "tagger", *WORTH)
    assert "It cannot be computed: nothing says how many of 100 cases get a right answer." in said
    assert "right answers" not in said.partition("What it is worth")[2].partition("Risks")[0]


def test_texts_that_are_nearly_first_are_neither_right_nor_wrong():
    found = outcome("searches", 100, right=0.6, near=0.3, wrong=0.05, none=0.05)
    low, high = limits(Assumed(), found, 100)
    assert low.wrong == pytest.approx(65 - low.right)
    assert (high.right, high.wrong) == (pytest.approx(65), pytest.approx(0))


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


def gate(model: Bundle, file: Path, verdict: str, **more: object) -> Path:
    versions = {"name": model.name, "version": model.version}
    found = {
        "verdict": verdict,
        "examples": 200,
        "candidate": versions,
        "over": {**versions, "version": "live"},
        **more,
    }
    file.write_text(json.dumps(found))
    return file


def test_a_refusal_is_told_with_what_failed(model: Bundle, tmp_path: Path):
    checks = [
        {"kind": "quality", "name": "right answers", "state": "holds"},
        {"kind": "speed", "name": "milliseconds", "state": "fails"},
        *({"kind": "label", "name": name, "state": "fails"} for name in "abcde"),
    ]
    said = page_of(tmp_path, model.path, "--gate", gate(model, tmp_path / "g.json", "refused", checks=checks))
    over = f"{model.name} live"
    assert f"Refused: on 200 examples, beside {over}, the live model, it takes too long and" in said
    assert "and it is worse on “a”, “b”, “c” … and 2 more." in said
    assert steps(said).strip().startswith("Keep the live model: the check refused this one.")
    assert "Begin with a part of the work" not in said


def test_a_pass_promises_no_more_than_the_margin(model: Bundle, tmp_path: Path):
    said = page_of(tmp_path, model.path, "--gate", gate(model, tmp_path / "g.json", "passes"))
    assert "Passed: on 200 examples no more is lost than the check allows" in said
    assert "Begin with a part of the work" in steps(said)


def test_what_was_forced_or_rolled_back_is_told(model: Bundle, tmp_path: Path):
    forced = {"is_forced": True, "promotion": {"is_live": True}}
    said = page_of(tmp_path, model.path, "--gate", gate(model, tmp_path / "g.json", "undecided", **forced))
    assert "It was promoted in spite of that." in said
    assert "It went live in spite of the check" in steps(said)
    assert "ask the gate again" not in said
    back = {"promotion": {"is_live": False}}
    said = page_of(tmp_path, model.path, "--gate", gate(model, tmp_path / "g.json", "passes", **back))
    assert "It was promoted, and then rolled back." in said
    assert steps(said).strip().startswith("Find out why it was rolled back")


def test_a_gate_of_another_version_is_refused(model: Bundle, tmp_path: Path):
    file = gate(model, tmp_path / "g.json", "passes", candidate={"name": model.name, "version": "2020.01.01-00000000"})
    result = report(model.path, "--gate", file, "-o", tmp_path / "report.html")
    assert result.exit_code == 2
    assert f"the gate is of {model.name} 2020.01.01-00000000, and not of {model.name} {model.version}" in result.output


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


def changed(file: Path, **more: object) -> Path:
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    return file


def test_nothing_that_speaks_against_it_is_followed_by_letting_it_work(bundle: Bundle, write, tmp_path: Path):  # noqa: F811
    file = monitored(bundle, write(answers(bundle, 500)), tmp_path / "monitor.json")
    found = json.loads(file.read_text())
    poor = found["quality"] | {"audited": {"value": 0.2, "low": 0.13, "high": 0.29, "said": 100}}
    results = {"title": "t", "question": "q", "measures": [{"name": "n", "value": 1}]}
    (tmp_path / "results.json").write_text(json.dumps(results))
    options = (bundle.path, "--results", tmp_path / "results.json", "--monitoring", file)
    assert "Let it work on" in steps(page_of(tmp_path, *options))
    refused = gate(bundle, tmp_path / "gate.json", "refused")
    assert "Let it work on" not in page_of(tmp_path, *options, "--gate", refused)
    changed(file, quality=poor)
    said = page_of(tmp_path, *options)
    assert "only 20 of 100 are right: read the wrong ones" in steps(said)
    assert "Let it work on" not in said


def test_feedback_is_told_as_it_was_corrected(bundle: Bundle, write, tmp_path: Path):  # noqa: F811 - the fixtures
    file = monitored(bundle, write(answers(bundle, 500)), tmp_path / "monitor.json")
    said = {"said": 60, "value": 0.5, "low": 0.38, "high": 0.62, "corrected": None}
    assert "commented on, 50 of 100 are right" in page_of(tmp_path, bundle.path, "--monitoring",
                                                          changed(file, quality=said))  # fmt: skip
    fair = said | {"corrected": {"value": 0.8, "low": 0.7, "high": 0.87}}
    text = page_of(tmp_path, bundle.path, "--monitoring", changed(file, quality=fair))
    assert "By what people commented on, 80 of 100 answers are right (70 to 87; 60 answers)" in text
    assert "50 of 100" not in text


def test_more_answers_are_waited_for_only_where_there_are_few(bundle: Bundle, write, tmp_path: Path):  # noqa: F811
    file = monitored(bundle, write(answers(bundle, 20)), tmp_path / "monitor.json")
    assert "Look again when there are 100" in page_of(tmp_path, bundle.path, "--monitoring", file)
    window = json.loads(file.read_text())["window"] | {"records": 500}
    said = page_of(tmp_path, bundle.path, "--monitoring", changed(file, window=window))
    assert "Too few answers to tell" in said
    assert "Look again when there are 100" not in said


def test_records_of_another_version_are_said_to_be(bundle: Bundle, write, tmp_path: Path):  # noqa: F811 - the fixtures
    file = monitored(bundle, write(answers(bundle, 120)), tmp_path / "monitor.json")
    assert "another version" not in page_of(tmp_path, bundle.path, "--monitoring", file)
    file.write_text(file.read_text().replace(f'"version": "{bundle.version}"', '"version": "2020.01.01-00000000"'))
    said = page_of(tmp_path, bundle.path, "--monitoring", file)
    assert "What follows is of another version of the model: 2020.01.01-00000000." in said


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


@pytest.mark.parametrize(
    ("more", "ends"),
    [
        ({}, None),
        ({"examples": 20}, [float(end) for end in wilson(0.8, 20)]),
        ({"low": 0.58, "high": 0.92}, [0.58, 0.92]),
    ],
)
def test_a_share_is_as_sure_as_what_is_known_of_it(
    tmp_path: Path, more: dict[str, float], ends: Sequence[float] | None
):
    measure = {"name": "answered rightly", "value": 0.8, "unit": "share", **more}
    (tmp_path / "results.json").write_text(json.dumps({"title": "t", "question": "q", "measures": [measure]}))
    said = page_of(tmp_path, "--results", tmp_path / "results.json", *WORTH).replace("\xa0", " ")
    if ends is None:
        assert "How far chance may move these sums is unknown" in said
        assert "are left" not in said
    else:
        low, high = (3000 * (share * 0.1 * 30 - (1 - share) * 2) for share in ends)  # of 100 cases on 30 days
        assert f"With the limits above, {low:,.0f} EUR to {high:,.0f} EUR are left" in said
    assert "Whatever is not in the share that was measured is counted as a wrong answer." in said
    assert "What next" not in said  # there is nothing to say


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
    assert "It may have been measured on other data than the figures above. Of 100 sentences" in said


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


def test_a_folder_with_one_photo_is_an_example(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    photo("red", 1, size=64).save(tmp_path / "photos" / "red.jpg")
    page_of(tmp_path, make_tagger_bundle(tmp_path / "tagger").path, "--example", tmp_path / "photos")
    assert 'src="data:image/jpeg;base64,' in (tmp_path / "report.html").read_text()


def test_what_stands_for_no_character_is_replaced(tmp_path: Path):
    results = {"title": "half \ud800", "question": "q", "measures": [{"name": "n", "value": 1}]}
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert "half ?" in page_of(tmp_path, "--results", tmp_path / "results.json")


def test_data_sets_that_say_little_are_told_as_unknown(tmp_path: Path):
    def learned_from(*entries: dict[str, object]) -> str:
        plain = intent_bundle(tmp_path / str(len(entries)))
        config = plain.config.model_copy(
            update={"provenance": plain.config.provenance.model_copy(update={"dataset": list(entries)})}
        )
        path = rewrite_bundle(plain, tmp_path / f"said{len(entries)}", config, onnx=plain.file("model.onnx")).path
        return page_of(tmp_path, path)

    assert "What it learned from unknown" in learned_from()
    said = learned_from({"examples": "many"}, {"examples": 10**400, "name": "clinc", "licence": "MIT"})
    assert "unknown: 0 examples; licence: unknown clinc: 0 examples; licence: MIT" in said
    assert "unknown (unknown)" in said
    assert "None (" not in said


def test_confusions_with_what_is_out_of_scope_are_told_and_ask_for_nothing(tmp_path: Path):
    rows = [{"label": "(none)", "given": "weather", "count": 12, "of": 30}]
    said = page_of(tmp_path, intent_bundle(tmp_path, {"test": {**metrics(), "confusions": rows}}).path)
    assert "out of scope: 12 of 30 taken for weather" in said
    assert "Say more clearly where" not in said


def test_a_bundle_that_knows_only_limits_of_a_label_says_at_most(tmp_path: Path):
    rows = [{"label": f"l{i}", "support": 1000, "recall": 0.9, "kept": 0.9} for i in range(5)]
    rows.append({"label": "bad", "support": 1000, "recall": 0.83, "kept": 1.0})
    said = page_of(tmp_path, intent_bundle(tmp_path, {"test": {**metrics(), "per_label": rows}}).path)
    assert "at most 90" in said
    assert "None is surely below the average" in said  # the others may get 80 of 100


def test_labels_with_few_examples_are_said_to_be_few(tmp_path: Path):
    rows = [{"label": "a", "support": 500, "right": 0.9}, {"label": "b", "support": 3, "right": 0.1}]
    said = page_of(tmp_path, intent_bundle(tmp_path, {"test": {**metrics(), "per_label": rows}}).path)
    assert "Unknown: fewer than two labels were measured on 5 examples or more." in said


def test_parts_of_a_comparison_are_named_in_french(model: Bundle, tmp_path: Path):
    file = tmp_path / "compare.json"
    parts = [
        {"kind": "length", "name": "5 to 14 words", "examples": 50, "first": 0.1, "second": 0.1},
        {"kind": "language", "name": "not clear", "examples": 50, "first": 0.2, "second": 0.2},
        {"kind": "language", "name": "en", "examples": 50, "first": 0.3, "second": 0.3},
    ]
    file.write_text(json.dumps(compared(model) | {"parts": parts}))
    said = page_of(tmp_path, model.path, "--comparison", file, "--language", "fr").replace("\xa0", " ")
    assert "longueur 5 à 14 mots" in said
    assert "langue : incertaine" in said
    assert "langue : anglais" in said


def test_numbers_are_written_as_they_are():
    english, french = Words("en"), Words("fr")
    said = [english.of_hundred(share) for share in (1999 / 2000, 0.9994, 0.0006, 0.0004)]
    assert said == ["more than 99.9", "99.9", "0.1", "fewer than 0.1"]
    assert [english.number(value) for value in (0.0004, -0.0004, 0.05, 0.003456, -0.0, 0)] == [
        "0.0004", "\N{MINUS SIGN}0.0004", "0.05", "0.00346", "0", "0",
    ]  # fmt: skip
    assert english.number(-0.004, 2) == "0.00"
    assert [english.count(number, "minute") for number in (1, 1.5, 2)] == ["1 minute", "1.5 minutes", "2 minutes"]
    assert [french.count(number, "minute").replace("\xa0", " ") for number in (0, 1.5, 2)] == [
        "0 minute", "1,5 minute", "2 minutes",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "name a BUNDLE, or results of your own"),
        (["--results", "none.json"], "none.json cannot be read: No such file"),
        (["--results", "none.json", "--gate", "g.json"], "--gate is about a bundle"),
        (["--results", "none.json", "--per-day", "nan"], "'nan' is no number"),
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
