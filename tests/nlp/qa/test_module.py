from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nlp.encoders import TokenDropout, load_config
from nlp.qa.data import AnswerData
from nlp.qa.module import AnswerModule
from nlp.qa.sources import Source
from shared.errors import ConfigError


@pytest.fixture
def data(questions: Path, encoder_folder: Path, cache_dir: str) -> AnswerData:
    found = AnswerData([Source(str(questions))], encoder=str(encoder_folder), max_length=40, stride=8,
                       batch_tokens=600, cache_dir=cache_dir)  # fmt: skip
    found.setup()
    return found


def make(encoder_folder: Path, **options) -> AnswerModule:
    torch.manual_seed(0)
    return AnswerModule(str(encoder_folder), **{"dropout": 0.0, "freeze_embeddings": False, **options})


def test_one_batch_can_be_learned_by_heart(data: AnswerData, encoder_folder: Path):
    module = make(encoder_folder)
    batch = next(iter(data.train_dataloader()))
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    for _ in range(500):
        loss, start, end = module._shared_step(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert torch.equal(start.argmax(1), batch["start_positions"])
    assert torch.equal(end.argmax(1), batch["end_positions"])


def test_nothing_but_context_and_no_answer_gets_probability(data: AnswerData, encoder_folder: Path):
    module = make(encoder_folder).eval()
    batch = next(iter(data.val_dataloader()))
    start, end = module(batch)
    for logits in (start, end):
        outside = logits.softmax(-1)[~batch["context_mask"]]
        assert outside.max() == 0.0


def test_label_smoothing_reaches_only_tokens_that_may_be_pointed_at(data: AnswerData, encoder_folder: Path):
    module = make(encoder_folder, label_smoothing=0.2).train()
    loss, _, _ = module._shared_step(next(iter(data.train_dataloader())))
    assert loss.item() < 50  # a smoothed target on a masked logit would cost about 1e37


def test_word_vectors_stay_when_they_are_frozen(encoder_folder: Path):
    module = make(encoder_folder, freeze_embeddings=True)
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    assert frozen == ["network.model.bert.embeddings.word_embeddings.weight"]


def test_dropout_acts_while_training_and_attention_drops_nothing(encoder_folder: Path):
    module = make(encoder_folder, dropout=0.3)
    kinds = {type(m) for m in module.modules() if "ropout" in type(m).__name__}
    assert TokenDropout in kinds
    assert all(m.p == 0 for m in module.modules() if isinstance(m, torch.nn.Dropout))
    assert all(m.training for m in module.network.modules())


def test_a_missing_encoder_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"cannot be loaded.*local folder.*--model.encoder"):
        load_config(str(tmp_path / "nothing"))
