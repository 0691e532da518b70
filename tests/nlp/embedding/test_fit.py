"""The whole trip: pairs to a bundle that embeds, that the command line reads, and that can be trained on."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from pytorch_lightning import Callback, LightningModule, Trainer
from safetensors.torch import load_file
from transformers import AutoModel

from nlp.embedding import NETWORK, TASK
from nlp.embedding.data import PairData
from nlp.embedding.module import EncoderModule
from nlp.embedding.predictor import EmbeddingPredictor
from nlp.embedding.sources import passage_text
from scripts.main import main
from shared.bundle.read import Bundle, read_bundle
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.golden import check_golden
from shared.task import resolve
from shared.training.cli import fit_main
from tests.nlp.embedding.conftest import rows

pytestmark = pytest.mark.slow
SMOKE = Path(__file__).resolve().parents[3] / "configs" / "nlp" / "embedding_smoke.yaml"


def fit(pairs: Path, tiny: Path, cache_dir: str, folder: Path, *more: str) -> Bundle | None:
    return fit_main(
        TASK,
        ["-c", str(SMOKE), f"--data.source={pairs}", f"--data.cache_dir={cache_dir}", f"--model.encoder={tiny}",
         f"--run_dir={folder}", "--trainer.enable_progress_bar=false", *more],
    )  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(pairs: Path, tiny: Path, cache_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    options = ("--int8=true", "--max_int8_loss=0.2", "--model.keep_weight=0.05", "--model.average_with_start=0.9")
    assert fit(pairs, tiny, cache_dir, folder, *options, "--model.dropout=0.1") is not None
    return folder


@pytest.fixture(scope="module")
def bundle(run_dir: Path) -> Bundle:
    return read_bundle(run_dir / "bundle")


class Interrupt(Callback):
    """Interrupts a run after its second epoch, as Ctrl-C does."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_the_bundle_finds_questions_of_groups_that_it_has_not_seen(bundle: Bundle):
    predictor = EmbeddingPredictor(bundle, OnnxRuntime(bundle))
    test = bundle.config.metrics["test"]
    group = test["groups"][0]["group"]
    own = [row for row in rows() if row["group"] == group]
    known = predictor.embed([passage_text(row["question"], row["answer"]) for row in own])
    asked = predictor.embed([text for row in own for text in row["paraphrases"]])
    hits = (asked @ known.T).argmax(axis=1) == np.repeat(np.arange(len(own)), 2)
    assert float(hits.mean()) == pytest.approx(test["overall"]["recall_at_1"], abs=1e-4)
    assert test["overall"]["examples"] == 8
    assert set(test["worth"]["baselines"]) == {"the encoder before training", "the words in common"}


def test_the_bundle_is_of_the_kind_that_import_encoder_makes(bundle: Bundle, embedding_bundle: Bundle):
    ours, theirs = bundle.config, embedding_bundle.config
    assert (ours.task, ours.architectures, ours.decision) == (theirs.task, theirs.architectures, theirs.decision)
    assert (ours.id2label, ours.signature.inputs) == (theirs.id2label, theirs.signature.inputs)
    assert set(bundle.golden.inputs) == set(embedding_bundle.golden.inputs)
    assert set(theirs.files) - {"model.onnx"} <= set(ours.files)
    assert ours.onnx is not None
    assert check_golden(bundle, OnnxRuntime(bundle)) <= ours.onnx.tolerance
    network = resolve(NETWORK)(bundle)
    with torch.no_grad():
        found = network(*(torch.from_numpy(bundle.golden.inputs[spec.name]) for spec in ours.signature.inputs))
    np.testing.assert_allclose(found, bundle.golden.outputs["embeddings"], atol=1e-5)
    _, info = AutoModel.from_pretrained(bundle.path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def test_the_bundle_holds_the_average_with_the_start(run_dir: Path, bundle: Bundle, tiny: Path):
    name = "encoder.layer.0.output.dense.weight"
    state = torch.load(run_dir / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    start = EncoderModule(encoder=str(tiny)).network.model.state_dict()[name]
    stored = load_file(bundle.file("model.safetensors"))[name]
    torch.testing.assert_close(stored, 0.1 * start + 0.9 * state[f"network.model.{name}"])


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    run_dir: Path, pairs: Path, tiny: Path, cache_dir: str, tmp_path: Path
):
    options = ("--model.keep_weight=0.05", "--model.dropout=0.1", "--model.average_with_start=0.9", "--int8=false")
    with pytest.raises(SystemExit):  # Lightning ends an interrupted run so
        fit(pairs, tiny, cache_dir, tmp_path, *options, "--trainer.callbacks+=tests.nlp.embedding.test_fit.Interrupt")
    fit(pairs, tiny, cache_dir, tmp_path, *options, "--ckpt_path=last")
    states = [torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
              for folder in (run_dir, tmp_path)]  # fmt: skip
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name


def test_the_command_line_takes_the_bundle(bundle: Bundle, pairs: Path, tmp_path: Path):
    result = call("evaluate", bundle.path, "--data.source", pairs, "--data.val_share=0.2", "--data.test_share=0.2")
    assert result.exit_code == 0, result.output
    assert "first" in result.stdout
    result = call("predict", bundle.path, "--json", "want out", "How do I cancel?", "\ud83d")
    assert result.exit_code == 1
    first, _, broken = map(json.loads, result.stdout.splitlines())
    assert [each["text"] for each in first["nearest"]] == ["How do I cancel?"]
    assert len(first["embedding"]) == 32
    assert "half a surrogate pair" in broken["error"]
    result = call("predict", bundle.path, "want out", "--context", "x")
    assert result.exit_code == 2
    table = tmp_path / "texts.jsonl"
    table.write_text('{"text": "want out"}\n{"text": " "}\n')
    result = call("batch", bundle.path, table, tmp_path / "out", "--workers", "1")
    assert result.exit_code == 0, result.output
    row, blank = pq.read_table(tmp_path / "out").to_pylist()
    np.testing.assert_allclose(row["embedding"], first["embedding"], atol=0.02)  # int8 by the batch
    assert blank["error"]


def test_training_goes_on_from_a_bundle(bundle: Bundle, pairs: Path, cache_dir: str):
    settings = Namespace(encoder="another", weights=str(bundle.path))
    EncoderModule.complete(settings)
    assert settings.encoder == str(bundle.path)
    module = EncoderModule(encoder=settings.encoder, weights=settings.weights)
    stored = load_file(bundle.file("model.safetensors"))
    state = module.network.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in stored.items())
    data = PairData(str(pairs), encoder=settings.encoder, cache_dir=cache_dir)
    data.setup()
    assert data.encoder.max_length == 48
