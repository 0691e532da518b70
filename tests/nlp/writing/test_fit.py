"""The whole trip: answers with sentences to a bundle that writes, that transformers loads, and that is served."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from nlp.writing import TASK
from nlp.writing.data import UNLEARNED, WriterData, collate
from nlp.writing.network import load_network
from nlp.writing.pointing import LOGITS
from nlp.writing.predictor import INPUT_IDS, PAST, PRESENT, AnswerWriter
from nlp.writing.sources import Source, load_source
from shared.bundle.layout import WriterDecision
from shared.bundle.read import Bundle
from shared.errors import ConfigError, DataError
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.golden import check_golden
from shared.training.cli import fit_main

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "nlp" / "answer-writer.yaml"
PEOPLE = ("Ada", "Bela", "Cleo", "Dana", "Emil", "Fred", "Gina", "Hugo")
PLACES = ("Lisbon", "Oslo", "Quito", "Dakar", "Turin", "Kyoto", "Perth", "Lima")


def row(question: str, context: str, answer: str, sentence: str) -> dict:
    answers = {"text": [answer], "answer_start": [context.index(answer)]}
    return {"question": question, "context": context, "answers": answers, "sentence": sentence}


def rows() -> list[dict]:
    """Return 128 answers on 64 contexts, phrased by two patterns."""
    found = []
    for i in range(64):
        person, place = PEOPLE[i % 8], PLACES[i // 8]
        context = f"{person} has a boat in {place}. It is old."
        found.append(row("Who has the boat?", context, person, f"{person} has the boat."))
        found.append(row("Where is the boat?", context, place, f"The boat is in {place}."))
    return found


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sentences") / "boats.jsonl"
    path.write_text("\n".join(map(json.dumps, rows())))
    return path


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def options(sentences: Path, cache_dir: str, folder: Path, *more: str) -> list[str]:
    return [
        "-c", str(CONFIG), f"--data.source={sentences}", f"--data.cache_dir={cache_dir}", f"--run_dir={folder}",
        "--data.vocabulary_size=400", "--data.batch_tokens=500", "--data.val_share=0.1", "--data.test_share=0.1",
        "--model.language_model=small", "--model.size=64", "--model.layers=1", "--model.lr=1e-2", "--ema.decay=0.5",
        "--trainer.max_epochs=6",
        "--max_int8_loss=1", "--trainer.enable_progress_bar=false", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def bundle(sentences: Path, cache_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    found = fit_main(TASK, options(sentences, cache_dir, tmp_path_factory.mktemp("run")))
    assert found is not None
    return found


@pytest.mark.slow
def test_the_bundle_writes_what_it_learned(bundle: Bundle):
    writer = AnswerWriter(bundle, OnnxRuntime(bundle))
    given = [
        writer.write("Who has the boat?", f"{name} has a boat in Turin.", 0, len(name)) for name in ("Ada", "Hugo")
    ]
    assert given == ["Ada has the boat.", "Hugo has the boat."]
    assert bundle.config.metrics["test"]["overall"]["given"] > 0.8


@pytest.mark.slow
def test_what_ships_computes_what_torch_does_step_by_step_or_at_once(bundle: Bundle):
    assert isinstance(bundle.config.decision, WriterDecision)
    check_golden(bundle, OnnxRuntime(bundle))
    network = load_network(bundle)
    ids = np.random.default_rng(0).integers(3, 100, size=(1, 9))
    shape = [1 if isinstance(size, str) else size for size in bundle.config.signature.inputs[1].shape]
    nothing = np.zeros([*shape[:3], 0, shape[4]], dtype=np.float32)
    with torch.no_grad():
        whole, _ = network(torch.from_numpy(ids), torch.from_numpy(nothing))
    past = nothing
    for token in ids[0]:
        outputs = OnnxRuntime(bundle).run({INPUT_IDS: np.array([[token]]), PAST: past})
        past = outputs[PRESENT]
    assert past.shape[3] == 9
    assert outputs[LOGITS][0] == pytest.approx(whole[0].numpy(), abs=0.15 * float(whole.abs().max()))  # int8


@pytest.mark.slow
def test_transformers_loads_the_bundle(bundle: Bundle):
    model = AutoModelForCausalLM.from_pretrained(bundle.path, attn_implementation="eager").eval()
    golden = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        theirs = model(input_ids=golden).logits[:, -1]
        ours, _ = load_network(bundle)(golden, torch.zeros(1, 2, 1, 0, 64))
    assert torch.allclose(theirs, ours, atol=1e-4)


@pytest.mark.slow
def test_a_few_directions_of_a_pretrained_model_can_be_learned(
    bundle: Bundle, sentences: Path, cache_dir: str, tmp_path: Path
):
    more = (f"--model.language_model={bundle.path}", "--model.lora_rank=4", "--trainer.max_epochs=1", "--int8=false")
    found = fit_main(TASK, options(sentences, cache_dir, tmp_path, *more))
    assert found is not None
    assert found.config.architectures == ["LlamaForCausalLM"]
    assert found.config.provenance.start_weights == bundle.path.name
    assert found.config.metrics["test"]["overall"]["given"] > 0.8  # as before: it could do so already


def test_only_what_is_written_is_learned(sentences: Path, cache_dir: str):
    data = WriterData(str(sentences), language_model="small", vocabulary_size=400, cache_dir=cache_dir)
    data.setup()
    encoded = data.encoded["train"]
    batch = collate(encoded[:2])
    for each, labels, ids in zip(encoded, batch["labels"], batch["input_ids"], strict=False):
        assert labels[: len(each.read)].tolist() == [UNLEARNED] * len(each.read)
        assert labels[len(each.read) : len(each)].tolist() == each.written
        assert ids[: len(each)].tolist() == each.read + each.written
    assert {e.context for e in data.splits["train"]}.isdisjoint({e.context for e in data.splits["test"]})


def test_a_set_is_left_without_what_must_not_be_learned(tmp_path: Path, cache_dir: str):
    good = rows()[0]
    bad = [
        {**good, "sentence": "Somebody has the boat."},
        {**good, "sentence": "Ada has the boat of 1962."},
        {**good, "question": "Who owns a zeppelin?", "sentence": "Ada does."},
        good,
    ]
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(map(json.dumps, [good, *bad])))
    loaded = load_source(Source(str(path)), 0, cache_dir)
    assert loaded.counts() == {"examples": 1}
    assert sorted(loaded.left_out.values()) == [1, 1, 2]
    path.write_text("\n".join(map(json.dumps, bad[:3])))
    with pytest.raises(DataError, match="no sentence to learn from was found"):
        load_source(Source(str(path)), 0, cache_dir)
    path.write_text(json.dumps({**good, "answers": {"text": ["Ada"], "answer_start": [5]}}))
    with pytest.raises(DataError, match="is not at 5"):
        load_source(Source(str(path)), 0, cache_dir)
    path.write_text(json.dumps({key: value for key, value in good.items() if key != "sentence"}))
    with pytest.raises(DataError, match="expected question, context and sentence"):
        load_source(Source(str(path)), 0, cache_dir)


def test_an_answer_may_be_marked_and_a_sentence_missing_as_percept_batch_writes_them(tmp_path: Path, cache_dir: str):
    written = {"question": "Who has the boat?", "context": "**Ada** has a boat.", "sentence": "Ada has the boat."}
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(map(json.dumps, [written, {**written, "question": "Who?", "sentence": None}])))
    loaded = load_source(Source(str(path)), 0, cache_dir)
    [example] = loaded.splits["train"]
    assert (example.ask.answer, example.context, example.written) == ("Ada", "Ada has a boat.", "@@ has the boat.")
    assert loaded.left_out == {"without a sentence": 1}
    path.write_text(json.dumps({**written, "context": "Ada has a boat."}))
    with pytest.raises(DataError, match="answer is not marked"):
        load_source(Source(str(path)), 0, cache_dir)


def test_the_sentences_that_come_with_percept_can_all_be_learned_from(cache_dir: str):
    loaded = load_source(Source(str(CONFIG.with_name("sentences.jsonl"))), 0, cache_dir)
    assert loaded.counts()["examples"] > 120
    assert not loaded.skipped


def test_what_is_no_language_model_is_named(sentences: Path, cache_dir: str, tmp_path: Path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    for named in (tmp_path / "nothing", tmp_path / "model.gguf"):
        with pytest.raises(ConfigError, match="cannot be loaded"):
            fit_main(TASK, options(sentences, cache_dir, tmp_path, f"--model.language_model={named}"))
    with pytest.raises(ConfigError, match="multiple of 64"):
        fit_main(TASK, options(sentences, cache_dir, tmp_path, "--model.size=100"))
