from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModel, AutoTokenizer

from nlp.embedding import NETWORK
from nlp.embedding.packing import SENTENCES, pack_encoder
from nlp.embedding.predictor import EmbeddingPredictor
from scripts.import_encoder import command
from shared.bundle.read import Bundle, read_bundle
from shared.errors import ConfigError
from shared.runtime.choose import choose_runtime
from shared.runtime.golden import check_golden
from shared.task import resolve

TOLERANCE = 1e-5
"""fp32 in torch and ONNX Runtime: values up to 1, sums in another order."""


def test_bundle_says_what_it_is_and_answers_as_torch_did(embedding_bundle: Bundle):
    config = embedding_bundle.config
    assert (config.task, config.architectures, config.problem_type) == ("embedding", ["BertModel"], None)
    assert (config.name, config.provenance.start_weights) == ("tiny", "tiny-encoder")
    assert [spec.shape for spec in config.signature.outputs] == [("batch", 32)]
    runtime = choose_runtime(embedding_bundle, "cpu")
    assert check_golden(embedding_bundle, runtime) < TOLERANCE
    assert "tiny-encoder" in (embedding_bundle.path / "README.md").read_text()


def test_embedding_is_the_mean_of_transformers_own_tokens(embedding_bundle: Bundle):
    tokenizer = AutoTokenizer.from_pretrained(embedding_bundle.path)
    model = AutoModel.from_pretrained(embedding_bundle.path)
    batch = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    with torch.no_grad():
        tokens = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    expected = torch.nn.functional.normalize((tokens * mask).sum(1) / mask.sum(1), dim=1).numpy()
    found = EmbeddingPredictor(embedding_bundle, choose_runtime(embedding_bundle, "cpu")).embed(SENTENCES)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_torch_network_of_the_bundle_gives_the_golden_outputs(embedding_bundle: Bundle):
    network = resolve(NETWORK)(embedding_bundle)
    inputs = [torch.from_numpy(embedding_bundle.golden.inputs[name]) for name in ("input_ids", "attention_mask")]
    with torch.no_grad():
        found = network(*inputs).numpy()
    np.testing.assert_allclose(found, embedding_bundle.golden.outputs["embeddings"], atol=TOLERANCE)


def test_command_packs_and_says_whether_int8_ships(encoder_folder: Path, tmp_path: Path):
    result = CliRunner().invoke(command, [str(encoder_folder), "--output", str(tmp_path / "small"), "--int8"])
    assert result.exit_code == 0, result.output
    assert "int8 ships: similarities change by 0.0" in result.output
    bundle = read_bundle(tmp_path / "small")
    assert bundle.config.onnx is not None
    assert bundle.config.onnx.precision == "int8"
    check_golden(bundle, choose_runtime(bundle, "cpu"))


@pytest.fixture(scope="module")
def short_bundle(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("short")
    source = with_files(encoder_folder, folder / "encoder", sentence_bert_config={"max_seq_length": 20})
    return pack_encoder(source, folder / "bundle", name="short", int8=True, max_int8_loss=0.0)


def test_int8_does_not_ship_where_similarities_change_too_much(short_bundle: Bundle):
    exported = short_bundle.config.onnx
    assert exported is not None
    assert exported.precision == "fp32"
    assert exported.int8_gate is not None
    assert exported.int8_gate["passed"] is False


def test_length_that_the_encoder_was_trained_with_is_kept(short_bundle: Bundle):
    predictor = EmbeddingPredictor(short_bundle, choose_runtime(short_bundle, "cpu"))
    assert short_bundle.name == "short"
    assert predictor.encoder.max_length == 20
    assert predictor.embed(["lamp " * 500]).shape == (1, 32)


def with_files(folder: Path, target: Path, **files: object) -> Path:
    shutil.copytree(folder, target)
    for name, content in files.items():
        path = target / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(content))
    return target


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1_Pooling__config": {"pooling_mode_cls_token": True}}, "makes its embedding by cls_token; only the mean"),
        ({"modules": [{"type": "sentence_transformers.models.Dense"}]}, "makes its embedding by Dense"),
    ],
)
def test_encoder_that_pools_otherwise_is_refused(
    encoder_folder: Path, tmp_path: Path, files: dict[str, object], message: str
):
    folder = with_files(encoder_folder, tmp_path / "other", **files)
    with pytest.raises(ConfigError, match=message):
        pack_encoder(folder, tmp_path / "bundle")


def test_folder_without_an_encoder_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="is not a folder"):
        pack_encoder(tmp_path / "gone", tmp_path / "bundle")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        pack_encoder(tmp_path, tmp_path / "bundle")
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(ConfigError, match=r"modules\.json is not JSON"):
        pack_encoder(tmp_path, tmp_path / "bundle")
