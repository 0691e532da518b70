"""The whole trip with entities: Rasa's folder to a bundle that finds them, and what a broken one says."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from nlp.intent import TASK
from nlp.intent.data import UNTAGGED, IntentData
from nlp.intent.entities import ENTITIES_FILE, ENTITY_LOGITS, Kind, read_entities
from nlp.intent.module import IntentModule, start_entity_head
from nlp.intent.network import Classifier, load_network
from nlp.intent.offline import BatchClassifier
from nlp.intent.predictor import LOGITS, IntentPredictor
from nlp.text import ATTENTION_MASK, INPUT_IDS
from scripts.main import main
from shared.bundle.read import Bundle, read_bundle
from shared.bundle.write import rewrite_bundle
from shared.errors import BundleError, ConfigError
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.cuda import TorchRuntime
from shared.training.cli import fit_main

pytestmark = pytest.mark.slow
CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "nlp"
TRAVEL = Path(__file__).parent / "rasa" / "travel"


def cities() -> list[dict[str, object]]:
    """Return 90 utterances of two intents, two of three with cities in roles."""
    names = ("paris", "rome", "oslo", "berlin", "madrid", "vienna")
    found: list[dict[str, object]] = []
    for one in names:
        for other in names:
            if one != other:
                text, at = f"fly from {one} to {other}", len("fly from ")
                marks = [
                    {"start": at, "end": at + len(one), "entity": "city", "role": "from"},
                    {"start": len(text) - len(other), "end": len(text), "entity": "city", "role": "to"},
                ]
                found.append({"text": text, "label": "fly", "entities": marks})
                found.append({"text": f"weather of {one}, not {other}", "label": "weather"})
        found += [{"text": f"{word} {one}", "label": "greet"} for word in ("hello", "hi", "hey", "good morning", "bye")]
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cities") / "cities.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in cities()))
    return path


def fit(source: Path, folder: Path, *more: str) -> Bundle:
    found = fit_main(
        TASK,
        ["-c", str(CONFIGS / "intent_smoke.yaml"), f"--data.source={source}", f"--run_dir={folder}",
         "--trainer.enable_progress_bar=false", "--trainer.max_epochs=15", "--early_stopping.patience=15", *more],
    )  # fmt: skip
    assert found is not None
    return found


@pytest.fixture(scope="module")
def bundle(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return fit(source, tmp_path_factory.mktemp("run"), "--int8=true", "--max_int8_loss=0.05")


def test_cities_are_found_in_their_roles(bundle: Bundle):
    predictor = IntentPredictor(bundle, OnnxRuntime(bundle))
    text = "Fly from Oslo to Rome"
    [result] = predictor.predict([text])
    assert result.intent == "fly"
    assert result.intents == ("fly",)
    assert [(text[e.start : e.end], e.entity, e.role, e.value) for e in result.entities] == [
        ("Oslo", "city", "from", "Oslo"), ("Rome", "city", "to", "Rome"),
    ]  # fmt: skip
    assert all(0 < entity.score < 1 for entity in result.entities)
    assert predictor.predict(["hello oslo"])[0].entities == ()


def test_metrics_report_and_card_show_entities_and_int8_had_to_keep_them(bundle: Bundle):
    entities = bundle.config.metrics["val"]["entities"]
    assert entities["f1"] > 0.9
    assert entities["sentences"] > 0.8
    assert {row["entity"] for row in entities["per_entity"]} == {"city.from", "city.to"}
    assert bundle.config.onnx is not None
    assert bundle.config.onnx.int8_gate is not None
    assert {"slot_f1_fp32", "slot_f1_int8"} <= set(bundle.config.onnx.int8_gate)
    card = (bundle.path / "README.md").read_text()
    assert "### Entities on validation utterances" in card
    assert "city.from" in card


def test_torch_and_onnx_say_the_same_of_every_token(source: Path, tmp_path: Path):
    found = fit(source, tmp_path, "--int8=false", "--trainer.max_epochs=1")
    encoder = IntentPredictor(found, OnnxRuntime(found)).encoder
    texts = ["fly from oslo to rome", "hi", "weather of paris, not vienna"]
    inputs = encoder.batch(encoder.encode_batch(texts), [INPUT_IDS, ATTENTION_MASK])
    network = load_network(found)
    with torch.no_grad():
        expected = network(*(torch.from_numpy(inputs[name]) for name in (INPUT_IDS, ATTENTION_MASK)))[2].numpy()
    onnx = OnnxRuntime(found).run(inputs)[ENTITY_LOGITS]
    assert onnx.shape == (3, inputs[INPUT_IDS].shape[1], 5)
    np.testing.assert_allclose(onnx, expected, atol=1e-4)  # float32 both: sums in another order
    np.testing.assert_allclose(
        TorchRuntime(found, load_network, device="cpu").run(inputs)[ENTITY_LOGITS], expected, atol=1e-5
    )


def test_entities_are_found_with_hugging_faces_own_classifier_too(source: Path, encoder_folder: Path, tmp_path: Path):
    found = fit(
        source,
        tmp_path,
        f"--model.encoder={encoder_folder}",
        "--model.pooling=cls",
        "--model.lr=5e-3",
        "--model.mixed_outliers=0",
    )
    assert found.config.metrics["val"]["entities"]["f1"] > 0.5
    again = load_network(found)
    runtime = OnnxRuntime(found)
    encoding = IntentPredictor(found, runtime).encoder.encode("fly from oslo to rome")
    with torch.no_grad():
        expected = again(torch.from_numpy(encoding.input_ids[None]), torch.ones(1, len(encoding), dtype=torch.long))
    shown = runtime.run(
        {INPUT_IDS: encoding.input_ids[None], ATTENTION_MASK: np.ones((1, len(encoding)), dtype=np.int64)}
    )
    np.testing.assert_allclose(shown[ENTITY_LOGITS], expected[2].numpy(), atol=1e-3)


def test_a_long_text_is_read_whole_and_a_short_one_in_one_run(bundle: Bundle):
    class Counting(OnnxRuntime):
        calls = 0

        def run(self, inputs):
            self.calls += 1
            return super().run(inputs)

    runtime = Counting(bundle)
    predictor = IntentPredictor(bundle, runtime)
    predictor.predict(["fly from oslo to rome"])
    assert runtime.calls == 1
    text = "fly from oslo to rome " * 15
    [result] = predictor.predict([text])
    assert runtime.calls == 2
    assert not result.truncated
    assert {"oslo", "rome"} <= {entity.text for entity in result.entities}
    assert result.entities[0].start < len(text) / 3
    assert result.entities[-1].start > 2 * len(text) / 3, "behind what the first windows hold"
    assert all(text[e.start : e.end] == e.text for e in result.entities)
    [endless] = predictor.predict(["hello " * 3000 + "from oslo"])
    assert endless.truncated
    assert runtime.calls == 3


def test_the_command_line_and_tables_show_entities(bundle: Bundle, source: Path):
    ran = CliRunner().invoke(main, ["predict", str(bundle.path), "fly from oslo to rome"])
    assert ran.exit_code == 0, ran.output
    assert "'oslo' is city.from" in ran.output
    ran = CliRunner().invoke(main, ["evaluate", str(bundle.path), "--split", "all", f"--data.source={source}"])
    assert ran.exit_code == 0, ran.output
    assert all(part in ran.output for part in ("entities (", "whole sentences", "city.from"))
    answerer = BatchClassifier(bundle, OnnxRuntime(bundle), {"text": "text", "top_k": 1})
    [row] = answerer.answer([{"text": "fly from oslo to rome"}])
    assert [each["role"] for each in row["entities"]] == ["from", "to"]
    assert {"entities", "intents"} <= set(answerer.schema.names)


def broken(bundle: Bundle, path: Path, content: bytes) -> Bundle:
    """Return a copy of a bundle with another entities.json, as if it had been written so."""
    return rewrite_bundle(bundle, path, bundle.config, onnx=bundle.file("model.onnx"), files={ENTITIES_FILE: content})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is wrong"),
        (b"[]", "is wrong"),
        (b'{"kinds": [], "temperature": 1, "shift": 0}', "kinds"),
        (b'{"kinds": [{"entity": "city"}], "temperature": 0, "shift": 0}', "temperature"),
        (b'{"kinds": [{"entity": "city"}], "temperature": 1, "shift": NaN}', "shift|is wrong"),
        (b'{"kinds": [{"entity": "city"}, {"entity": "city"}], "temperature": 1, "shift": 0}', "names one twice"),
        (b'{"kinds": [{"entity": "city"}], "temperature": 1, "shift": 0}', "which are 3 tags; the network"),
    ],
)
def test_a_broken_file_of_entities_is_refused_by_name(bundle: Bundle, tmp_path: Path, content: bytes, message: str):
    with pytest.raises(BundleError, match=message) as caught:
        read_entities(broken(bundle, tmp_path / "bundle", content))
    assert ENTITIES_FILE in str(caught.value)


def test_a_missing_or_changed_file_of_entities_is_refused(bundle: Bundle, tmp_path: Path):
    copy = tmp_path / "bundle"
    shutil.copytree(bundle.path, copy)
    (copy / ENTITIES_FILE).write_bytes((copy / ENTITIES_FILE).read_bytes() + b" ")
    with pytest.raises(BundleError, match=ENTITIES_FILE):
        read_bundle(copy)
    (copy / ENTITIES_FILE).unlink()
    with pytest.raises(BundleError, match=ENTITIES_FILE):
        read_bundle(copy)


def test_a_bundle_without_entities_finds_none(utterances: Path, cache_dir: str, tmp_path: Path):
    found = fit(utterances, tmp_path, f"--data.cache_dir={cache_dir}", "--trainer.max_epochs=1")
    assert ENTITIES_FILE not in found.config.files
    assert read_entities(found) is None
    runtime = OnnxRuntime(found)
    assert [spec.name for spec in runtime.outputs] == ["logits", "features"]
    [result] = IntentPredictor(found, runtime).predict(["hello anna"])
    assert result.entities == ()
    assert "entities" not in found.config.metrics["val"]


def test_the_starter_that_ships_loads_as_before():
    starter = read_bundle(Path(__file__).resolve().parents[3] / "models" / "intent")
    [result] = IntentPredictor(starter, OnnxRuntime(starter)).predict(["what is my balance"])
    assert (result.intent, result.intents, result.entities) == ("balance", ("balance",), ())


def test_plain_models_say_that_they_learn_no_entities(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        found = fit(source, tmp_path, "--model.encoder=tfidf")
    assert "entities are not learned: tfidf counts words" in caplog.text
    assert ENTITY_LOGITS not in [spec.name for spec in found.config.signature.outputs]


def test_a_rasa_folder_becomes_a_bundle_with_its_synonyms_and_double_intents(tmp_path: Path):
    options = ("--data.lookup_share=0.5", "--data.two_wishes_per_batch=4", "--data.negated_per_batch=4")
    found = fit(TRAVEL, tmp_path, "--data.test_share=0", "--trainer.max_epochs=2", *options)
    rule = read_entities(found)
    assert rule is not None
    assert {kind.name for kind in rule.kinds} == {"city.from", "city.to", "date", "booking_code"}
    assert rule.value("city", "The Big  Apple") == "New York"
    assert rule.value("city", "nyc") == "New York"
    predictor = IntentPredictor(found, OnnxRuntime(found))
    assert "greet+book_flight" in predictor.labels
    logits = np.where(np.array(predictor.labels) == "greet+book_flight", 9.0, 0.0).astype(np.float32)
    encoding = predictor.encoder.encode("hello, i want to fly to Rome")
    outputs = {**predictor.infer([encoding])[0], LOGITS: logits}
    result = predictor.decide(outputs, encoding)
    assert result.ranking[0].name == "greet+book_flight"
    assert result.intents == (() if result.out_of_scope else ("greet", "book_flight"))


@pytest.mark.parametrize("kind", ["bilstm", "mean", "cls"])
def test_one_batch_with_entities_can_be_learned_by_heart(kind: str, source: Path, encoder_folder: Path, cache_dir: str):
    encoder = "bilstm" if kind == "bilstm" else str(encoder_folder)
    data = IntentData(str(source), encoder=encoder, batch_size=16, vocabulary_size=200, cache_dir=cache_dir)
    data.setup()
    torch.manual_seed(0)
    module = IntentModule(
        data.labels, data.vocabulary_size, encoder=encoder, pooling="cls" if kind == "cls" else "mean", dropout=0.0,
        label_smoothing=0.0, hidden_size=32, entity_kinds=data.entity_kinds, out_of_scope="none",
    )  # fmt: skip
    module.train()
    batch = next(iter(data.train_dataloader()))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2 if kind == "bilstm" else 3e-3)
    for _ in range(80):
        loss, logits, _, tags = module._shared_step(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert tags is not None
    known = batch["tags"] != UNTAGGED
    assert (tags.argmax(dim=2)[known] == batch["tags"][known]).all()
    assert (logits.argmax(dim=1) == batch["target"]).all()


def test_a_run_that_starts_from_a_bundle_keeps_the_tags_that_it_knows(bundle: Bundle):
    head = Classifier(64, 7, "linear")
    start_entity_head(head, [Kind("city", "from"), Kind("date"), Kind("city", "to")], bundle)
    learned = load_network(bundle).entity_head
    assert learned is not None
    assert torch.equal(head.weight[[0, 1, 2, 5, 6]], learned.weight)
    assert not torch.equal(head.weight[3:5], learned.weight[3:5])


def test_a_run_is_not_resumed_with_other_entities(source: Path, tmp_path: Path):
    run = tmp_path / "run"
    fit(source, run, "--trainer.max_epochs=1")
    renamed = tmp_path / "renamed.jsonl"
    renamed.write_text(source.read_text().replace('"role": "from"', '"role": "start"'))
    with pytest.raises(ConfigError, match=r"other entities: city.from, city.to then, city.start, city.to now"):
        fit(renamed, run, "--trainer.max_epochs=2", "--ckpt_path=last")
    fit(source, run, "--trainer.max_epochs=2", "--ckpt_path=last")
