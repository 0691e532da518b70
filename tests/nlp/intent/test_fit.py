"""The whole trip: utterances to a bundle that answers, that the command line reads, and that transformers loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from nlp.intent import TASK
from nlp.intent.network import load_network
from nlp.intent.predictor import FEATURES, LOGITS, IntentPredictor
from scripts.main import main
from shared.bundle.layout import IntentDecision
from shared.bundle.read import Bundle, read_bundle
from shared.errors import BundleError
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.cuda import TorchRuntime
from shared.runtime.golden import check_golden
from shared.training.cli import fit_main
from tests.nlp.intent.conftest import rows

pytestmark = pytest.mark.slow
CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "nlp"


def fit(recipe: str, utterances: Path, cache_dir: str, folder: Path, *more: str) -> Bundle:
    found = fit_main(
        TASK,
        ["-c", str(CONFIGS / recipe), f"--data.source={utterances}", f"--data.cache_dir={cache_dir}",
         f"--run_dir={folder}", "--trainer.enable_progress_bar=false", "--trainer.precision=32", *more],
    )  # fmt: skip
    assert found is not None
    return found


@pytest.fixture(scope="module")
def bundle(utterances: Path, cache_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of the smoke recipe: a recurrent network from nothing, with its own tokenizer."""
    options = ("--trainer.max_epochs=12", "--early_stopping.patience=12", "--int8=true", "--max_int8_loss=0.1")
    return fit("intent_smoke.yaml", utterances, cache_dir, tmp_path_factory.mktemp("smoke"), *options)


@pytest.fixture(scope="module")
def first_token_bundle(
    utterances: Path, encoder_folder: Path, cache_dir: str, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """Of a tiny random BERT with Hugging Face's own classifier."""
    return fit(
        "intent.yaml", utterances, cache_dir, tmp_path_factory.mktemp("cls"), f"--model.encoder={encoder_folder}",
        "--model.pooling=cls", "--model.lr=3e-3", "--model.freeze_embeddings=false", "--trainer.max_epochs=6",
        "--data.mask_share=0", "--int8=false",
    )  # fmt: skip


def test_the_smoke_bundle_understands_what_it_learned(bundle: Bundle):
    predictor = IntentPredictor(bundle, OnnxRuntime(bundle))
    texts = [text for text, _ in rows()]
    results = predictor.predict(texts, top_k=2)
    given = [result.intent or "oos" for result in results]
    assert np.mean([name == label for name, (_, label) in zip(given, rows(), strict=True)]) > 0.85
    for result in results:
        assert result.out_of_scope == (result.intent is None)
        assert len(result.ranking) == 2
        assert 1 >= result.ranking[0].confidence >= result.ranking[1].confidence >= 0
        assert 0 <= result.out_of_scope_score <= 1
    encoding = predictor.encoder.encode("pay anna now")
    everything = predictor.decide(predictor.infer([encoding])[0], encoding)
    assert sum(each.confidence for each in everything.ranking) == pytest.approx(1)
    assert predictor.predict([]) == []
    assert len(predictor.predict([""])) == 1


def test_a_finished_bundle_teaches_another(
    bundle: Bundle, utterances: Path, cache_dir: str, tmp_path_factory: pytest.TempPathFactory
):
    options = ("--trainer.max_epochs=8", "--early_stopping.patience=8", "--int8=false", "--model.hidden_size=32",
               f"--model.teacher={bundle.path}")  # fmt: skip
    student = fit("intent_smoke.yaml", utterances, cache_dir, tmp_path_factory.mktemp("student"), *options)
    assert student.config.provenance.start_weights == f"bilstm; teacher: {bundle.path.name}"
    assert student.config.metrics["test"]["overall"]["accuracy"] > 0.6


def test_config_says_what_was_measured_and_decided(bundle: Bundle):
    config = bundle.config
    assert isinstance(config.decision, IntentDecision)
    assert config.onnx is not None
    assert config.onnx.int8_gate is not None
    assert {"accuracy", "auroc", "kept", "ece"} <= set(config.metrics["test"]["overall"])
    assert set(config.metrics["val"]["detectors"]) >= {"rejection", "energy", "mahalanobis", "knn", "gaussian_process"}
    assert set(config.metrics["val"]["cross_fitted"]) == {"ece", "kept", "out_of_scope_recall", "right"}
    assert [entry["out_of_scope"] for entry in config.provenance.dataset] == [10]
    assert str(Path.home()) not in (bundle.path / "config.json").read_text()


def test_torch_onnx_and_golden_outputs_agree(first_token_bundle: Bundle, bundle: Bundle):
    for each in (bundle, first_token_bundle):
        check_golden(each, OnnxRuntime(each))
        check_golden(each, TorchRuntime(each, load_network, device="cpu"))
    encoder = IntentPredictor(first_token_bundle, OnnxRuntime(first_token_bundle)).encoder
    inputs = encoder.batch([encoder.encode(t) for t in ("pay bela", "hello")], ("input_ids", "attention_mask"))
    left = OnnxRuntime(first_token_bundle).run(inputs)
    right = TorchRuntime(first_token_bundle, load_network, device="cpu").run(inputs)
    for name in (LOGITS, FEATURES):  # fp32 sums in another order
        np.testing.assert_allclose(left[name], right[name], atol=1e-4)


def test_transformers_loads_a_bundle_of_the_first_token_and_gives_its_logits(first_token_bundle: Bundle):
    path = first_token_bundle.path
    model, info = AutoModelForSequenceClassification.from_pretrained(path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.id2label == {0: "greet", 1: "pay", 2: "weather"}
    inputs = {name: torch.from_numpy(array) for name, array in first_token_bundle.golden.inputs.items()}
    with torch.no_grad():
        logits = model.eval()(**inputs).logits
    np.testing.assert_allclose(logits, first_token_bundle.golden.outputs[LOGITS], atol=1e-4)
    predictor = IntentPredictor(first_token_bundle, OnnxRuntime(first_token_bundle))
    ids = AutoTokenizer.from_pretrained(path)("Pay Bela now")["input_ids"]
    assert ids == predictor.encoder.encode("Pay Bela now").input_ids.tolist()
    with torch.no_grad():
        probabilities = model(torch.tensor([ids])).logits.softmax(dim=-1)[0]
    ranking = predictor.predict(["Pay Bela now"])[0].ranking
    assert {model.config.id2label[i]: float(p) for i, p in enumerate(probabilities)} == pytest.approx(
        {each.name: each.confidence for each in ranking}, abs=1e-4
    )


def test_transformers_refuses_a_bundle_that_it_would_read_wrongly(bundle: Bundle):
    with pytest.raises(ValueError, match="model_type"):
        AutoModelForSequenceClassification.from_pretrained(bundle.path)


def test_few_utterances_an_intent_are_enough(utterances: Path, encoder_folder: Path, cache_dir: str, tmp_path: Path):
    found = fit(
        "intent_few.yaml", utterances, cache_dir, tmp_path, f"--model.encoder={encoder_folder}", "--model.lr=3e-3",
        "--data.examples_per_class=6", "--data.labels_per_batch=3", "--data.batch_size=12", "--trainer.max_epochs=12",
        "--model.freeze_embeddings=false", "--early_stopping.patience=12", "--data.mask_share=0",
    )  # fmt: skip
    assert found.config.model_extra is not None
    assert found.config.model_extra["head"] == "prototype"
    assert found.config.metrics["val"]["overall"]["accuracy"] > 0.8
    check_golden(found, OnnxRuntime(found))


def run(*args: str | Path) -> str:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_line_predicts(bundle: Bundle):
    [line, other] = run("predict", bundle.path, "--device", "cpu", "hello anna", "who painted it in blue").splitlines()
    assert line.startswith("hello anna  greet  [greet ")
    assert "(out of scope" in other
    found = json.loads(run("predict", bundle.path, "--device", "cpu", "--json", "--top-k", "1", "hello anna"))
    assert (found["intent"], found["out_of_scope"], len(found["ranking"])) == ("greet", False, 1)
    result = CliRunner().invoke(main, ["predict", str(bundle.path), "--context", "x", "hello"])
    assert (result.exit_code, "--context for questions" in result.stderr) == (2, True)


def test_the_command_line_evaluates(bundle: Bundle, utterances: Path, cache_dir: str, tmp_path: Path):
    args = ("evaluate", bundle.path, "--data.source", utterances, f"--data.cache_dir={cache_dir}", "--device=cpu",
            "--data.val_share=0.2", "--data.test_share=0.2")  # fmt: skip
    found = json.loads(run(*args, "--json", "--most-wrong", tmp_path / "wrong.jsonl"))
    expected = bundle.config.metrics["test"]["overall"]
    assert found["overall"] == pytest.approx(expected, abs=0.05)
    for line in (tmp_path / "wrong.jsonl").read_text().splitlines():
        assert not line or set(json.loads(line)) >= {"text", "given", "right"}
    text = run(*args, "--split", "all")
    assert text.splitlines()[2].split()[:3] == ["utterances", "outside", "accuracy"]
    assert "wishes.csv" in text


def test_intents_that_the_bundle_does_not_know_are_named_and_left_out(bundle: Bundle, cache_dir: str, tmp_path: Path):
    (tmp_path / "other.csv").write_text("text,label\nhello there anna,greet\nsing to me,sing\nsing for me,sing\n")
    args = ("evaluate", bundle.path, "--data.source", tmp_path / "other.csv", f"--data.cache_dir={cache_dir}",
            "--split=all", "--device=cpu")  # fmt: skip
    found = json.loads(run(*args, "--json"))
    assert (found["left_out"], found["unknown_labels"], found["overall"]["examples"]) == (2, {"sing": 2}, 1)
    assert "does not know sing (2)" in run(*args)


def test_the_command_line_exports_and_copies_for_a_cpu(
    bundle: Bundle, utterances: Path, cache_dir: str, tmp_path: Path
):
    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    text = run("export", copy, "--int8", "--data.source", utterances, f"--data.cache_dir={cache_dir}",
               "--data.val_share=0.2", "--data.test_share=0.2", "--max-int8-loss", "0.5")  # fmt: skip
    assert "int8 ships" in text
    slim = tmp_path / "slim"
    run("export", copy, "--cpu-copy", slim)
    found = read_bundle(slim)
    assert not (slim / "model.safetensors").exists()
    assert "without `model.safetensors`" in (slim / "README.md").read_text()
    predictor = IntentPredictor(found, OnnxRuntime(found))
    assert predictor.predict(["hello anna"])[0].intent == "greet"
    with pytest.raises(BundleError, match=r"model\.safetensors"):
        load_network(found)
