from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nlp.qa.data import AnswerData, collate, crossed
from nlp.qa.sources import Example, Source
from nlp.qa.windows import WindowBatches, answer_tokens, cut
from nlp.text import ATTENTION_MASK, INPUT_IDS, TextEncoder
from shared.errors import ConfigError
from tests.encoders import make_tokenizer


@pytest.fixture
def data(questions: Path, encoder_folder: Path, cache_dir: str) -> AnswerData:
    source = Source(str(questions), split_by="title", test_share=0.25, val_share=0.25)
    found = AnswerData(
        [source], encoder=str(encoder_folder), max_length=40, stride=8, batch_tokens=256, cache_dir=cache_dir
    )
    found.setup()
    return found


def example(context: str, answer: str = "", start: int | None = None, **changes) -> Example:
    starts = () if not answer else (context.index(answer) if start is None else start,)
    values = {"id": "1", "source": 0, "title": "t", "question": "who?", "context": context,
              "texts": (answer,) if answer else (), "starts": starts}  # fmt: skip
    return Example(**{**values, **changes})


def test_no_title_lies_in_two_splits_and_the_seed_fixes_which(data: AnswerData, questions: Path):
    titles = {name: {e.title for e in part} for name, part in data.splits.items()}
    assert titles["train"] | titles["val"] | titles["test"] == {f"title {i}" for i in range(4)}
    assert not titles["train"] & (titles["val"] | titles["test"])
    assert not titles["val"] & titles["test"]
    again = AnswerData(data.options, encoder=data.encoder_name, max_length=40, stride=8, cache_dir=data.cache_dir)
    again.setup()
    assert [e.id for e in again.splits["test"]] == [e.id for e in data.splits["test"]]


def test_validation_asks_every_question_of_another_passage_too(data: AnswerData):
    asked = [e for e in data.splits["val"] if e.is_answerable]
    crossings = [e for e in data.splits["val"] if not e.is_answerable]
    assert len(asked) == 16
    assert 8 <= len(crossings) <= 16
    for e in crossings:
        assert e.id.endswith("-crossed")
        own = next(a for a in asked if a.id == e.id.removesuffix("-crossed"))
        assert not any(text in e.context for text in own.texts)


def test_crossing_prefers_the_same_title_as_often_as_it_is_told():
    examples = [example(f"{name} is here, page {i}.", name, id=str(i), title=f"t{i % 5}")
                for i, name in enumerate(f"N{n}x" for n in range(100))]  # fmt: skip
    title_of = {e.context: e.title for e in examples}
    for share, low, high in ((1.0, 0.99, 1.0), (0.0, 0.05, 0.4)):
        found = crossed(examples, 1.0, share, "key")
        own = {e.id: e.title for e in examples}
        same = [title_of[e.context] == own[e.id.removesuffix("-crossed")] for e in found]
        assert low <= sum(same) / len(same) <= high


def test_crossings_change_with_the_epoch_and_not_by_themselves():
    examples = [example(f"N{i}x is here.", f"N{i}x", id=str(i)) for i in range(40)]
    contexts = [[e.context for e in crossed(examples, 0.5, 0.5, key)] for key in ("42-0", "42-0", "42-1")]
    assert contexts[0] == contexts[1] != contexts[2]


def test_answer_tokens_cover_the_answer_that_most_people_gave(data: AnswerData):
    context = "Ada has a boat in Oslo."
    several = example(context, texts=("a boat", "boat", "boat"), starts=(8, 10, 10))
    [window] = cut([several], data.encoder)
    assert window.encoding.offsets[window.start_token, 0] == 10
    assert window.encoding.offsets[window.end_token, 1] == 14


def test_every_answer_is_found_again_through_its_tokens(data: AnswerData):
    for window in cut(data.splits["train"], data.encoder):
        asked = data.splits["train"][window.example]
        if window.start_token:
            start = window.encoding.offsets[window.start_token, 0]
            end = window.encoding.offsets[window.end_token, 1]
            assert asked.context[start:end] == asked.texts[0]


def test_a_window_that_cuts_the_answer_says_no_answer():
    encoder = TextEncoder(make_tokenizer(["one two three four five six seven eight nine ten"]), max_length=10, stride=2)
    context = "one two three four five six seven eight nine ten"
    windows = encoder.windows("five", context)
    assert len(windows) > 1
    found = [answer_tokens(w, example(context, "six seven eight")) for w in windows]
    spans = [
        (context[w.offsets[s, 0] : w.offsets[e, 1]] if s else None) for w, (s, e) in zip(windows, found, strict=True)
    ]
    assert set(spans) == {None, "six seven eight"}


def test_batches_hold_every_window_once_within_their_tokens(data: AnswerData):
    windows = cut(data.splits["train"], data.encoder)
    for key in (None, "42-0"):
        batches = WindowBatches(windows, 256, key)
        items = [batches[i] for i in range(len(batches))]
        assert sorted(w.index for item in items for w in item) == list(range(len(windows)))
        assert all(collate(item, data.encoder)[INPUT_IDS].numel() <= 256 or len(item) == 1 for item in items)
    assert WindowBatches(windows, 256, "42-0").batches != WindowBatches(windows, 256, "42-1").batches


def test_only_the_context_and_no_answer_may_be_pointed_at(data: AnswerData):
    batch = next(iter(data.val_dataloader()))
    mask = batch["context_mask"]
    assert mask[:, 0].all()
    assert not (mask & (batch[ATTENTION_MASK] == 0)).any()
    for row, position in enumerate(batch["start_positions"].tolist()):
        assert mask[row, position]
    assert (batch["end_positions"] >= batch["start_positions"]).all()
    assert batch[INPUT_IDS].dtype == torch.int64


@pytest.mark.parametrize(
    "options", [{"val_share": 0.6, "test_share": 0.5}, {"stride": 30, "max_length": 40}, {"source": []}]
)
def test_settings_that_cannot_be_are_refused(options: dict):
    with pytest.raises(ConfigError):
        AnswerData(**{"source": "q.jsonl", **options})


def test_a_noisy_set_gives_only_a_share_of_its_questions_to_each_epoch(
    questions: Path, encoder_folder: Path, cache_dir: str
):
    sources = [Source(str(questions), name="all"), Source(str(questions), name="some", epoch_share=0.25)]
    data = AnswerData(sources, encoder=str(encoder_folder), max_length=40, stride=8, cache_dir=cache_dir, val_share=0.1)
    data.setup()
    counts = {source: sum(e.source == source for e in data.splits["train"]) for source in (0, 1)}
    drawn = [data._drawn(f"42-{epoch}") for epoch in (0, 1)]
    for of_one in drawn:
        assert sum(e.source == 0 for e in of_one) == counts[0]
        assert 0 < sum(e.source == 1 for e in of_one) < 0.6 * counts[1]
    assert drawn[0] != drawn[1]
    assert drawn[0] == data._drawn("42-0")
    with pytest.raises(ConfigError, match="epoch_share must be above 0"):
        AnswerData([Source(str(questions), epoch_share=0)], cache_dir=cache_dir).read()
