"""Plain methods for intents: TF-IDF as scikit-learn's, and heads that are found at once, all the way to a bundle."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from nlp.intent import TASK
from nlp.intent.data import IntentData
from nlp.intent.module import IntentModule, default_method
from nlp.intent.network import FIRST_FACTOR, SECOND_FACTOR, TfIdf, load_network
from nlp.intent.plain import intent_examples, weigh_words
from nlp.intent.predictor import IntentPredictor
from scripts.main import main
from shared.bundle.read import Bundle, read_bundle
from shared.errors import BundleError, ConfigError, DataError
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.cuda import TorchRuntime
from shared.runtime.golden import check_golden
from shared.training.cli import fit_main
from shared.training.plain import fit_head, scores_of
from tests.nlp.intent.conftest import rows

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "nlp"
METHODS = ("logistic_regression", "nearest_centroid", "knn")
"""Of which a bundle is made: a support vector machine is a linear head, as logistic regression is."""


@pytest.fixture
def words(utterances: Path, cache_dir: str) -> IntentData:
    found = IntentData(str(utterances), encoder="tfidf", vocabulary_size=200, cache_dir=cache_dir)
    found.setup()
    return found


def weighed(data: IntentData, pair_buckets: int = 64) -> TfIdf:
    network = TfIdf(data.vocabulary_size, len(data.labels), pair_buckets).eval()
    with torch.no_grad():
        weigh_words(network, data)
    return network


def encoded(data: IntentData, texts: list[str]) -> list[torch.Tensor]:
    encodings = data.encoder.encode_batch(texts)
    return [
        torch.from_numpy(array) for array in data.encoder.batch(encodings, ("input_ids", "attention_mask")).values()
    ]


def vectorizer(data: IntentData, pair_buckets: int) -> TfidfVectorizer:
    """Of scikit-learn, over the same pieces and the same buckets of pairs."""

    def pieces(text: str) -> list[str]:
        ids = data.encoder.encode(text).input_ids.tolist()
        kept = [str(place) for place in ids if place not in data.special_ids]
        if pair_buckets:
            for one, other in pairwise(ids):
                if not {one, other} & set(data.special_ids):
                    hashed = (FIRST_FACTOR * one + SECOND_FACTOR * other) % 2**32
                    kept.append(f"pair {hashed // (2**32 // pair_buckets)}")
        return kept

    return TfidfVectorizer(analyzer=pieces, sublinear_tf=True)


@pytest.mark.parametrize("pair_buckets", [0, 64])
def test_vectors_are_scikit_learns(words: IntentData, pair_buckets: int):
    network, reference = weighed(words, pair_buckets), vectorizer(words, pair_buckets)
    reference.fit([example.text for example in words.splits["train"]])
    texts = ["pay anna anna anna now", "hello hello", "is it sunny in oslo", "who painted hugo in blue"]
    expected = reference.transform(texts).toarray()
    names = list(reference.get_feature_names_out())
    places = [int(n) if " " not in n else words.vocabulary_size + int(n.split()[1]) for n in names]
    found = network.vectors(*encoded(words, texts)).numpy()
    np.testing.assert_allclose(found[:, places], expected, atol=1e-6)
    assert np.abs(np.delete(found, places, axis=1)).max(initial=0) == 0  # what no training utterance has
    sparse = intent_examples(network, words, "val", sparse=True).features.toarray()
    inside = [example.text for example in words.splits["val"] if example.label is not None]
    inside.sort(key=lambda text: len(words.encoder.encode(text)))
    np.testing.assert_allclose(sparse, network.vectors(*encoded(words, inside)).numpy(), atol=1e-6)


def test_on_words_alone_the_answers_are_those_of_scikit_learns_own_pipeline(words: IntentData):
    network = weighed(words, pair_buckets=0)
    train, val = (intent_examples(network, words, split, sparse=True) for split in ("train", "val"))
    head = fit_head("logistic_regression", train, val, 3, seed=0)
    known = [example for example in words.splits["train"] if example.label is not None]
    reference = vectorizer(words, 0)
    reference.fit([example.text for example in words.splits["train"]])
    model = LogisticRegression(C=head.chosen["C"]).fit(
        reference.transform([example.text for example in known]), [example.label for example in known]
    )
    texts = [text for text, _ in rows()]
    with torch.no_grad():
        logits = scores_of(head, network.vectors(*encoded(words, texts)).numpy(), 3)
    expected = model.predict_proba(reference.transform(texts))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chances, expected, atol=0.02)  # L-BFGS stops a little elsewhere
    sure = np.abs(np.diff(np.sort(expected, axis=1)[:, -2:], axis=1)[:, 0]) > 0.04
    assert (chances.argmax(axis=1) == expected.argmax(axis=1))[sure].all()
    assert sure.mean() > 0.9


@pytest.mark.parametrize("method", ["logistic_regression", "linear_svm", "nearest_centroid", "knn"])
@pytest.mark.parametrize("encoder", ["tfidf", "frozen"])
def test_every_method_tells_intents_apart(
    method: str, encoder: str, utterances: Path, encoder_folder: Path, cache_dir: str, monkeypatch
):
    name = "tfidf" if encoder == "tfidf" else str(encoder_folder)
    data = IntentData(str(utterances), encoder=name, vocabulary_size=200, cache_dir=cache_dir)
    data.setup()
    module = IntentModule(data.labels, data.vocabulary_size, encoder=name, method=method).eval()
    monkeypatch.setattr(IntentModule, "data", data)
    with torch.no_grad():
        module.prepare_features()
        train, val = (module.features_of(split) for split in ("train", "val"))
        module.take_head(fit_head(method, train, val, 3, seed=0))
        ids, mask = encoded(data, [text for text, label in rows() if label != "oos"])
        best = [data.labels[int(i)] for i in module.network(ids, mask)[0].argmax(1)]
    right = [one == label for one, (_, label) in zip(best, rows(), strict=False)]
    assert np.mean(right) > (
        0.95 if encoder == "tfidf" else 0.8
    )  # chance is 0.33, and the encoder's weights are random


def test_padding_and_special_tokens_change_nothing(words: IntentData):
    network = weighed(words)
    ids, mask = encoded(words, ["pay anna now", "hello"])
    logits, features = network(ids, mask)
    length = int(mask[1].sum())
    for found, alone in zip((logits, features), network(ids[1:, :length], mask[1:, :length]), strict=True):
        torch.testing.assert_close(found[1:], alone)
    odd = ids.clone()
    odd[1, length:] = 17  # whatever is where nothing counts
    torch.testing.assert_close(network(odd, mask)[0], logits)
    nothing = network.vectors(*encoded(words, [""]))
    assert nothing.abs().max() == 0


def test_the_order_of_two_words_matters_only_to_pairs(words: IntentData):
    texts = ["send money to anna", "money send anna to"]
    alone, pairs = weighed(words, 0), weighed(words, 2**14)
    one, other = alone.vectors(*encoded(words, texts))
    torch.testing.assert_close(one, other)
    one, other = pairs.vectors(*encoded(words, texts))
    assert (one - other).abs().max() > 0.1


def fit(folder: Path, data: Path, cache_dir: str, *more: str) -> Bundle:
    found = fit_main(
        TASK,
        ["-c", str(CONFIGS / "intent.yaml"), f"--data.source={data}", f"--data.cache_dir={cache_dir}",
         "--data.val_share=0.2", "--data.test_share=0.2", f"--run_dir={folder}", "--trainer.enable_progress_bar=false",
         "--int8=false", *more],
    )  # fmt: skip
    assert found is not None
    return found


def assert_serves(bundle: Bundle, at_least: float = 0.9) -> None:
    """It knows what it learned; torch, ONNX and the golden outputs agree."""
    check_golden(bundle, OnnxRuntime(bundle))
    check_golden(bundle, TorchRuntime(bundle, load_network, device="cpu"))
    predictor = IntentPredictor(bundle, OnnxRuntime(bundle))
    texts = [text for text, label in rows() if label != "oos"]
    right = [label for _, label in rows() if label != "oos"]
    best = [result.ranking[0].name for result in predictor.predict(texts)]
    assert np.mean([one == other for one, other in zip(best, right, strict=True)]) > at_least  # chance is 0.33
    inputs = predictor.encoder.batch(predictor.encoder.encode_batch(texts[:40:3]), ("input_ids", "attention_mask"))
    left = OnnxRuntime(bundle).run(inputs)
    torched = TorchRuntime(bundle, load_network, device="cpu").run(inputs)
    for name, values in left.items():  # fp32 sums in another order
        np.testing.assert_allclose(values, torched[name], atol=1e-3)


@pytest.fixture(scope="module")
def tfidf_bundles(utterances: Path, cache_dir: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Method -> a bundle of words; the first with the recipe's own method for them."""
    root = tmp_path_factory.mktemp("tfidf")
    return {
        method: fit(
            root / method, utterances, cache_dir, "--model.encoder=tfidf", *([f"--model.method={method}"] * (i > 0))
        )
        for i, method in enumerate(METHODS)
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_words_become_a_bundle_that_serves(tfidf_bundles: dict[str, Bundle], method: str):
    bundle = tfidf_bundles[method]
    assert_serves(bundle)
    assert bundle.config.architectures == ["TfIdf"]
    assert bundle.config.model_extra is not None
    assert bundle.config.model_extra["method"] == method
    assert bundle.config.provenance.start_weights == "tfidf"
    features = {spec.name: spec.shape for spec in bundle.config.signature.outputs}["features"]
    assert 2 < features[1] <= 256
    detectors = bundle.config.metrics["val"]["detectors"]
    assert "rejection" not in detectors
    assert bundle.config.decision.detector in detectors


@pytest.mark.slow
def test_a_frozen_encoder_becomes_a_bundle_that_serves(
    utterances: Path, encoder_folder: Path, cache_dir: str, tmp_path: Path
):
    bundle = fit(tmp_path, utterances, cache_dir, f"--model.encoder={encoder_folder}", "--model.method=knn")
    assert_serves(bundle, at_least=0.8)  # its weights are random
    before = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert before["epoch"] == 0
    table = (tmp_path / "metrics.csv").read_text()
    assert "val/quality" in table
    assert "train/loss" not in table  # nothing was learned step by step


@pytest.mark.slow
def test_the_command_line_treats_plain_bundles_like_any_other(
    tfidf_bundles: dict[str, Bundle], utterances: Path, cache_dir: str, tmp_path: Path
):
    def run(*args: str | Path) -> str:
        result = CliRunner().invoke(main, [str(arg) for arg in args])
        assert result.exit_code == 0, result.output
        return result.stdout

    paths = {method: bundle.path for method, bundle in tfidf_bundles.items()}
    data = ("--data.source", utterances, f"--data.cache_dir={cache_dir}")
    assert run("predict", paths["knn"], "--device=cpu", "hello anna").startswith("hello anna  greet")
    found = json.loads(run("evaluate", paths["logistic_regression"], *data, "--split=all", "--device=cpu", "--json"))
    assert found["overall"]["accuracy"] > 0.9
    told = run("compare", paths["logistic_regression"], paths["nearest_centroid"], *data, "-o", tmp_path / "page.html")
    assert "my-intents" in told or "right answers" in told
    copy = tmp_path / "copy"
    shutil.copytree(paths["knn"], copy)
    run("export", copy)
    check_golden(read_bundle(copy), OnnxRuntime(read_bundle(copy)))


def test_a_bundle_whose_config_does_not_describe_its_head_is_refused(tfidf_bundles: dict[str, Bundle], tmp_path: Path):
    bundle = tfidf_bundles["knn"]
    fields = {name: value for name, value in bundle.config.model_dump().items() if name != "bank"}
    broken = type(bundle)(**{**bundle.__dict__, "config": type(bundle.config).model_validate(fields)})
    with pytest.raises(BundleError, match="describes no network: KeyError"):
        load_network(broken)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "tfidf", "method": "fine_tune"}, "nothing to fine-tune.*came fine_tune"),
        ({"encoder": "bilstm", "method": "knn"}, "must have learned before; came model.encoder bilstm"),
        ({"encoder": "any", "method": "linear_svm", "weights": "none"}, "came model.weights none"),
        ({"encoder": "any", "method": "linear_svm", "pooling": "cls"}, "set model.pooling to mean"),
        ({"encoder": "tfidf", "detector": "rejection"}, "must be learned, which model.method logistic_regression"),
        ({"encoder": "tfidf", "teacher": "models/intent"}, "model.teacher needs a network that learns"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        IntentModule(["a", "b"], 20, **options)


def test_the_encoder_decides_the_method_if_none_is_named():
    assert default_method("tfidf") == "logistic_regression"
    assert IntentModule(["a", "b"], 20, encoder="tfidf").hparams["method"] == "logistic_regression"
    module = IntentModule(["a", "b"], 20, encoder="bilstm")
    assert module.hparams["method"] == "fine_tune"
    assert not module.is_plain


def test_a_plain_method_has_nothing_to_resume(utterances: Path, cache_dir: str, tmp_path: Path):
    module = IntentModule(["a", "b"], 20, encoder="tfidf")
    with pytest.raises(ConfigError, match="has no epochs to go on with: leave out --ckpt_path"):
        module.on_load_checkpoint({})


def test_words_without_an_utterance_that_validates_are_refused(utterances: Path, cache_dir: str, tmp_path: Path):
    with pytest.raises(DataError, match="no utterance validates"):
        fit(tmp_path / "none", utterances, cache_dir, "--model.encoder=tfidf", "--data.val_share=0")
