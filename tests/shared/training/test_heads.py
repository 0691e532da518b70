"""Heads grow: rows of labels that are known stay, new ones start at the mean of their examples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from nlp.intent.network import build_network
from nlp.starting import load_start
from shared.bundle.read import Bundle
from shared.training.heads import carried_rows, imprint
from tests.encoders import make_encoder


def test_rows_follow_their_labels_wherever_these_are():
    own, found = torch.zeros(3, 2), torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    grown = carried_rows(own, found, ["a", "b", "c"], ["c", "x", "a"])
    assert grown is not None
    rows, fresh = grown
    assert rows.tolist() == [[3, 3], [0, 0], [1, 1]]
    assert fresh == [1]


@pytest.mark.parametrize(
    ("shape", "labels"), [((3, 5), ["a", "b", "c"]), ((3, 2), ["x", "y", "z"]), ((4, 2), ["a", "b", "c"])]
)
def test_a_head_of_another_size_or_of_other_labels_is_not_taken(shape: tuple[int, int], labels: list[str]):
    assert carried_rows(torch.zeros(3, 2), torch.ones(shape), ["a", "b", "c"], labels) is None


def test_a_new_row_names_its_own_examples_at_once_and_leaves_the_others_to_the_old_ones():
    torch.manual_seed(0)
    centres = 4 * F.normalize(torch.randn(5, 16))
    examples = centres.repeat_interleave(20, dim=0) + 0.3 * torch.randn(100, 16)
    targets = torch.arange(5).repeat_interleave(20)
    head = torch.nn.Linear(16, 5)
    known = targets < 4
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(200):
        loss = F.cross_entropy(head(examples[known])[:, :4], targets[known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    means = torch.stack([examples[targets == label].mean(dim=0) for label in range(5)])
    before = head.weight.detach().clone()
    imprint(head.weight, head.bias, [4], means, examples.mean(dim=0))
    assert torch.equal(head.weight[:4], before[:4])
    assert head(examples).argmax(dim=1).eq(targets).float().mean() > 0.97


def test_an_intent_network_takes_the_rows_of_a_bundle_by_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = make_encoder(tmp_path / "encoder", ["one two three four five six"])
    trained, grown = build_network(str(folder), 2), build_network(str(folder), 3)

    class Stored:
        path = tmp_path
        labels = ("pay", "ask")
        config = type("config", (), {"files": {"model.safetensors": None}})

        def file(self, name: str) -> Path:
            return tmp_path / name

    from safetensors.torch import save_file

    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    stored: Bundle = Stored()  # type: ignore[assignment]
    fresh = load_start(grown, stored, grown.head, ["ask", "new", "pay"])
    assert fresh == [1]
    assert torch.equal(grown.head.weight[[2, 0]], trained.head.weight)
    assert torch.equal(grown.head.bias[[2, 0]], trained.head.bias)
    for name, value in trained.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(grown.state_dict()[name], value), name
