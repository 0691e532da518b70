"""Learning from a teacher: what it said is kept by characters, asked for once, and drawn near by the student."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from nlp.qa.data import TEACHER_FILE, AnswerData
from nlp.qa.module import AnswerModule
from nlp.qa.sources import Source
from nlp.qa.spans import NO_ANSWER
from nlp.qa.teaching import KEPT, NOWHERE, Said, Teacher, _said
from shared.errors import ConfigError
from tests.nlp.qa.test_starter import STARTER as QA_STARTER


def make_data(questions: Path, encoder_folder: Path, cache_dir: str, **options) -> AnswerData:
    found = AnswerData([Source(str(questions))], encoder=str(encoder_folder), max_length=40, stride=8,
                       batch_tokens=600, cache_dir=cache_dir, **options)  # fmt: skip
    found.setup()
    return found


@pytest.fixture(scope="module")
def taught(questions: Path, encoder_folder: Path, cache_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the starter says of the training questions, in a file."""
    data = make_data(questions, encoder_folder, cache_dir, teacher=str(QA_STARTER))
    path = tmp_path_factory.mktemp("taught") / TEACHER_FILE
    data.teacher.ask(data.splits["train"], kept=path)
    return path


def said(*places: tuple[int, int, float]) -> Said:
    """Return what says (row, character, margin)."""
    return _said([[(character, margin) for kind, character, margin in places if kind == row] for row in range(2)])


def test_what_was_said_falls_on_the_students_own_tokens(questions: Path, encoder_folder: Path, cache_dir: str):
    data = make_data(questions, encoder_folder, cache_dir)
    context = "Ada has a boat in Lisbon."
    [window] = data.encoder.windows("Who has the boat?", context)
    found = said((0, context.index("Lisbon"), 3.0), (1, context.index("Lisbon") + 5, 3.0)).targets(window, 1.0)
    assert found.shape == (2, len(window))
    assert found.sum(axis=1) == pytest.approx([1, 1])
    for row in found:
        best = window.offsets[row.argmax()]
        assert window.is_text[row.argmax()]
        assert context[slice(*best)] in "Lisbon"
        assert row.max() == pytest.approx(np.exp(3) / (1 + np.exp(3)))
        assert row[NO_ANSWER] == pytest.approx(1 / (1 + np.exp(3)))
    evened = said((0, 0, 3.0)).targets(window, 3.0)
    assert evened[0].max() == pytest.approx(np.e / (1 + np.e))
    assert evened[1, NO_ANSWER] == 1  # it named no end


def test_what_lies_in_another_window_is_no_answer_here(questions: Path, encoder_folder: Path, cache_dir: str):
    data = make_data(questions, encoder_folder, cache_dir)
    context = "Ada has a boat. " + "People like to look at it. " * 12 + "It is in Lisbon."
    windows = data.encoder.windows("Where is it?", context)
    assert len(windows) > 1
    answer = said((0, context.index("Lisbon"), 9.0), (1, context.index("Lisbon") + 5, 9.0))
    assert answer.targets(windows[0], 1.0)[:, NO_ANSWER] == pytest.approx([1, 1])
    assert answer.targets(windows[-1], 1.0)[:, NO_ANSWER].max() < 0.01


def test_the_better_of_two_windows_counts_and_the_best_places_are_kept():
    many = [(0, place, float(place)) for place in range(3 * KEPT)]
    found = said((0, 5, 90.0), *many)
    assert found.characters[0, 0] == 5
    assert found.margins[0, 0] == 90
    assert found.characters[0, 1:].tolist() == list(range(3 * KEPT - 1, 2 * KEPT, -1))
    assert (found.characters[1] == NOWHERE).all()


def test_a_teacher_is_asked_once_and_its_answers_can_be_used_without_it(
    taught: Path, questions: Path, encoder_folder: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch, caplog
):
    data = make_data(questions, encoder_folder, cache_dir)
    train = data.splits["train"]
    first = Teacher(str(QA_STARTER))
    monkeypatch.setattr(Teacher, "_answer", lambda *_: pytest.fail("it was asked again"))
    first.ask(train, kept=taught)
    again = Teacher(str(taught))
    again.ask(train)
    assert again.name == first.name
    for example in train:
        one, other = first.of(example), again.of(example)
        assert one is not None
        assert other is not None
        assert (one.characters == other.characters).all()
        assert one.margins == pytest.approx(other.margins, abs=0.05)  # half precision
    with caplog.at_level(logging.WARNING):
        again.ask(data.splits["val"])
    assert "learn from their labels alone" in caplog.text
    assert again.of(data.splits["val"][0]) is None


def test_the_starter_as_a_teacher_knows_the_answers(
    taught: Path, questions: Path, encoder_folder: Path, cache_dir: str
):
    data = make_data(questions, encoder_folder, cache_dir)
    teacher = Teacher(str(taught))
    found = [teacher.of(example) for example in data.splits["train"]]
    right = [
        each.characters[0, 0] == example.starts[0] for each, example in zip(found, data.splits["train"], strict=True)
    ]
    assert np.mean(right) > 0.8


def test_a_student_comes_to_say_what_its_teacher_says(
    taught: Path, questions: Path, encoder_folder: Path, cache_dir: str
):
    options = {"teacher": str(taught), "teacher_temperature": 1.0}
    data = make_data(questions, encoder_folder, cache_dir, **options)
    torch.manual_seed(0)
    module = AnswerModule(str(encoder_folder), dropout=0.0, freeze_embeddings=False, teacher_weight=1.0, **options)
    batch = next(iter(data.train_dataloader()))
    asked = batch["is_taught"]
    assert asked.any()
    assert not asked.all()  # crossed questions learn from their label
    targets = batch["teacher_targets"][asked]
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    for _ in range(1000):  # most need 200 steps; how many depends on how a processor rounds
        loss, start, end = module._shared_step(batch)
        drawn = torch.stack([start, end], dim=1).softmax(-1)[asked]
        if (drawn - targets).abs().max() < 0.1:
            break
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    assert (drawn - targets).abs().max() < 0.1
    assert "teacher_targets" not in next(iter(data.val_dataloader()))


def test_what_cannot_teach_is_refused(tmp_path: Path):
    intent = QA_STARTER.parent / "intent"
    with pytest.raises(ConfigError, match="is a bundle for intent; expected one for qa"):
        Teacher(str(intent))
    with pytest.raises(ConfigError, match=r"folder of a bundle or a \.npz file"):
        Teacher(str(tmp_path))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ConfigError, match="cannot be read as what a teacher said"):
        Teacher(str(tmp_path / "broken.npz"))
    with pytest.raises(ConfigError, match="from 0, the labels alone, to 1"):
        AnswerModule("none", teacher_weight=1.5)
    with pytest.raises(ConfigError, match="above 0"):
        AnswerModule("none", teacher_temperature=0)
