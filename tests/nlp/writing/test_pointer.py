"""The writer that points at words: what it learns, what ships of it, and that it goes on from where it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nlp.writing import TASK
from nlp.writing.data import WriterData
from nlp.writing.module import WriterModule
from nlp.writing.network import load_network
from nlp.writing.pointer import POINTER, PointerNetwork, build_pointer, collate_pointed, is_pointer, pointing_losses
from nlp.writing.predictor import AnswerWriter
from nlp.writing.units import arrays
from nlp.writing.wording import ask
from shared.bundle.read import Bundle
from shared.errors import ConfigError
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.golden import check_golden
from shared.training.cli import fit_main
from tests.nlp.writing.test_fit import CONFIG, cache_dir, rows, sentences

__all__ = ["cache_dir", "sentences"]


def options(source: Path, folder: Path, *more: str) -> list[str]:
    return [
        "-c", str(CONFIG), f"--data.source={source}", f"--run_dir={folder}", "--data.vocabulary_size=400",
        "--data.batch_tokens=300", "--data.val_share=0.1", "--data.test_share=0.1", "--model.size=128",
        "--model.layers=2", "--model.lr=3e-3", "--ema.decay=0.5", "--trainer.max_epochs=30", "--max_int8_loss=1",
        "--trainer.enable_progress_bar=false", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("pointer")
    source = folder / "boats.jsonl"
    source.write_text("\n".join(map(json.dumps, rows())))
    found = fit_main(TASK, options(source, folder / "run"))
    assert found is not None
    return found


@pytest.mark.slow
def test_it_copies_names_that_it_has_never_seen(bundle: Bundle):
    writer = AnswerWriter(bundle, OnnxRuntime(bundle))
    places = ("Xylokastro", "Quahog", "Brno", "Zwolle", "Ystad", "Phuket", "Vaduz", "Kyzyl")
    said = []
    for place in places:
        text = f"Ada has a boat in {place}."
        said.append(writer.written(ask("Where is the boat?", text, text.index(place), len(text) - 1)))
    assert all(place in each.sentence for place, each in zip(places, said, strict=True) if each.sentence)
    # Where the words go hangs on how the processor rounds while it learns: mostly, that is enough.
    assert sum(each.sentence == f"The boat is in {place}." for place, each in zip(places, said, strict=True)) >= 5
    assert bundle.config.metrics["test"]["overall"]["given"] > 0.8


@pytest.mark.slow
def test_what_ships_computes_what_torch_does(bundle: Bundle):
    check_golden(bundle, OnnxRuntime(bundle))
    network = load_network(bundle)
    assert isinstance(network, PointerNetwork)
    with torch.no_grad():
        logits = network(*(torch.from_numpy(array) for array in bundle.golden.inputs.values())).numpy()
    np.testing.assert_allclose(logits, bundle.golden.outputs["logits"], atol=1e-3)


@pytest.mark.slow
def test_it_goes_on_from_a_bundle_with_its_words(bundle: Bundle, sentences: Path, tmp_path: Path):
    assert is_pointer(str(bundle.path))
    more = (f"--model.language_model={bundle.path}", "--trainer.max_epochs=1", "--int8=false", "--model.lr=1e-5")
    found = fit_main(TASK, options(sentences, tmp_path, *more))
    assert found is not None
    assert found.config.provenance.start_weights == bundle.path.name
    assert found.file("tokenizer.json").read_bytes() == bundle.file("tokenizer.json").read_bytes()
    assert found.config.metrics["test"]["overall"]["given"] > 0.8


def test_padding_changes_nothing(sentences: Path, cache_dir: str):
    data = WriterData(str(sentences), vocabulary_size=200, cache_dir=cache_dir)
    data.setup()
    torch.manual_seed(0)
    network = build_pointer(POINTER, data.vocabulary_size, 64, 1).eval()
    some = [max(data.encoded["train"], key=len), min(data.encoded["train"], key=len)]
    with torch.no_grad():
        together, right = pointing_losses(network, collate_pointed(some))
        alone, _ = pointing_losses(network, collate_pointed(some[1:]))
    steps = len(some[1].targets)
    assert torch.allclose(together[1, :steps], alone[0], atol=1e-5)
    assert not together[1, steps:].any()
    assert right[1, steps:].all()


def test_what_a_pointing_writer_has_no_use_for_is_refused():
    for setting in ({"lora_rank": 4}, {"label_smoothing": 0.1}):
        with pytest.raises(ConfigError, match="are for causal language models"):
            WriterModule(vocabulary_size=20, size=64, layers=1, **setting)


def test_a_file_in_a_word_costs_no_more_than_a_word(sentences: Path, cache_dir: str):
    data = WriterData(str(sentences), vocabulary_size=200, cache_dir=cache_dir)
    data.setup()
    huge, short = (arrays(data.tokenizer, ["boat" * count]) for count in (500_000, 16))
    assert (huge[0] == short[0]).all()


def test_a_folder_that_is_no_pointing_writer_is_not_taken_for_one(tmp_path: Path):
    assert not is_pointer(str(tmp_path))
    (tmp_path / "config.json").write_text('{"architectures": ["PointerNetwork"]}')
    with pytest.raises(ConfigError, match="no weights of the pointing network"):
        build_pointer(str(tmp_path), 0, 0, 0)
