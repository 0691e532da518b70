"""The whole trip: questions to a bundle that transformers loads, that ONNX Runtime serves, and that resumes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from nlp.qa import TASK
from nlp.qa.network import load_network
from nlp.qa.predictor import END_LOGITS, START_LOGITS, AnswerPredictor
from shared.bundle.layout import AnswerDecision
from shared.bundle.read import Bundle, read_bundle
from shared.errors import BundleError
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.golden import check_golden
from shared.training.cli import fit_main
from tests.nlp.qa.conftest import rows

pytestmark = pytest.mark.slow
CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "nlp"


@pytest.fixture(scope="module")
def bundle(questions: Path, encoder_folder: Path, cache_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("run")
    found = fit_main(
        TASK,
        [
            "-c", str(CONFIGS / "qa_smoke.yaml"), f"--data.source={questions}", f"--data.cache_dir={cache_dir}",
            f"--model.encoder={encoder_folder}", "--model.weights=DEFAULT", "--model.freeze_embeddings=false",
            "--model.lr=2e-3", "--model.head_lr=5e-3", "--trainer.max_epochs=60", "--ema.decay=0.8",
            "--checkpoint.monitor=val/f1", "--early_stopping.patience=60", f"--run_dir={folder}", "--int8=true",
            "--max_int8_loss=1", "--trainer.enable_progress_bar=false", "--data.val_share=0.1", "--data.test_share=0.1",
        ],
    )  # fmt: skip
    assert found is not None
    return found


def test_the_bundle_answers_what_it_learned(bundle: Bundle):
    predictor = AnswerPredictor(bundle, OnnxRuntime(bundle))
    right = 0
    for row in rows():
        windows = predictor.windows(row["question"], row["context"])
        [best] = predictor.decide(row["context"], windows, predictor.infer(windows))
        assert row["context"][best.start : best.end] == best.text
        assert 0 <= best.score <= 1
        right += best.text in row["answers"]["text"]
    assert right > 0.1 * len(rows()), right  # by chance it is one of a hundred; how far it gets hangs on the tokenizer


def test_config_says_what_was_measured_and_decided(bundle: Bundle):
    config = bundle.config
    assert isinstance(config.decision, AnswerDecision)
    assert config.onnx is not None
    assert config.onnx.int8_gate is not None
    assert config.metrics["test"]["sources"]["people"]["examples"] > 0
    assert config.architectures == ["BertForQuestionAnswering"]
    text = (bundle.path / "config.json").read_text()
    assert "_name_or_path" not in text
    assert str(Path.home()) not in text
    assert check_golden(bundle, OnnxRuntime(bundle)) <= config.onnx.tolerance


def test_transformers_loads_the_bundle_and_gives_the_golden_outputs(bundle: Bundle):
    model, info = AutoModelForQuestionAnswering.from_pretrained(bundle.path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    inputs = {name: torch.from_numpy(array) for name, array in bundle.golden.inputs.items()}
    with torch.no_grad():
        found = model.eval()(**inputs)
    np.testing.assert_allclose(found.start_logits, bundle.golden.outputs[START_LOGITS], atol=1e-4)
    np.testing.assert_allclose(found.end_logits, bundle.golden.outputs[END_LOGITS], atol=1e-4)
    ids = AutoTokenizer.from_pretrained(bundle.path)("Who has the boat?", "Ada has a boat.")["input_ids"]
    [window] = AnswerPredictor(bundle, OnnxRuntime(bundle)).windows("Who has the boat?", "Ada has a boat.")
    assert ids == window.input_ids.tolist()


def test_the_torch_runtimes_network_gives_the_golden_outputs(bundle: Bundle):
    network = load_network(bundle)
    with torch.no_grad():
        start, end = network(*(torch.from_numpy(bundle.golden.inputs[s.name]) for s in bundle.config.signature.inputs))
    np.testing.assert_allclose(start, bundle.golden.outputs[START_LOGITS], atol=1e-4)
    np.testing.assert_allclose(end, bundle.golden.outputs[END_LOGITS], atol=1e-4)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_bundle_without_its_tokenizer_is_refused(bundle: Bundle, tmp_path: Path, name: str):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        read_bundle(copy)
    loaded = read_bundle(bundle.path)
    broken = json.loads((bundle.path / "tokenizer_config.json").read_text())
    assert broken["max_length"] == 64
    assert AnswerPredictor(loaded, OnnxRuntime(loaded)).encoder.max_length == 64
