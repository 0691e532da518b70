"""Tiny language bundles for tests: real tokenizers and real ONNX models that know a few words, made without torch.

The intent model adds up what each word of an utterance speaks for; words it does not know speak for nothing, and an
utterance of such words is out of scope. The answer model gives the first number of the context to a question with
"how", "when", "combien" or "quand", and the first name that it knows to one with "who" or "qui".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from nlp.intent.entities import ENTITY_LOGITS, EntityRule, Kind
from nlp.text import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS, TextEncoder
from shared.bundle.layout import BundleConfig
from shared.bundle.read import Bundle, Golden
from shared.bundle.write import write_bundle

OPSET = 17
VERSION = "2026.11.24-00000000"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
PAD, UNK, CLS, SEP = range(4)
WORDS: Mapping[str, Sequence[str]] = {
    "book_flight": ("book", "flight", "fly", "plane", "reserve", "vol", "avion", "voler", "réserver"),
    "play_music": ("play", "music", "song", "listen", "musique", "chanson", "écouter"),
    "weather": ("weather", "rain", "sunny", "forecast", "météo", "pluie", "soleil"),
}
"""Intent -> words that speak for it."""
NAMES = ("ada", "marie", "turing", "hugo", "émile", "curie", "lovelace")
"""Words that answer a question with "who" or "qui"."""
NUMBERS = ("two", "seven", "eight", "deux", "sept", "huit", "42", "64", "1815")
"""Words that answer a question with "how", "when", "combien" or "quand", beside single digits."""
ASKS_NAME = ("who", "qui")
ASKS_NUMBER = ("how", "when", "combien", "quand")
_OTHERS = ("the", "a", "is", "my", "what", "le", "la", "est", ".", ",", "?", "!", "'", "-", ":", "–")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
ENTITIES = EntityRule(
    kinds=(Kind("person", "singer"), Kind("count", None, "1")),
    temperature=1.0,
    shift=0.0,
    synonyms={"person": {"ada lovelace": "Countess of Lovelace"}},
)
"""What a bundle with entities knows: first names, each alone or before a family name, and numbers."""
FAMILY_NAMES = ("curie", "hugo", "lovelace")
MATCH = 4.0
"""Logit of each matching word."""


def vocabulary() -> dict[str, int]:
    """Return token -> id: special ones, words, then letters and digits, alone and as continuations."""
    words = [word for of_one in WORDS.values() for word in of_one]
    words += [*NAMES, *NUMBERS, *ASKS_NAME, *ASKS_NUMBER, *_OTHERS]
    pieces = [*LETTERS, *DIGITS]
    tokens = dict.fromkeys([*SPECIAL, *map(_plain, words), *pieces, *(f"##{piece}" for piece in pieces)])
    return {token: index for index, token in enumerate(tokens)}


def make_tokenizer() -> Tokenizer:
    """Return a WordPiece tokenizer as BERT's: lower case, accents stripped, offsets in the text as it came."""
    tokenizer = Tokenizer(models.WordPiece(vocabulary(), unk_token=SPECIAL[UNK], max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    return tokenizer


def make_intent_bundle(
    path: Path,
    *,
    name: str = "tiny-intent",
    max_length: int = 32,
    version: str = VERSION,
    prefix: str = "",
    labels: Sequence[str] | None = None,
    has_entities: bool = False,
) -> Bundle:
    """Return an intent bundle that knows `WORDS`.

    Each of its words gives its intent a logit of 4. Without one the energy is -log(3), with one -4.04: what has no
    known word is out of scope. With `has_entities` it also finds those of `ENTITIES`; `labels` are the intents' names.
    """
    labels = [prefix + label for label in labels or WORDS]
    ids = vocabulary()
    table = np.zeros((len(ids), len(labels)), dtype=np.float32)
    for column, words in enumerate(WORDS.values()):
        for word in words:
            table[ids[_plain(word)], column] = MATCH
    encoder = TextEncoder(make_tokenizer(), max_length)
    texts = ["book a flight", "play a song", "météo", "the unknown"]
    inputs = encoder.batch([encoder.encode(text) for text in texts], [INPUT_IDS, ATTENTION_MASK])
    logits = (table[inputs[INPUT_IDS]] * inputs[ATTENTION_MASK][..., None]).sum(axis=1)
    nodes = [
        helper.make_node("Gather", ["table", INPUT_IDS], ["rows"]),  # [batch, tokens, labels]
        helper.make_node("Cast", [ATTENTION_MASK], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),  # [batch, tokens, 1]
        helper.make_node("Mul", ["rows", "wide"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["logits"], keepdims=0),  # [batch, labels]
    ]
    initializers = {"table": table, "last": np.array([-1]), "middle": np.array([1])}
    outputs: dict[str, list[Any]] = {"logits": ["batch", len(labels)]}
    golden = {"logits": logits}
    files: dict[str, bytes | Path] = {}
    if has_entities:
        tags = _tag_table(ids)
        nodes.append(helper.make_node("Gather", ["tags", INPUT_IDS], [ENTITY_LOGITS]))  # [batch, tokens, tags]
        initializers["tags"] = tags
        outputs[ENTITY_LOGITS] = ["batch", "tokens", tags.shape[1]]
        golden[ENTITY_LOGITS] = tags[inputs[INPUT_IDS]]
        files = ENTITIES.file()
    config = _config(name, "intent", labels, [INPUT_IDS, ATTENTION_MASK], outputs)
    config |= {
        "version": version,
        "problem_type": "single_label_classification",
        "decision": {
            "temperature": 1.0,
            "detector": "energy",
            "detector_temperature": 0.5,
            "detector_shift": 2.5,
            "abstain_below": 0.5,
            "acceptance": 0.95,
        },
    }
    model = _model("bag_of_words", nodes, initializers, [INPUT_IDS, ATTENTION_MASK], outputs)
    return _write(path, config, model, encoder, inputs, golden, files)


def _tag_table(ids: Mapping[str, int]) -> np.ndarray:
    """Return float32 [V, E]: what each token speaks for."""
    table = np.zeros((len(ids), 1 + 2 * len(ENTITIES.kinds)), dtype=np.float32)
    table[:, 0] = MATCH
    for word in (*NAMES, *NUMBERS):
        tag = 3 if word in NUMBERS else 2 if word in FAMILY_NAMES else 1
        table[ids[_plain(word)], [0, tag]] = 0, MATCH
    return table


def make_qa_bundle(
    path: Path, *, name: str = "tiny-qa", max_length: int = 48, stride: int = 8, version: str = VERSION
) -> Bundle:
    """Return a question-answering bundle for questions with "who" or "how", in English or French.

    A token that a question of its kind wants gets a start and end logit of 4, all others -4, and no answer has 0. So a
    name or a number is the answer, with a score of 0.9997; without one there is none, with a score of 0.0003.
    """
    ids = vocabulary()
    kinds = np.zeros((len(ids), 2), dtype=np.float32)  # what a token is: a name, a number
    asks = np.zeros((len(ids), 2), dtype=np.float32)  # what a token asks for
    digits = [*DIGITS, *(f"##{digit}" for digit in DIGITS)]
    for column, (answers, words) in enumerate(((NAMES, ASKS_NAME), ((*NUMBERS, *digits), ASKS_NUMBER))):
        kinds[[ids[_plain(token)] for token in answers], column] = 1
        asks[[ids[_plain(word)] for word in words], column] = 1
    base = np.full(len(ids), -MATCH, dtype=np.float32)
    base[CLS] = 0
    names = [INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS]
    encoder = TextEncoder(make_tokenizer(), max_length, stride)
    pairs = [("who is it", "it is ada"), ("combien", "le prix est 42 ."), ("what", "nothing")]
    inputs = encoder.batch([encoder.windows(*pair)[0] for pair in pairs], names)
    logits = _qa_logits(inputs, kinds, asks, base)
    nodes = [
        helper.make_node("Cast", [TOKEN_TYPE_IDS], ["second"], to=TensorProto.FLOAT),  # [batch, tokens]
        helper.make_node("Unsqueeze", ["second", "last"], ["second_wide"]),
        helper.make_node("Sub", ["one", "second_wide"], ["first_wide"]),
        helper.make_node("Gather", ["asks", INPUT_IDS], ["asked_by_token"]),  # [batch, tokens, 2]
        helper.make_node("Mul", ["asked_by_token", "first_wide"], ["asked_by_question"]),
        helper.make_node("ReduceMax", ["asked_by_question"], ["asked"], axes=[1], keepdims=1),  # [batch, 1, 2]
        helper.make_node("Gather", ["kinds", INPUT_IDS], ["kind"]),  # [batch, tokens, 2]
        helper.make_node("Mul", ["kind", "asked"], ["wanted_kinds"]),
        helper.make_node("ReduceMax", ["wanted_kinds"], ["wanted"], axes=[2], keepdims=0),  # [batch, tokens]
        helper.make_node("Mul", ["wanted", "gain"], ["gained"]),
        helper.make_node("Gather", ["base", INPUT_IDS], ["base_of_token"]),
        helper.make_node("Add", ["gained", "base_of_token"], ["start_logits"]),
        helper.make_node("Identity", ["start_logits"], ["end_logits"]),
    ]
    initializers = {
        "asks": asks,
        "kinds": kinds,
        "base": base,
        "last": np.array([-1]),
        "one": np.ones((1, 1, 1), np.float32),
        "gain": np.float32(2 * MATCH),
    }
    outputs = {"start_logits": ["batch", "tokens"], "end_logits": ["batch", "tokens"]}
    config = _config(name, "qa", ["LABEL_0", "LABEL_1"], names, outputs)
    config |= {
        "version": version,
        "problem_type": None,
        "decision": {"temperature": 1.0, "shift": 0.0, "abstain_below": 0.5, "max_answer_tokens": 8},
    }
    model = _model("word_kinds", nodes, initializers, names, outputs)
    return _write(path, config, model, encoder, inputs, {"start_logits": logits, "end_logits": logits})


WRITES = (" It", " is", " @@", ".")
"""What the writer writes, whatever it is asked."""


def make_writer_bundle(
    path: Path, *, name: str = "tiny-writer", writes: Sequence[str] = WRITES, version: str = VERSION
) -> Bundle:
    """Return a bundle that writes the same tokens for every answer; what it has seen before is counted, not used."""
    start, end, unknown = "\nSentence:", "<end>", "<unk>"
    ids = {token: index for index, token in enumerate(dict.fromkeys([unknown, end, start, *writes]))}
    table = np.zeros((len(ids), len(ids)), dtype=np.float32)
    for before, after in pairwise((start, *writes, end)):
        table[ids[before], ids[after]] = MATCH
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s?\S+"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),  # [batch, tokens, tokens of the vocabulary]
        helper.make_node("Gather", ["rows", "last"], ["logits"], axis=1),
        helper.make_node("Cast", ["input_ids"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["numbers", "around"], ["seen"]),  # [batch, 1, 1, tokens, 1]
        helper.make_node("Concat", ["seen", "seen"], ["both"], axis=1),
        helper.make_node("Concat", ["past", "both"], ["present"], axis=3),
    ]
    initializers = {"table": table, "last": np.int64(-1), "around": np.array([1, 2, 4])}
    shapes = {"past": ["batch", 2, 1, "kept", 1], "present": ["batch", 2, 1, "all", 1], "logits": ["batch", len(ids)]}
    graph = helper.make_graph(
        nodes,
        "bigrams",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"]),
            helper.make_tensor_value_info("past", TensorProto.FLOAT, shapes["past"]),
        ],
        [helper.make_tensor_value_info(each, TensorProto.FLOAT, shapes[each]) for each in ("logits", "present")],
        [numpy_helper.from_array(np.asarray(array), each) for each, array in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    config = _config(
        name, "answer-writer", ["logits"], ["input_ids"], {each: shapes[each] for each in ("logits", "present")}
    )
    config["signature"]["inputs"].append({"name": "past", "dtype": "float32", "shape": shapes["past"]})
    config |= {"version": version, "problem_type": None, "decision": {"max_tokens": 16}}
    inputs = {"input_ids": np.array([[2, 3], [3, 4]]), "past": np.zeros((2, 2, 1, 1, 1), np.float32)}
    seen = np.broadcast_to(inputs["input_ids"].astype(np.float32)[:, None, None, :, None], (2, 2, 1, 2, 1))
    outputs = {"logits": table[inputs["input_ids"][:, -1]], "present": np.concatenate([inputs["past"], seen], axis=3)}
    files: dict[str, bytes | Path] = {
        "model.onnx": bytes(model.SerializeToString()),
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": json.dumps({"eos_token": end}).encode(),
    }
    golden = Golden(inputs=inputs, outputs=outputs)
    return write_bundle(path, BundleConfig.model_validate(config), files=files, preprocessor={}, golden=golden)


def _qa_logits(inputs: Mapping[str, np.ndarray], kinds: np.ndarray, asks: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Return float32 [N, T], as the network computes it."""
    first = (1 - inputs[TOKEN_TYPE_IDS])[..., None]
    asked = (asks[inputs[INPUT_IDS]] * first).max(axis=1, keepdims=True)
    wanted = (kinds[inputs[INPUT_IDS]] * asked).max(axis=2)
    return (wanted * 2 * MATCH + base[inputs[INPUT_IDS]]).astype(np.float32)


def _plain(word: str) -> str:
    """Return a word as the tokenizer's normaliser leaves it."""
    return str(normalizers.BertNormalizer(lowercase=True).normalize_str(word))


def _config(
    name: str, task: str, labels: Sequence[str], inputs: Sequence[str], outputs: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    return {
        "format_version": 1,
        "name": name,
        "version": VERSION,
        "task": task,
        "architectures": ["words"],
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "signature": {
            "inputs": [{"name": each, "dtype": "int64", "shape": ["batch", "tokens"]} for each in inputs],
            "outputs": [{"name": each, "dtype": "float32", "shape": shape} for each, shape in outputs.items()],
        },
        "onnx": {"precision": "fp32", "opset": OPSET, "max_abs_difference": 0.0, "tolerance": 1e-4},
        "provenance": {
            "dataset": [{"name": "words", "fingerprint": "none", "examples": 3, "licence": "Apache-2.0"}],
            "seed": 0,
            "git_commit": None,
            "start_weights": "none",
            "command": None,
            "created": "2026-11-24T00:00:00+00:00",
            "versions": {"percept": "0.1.0"},
        },
        "metrics": {"test": {"accuracy": 1.0}},
        "card": {"summary": "Knows a few words.", "licence": "Apache-2.0"},
    }


def _model(
    name: str,
    nodes: Sequence[Any],
    initializers: Mapping[str, Any],
    inputs: Sequence[str],
    outputs: Mapping[str, Sequence[Any]],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(each, TensorProto.INT64, ["batch", "tokens"]) for each in inputs],
        [helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), each) for each, array in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _write(
    path: Path,
    config: Mapping[str, Any],
    model: bytes,
    encoder: TextEncoder,
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    more: Mapping[str, bytes | Path] | None = None,
) -> Bundle:
    files: dict[str, bytes | Path] = {"model.onnx": model, **encoder.files(), **(more or {})}
    golden = Golden(inputs=inputs, outputs=outputs)
    return write_bundle(path, BundleConfig.model_validate(config), files=files, preprocessor={}, golden=golden)
