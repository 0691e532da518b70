"""A writer writes token after token, and gives only what may be given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nlp.writing.offline import BatchWriter, predict
from nlp.writing.predictor import WHOLE_ANSWER_WORDS, AnswerWriter
from nlp.writing.wording import ask
from shared.bundle.layout import ONNX
from shared.bundle.read import Bundle
from shared.bundle.write import rewrite_bundle
from shared.errors import BundleError, ConfigError
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.golden import check_golden
from shared.task import PredictOptions
from tests.language_bundles import make_writer_bundle

TEXT = "It is ada who wrote it."


def writer(bundle: Bundle) -> AnswerWriter:
    return AnswerWriter(bundle, OnnxRuntime(bundle))


def test_it_writes_until_the_text_ends(writer_bundle: Bundle):
    check_golden(writer_bundle, OnnxRuntime(writer_bundle))
    assert writer(writer_bundle).write("Who is it?", TEXT, 6, 9) == "It is ada."


def test_what_may_not_be_given_is_none(tmp_path: Path):
    bundle = make_writer_bundle(tmp_path / "b", writes=(" It", " is", " @@", " of", " Lisbon", "."))
    assert writer(bundle).write("Who is it?", TEXT, 6, 9) is None


def test_it_stops_where_a_bundle_says_even_if_the_network_does_not(tmp_path: Path):
    bundle = make_writer_bundle(tmp_path / "b", writes=(" It", " is", " It"))  # goes round and round
    assert writer(bundle).write("Who is it?", TEXT, 6, 9) is None


def test_answers_that_say_it_all_are_quoted(writer_bundle: Bundle):
    text = "ada " * WHOLE_ANSWER_WORDS
    assert writer(writer_bundle).write("Who is it?", text, 0, len(text)) is None
    assert writer(writer_bundle).write("Who is it?", "   ", 0, 2) is None


def test_what_is_too_long_to_read_is_quoted_before_anything_is_computed(
    writer_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    slow = writer(writer_bundle)
    monkeypatch.setattr(slow.runtime, "run", lambda _: pytest.fail("it was read"))
    asked = ask("who is it " * 200, TEXT, 6, 9)
    assert slow.write(asked.question, TEXT, 6, 9) is None
    assert "at most 256 are read" in (slow.written(asked).problem or "")


def test_the_command_line_marks_the_answer_in_its_text(writer_bundle: Bundle):
    runtime = OnnxRuntime(writer_bundle)
    [found] = predict(writer_bundle, runtime, ["Who is it?"], PredictOptions(context="It is **ada** who wrote it."))
    assert found.values == {"question": "Who is it?", "sentence": "It is ada.", "problem": None}
    [found] = predict(writer_bundle, runtime, ["Who sings in Turin?"], PredictOptions(context="It is **ada**."))
    assert "leaves out most" in found.text
    with pytest.raises(ConfigError, match="with the answer marked in it"):
        list(predict(writer_bundle, runtime, ["Who is it?"], PredictOptions(context="It is ada.")))
    with pytest.raises(ConfigError, match="top-k"):
        list(predict(writer_bundle, runtime, ["Who is it?"], PredictOptions(context="It is **ada**.", top_k=2)))


def test_a_table_gets_a_sentence_or_an_error_in_each_row(writer_bundle: Bundle):
    batch = BatchWriter(writer_bundle, OnnxRuntime(writer_bundle), {"text": "q", "context": "c"})
    found = batch.answer([{"q": "Who is it?", "c": "It is **ada**."}, {"q": "Who is it?", "c": "It is ada."}])
    assert found[0] == {"question": "Who is it?", "sentence": "It is ada."}
    assert "marked" in found[1]["error"]


def test_a_bundle_for_something_else_and_a_broken_one_are_named(
    writer_bundle: Bundle, qa_bundle: Bundle, tmp_path: Path
):
    with pytest.raises(BundleError, match="expected one for answer-writer"):
        AnswerWriter(qa_bundle, OnnxRuntime(qa_bundle))
    for name, content in (("tokenizer.json", b"{}"), ("tokenizer_config.json", json.dumps({}).encode())):
        broken = rewrite_bundle(
            writer_bundle, tmp_path / name, writer_bundle.config, onnx=writer_bundle.file(ONNX), files={name: content}
        )
        with pytest.raises(BundleError, match=r"tokenizer|eos_token"):
            writer(broken)
