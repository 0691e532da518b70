"""`percept predict` and `percept info` on language bundles: texts in, answers out, without training code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scripts.main import main
from shared.bundle.read import Bundle
from tests.scripts.test_main import HEAVY, modules_after


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_intents_are_named_a_line_each(intent_bundle: Bundle):
    result = run("predict", intent_bundle.path, "--device", "cpu", "play a song", "zzz")
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert first.startswith("play a song  play_music  [play_music 1.00")
    assert second.startswith("zzz  (out of scope ")


def test_half_a_character_is_an_error_that_does_not_stop_the_others(intent_bundle: Bundle):
    result = run("predict", intent_bundle.path, "--device", "cpu", "--json", "\ud83d", "play a song")
    assert result.exit_code == 1
    broken, fine = map(json.loads, result.stdout.splitlines())
    assert "half a surrogate pair" in broken["error"]
    assert fine["intent"] == "play_music"


@pytest.mark.parametrize("as_file", [True, False])
def test_answers_are_looked_for_in_a_text_or_a_file(qa_bundle: Bundle, tmp_path: Path, as_file: bool):
    context = "It was Ada."
    if as_file:
        (tmp_path / "page.txt").write_text(context)
        context = str(tmp_path / "page.txt")
    result = run("predict", qa_bundle.path, "--device", "cpu", "Who was it?", "What?", "--context", context)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == ["Who was it?  'Ada' 1.00", "What?  (no answer)"]


@pytest.mark.parametrize(
    ("task", "args", "message"),
    [
        ("qa", ["Who?"], "--context FILE"),
        ("qa", ["Who?", "--context", "x", "--min-score", "0.1"], "--min-score is for tags"),
        ("intent", ["hi", "--min-score", "0.1"], "--min-score is for tags"),
        ("intent", ["hi", "--context", "x"], "--context for questions"),
    ],
)
def test_options_of_other_tasks_are_refused(
    intent_bundle: Bundle, qa_bundle: Bundle, task: str, args: list[str], message: str
):
    bundle = {"qa": qa_bundle, "intent": intent_bundle}[task]
    result = run("predict", bundle.path, "--device", "cpu", *args)
    assert result.exit_code == 2
    assert message in result.stderr


def test_info_shows_the_decision(intent_bundle: Bundle):
    result = run("info", intent_bundle.path)
    assert result.exit_code == 0
    assert "detector energy" in result.stdout
    assert "abstain_below 0.5" in result.stdout


def test_predicting_on_the_cpu_loads_no_training_library(intent_bundle: Bundle, qa_bundle: Bundle):
    calls = [["predict", str(intent_bundle.path), "--device", "cpu", "hi"],
             ["predict", str(qa_bundle.path), "--device", "cpu", "Who?", "--context", "Ada"]]  # fmt: skip
    code = "from scripts.main import main\n" + "\n".join(f"main({call!r}, standalone_mode=False)" for call in calls)
    loaded = modules_after(code)
    assert loaded.isdisjoint([*(name for name in HEAVY if name != "onnxruntime"), "transformers"])
