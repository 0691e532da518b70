from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from nlp.encoders import LEAN, TokenDropout
from tests.encoders import make_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoder"), ["the keeper lit the lamp"])


def models(folder: Path) -> list[torch.nn.Module]:
    return [AutoModel.from_pretrained(folder, attn_implementation=name).eval() for name in (LEAN, "eager")]


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 30, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    mask[2, 3:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def test_values_and_gradients_are_those_of_transformers_own_attention(folder: Path):
    inputs = batch()
    weight = torch.randn(3, 12, 32, generator=torch.Generator().manual_seed(1)) * inputs["attention_mask"][..., None]
    gradients = []
    for model in models(folder):
        out = model(**inputs).last_hidden_state
        (out * weight).sum().backward()
        gradients.append((out.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (lean, lean_grads), (eager, eager_grads) = gradients
    seen = inputs["attention_mask"].bool()
    torch.testing.assert_close(lean[seen], eager[seen], atol=1e-5, rtol=1e-5)
    assert lean_grads.keys() == eager_grads.keys()
    for name, gradient in lean_grads.items():
        torch.testing.assert_close(gradient, eager_grads[name], atol=2e-4, rtol=1e-3, msg=name)


def test_masked_tokens_change_nothing(folder: Path):
    model, _ = models(folder)
    inputs = batch()
    before = model(**inputs).last_hidden_state
    changed = inputs["input_ids"].clone()
    changed[inputs["attention_mask"] == 0] = 7
    after = model(input_ids=changed, attention_mask=inputs["attention_mask"]).last_hidden_state
    seen = inputs["attention_mask"].bool()
    torch.testing.assert_close(before[seen], after[seen])


def test_under_autocast_it_computes_in_the_autocasts_type_and_stays_near(folder: Path):
    lean, eager = models(folder)
    with torch.autocast("cpu", torch.bfloat16):
        found = lean(**batch()).last_hidden_state
    torch.testing.assert_close(found.float(), eager(**batch()).last_hidden_state, atol=0.1, rtol=0.1)


def test_token_dropout_drops_features_of_whole_sequences_and_keeps_the_mean():
    dropout = TokenDropout(0.25)
    torch.manual_seed(0)
    out = dropout(torch.ones(200, 5, 64))
    assert torch.equal(out, out[:, :1].expand_as(out))  # all tokens of a sequence alike
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(dropout.eval()(torch.ones(2, 3, 4)), torch.ones(2, 3, 4))
