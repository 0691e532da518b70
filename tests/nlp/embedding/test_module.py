"""The loss, what is kept of the start, and one batch learned by heart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nlp.embedding.data import ALIKE, ANCHOR_START, POSITIVE_START, PairData, TrainingBatches
from nlp.embedding.module import EncoderModule, averaged, embedded, kept_loss, pairs_loss
from shared.errors import ConfigError


def make(tiny: Path, **options) -> EncoderModule:
    return EncoderModule(encoder=str(tiny), **{"dropout": 0.0, "freeze_embeddings": False, **options})


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_one_batch_can_be_learned_by_heart(data: PairData, tiny: Path):
    module = make(tiny)
    batch = TrainingBatches(data, "42-0")[0]
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = module.learn(batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 1
    assert losses[-1] < 0.1


def test_loss_is_the_mean_of_both_cross_entropies_of_the_cosines():
    anchors, positives = unit(6, 8), unit(6, 8, seed=1)
    found = pairs_loss(anchors, positives, torch.eye(6, dtype=torch.bool), 0.1)
    scores = (anchors.double() @ positives.double().T).numpy() / 0.1
    by_hand = [np.log(np.exp(row).sum()) - row[i] for table in (scores, scores.T) for i, row in enumerate(table)]
    assert float(found) == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_rows_that_mean_the_same_do_not_push_each_other_apart():
    anchors, positives = unit(3, 8), unit(3, 8, seed=1)
    alike = torch.eye(3, dtype=torch.bool)
    alike[0, 1] = alike[1, 0] = True
    anchors.requires_grad_()
    far = positives.clone()
    far[1] = -positives[1]
    found = [pairs_loss(anchors, each, alike, 0.1) for each in (positives, far)]
    (of_first,) = torch.autograd.grad(found[0], anchors, retain_graph=True)
    (of_far,) = torch.autograd.grad(found[1], anchors)
    # Rows 0 and 1 are alike: whatever the positive of 1 is, the first anchor is drawn and pushed just the same.
    torch.testing.assert_close(of_first[0], of_far[0])


def test_what_is_kept_costs_nothing_at_the_start_and_something_after(data: PairData, tiny: Path):
    module = make(tiny, keep_weight=0.5).eval()
    data.start_embeddings = embedded(module.network, data.encoder, data.texts)
    batch = TrainingBatches(data, "42-0")[0]
    assert batch[ANCHOR_START].shape == batch[POSITIVE_START].shape == (16, 32)
    with torch.no_grad():
        contrastive = float(make(tiny).eval().learn(batch))
        assert float(module.learn(batch)) == pytest.approx(0.5 * contrastive, rel=1e-3)
    assert float(kept_loss(unit(4, 8), -unit(4, 8))) == pytest.approx(2)
    assert batch[ALIKE].dtype == torch.bool


def test_average_goes_from_the_start_to_the_trained_weights():
    trained = {"weight": torch.tensor([4.0]), "positions": torch.tensor([1])}
    start = {"weight": torch.tensor([0.0]), "positions": torch.tensor([1])}
    found = [float(averaged(trained, start, share)["weight"]) for share in (0.0, 0.25, 1.0)]
    assert found == [0.0, 1.0, 4.0]
    assert averaged(trained, start, 0.5)["positions"].dtype == torch.int64


def test_texts_are_embedded_alone_as_together(data: PairData, tiny: Path):
    network = make(tiny).eval().network
    together = embedded(network, data.encoder, data.texts)
    alone = np.concatenate([embedded(network, data.encoder, [text]) for text in data.texts[:5]])
    np.testing.assert_allclose(together[:5], alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"keep_weight": 1.0}, "keep_weight must be from 0 to less than 1"),
        ({"average_with_start": 1.5}, "average_with_start must be from 0 to 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(tiny: Path, options: dict[str, float], message: str):
    with pytest.raises(ConfigError, match=message):
        make(tiny, **options)


def test_an_encoder_with_another_pooling_is_refused(tiny: Path, tmp_path: Path):
    import shutil

    folder = tmp_path / "other"
    shutil.copytree(tiny, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(ConfigError, match="cls_token; only the mean of the tokens"):
        make(folder)
