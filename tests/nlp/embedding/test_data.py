"""Splits keep groups whole; batches hold neighbours side by side, and never push apart what means the same."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nlp.embedding.data import ALIKE, POSITIVE_IDS, PairData, TrainingBatches
from nlp.embedding.sources import Source
from nlp.text import INPUT_IDS
from shared.errors import ConfigError, DataError
from tests.nlp.embedding.conftest import rows


def written(folder: Path, content: list[dict]) -> str:
    path = folder / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, content)))
    return str(path)


def make(source: str | list[Source], tiny: Path, cache_dir: str, **options) -> PairData:
    found = PairData(source, encoder=str(tiny), cache_dir=cache_dir, **{"batch_size": 16, **options})
    found.setup()
    return found


def test_a_group_is_never_in_two_splits(data: PairData):
    groups = {split: {example.group for example in part} for split, part in data.splits.items()}
    assert {split: len(found) for split, found in groups.items()} == {"train": 4, "val": 1, "test": 1}
    assert len(set.union(*groups.values())) == 6
    again = PairData(data.options, encoder=data.encoder_name, val_share=0.2, test_share=0.2, cache_dir=data.cache_dir)
    again.read()
    assert again.splits == data.splits


def test_few_groups_are_divided_by_question(tiny: Path, cache_dir: str, tmp_path: Path):
    source = written(tmp_path, [row for row in rows() if row["group"] in ("shop", "bank")])
    data = make(source, tiny, cache_dir, val_share=0.2, test_share=0.2)
    questions = {split: {example.question for example in part} for split, part in data.splits.items()}
    assert sorted(map(len, questions.values())) == [1, 2, 5]
    assert sum(map(len, questions.values())) == len(set.union(*questions.values()))
    assert data.sources[0].notes == ["2 groups are too few to hold whole ones back: questions are divided"]


def test_a_text_of_two_splits_stays_in_the_most_guarded(tiny: Path, cache_dir: str, tmp_path: Path):
    content = [{**row, "split": "test" if row["group"] == "gym" else "val" if row["group"] == "bank" else "train"}
               for row in rows()]  # fmt: skip
    gym = next(row for row in content if row["group"] == "gym")
    content[0]["paraphrases"][0] = gym["paraphrases"][0].upper()
    content[1]["paraphrases"][0] = gym["question"]
    data = make(written(tmp_path, content), tiny, cache_dir)
    assert data.sources[0].left_out == {"also in test": 2}
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 30, "val": 8, "test": 8}


def test_a_question_is_sought_among_all_of_its_group_whatever_their_splits(tiny: Path, cache_dir: str, tmp_path: Path):
    content = [{key: value for key, value in row.items() if key != "group"} for row in rows()]
    data = make(written(tmp_path, content), tiny, cache_dir)
    search = data.search(data.splits["test"])
    assert 0 < len(data.splits["test"]) < 10
    assert search.count == 24
    assert search.texts[search.count :] == [example.paraphrase for example in data.splits["test"]]


def test_an_epoch_has_each_paraphrase_once_and_neighbours_side_by_side(data: PairData):
    batches = TrainingBatches(data, "42-0")
    order = [row for batch in batches.batches for row in batch]
    assert sorted(order) == list(range(len(data.splits["train"])))
    for batch in batches.batches:
        groups = Counter(data.splits["train"][row].group for row in batch)
        assert len(groups) == 2
        assert min(groups.values()) == 8
    assert TrainingBatches(data, "42-0").batches == batches.batches
    assert TrainingBatches(data, "42-1").batches != batches.batches


def test_a_piece_of_a_group_has_different_questions_as_far_as_there_are(data: PairData):
    data.batch_size = 8
    for batch in TrainingBatches(data, "42-0").batches:
        assert len({data.splits["train"][row].question for row in batch}) == len(batch) == 8


def test_what_means_the_same_is_never_told_apart(data: PairData):
    batches = TrainingBatches(data, "42-0")
    train = data.splits["train"]
    for place, batch in enumerate(batches.batches):
        questions = np.array([train[row].question for row in batch])
        assert (batches[place][ALIKE].numpy() == (questions[:, None] == questions)).all()


def test_equal_words_of_two_groups_are_not_told_apart(tiny: Path, cache_dir: str, tmp_path: Path):
    content = rows()
    for row in content:
        row["paraphrases"] = ["want out", *row["paraphrases"]] if "cancel" in row["question"] else row["paraphrases"]
    data = make(written(tmp_path, content), tiny, cache_dir, batch_size=64, val_share=0.2, test_share=0)
    batches = TrainingBatches(data, "42-0")
    for place, batch in enumerate(batches.batches):
        same = [i for i, row in enumerate(batch) if data.splits["train"][row].paraphrase == "want out"]
        assert batches[place][ALIKE].numpy()[np.ix_(same, same)].all()


def test_positives_mean_the_same_and_are_of_all_kinds(data: PairData):
    found: Counter[str] = Counter()
    for epoch in range(4):
        batches = TrainingBatches(data, f"42-{epoch}")
        for row, pair in enumerate(data.pairs):
            text = batches._positive(row)
            example = data.splits["train"][row]
            kinds = {pair.passage: "passage", pair.question: "question", **dict.fromkeys(pair.others, "other")}
            found[kinds[text]] += 1
            assert data.texts[pair.passage] == example.passage
            assert data.texts[pair.question] == example.question
            assert example.paraphrase not in {data.texts[other] for other in pair.others}
    assert found["passage"] > found["question"] > 0
    assert found["other"] > 0


def test_the_same_seed_and_epoch_give_the_same_batches(data: PairData):
    one, two = TrainingBatches(data, "42-3"), TrainingBatches(data, "42-3")
    for place in range(len(one)):
        for name in (INPUT_IDS, POSITIVE_IDS):
            assert (one[place][name] == two[place][name]).all()


def test_settings_that_cannot_be_are_refused():
    for options in ({"groups_per_batch": 0}, {"batch_size": 4, "groups_per_batch": 3}):
        with pytest.raises(ConfigError, match="groups_per_batch"):
            PairData("pairs.jsonl", **options)
    with pytest.raises(ConfigError, match="passage_share and question_share"):
        PairData("pairs.jsonl", passage_share=0.9, question_share=0.2)
    with pytest.raises(ConfigError, match="max_length"):
        PairData("pairs.jsonl", max_length=2)


def test_nothing_to_train_on_or_to_validate_is_said(tiny: Path, cache_dir: str, tmp_path: Path):
    source = written(tmp_path, rows()[:1])
    with pytest.raises(DataError, match="fewer than two questions are left to train on"):
        make(source, tiny, cache_dir).train_dataloader()
    source = written(tmp_path, rows())
    with pytest.raises(DataError, match="no question validates"):
        make(source, tiny, cache_dir, val_share=0).train_dataloader()
