"""The Lightning data module of intents: sets of utterances in, batches of token ids and intents out.

Every random choice follows from (seed, epoch, place), so that a resumed run sees what the uninterrupted one would have.
"""

from __future__ import annotations

import logging
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.utils.data import DataLoader, Dataset

from nlp.encoders import END, MASK, MINILM, PAD, START, UNKNOWN, check_max_length, load_tokenizer, train_tokenizer
from nlp.intent.entities import Span, multi_intent, tags_of, words_of
from nlp.intent.network import FROM_NOTHING
from nlp.intent.rephrasing import still_wanted, taken_back, two_wishes
from nlp.intent.sources import Example, LoadedSource, Source, load_source
from nlp.intent.teaching import teacher_logits
from nlp.text import ATTENTION_MASK, INPUT_IDS, Encoding, TextEncoder
from shared.bundle.read import sha256_of
from shared.errors import ConfigError, DataError
from shared.sources.splits import GUARDED, SPLITS
from shared.sources.tables import normalised
from shared.training.data import TaskData, stratified_share

logger = logging.getLogger(__name__)
Batch = dict[str, torch.Tensor]
NAMES = (INPUT_IDS, ATTENTION_MASK)
SHUFFLED_TOGETHER = 32
"""So many batches' worth of utterances are sorted by length at a time; more pad less, fewer mix better."""
PLAIN_BATCH = 128
UNTAGGED = -100
"""Of tokens whose tag does not count; torch's own number for it."""
_WORD = re.compile(r"[^\W\d_]+")
OUT_OF_SCOPE = ""
"""Stratum of the utterances that belong to no intent; no label is empty."""


class IntentData(TaskData):
    """Utterances with their intents.

    Args:
        source: a CSV, TSV, JSON lines or parquet file with `text` and `label`, a folder of such files, Rasa's NLU YAML,
            the name of a Hugging Face dataset, or a list of such sets with their options.
        encoder: name or folder of the encoder whose tokenizer is used, or "bilstm" or "tfidf" for a tokenizer trained
            on the training utterances; the command line fills it in from the model.
        teacher: the folder of a bundle that is asked about the training utterances; filled in from the model as well.
        max_length: most tokens of an utterance; the rest is cut off.
        batch_size: utterances in a step, those out of scope not counted.
        out_of_scope_per_batch: utterances that belong to no intent in each step, drawn evenly over the sets that have
            any; where there are none, none are drawn.
        labels_per_batch: draw so many intents for each step, and of each as many utterances as fit: contrastive losses
            need several of one intent side by side. 0 for batches as the utterances come.
        two_wishes_per_batch: so many utterances in each step are two of different intents in one. They belong to no
            single intent, and half to each of the two: what wants two things is not surely one of them.
        negated_per_batch: so many utterances in each step are made from others by a rule for English and French that
            takes back what they want, and belong to no intent; as many only sound so, and keep theirs.
        lookup_share: share of the entities whose words are replaced while training, by values of lookup tables.
        mask_share: share of the tokens that are hidden while training.
        examples_per_class: learn from only so many utterances of each intent, to see how far few go; 0 for all.
        val_share: share of each intent that validates, where a set brings no validation split.
        test_share: share held back for the final test, where a set brings no test split.
        vocabulary_size: most pieces of a trained tokenizer.
        seed: fixes splits, order, draws and hidden tokens.
        cache_dir: where `datasets` keeps its tables; its own default if not given.
    """

    def __init__(
        self,
        source: str | list[Source],
        encoder: str = MINILM,
        teacher: str | None = None,
        max_length: int = 64,
        batch_size: int = 64,
        out_of_scope_per_batch: int = 8,
        labels_per_batch: int = 0,
        two_wishes_per_batch: int = 0,
        negated_per_batch: int = 0,
        lookup_share: float = 0.25,
        mask_share: float = 0.0,
        examples_per_class: int = 0,
        val_share: float = 0.1,
        test_share: float = 0.1,
        vocabulary_size: int = 8000,
        seed: int = 42,
        cache_dir: str | None = None,
    ) -> None:
        options = [Source(source)] if isinstance(source, str) else source
        super().__init__(options, val_share=val_share, test_share=test_share, seed=seed, cache_dir=cache_dir)
        if batch_size < 2 or labels_per_batch > batch_size:
            raise ConfigError(f"batch_size must be 2 or more, and not less than labels_per_batch; came {batch_size}.")
        if not 0 <= mask_share < 1:
            raise ConfigError(f"mask_share must be from 0 to less than 1; came {mask_share}.")
        self.encoder_name = encoder
        self.teacher_name = teacher
        self.max_length = max_length
        self.batch_size = batch_size
        self.out_of_scope_per_batch = out_of_scope_per_batch
        self.labels_per_batch = labels_per_batch
        self.two_wishes_per_batch = two_wishes_per_batch
        self.negated_per_batch = negated_per_batch
        self.lookup_share = lookup_share
        self.mask_share = mask_share
        self.examples_per_class = examples_per_class
        self.max_vocabulary = vocabulary_size

    def setup(self, stage: str | None = None) -> None:
        """Read, check and split the utterances, and load or train the tokenizer; done once, whatever the stage."""
        if hasattr(self, "encoder"):
            return
        self.read()
        for line in self.notes()["contradictions"][:5]:
            logger.warning("several labels for one utterance: %s", line)
        tokenizer, self.tokenizer_settings = self._tokenizer()
        self.encoder = TextEncoder(tokenizer, self.max_length)
        self.vocabulary_size = self.encoder.vocabulary_size
        self.mask_id = next((i for t in (MASK, "<mask>") if (i := tokenizer.token_to_id(t)) is not None), None)
        special = (tokenizer.token_to_id(token) for token in (PAD, UNKNOWN, START, END, MASK))
        self.special_ids = [place for place in special if place is not None]
        if self.mask_share and self.mask_id is None:
            raise ConfigError(f"{self.encoder_name} has no mask token: set data.mask_share to 0.")

    def load(self, options: Source, index: int) -> LoadedSource:
        """Return a set, read and checked."""
        return load_source(options, index, self.cache_dir)

    def digest(self, example: Example) -> str:
        """Return the digest of the utterance, whatever its case and spaces."""
        return sha256_of(normalised(example.text).encode())

    def ties(self, example: Example) -> Sequence[str]:
        """Return the utterance, whatever its case and spaces, and its group if it has one."""
        text = normalised(example.text)
        return (text,) if example.group is None else (text, f"{example.source} {example.group}")

    def nearly(self, example: Example) -> str | None:
        """Return the utterance's words, without numbers and marks and in no order."""
        return " ".join(sorted(set(_WORD.findall(example.text.casefold())))) or None

    def settle(self) -> None:
        """Drop repeated utterances and labels that nothing teaches, and number the others."""
        self._drop_repeated()
        if self.examples_per_class:
            self.splits["train"] = few(self.splits["train"], self.examples_per_class, self.seed)
        self.labels = sorted({e.label for e in self.splits["train"] if e.label is not None})
        if len(self.labels) < 2:
            raise DataError(f"the training part has {len(self.labels)} intents; it needs at least two.")
        self._index = {label: i for i, label in enumerate(self.labels)}
        self.multi_intents = {
            frozenset(parts): i for i, label in enumerate(self.labels) if len(parts := multi_intent(label)) == 2
        }
        self._drop_strangers()
        marked = {span.kind for e in self.splits["train"] for span in e.entities or ()}
        self.kinds = sorted(marked, key=lambda kind: kind.name)
        self._kind_index = {kind: i for i, kind in enumerate(self.kinds)}
        self.lookups: dict[str, list[str]] = defaultdict(list)
        self.synonyms: dict[str, dict[str, str]] = {}
        for source in self.sources:
            for entity, values in source.lookups.items():
                self.lookups[entity] += values
            for entity, names in source.synonyms.items():
                self.synonyms[entity] = names | self.synonyms.get(entity, {})

    def notes(self) -> dict[str, list[str]]:
        """Return what was left out of the sets, and which utterances have several labels."""
        contradictions = [f"{source.name}: {line}" for source in self.sources for line in source.contradictions]
        return {**super().notes(), "contradictions": contradictions}

    def target(self, example: Example) -> int:
        """Return the number of its intent, -1 if it has none."""
        return -1 if example.label is None else self._index[example.label]

    @property
    def entity_kinds(self) -> list[list[str | None]]:
        """Entity, role and group of each kind that some training utterance has."""
        return [[kind.entity, kind.role, kind.group] for kind in self.kinds]

    def tags(self, encoding: Encoding, entities: Sequence[Span] | None) -> np.ndarray:
        """Return the tag of each token, int64 [T]; `UNTAGGED` of all but words' first ones, or where nobody marks any.

        Args:
            encoding: of an utterance.
            entities: that are marked in it.
        """
        found = np.full(len(encoding), UNTAGGED, dtype=np.int64)
        if entities is not None and self.kinds:
            words = words_of(encoding)
            found[[word.token for word in words]] = tags_of(words, entities, self._kind_index)
        return found

    @property
    def has_out_of_scope(self) -> bool:
        """Whether some utterances to learn from belong to no intent."""
        made = self.two_wishes_per_batch or self.negated_per_batch
        return bool(made) or any(example.label is None for example in self.splits["train"])

    def strata(self, example: Example) -> Sequence[str]:
        """Return the utterance's intent, if it has one."""
        return () if example.label is None else (example.label,)

    def divide(self, source: LoadedSource) -> dict[str, list[Example]]:
        """Return split -> examples: stored splits stay, the others are taken from "train", stratified by intent."""
        splits = {name: [e for e in source.examples if e.split == name] for name in SPLITS}
        if source.options.split is not None:
            return splits
        for name in ("test", "val"):
            share, pool = self.shares[f"{name}_share"], splits["train"]
            if splits[name] or not share or not pool:
                continue
            waits = name == "test" and self.shares["val_share"] and not splits["val"]
            taken = stratified_share(
                [e.label or OUT_OF_SCOPE for e in pool],
                share,
                random.Random(f"{self.seed}-{name}"),
                stay=2 if waits else 1,  # one to validate, one to learn from
            )
            splits[name] = [pool[i] for i in sorted(taken)]
            splits["train"] = [e for i, e in enumerate(pool) if i not in taken]
        return splits

    def _drop_repeated(self) -> None:
        """Of an utterance in two sets or splits, keep the one in the most guarded split: test, then val, then train."""
        seen: dict[str, tuple[str, Example]] = {}
        for name in GUARDED:
            kept = []
            for example in self.splits[name]:
                key = normalised(example.text)
                if key not in seen:
                    seen[key] = name, example
                    kept.append(example)
                    continue
                part, before = seen[key]
                source = self.sources[example.source]
                other = self.sources[before.source].name
                source.skip("also in another part", f"{name}: {example.text!r} is also in the {part} part of {other}")
                if before.label != example.label:
                    labels = (before.label or "out of scope", example.label or "out of scope")
                    source.contradictions.append(f"{example.text!r}: {labels[0]} (kept) and {labels[1]}")
            self.splits[name] = kept

    def _drop_strangers(self) -> None:
        """Leave out of validation and test what has a label that no training utterance has."""
        for name in ("val", "test"):
            for example in self.splits[name]:
                if example.label is not None and example.label not in self._index:
                    line = f"{name}: {example.text!r} has the label {example.label!r}, which no training utterance has"
                    self.sources[example.source].skip("with a label that nothing teaches", line)
            known = [e for e in self.splits[name] if e.label is None or e.label in self._index]
            self.splits[name] = known

    def _tokenizer(self) -> tuple[Tokenizer, dict[str, Any]]:
        if self.encoder_name not in FROM_NOTHING:
            check_max_length(self.encoder_name, self.max_length)
            return load_tokenizer(self.encoder_name)
        texts = [example.text for example in self.splits["train"]]
        return train_tokenizer(texts, self.max_vocabulary), {"tokenizer_class": "PreTrainedTokenizerFast"}

    @cached_property
    def teacher_logits(self) -> np.ndarray | None:
        """What the teacher says of the training utterances that have an intent, float32 [N, C]; None without one."""
        if self.teacher_name is None:
            return None
        texts = [example.text for example in self.splits["train"] if example.label is not None]
        return teacher_logits(self.teacher_name, texts, self.labels, torch.get_num_threads())

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return this epoch's batches; the trainer asks again each epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        self.check_validation()
        self.teacher_logits  # noqa: B018 asked, or refused, before the first step
        return _loader(TrainingBatches(self, f"{self.seed}-{epoch}"))

    def check_validation(self) -> None:
        """Refuse data of which nothing validates.

        Raises:
            DataError: says what to do.
        """
        if not any(example.label is not None for example in self.splits["val"]):
            raise DataError("no utterance validates, so no checkpoint could be chosen and no confidence calibrated: "
                            "raise val_share above 0 or add utterances, at least two per intent.")  # fmt: skip

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation utterances, as the service would encode them."""
        batches = PlainBatches(self, self.splits["val"])
        self.val_encodings = batches.encodings
        return _loader(batches)

    def plain_dataloader(self, examples: list[Example]) -> DataLoader[Batch]:
        """Return any utterances without hidden tokens and drawn ones."""
        return _loader(PlainBatches(self, examples))


def few(examples: list[Example], count: int, seed: int) -> list[Example]:
    """Return at most `count` utterances of each intent, drawn by the seed; those out of scope all stay."""
    by_label: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.label is not None:
            by_label[example.label].append(example)
    chosen = [
        example
        for label in sorted(by_label)
        for example in random.Random(f"{seed}-{label}").sample(by_label[label], min(count, len(by_label[label])))
    ]
    return chosen + [example for example in examples if example.label is None]


class PlainBatches(Dataset[Batch]):
    """Utterances as the service encodes them, of like length together.

    A batch is input_ids and attention_mask, int64 [N, T], target int64 [N] (-1 out of scope), row int64 [N], the place
    among the examples, and where there are entities their tags, int64 [N, T].
    """

    def __init__(self, data: IntentData, examples: Sequence[Example]) -> None:
        self.data = data
        self.examples = examples
        self.encodings = data.encoder.encode_batch([example.text for example in examples])
        order = sorted(range(len(examples)), key=lambda i: len(self.encodings[i]))
        self.batches = [order[start : start + PLAIN_BATCH] for start in range(0, len(order), PLAIN_BATCH)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        rows = self.batches[index]
        arrays = self.data.encoder.batch([self.encodings[row] for row in rows], NAMES)
        return {
            **{name: torch.from_numpy(array) for name, array in arrays.items()},
            **self._tags(rows, arrays[INPUT_IDS].shape[1]),
            "target": torch.tensor([self.data.target(self.examples[row]) for row in rows]),
            "row": torch.tensor(rows),
        }

    def _tags(self, rows: Sequence[int], length: int) -> Batch:
        tags = [self.data.tags(self.encodings[row], self.examples[row].entities) for row in rows]
        return {"tags": padded(tags, length)} if self.data.kinds else {}


class TrainingBatches(Dataset[Batch]):
    """An epoch's batches: intents first, then utterances that are made of these or belong to none, some tokens hidden.

    Where two wishes are made one, `both` int64 [N, 2] has the two intents, or -1.
    With a teacher, `teacher_logits` float32 [N, C] is what it says of them, 0 for those that belong to none.

    Args:
        data: the utterances.
        key: fixes every choice.
    """

    def __init__(self, data: IntentData, key: str) -> None:
        self.data = data
        self.key = key
        self.examples = [example for example in data.splits["train"] if example.label is not None]
        self.encodings = data.encoder.encode_batch([example.text for example in self.examples])
        self.targets = [data.target(example) for example in self.examples]
        outside: dict[int, list[Example]] = defaultdict(list)
        for example in data.splits["train"]:
            if example.label is None:
                outside[example.source].append(example)
        self.outside = [
            [
                Made(e, each.entities, -1)
                for e, each in zip(data.encoder.encode_batch([x.text for x in part]), part, strict=True)
            ]
            for part in (outside[source] for source in sorted(outside))
        ]
        rng = random.Random(f"order-{key}")
        self.batches = self._balanced(rng) if data.labels_per_batch else self._as_they_come(rng)
        rng.shuffle(self.batches)

    def _as_they_come(self, rng: random.Random) -> list[list[int]]:
        order = list(range(len(self.examples)))
        rng.shuffle(order)
        size = self.data.batch_size
        batches = []
        for start in range(0, len(order), size * SHUFFLED_TOGETHER):
            part = order[start : start + size * SHUFFLED_TOGETHER]
            part.sort(key=lambda i: len(self.encodings[i]))
            batches += [part[i : i + size] for i in range(0, len(part), size)]
        return batches

    def _balanced(self, rng: random.Random) -> list[list[int]]:
        """Return batches of `labels_per_batch` intents with equally many utterances each, as many as the epoch has."""
        of_label: dict[int, list[int]] = defaultdict(list)
        for i, target in enumerate(self.targets):
            of_label[target].append(i)
        each = max(1, self.data.batch_size // self.data.labels_per_batch)
        queues: dict[int, list[int]] = {label: [] for label in of_label}
        waiting: list[int] = []
        batches = []
        for _ in range(-(-len(self.examples) // self.data.batch_size)):
            batch: list[int] = []
            for _ in range(min(self.data.labels_per_batch, len(of_label))):
                if not waiting:
                    waiting = sorted(of_label)
                    rng.shuffle(waiting)
                label = waiting.pop()
                if len(queues[label]) < each:
                    fresh = list(of_label[label])
                    rng.shuffle(fresh)
                    queues[label] = fresh + queues[label]  # what is left comes first: it is taken from the end
                batch += [queues[label].pop() for _ in range(min(each, len(queues[label])))]
            batches.append(batch)
        return batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        rows = self.batches[index]
        rng = random.Random(f"batch-{self.key}-{index}")
        outside = [rng.choice(rng.choice(self.outside)) for _ in range(self._outside_count)]
        all_of = [self._own(row, rng) for row in rows] + outside + self._made(rows, rng)
        encodings = [each.encoding for each in all_of]
        arrays = self.data.encoder.batch(encodings, NAMES)
        if self.data.mask_share:
            hidden = np.random.default_rng(rng.getrandbits(64)).random(arrays[INPUT_IDS].shape) < self.data.mask_share
            for row, encoding in enumerate(encodings):  # neither special tokens nor padding
                hidden[row, : len(encoding)] &= encoding.is_text
                hidden[row, len(encoding) :] = False
            arrays[INPUT_IDS][hidden] = self.data.mask_id
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        batch["target"] = torch.tensor([each.target for each in all_of])
        if self.data.two_wishes_per_batch:
            batch["both"] = torch.tensor([each.both or (-1, -1) for each in all_of])
        if self.data.kinds:
            tags = [self.data.tags(each.encoding, each.entities) for each in all_of]
            batch["tags"] = padded(tags, arrays[INPUT_IDS].shape[1])
        if self.data.teacher_logits is not None:
            said = np.zeros((len(all_of), len(self.data.labels)), dtype=np.float32)
            for place, each in enumerate(all_of):
                if each.row is not None:
                    said[place] = self.data.teacher_logits[each.row]
            batch["teacher_logits"] = torch.from_numpy(said)
        return batch

    def _own(self, row: int, rng: random.Random) -> Made:
        """Return a training utterance, some of its entities with other words from lookup tables."""
        example = self.examples[row]
        lookups, share = self.data.lookups, self.data.lookup_share
        if share and any(span.kind.entity in lookups for span in example.entities or ()):
            text, entities = exchanged(example, lookups, share, rng)
            if text != example.text:
                return Made(self.data.encoder.encode(text), entities, self.targets[row], row)
        return Made(self.encodings[row], example.entities, self.targets[row], row)

    def _made(self, rows: Sequence[int], rng: random.Random) -> list[Made]:
        """Return utterances that are made of those of a batch: two in one, taken back, and still wanted."""
        found: list[Made] = []
        encode = self.data.encoder.encode
        for _ in range(self.data.two_wishes_per_batch):
            first, second = rng.choice(rows), rng.randrange(len(self.examples))
            if self.targets[first] == self.targets[second]:
                continue
            one, other = self.examples[first], self.examples[second]
            text, at_one, at_other = two_wishes(one.text, other.text, rng)
            entities = None
            if one.entities is not None and other.entities is not None:
                moved = [(at_one, span) for span in one.entities] + [(at_other, span) for span in other.entities]
                entities = tuple(replace(span, start=span.start + at, end=span.end + at) for at, span in moved)
            known = self.data.multi_intents.get(frozenset((str(one.label), str(other.label))))
            both = (self.targets[first], self.targets[second])
            found.append(
                Made(encode(text), entities, -1 if known is None else known, both=both if known is None else None)
            )
        for _ in range(self.data.negated_per_batch):
            row = rng.choice(rows)
            if unwanted := taken_back(self.examples[row].text, rng):
                found.append(Made(encode(unwanted), None, -1))
            row = rng.choice(rows)
            if wanted := still_wanted(self.examples[row].text, rng):
                found.append(Made(encode(wanted), None, self.targets[row], row))
        return found

    @property
    def _outside_count(self) -> int:
        return self.data.out_of_scope_per_batch if self.outside else 0


@dataclass(frozen=True, eq=False)
class Made:
    """An utterance of a training batch: encoded, with its entities (None if nobody marked any) and its intent or -1."""

    encoding: Encoding
    entities: tuple[Span, ...] | None
    target: int
    row: int | None = None
    """The training utterance of the same intent that it is, or is made of."""
    both: tuple[int, int] | None = None
    """The two intents of one that wants two things, and whose intent is neither."""


def exchanged(
    example: Example, lookups: Mapping[str, Sequence[str]], share: float, rng: random.Random
) -> tuple[str, tuple[Span, ...]]:
    """Return an utterance with the words of some entities replaced by other values, and its entities.

    Args:
        example: with entities.
        lookups: entity -> values.
        share: of the entities that have values.
        rng: decides which.
    """
    text, moved, spans = example.text, 0, []
    for span in example.entities or ():
        values = lookups.get(span.kind.entity)
        start, end = span.start + moved, span.end + moved
        if values and rng.random() < share:
            value = rng.choice(values)
            text = text[:start] + value + text[end:]
            moved += len(value) - (end - start)
            end = start + len(value)
        spans.append(replace(span, start=start, end=end))
    return text, tuple(spans)


def padded(tags: Sequence[np.ndarray], length: int) -> torch.Tensor:
    """Return tags of each token, int64 [N, T], `UNTAGGED` where there is none."""
    found = torch.full((len(tags), length), UNTAGGED)
    for row, each in enumerate(tags):
        found[row, : len(each)] = torch.from_numpy(each)
    return found


def _loader(batches: TrainingBatches | PlainBatches) -> DataLoader[Batch]:
    return DataLoader(batches, batch_size=None, shuffle=False, pin_memory=torch.cuda.is_available())
