import pytest
import torch

from shared.errors import ConfigError
from tests.networks import photos
from vision.tagging.evaluation import SourceView
from vision.tagging.module import TaggingModule, choice_loss
from vision.tagging.taxonomy import Hierarchy

LABELS = ["a", "b", "c", "d"]


def make(problem_type="multi_label_classification", **options) -> TaggingModule:
    torch.manual_seed(0)
    options = {"architecture": "mobilenet_v3_small", "weights": "none", "dropout": 0.0, **options}
    return TaggingModule(LABELS, problem_type, **options)


@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
def test_one_batch_can_be_learned_by_heart(problem_type: str):
    module = make(problem_type, architecture="resnet18")
    pixels, targets = photos(8), torch.eye(4).repeat(2, 1)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for _ in range(30):
        loss, logits = module._shared_step(pixels, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert torch.equal(logits.argmax(1), targets.argmax(1))


def test_unknown_labels_teach_nothing():
    module = make().eval()
    targets = torch.tensor([[1.0, 0.0, torch.nan, torch.nan]]).repeat(4, 1)
    loss, logits = module._shared_step(photos(4), targets)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[:, :2] != 0).all()
    assert (gradient[:, 2:] == 0).all()


def test_choice_loss_is_the_cross_entropy_among_rivals_of_one_set():
    hierarchy = Hierarchy(LABELS, {"a": ["b"]})
    views = [SourceView("one", (0, 1, 2), True), SourceView("several", (2, 3), False)]
    logits = torch.tensor([[2.0, 9.0, 1.0, 7.0], [5.0, 5.0, 5.0, 5.0]])
    targets = torch.tensor([[1.0, 1.0, 0.0, torch.nan], [0.0, 0.0, 1.0, 1.0]])
    loss = choice_loss(logits, targets, torch.tensor([0, 1]), views, hierarchy)
    alone = torch.nn.functional.cross_entropy(torch.tensor([[2.0, 1.0]]), torch.tensor([0]))  # b is above a: no rival
    assert loss.item() == pytest.approx(alone.item() / 2)  # the photo of the other set counts 0


def test_choice_loss_does_not_go_with_mixup():
    with pytest.raises(ConfigError, match="mixup"):
        make(mixup_alpha=0.4, choice_weight=1.0)


def test_a_mixed_photo_knows_only_what_both_knew():
    module = make(mixup_alpha=0.4)
    assert module.mix is not None
    targets = torch.tensor([[1.0, 0.0, torch.nan, 0.0], [0.0, 0.0, 0.0, torch.nan]])
    torch.manual_seed(1)
    _, mixed = module.mix(photos(2), targets)
    assert mixed.isnan().tolist() == [[False, False, True, True]] * 2
    assert mixed[0, 0] + mixed[1, 0] == pytest.approx(1.0)


def test_the_head_learns_first_then_the_body_thaws_from_the_head_side():
    module = make(head_epochs=2, unfreeze_epochs=2, frozen_stages=3)
    total = len(module.stages)
    learning = [module.learning_stages(epoch) for epoch in range(7)]
    assert learning[:2] == [1, 1]
    assert learning[2:] == sorted(learning[2:])
    assert 1 < learning[2] < learning[-1] == total - 3


def test_frozen_stages_keep_their_batch_norm():
    module = make(head_epochs=1)
    module.train()
    module.on_train_epoch_start()
    assert all(p.requires_grad for p in module.stages[0].parameters())
    assert not any(p.requires_grad for stage in module.stages[1:] for p in stage.parameters())
    assert not any(m.training for stage in module.stages[1:] for m in stage.modules())


def test_stages_nearer_to_the_input_learn_slower_and_frozen_ones_not_at_all(monkeypatch):
    module = make(lr=1e-2, body_lr_factor=0.5, layer_decay=0.8, frozen_stages=2)
    monkeypatch.setattr(TaggingModule, "trainer", type("Fake", (), {"estimated_stepping_batches": 100}))
    groups = module.configure_optimizers()["optimizer"].param_groups
    rates = [g["initial_lr"] for g in groups]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1e-2
    optimised = {id(p) for g in groups for p in g["params"]}
    frozen = {id(p) for stage in module.stages[-2:] for p in stage.parameters()}
    assert not optimised & frozen
    assert all(g["weight_decay"] == 0 for g in groups if all(p.ndim == 1 for p in g["params"]))


def test_warm_up_rises_and_cosine_falls(monkeypatch):
    module = make(lr=1.0, warmup_share=0.1)
    monkeypatch.setattr(TaggingModule, "trainer", type("Fake", (), {"estimated_stepping_batches": 100}))
    schedule = module.configure_optimizers()["lr_scheduler"]["scheduler"]
    factors = [schedule.lr_lambdas[0](step) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == 1.0 == factors[9]
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == pytest.approx(0.0)
