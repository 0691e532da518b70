"""Encoders of the hub's families: they train, export and serve for each task, and places in texts are exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from nlp.embedding.packing import pack_encoder
from nlp.embedding.predictor import EmbeddingPredictor
from nlp.encoders import check_max_length, load_config, load_tokenizer, most_tokens
from nlp.intent.entities import words_of
from nlp.intent.network import build_network as build_intents
from nlp.qa.network import build_network as build_answers
from nlp.text import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS, TextEncoder, whole_words
from shared.errors import ConfigError
from shared.runtime.choose import choose_runtime
from shared.training.export import OnnxFile, export_onnx, read_signature
from tests.encoders import FAMILIES, POSITIONS, TEXTS, make_family

OFFSET = {"xlm-roberta": 2, "camembert": 2, "roberta": 2}
"""Places that are never used: the padding's, and those before it."""
# An export takes seconds, so that each family has one: for embeddings or for intents.
TOLERANCE = 2e-5
"""fp32 in torch and ONNX Runtime on two random layers: sums in another order."""


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family(tmp_path_factory.mktemp("family") / family, family)


@pytest.fixture(scope="module")
def encoder(folder: Path, family: str) -> TextEncoder:
    return TextEncoder(load_tokenizer(str(folder))[0], POSITIONS - OFFSET.get(family, 0), 8)


def test_the_length_is_what_the_network_reads_and_no_more(folder: Path, family: str, encoder: TextEncoder):
    most = most_tokens(load_config(str(folder)))
    assert most == POSITIONS - OFFSET.get(family, 0)
    check_max_length(str(folder), most)
    with pytest.raises(ConfigError, match=f"at most {most} tokens"):
        check_max_length(str(folder), most + 1)


@pytest.mark.parametrize("family", ["camembert", "distilbert", "e5"], indirect=True)
def test_an_embedding_bundle_gives_what_transformers_gives_up_to_the_longest_text(
    folder: Path, encoder: TextEncoder, tmp_path: Path
):
    bundle = pack_encoder(folder, tmp_path / "bundle")
    predictor = EmbeddingPredictor(bundle, choose_runtime(bundle, "cpu"))
    assert predictor.encoder.max_length == encoder.max_length
    found = predictor.embed([*TEXTS, " ".join(TEXTS) * 3])  # the last has too many tokens
    assert np.isfinite(found).all()
    ids = AutoTokenizer.from_pretrained(folder)(list(TEXTS))[INPUT_IDS]
    assert [each.input_ids.tolist() for each in predictor.encoder.encode_batch(TEXTS)] == ids


@pytest.mark.parametrize("family", ["xlm-roberta", "roberta", "modernbert"], indirect=True)
def test_intents_learn_and_their_export_gives_the_same_padded_or_alone(
    folder: Path, encoder: TextEncoder, tmp_path: Path
):
    network = build_intents(str(folder), 3)
    names = [INPUT_IDS, ATTENTION_MASK]
    batch = {name: torch.from_numpy(a) for name, a in encoder.batch(encoder.encode_batch(TEXTS), names).items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    targets = torch.tensor([0, 1, 2, 2])
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(network(*batch.values())[0], targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    network.eval()
    network.model.set_attn_implementation("eager")
    dynamic = {name: {0: "batch", 1: "sequence"} for name in names}
    file = tmp_path / "model.onnx"
    export_onnx(network, batch, file, outputs=["logits", "features"], dynamic=dynamic)
    runtime = OnnxFile(file, read_signature(file))
    together = runtime.run(encoder.batch(encoder.encode_batch(TEXTS), names))["logits"]
    with torch.no_grad():
        expected = network(*batch.values())[0].numpy()
    np.testing.assert_allclose(together, expected, atol=TOLERANCE)
    for row, text in enumerate(TEXTS):
        alone = runtime.run(encoder.batch([encoder.encode(text)], names))["logits"]
        np.testing.assert_allclose(alone[0], together[row], atol=TOLERANCE)
    longest = runtime.run(encoder.batch([encoder.longest()], names))["logits"]
    assert np.isfinite(longest).all()


def test_answers_read_every_window_up_to_the_longest(folder: Path, encoder: TextEncoder):
    network = build_answers(str(folder)).eval()
    names = [INPUT_IDS, ATTENTION_MASK, *([TOKEN_TYPE_IDS] if network.has_token_types else [])]
    windows = encoder.windows("Where to?", " ".join(2 * TEXTS))
    assert len(windows) > 1
    assert max(len(window) for window in windows) == encoder.max_length
    inputs = [torch.from_numpy(values) for values in encoder.batch(windows, names).values()]
    with torch.no_grad():
        start, end = network(*inputs)
    assert start.shape == end.shape == inputs[0].shape
    assert torch.isfinite(start).all()


def test_no_answer_and_no_entity_has_the_blank_before_it(encoder: TextEncoder):
    text = TEXTS[0]
    [window] = encoder.windows("Where?", text)
    for place in np.flatnonzero(window.is_text):
        start, end = whole_words(text, *window.offsets[place].tolist())
        assert text[start:end] == text[start:end].strip()
        assert text[start:end] in ("From", "Paris", "to", "Lisbon", "on", "Friday", "please", ".", "")
    encoding = encoder.encode(text)
    words = words_of(encoding)
    assert [text[word.start : word.end] for word in words][:4] == ["From", "Paris", "to", "Lisbon"]
    for word in words:  # its first token says what it is, and is one of its own
        start, end = encoding.offsets[word.token]
        assert start <= word.start < end or text[start:end].isspace()
