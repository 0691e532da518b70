from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from nlp.intent.data import IntentData, few
from nlp.intent.sources import Example, Source
from shared.errors import ConfigError, DataError


def write(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in rows))
    return str(path)


def test_splits_are_stratified_and_labels_come_from_what_is_learned(data: IntentData):
    assert data.labels == ["greet", "pay", "weather"]
    sizes = {name: Counter(e.label for e in part) for name, part in data.splits.items()}
    assert sizes["test"] == {"greet": 4, "pay": 4, "weather": 4, None: 1}
    assert sizes["val"] == {"greet": 4, "pay": 4, "weather": 3, None: 1}
    assert data.has_out_of_scope


def test_the_seed_decides_the_splits(utterances: Path, cache_dir: str):
    def val(seed: int) -> list[str]:
        found = IntentData(str(utterances), encoder="bilstm", seed=seed, cache_dir=cache_dir)
        found.read()
        return [example.text for example in found.splits["val"]]

    assert val(1) == val(1)
    assert val(1) != val(2)


def test_what_stands_in_two_sets_is_never_learned_from_and_tested_on(tmp_path: Path, cache_dir: str):
    train = write(tmp_path / "train.jsonl", [("hello", "greet"), ("pay bob", "pay"), ("thanks", "greet")])
    val = write(tmp_path / "val.jsonl", [("Hello!", "greet"), ("Thanks", "pay")])
    found = IntentData([Source(train, split="train"), Source(val, split="val")], encoder="bilstm", cache_dir=cache_dir)
    with pytest.raises(DataError, match="1 intents"):
        found.read()  # greet has lost both its utterances
    assert [e.text for e in found.splits["train"]] == ["pay bob"]
    assert [e.text for e in found.splits["val"]] == ["Hello!", "Thanks"]
    assert found.sources[0].contradictions == ["'thanks': pay (kept) and greet"]
    assert len(found.sources[0].skipped) == 2


def test_what_nothing_teaches_is_not_validated_on(tmp_path: Path, cache_dir: str):
    train = write(tmp_path / "train.jsonl", [("hello", "greet"), ("pay bob", "pay")])
    val = write(tmp_path / "val.jsonl", [("hi", "greet"), ("what now", "ask")])
    found = IntentData([Source(train, split="train"), Source(val, split="val")], encoder="bilstm", cache_dir=cache_dir)
    found.read()
    assert [e.text for e in found.splits["val"]] == ["hi"]
    assert "'ask', which no training utterance has" in found.sources[1].skipped[0]


def test_few_utterances_an_intent_are_drawn_by_the_seed():
    examples = [Example(0, "train", f"{label} {i}", label) for label in ("a", "b") for i in range(9)]
    examples += [Example(0, "train", f"odd {i}", None) for i in range(3)]
    chosen = few(examples, 4, seed=1)
    assert Counter(e.label for e in chosen) == {"a": 4, "b": 4, None: 3}
    assert chosen == few(examples, 4, seed=1)
    assert chosen != few(examples, 4, seed=2)


def test_a_training_batch_ends_with_utterances_out_of_scope(data: IntentData):
    batches = list(data.train_dataloader())
    assert sum(int((batch["target"] >= 0).sum()) for batch in batches) == 97
    for batch in batches:
        assert batch["target"][-8:].tolist() == [-1] * 8
        assert (batch["target"][:-8] >= 0).all()
        assert batch["input_ids"].shape == batch["attention_mask"].shape
        lengths = batch["attention_mask"].sum(1)
        assert lengths.max() == batch["input_ids"].shape[1]


def test_validation_batches_are_as_the_service_encodes(data: IntentData):
    rows = []
    for batch in data.val_dataloader():
        for ids, mask, target, row in zip(*(batch[k] for k in ("input_ids", "attention_mask", "target", "row")),
                                          strict=True):  # fmt: skip
            example = data.splits["val"][row]
            assert ids[mask == 1].tolist() == data.encoder.encode(example.text).input_ids.tolist()
            assert target == data.target(example)
            rows.append(int(row))
    assert sorted(rows) == list(range(len(data.splits["val"])))


def test_hidden_tokens_are_words_and_follow_the_seed(utterances: Path, cache_dir: str):
    data = IntentData(str(utterances), encoder="bilstm", mask_share=0.3, vocabulary_size=200, cache_dir=cache_dir)
    data.setup()
    first, again = (list(data.train_dataloader()) for _ in range(2))
    hidden = words = 0
    for left, right in zip(first, again, strict=True):
        assert torch.equal(left["input_ids"], right["input_ids"])
        hidden += int((left["input_ids"] == data.mask_id).sum())
        words += int(left["attention_mask"].sum()) - 2 * len(left["target"])
        assert not (left["input_ids"][:, 0] == data.mask_id).any()
        assert not (left["input_ids"][left["attention_mask"] == 0] == data.mask_id).any()
    assert 0.2 < hidden / words < 0.4


def test_balanced_batches_hold_several_utterances_of_each_intent(utterances: Path, cache_dir: str):
    data = IntentData(str(utterances), encoder="bilstm", batch_size=12, labels_per_batch=3, vocabulary_size=200,
                      cache_dir=cache_dir)  # fmt: skip
    data.setup()
    for batch in data.train_dataloader():
        counts = Counter(target for target in batch["target"].tolist() if target >= 0)
        assert counts == {0: 4, 1: 4, 2: 4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_share": 0.6, "test_share": 0.5}, "add up to less than 1"),
        ({"batch_size": 8, "labels_per_batch": 16}, "labels_per_batch"),
        ({"mask_share": 1.0}, "mask_share"),
        ({"source": []}, "empty list"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        IntentData(**{"source": "x.csv", **options})


def test_without_validation_utterances_the_run_does_not_start(utterances: Path, cache_dir: str):
    data = IntentData(str(utterances), encoder="bilstm", val_share=0.0, cache_dir=cache_dir)
    data.setup()
    with pytest.raises(DataError, match="no utterance validates"):
        data.train_dataloader()
