"""A tiny random encoder with a tokenizer of its own, as a folder that transformers loads: no hub, no download."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, BertConfig, BertModel

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def make_tokenizer(texts: Iterable[str], vocabulary_size: int = 400) -> Tokenizer:
    """Return a WordPiece tokenizer as BERT's, trained on a few texts."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=vocabulary_size, special_tokens=SPECIAL, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def make_encoder(folder: Path, texts: Iterable[str], *, hidden: int = 32, layers: int = 2, seed: int = 0) -> Path:
    """Return a folder with config.json, model.safetensors and tokenizer files of a random BERT."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(texts)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {f"{name.strip('[]').lower()}_token": name for name in SPECIAL}
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


FAMILIES = ("xlm-roberta", "camembert", "roberta", "modernbert", "distilbert", "e5")
"""SentencePiece's pieces with a leading blank: the first two and the last. Bytes: the next two. Then WordPiece."""
POSITIONS = 64
TEXTS = (
    "From Paris to Lisbon on Friday, please.",
    "Where is my parcel, and when does it come?",
    "Quel temps fera-t-il demain à Saint-Étienne ?",
    "L'œuvre a été achevée en 1887 par Gustave Eiffel.",
)


def make_family(folder: Path, family: str) -> Path:
    """Return the folder of a random encoder as the hub has them of that family, with its kind of tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, tokens, name = _family_tokenizer(family)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, **tokens}))
    sizes = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": tokenizer.token_to_id(tokens["pad_token"]),
    }
    if family == "distilbert":
        sizes |= {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    ends = ("bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id")
    sizes |= {key: tokenizer.token_to_id(tokens[key.removesuffix("_id")]) for key in ends}
    torch.manual_seed(0)
    config = AutoConfig.for_model("bert" if family == "e5" else family, **sizes)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def _family_tokenizer(family: str) -> tuple[Tokenizer, dict[str, str], str]:
    if family in ("distilbert", "modernbert"):
        tokens = {f"{name.strip('[]').lower()}_token": name for name in SPECIAL}
        tokens |= {"bos_token": "[CLS]", "eos_token": "[SEP]"}
    else:
        names = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>"}
        tokens = {f"{name}_token": token for name, token in names.items()} | {"mask_token": "<mask>"}
    if family == "distilbert":
        return make_tokenizer(TEXTS), tokens, "DistilBertTokenizer"
    ordered = [*dict.fromkeys(tokens[f"{name}_token"] for name in ("cls", "pad", "sep", "unk", "mask"))]
    if family in ("roberta", "modernbert"):
        tokenizer = Tokenizer(models.BPE(unk_token=None))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=ordered, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=ordered, unk_token=tokens["unk_token"], show_progress=False
        )
    tokenizer.train_from_iterator(TEXTS, trainer)
    start, end = tokens["cls_token"], tokens["sep_token"]
    between = f"{end} {end}" if start == "<s>" else end
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {between} $B {end}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (start, end)],
    )
    classes = {"xlm-roberta": "XLMRobertaTokenizer", "camembert": "CamembertTokenizer", "roberta": "RobertaTokenizer"}
    return tokenizer, tokens, classes.get(family, "PreTrainedTokenizerFast")
