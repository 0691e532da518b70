"""Text to token ids and back to exact places in the caller's text: one encoder for training and serving. Torch-free.

Offsets count Python characters (code points) of the text as it was sent, before any normalisation by the tokenizer.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from tokenizers import Tokenizer

from shared.bundle.layout import TOKENIZER, TOKENIZER_CONFIG
from shared.bundle.read import Bundle
from shared.errors import BundleError, InputError, TooLarge

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
TOKEN_TYPE_IDS = "token_type_ids"  # noqa: S105 no password
MAX_QUESTION_SHARE = 0.25
"""Largest share of a window for the question; the rest of a longer question is cut off."""
WINDOW_OVERLAP = 4
"""Neighbouring windows of one text share this part of a window, a quarter."""
MAX_LENGTH = 32_768
"""Tokens; larger bounds are no network's."""
MAX_MARKS = 30
"""Combining marks in a row: more are no language's, and normalising n of them takes n² steps, during which no other
thread runs: 40,000 took 6 s. Source: Unicode Standard Annex 15, Stream-Safe Text Format."""
_BEHIND_MARKS = 0x20000
"""The planes from here on hold no combining marks; looking through them would hold the first caller up for 0.1 s."""
_JOINERS = "\u200d\ufe0e\ufe0f"
"""Zero-width joiner and variation selectors, which belong to the character before them."""
_JSON_NAMES = {type(None): "null", bool: "true or false", int: "a number", float: "a number", list: "an array",
               dict: "an object"}  # fmt: skip

_LONG_TEXT = 500
"""Characters of a text beside whose encoding other threads run: with 64 such texts a request held them for 150 ms."""


class _Lengths(BaseModel):
    """tokenizer_config.json, as far as it is read."""

    model_config = ConfigDict(strict=True)

    max_length: int = Field(ge=4, le=MAX_LENGTH)
    stride: int = Field(ge=0)

    @model_validator(mode="after")
    def _windows_move_on(self) -> _Lengths:
        if self.stride + 4 >= self.max_length * (1 - MAX_QUESTION_SHARE):
            raise ValueError("a window has no room for more than the stride")
        return self


@dataclass(frozen=True, eq=False)
class Encoding:
    """One sequence as the network takes it, without padding."""

    input_ids: np.ndarray
    """int64 [T], special tokens included."""
    token_type_ids: np.ndarray
    """int64 [T]: 0 for the first text, 1 for the second."""
    offsets: np.ndarray
    """int64 [T, 2]: start and end of each token in the text (for a window: in the context)."""
    is_text: np.ndarray
    """bool [T]: tokens of the text (for a window: of the context), not special ones and not the question's."""
    is_cut: bool = False
    """Whether the middle of the text is left out, because the network reads no more."""
    is_wordless: bool = False
    """Whether the text has no word: nothing but punctuation, or one letter."""
    text: str = field(default="", repr=False)
    """What was encoded, as it came; empty for a window of a context."""
    windows: tuple[slice, ...] = ()
    """Parts that the network reads one by one, because the whole is longer than it reads; none if it is not."""

    def __len__(self) -> int:
        return len(self.input_ids)


class TextEncoder:
    """Encodes utterances, and questions with passages, as one bundle's network takes them. Safe to use from threads.

    Args:
        tokenizer: its own truncation and padding settings are ignored.
        max_length: most tokens in one sequence, special ones included.
        stride: tokens that neighbouring windows of one context share.
        max_windows: `encode` gives a longer text in so many parts at most, which overlap.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int, stride: int = 0, max_windows: int = 1) -> None:
        self.max_length = max_length
        self.stride = stride
        self.max_windows = max_windows
        self._plain = _untruncated(tokenizer.to_str())
        self._max_question_tokens = max(1, int(max_length * MAX_QUESTION_SHARE))
        self.pad_id = self._pad_id()

    @classmethod
    def from_bundle(cls, bundle: Bundle, max_windows: int = 1) -> TextEncoder:
        """Return the encoder that a language bundle was trained with.

        Args:
            bundle: of any language task.
            max_windows: as for the class.

        Raises:
            BundleError: tokenizer.json or tokenizer_config.json is missing, broken or lacks a value.
        """
        tokenizer, config = bundle.file(TOKENIZER), bundle.file(TOKENIZER_CONFIG)
        try:
            values = _Lengths.model_validate_json(config.read_bytes())
            encoder = cls(Tokenizer.from_file(str(tokenizer)), values.max_length, values.stride, max_windows)
            encoder.encode("a")  # some load and then fail on every text
            if values.stride:
                encoder.windows("a", "b")
            return encoder
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise BundleError(
                f"{config} is wrong: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}; expected "
                f"max_length, 4 to {MAX_LENGTH}, and a stride that leaves room in it."
            ) from error
        except BaseException as error:  # tokenizers raises plain Exception; a Rust panic is not even that
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise BundleError(f"{tokenizer.parent} has no readable tokenizer: {error}") from error

    def files(self, extra: dict[str, Any] | None = None) -> dict[str, bytes]:
        """Return tokenizer.json and tokenizer_config.json for a bundle.

        Args:
            extra: more entries for tokenizer_config.json, such as Hugging Face's `tokenizer_class`.
        """
        values = {**(extra or {}), "max_length": self.max_length, "stride": self.stride}
        values |= {"model_max_length": self.max_length}
        plain = self._plain.to_str(pretty=False).encode()
        return {TOKENIZER: plain, TOKENIZER_CONFIG: json.dumps(values, indent=2).encode() + b"\n"}

    @functools.cached_property
    def _pair(self) -> Tokenizer:
        """Cuts the second text into windows. Truncation is state of a tokenizer, so this one is a copy."""
        pair = Tokenizer.from_str(self._plain.to_str())
        pair.enable_truncation(self.max_length, stride=self.stride, strategy="only_second")
        return pair

    def longest(self) -> Encoding:
        """Return the longest sequence of the token with the largest id, to find out if a network takes it."""
        largest = max(self._plain.get_vocab(with_added_tokens=True).values())
        ids = np.full(self.max_length, largest, dtype=np.int64)
        nothing = np.zeros_like(ids)
        return Encoding(ids, nothing, np.zeros((len(ids), 2), dtype=np.int64), nothing.astype(bool))

    @property
    def vocabulary_size(self) -> int:
        return self._plain.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> Encoding:
        """Return one text; of one with too many tokens the beginning and the end, half each.

        Too many are more than `max_length`, or than `max_windows` hold, whose places the encoding then has.
        Source: Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?", section 4.1, head+tail. A short text
        does not let other threads run meanwhile, which would cost more than the encoding.

        Raises:
            InputError: the text has half a surrogate pair, which is no character.
        """
        check_text(text)
        return self._encoded(text, self._found(text))

    def _found(self, text: str) -> Any:
        """Return tokenizers' encoding of a whole text; `encode_batch` lets other threads run, `encode` does not."""
        if len(text) < _LONG_TEXT:
            return self._plain.encode(text)
        return self._plain.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Return one encoding per text; raises as `encode`."""
        for text in texts:
            check_text(text)
        found = self._plain.encode_batch(list(texts))
        return [self._encoded(text, each) for text, each in zip(texts, found, strict=True)]

    def _encoded(self, text: str, found: Any) -> Encoding:
        """Return the encoding of a text, from tokenizers' of all of it: its beginning and end if that is too long."""
        whole = _encoding(found, sequence=0)
        is_long = len(whole) > self.max_length
        kept, windows = self._kept(whole) if is_long else (slice(None), ())
        return Encoding(
            input_ids=whole.input_ids[kept],
            token_type_ids=whole.token_type_ids[kept],
            offsets=whole.offsets[kept],
            is_text=whole.is_text[kept],
            is_cut=isinstance(kept, np.ndarray) and len(kept) < len(whole),
            is_wordless=is_wordless(text),
            text=text,
            windows=windows,
        )

    def _kept(self, whole: Encoding) -> tuple[np.ndarray, tuple[slice, ...]]:
        """Return the places of the tokens that the network reads of a text that is too long, and its windows.

        Special ones stay. Not tokenizers' `truncate` and `merge`: they keep each piece that is left out, and join each
        with each.
        """
        text = np.flatnonzero(whole.is_text)
        room = self.max_length - (len(whole) - len(text))
        shared = room // WINDOW_OVERLAP
        most = room + (self.max_windows - 1) * (room - shared)
        left_out = text[most - most // 2 : len(text) - most // 2] if len(text) > most else text[:0]
        kept = np.delete(np.arange(len(whole)), left_out)
        first, count = int(text[0]), len(text) - len(left_out)
        if self.max_windows == 1:
            return kept, ()
        starts = [min(start, count - room) for start in range(0, count - shared, room - shared)]
        return kept, tuple(slice(first + start, first + start + room) for start in starts)

    def reading_whole(self, max_windows: int) -> TextEncoder:
        """Return the same encoder for texts of so many windows."""
        return TextEncoder(self._plain, self.max_length, self.stride, max_windows)

    def windows(self, question: str, context: str) -> list[Encoding]:
        """Return the context after the question, in windows that overlap by `stride` tokens; at least one.

        Offsets are places in the context. A question longer than a quarter of a window is cut off.

        Raises:
            InputError: a text has half a surrogate pair, which is no character.
        """
        check_text(question)
        check_text(context)
        # encode_batch lets other threads run meanwhile, encode does not, which matters for a long context.
        (found,) = self._pair.encode_batch([(self.clipped_question(question), context)])
        return [_encoding(each, sequence=1) for each in (found, *found.overflowing)]

    def clipped_question(self, question: str) -> str:
        """Return as much of the question as a window has room for."""
        offsets = self._plain.encode(question, add_special_tokens=False).offsets
        if len(offsets) <= self._max_question_tokens:
            return question
        return question[: offsets[self._max_question_tokens - 1][1]]

    def batch(self, encodings: Sequence[Encoding], names: Sequence[str], multiple: int = 1) -> dict[str, np.ndarray]:
        """Return int64 [N, T] for each input name, padded to the longest and up to a multiple.

        Args:
            encodings: at least one.
            names: inputs of the network: some of input_ids, attention_mask and token_type_ids.
            multiple: T is a multiple of it, as far as `max_length` allows.
        """
        lengths = [each.input_ids.size for each in encodings]
        longest = max(lengths)
        length = max(longest, min(-(-longest // multiple) * multiple, self.max_length))
        arrays = {
            INPUT_IDS: np.full((len(encodings), length), self.pad_id, dtype=np.int64),
            ATTENTION_MASK: np.zeros((len(encodings), length), dtype=np.int64),
            TOKEN_TYPE_IDS: np.zeros((len(encodings), length), dtype=np.int64),
        }
        for row, (each, tokens) in enumerate(zip(encodings, lengths, strict=True)):
            arrays[INPUT_IDS][row, :tokens] = each.input_ids
            arrays[ATTENTION_MASK][row, :tokens] = 1
            arrays[TOKEN_TYPE_IDS][row, :tokens] = each.token_type_ids
        return {name: arrays[name] for name in names}

    def _pad_id(self) -> int:
        for token in ("[PAD]", "<pad>"):
            found = self._plain.token_to_id(token)
            if found is not None:
                return int(found)
        return 0


def parts_of(encoding: Encoding) -> list[Encoding]:
    """Return what the network reads of a text, in one go or window by window, with the special tokens in each."""
    if not encoding.windows:
        return [encoding]
    text = np.flatnonzero(encoding.is_text)
    before, behind = np.arange(text[0]), np.arange(text[-1] + 1, len(encoding))
    places = [np.concatenate([before, np.arange(part.start, part.stop), behind]) for part in encoding.windows]
    return [
        Encoding(
            encoding.input_ids[place], encoding.token_type_ids[place], encoding.offsets[place], encoding.is_text[place]
        )
        for place in places
    ]


@functools.lru_cache(maxsize=1)
def _untruncated(content: str) -> Tokenizer:
    """Return a tokenizer without truncation and padding, the same one for models with the same: each takes 10 MB."""
    tokenizer = Tokenizer.from_str(content)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def is_wordless(text: str) -> bool:
    """Whether a text is nothing but punctuation and blanks, or one letter of an alphabet.

    >>> [is_wordless(text) for text in ("?!", " k. ", "ok", "好", "7", "👍")]
    [True, True, False, False, False, False]
    """
    kinds = (unicodedata.category(character) for character in text)
    words = list(islice((kind for kind in kinds if kind[0] not in "PZC"), 2))
    return not words or (len(words) == 1 and words[0] in ("Ll", "Lu", "Lt"))


def read_text(row: Mapping[str, Any], column: str) -> str:
    """Return a cell that must be a text.

    >>> read_text({"text": 7}, "text")
    Traceback (most recent call last):
    shared.errors.InputError: 'text' must be a text; came int.

    Raises:
        InputError: it is none, blank, or holds half a character.
    """
    value = row.get(column)
    if not isinstance(value, str):
        raise InputError(f"{column!r} must be a text; came {'nothing' if value is None else type(value).__name__}.")
    check_text(value)
    if not value.strip():
        raise InputError(f"{column!r} is blank.")
    return value


def encoded_rows(
    rows: Sequence[Mapping[str, Any]], column: str, encoder: TextEncoder
) -> tuple[list[dict[str, Any]], list[tuple[int, Encoding]]]:
    """Return for each row of a table its text, or the error of one that cannot be read; and (place, encoding) of texts.

    Args:
        rows: of the table.
        column: that has the texts.
        encoder: the model's.
    """
    answers: list[dict[str, Any]] = [{} for _ in rows]
    readable: list[tuple[int, Encoding]] = []
    for place, row in enumerate(rows):
        try:
            answers[place]["text"] = read_text(row, column)
            readable.append((place, encoder.encode(answers[place]["text"])))
        except InputError as error:
            answers[place]["error"] = str(error)
    return answers, readable


def check_text(text: str) -> None:
    r"""Refuse half a surrogate pair: JSON can carry one (`"\ud83d"`), UTF-8 and tokenizers cannot.

    Raises:
        InputError: says where it is, or where a row of combining marks begins, as `check_marks`.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text has half a surrogate pair at character {error.start}, which is no character. "
            "Send whole characters."
        ) from None
    check_marks(text)


def check_marks(text: str) -> None:
    """Refuse more than `MAX_MARKS` combining marks in a row.

    Raises:
        InputError: says where they begin.
    """
    found = None if text.isascii() else _too_many_marks().search(text)
    if found:
        raise InputError(
            f"the text has more than {MAX_MARKS} combining marks in a row from character {found.start()} on; no "
            "language has so many. Send text without them."
        )


@functools.cache
def _too_many_marks() -> re.Pattern[str]:
    marks = (chr(code) for code in range(0x300, _BEHIND_MARKS) if unicodedata.combining(chr(code)))
    return re.compile(f"[{''.join(marks)}]{{{MAX_MARKS + 1}}}")


def checked_text(text: Any, max_chars: int, what: str = "the text") -> str:
    r"""Return a text that a client sent. Any character is fine, NUL and other control characters too.

    >>> checked_text("Ça va ?", 10)
    'Ça va ?'
    >>> checked_text(" \n\u200b", 10)
    Traceback (most recent call last):
    shared.errors.InputError: the text is empty or blank. Send some words.

    Args:
        text: what the client sent.
        max_chars: most characters.
        what: what messages call it.

    Raises:
        InputError: it is no string, has no visible character, or has half a surrogate pair.
        TooLarge: it is longer.
    """
    if not isinstance(text, str):
        raise InputError(f"{what} must be a string; came {_JSON_NAMES.get(type(text), 'something else')}.")
    if len(text) > max_chars:
        raise TooLarge(f"{what} has {len(text)} characters; the limit is {max_chars}. Send a shorter one.")
    check_text(text)
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise InputError(f"{what} is empty or blank. Send some words.")
    return text


def plain_words(text: str) -> str:
    """Return a text's words in lower case, with a blank between: what two ways to write the same have in common.

    >>> plain_words("What's the cost?") == plain_words("what s THE  cost")
    True
    """
    return " ".join(_WORDS.findall(text.casefold()))


def whole_characters(text: str, start: int, end: int) -> tuple[int, int]:
    r"""Return the span, widened so that it does not cut through what people see as one character.

    Tokenizers that strip accents leave combining marks out of their offsets; emoji may be several code points.

    >>> whole_characters("cafe\u0301!", 0, 4)
    (0, 5)
    """
    while 0 < start < len(text) and is_joined(text, start):
        start -= 1
    while 0 < end < len(text) and is_joined(text, end):
        end += 1
    return start, end


_WORDS = re.compile(r"\w+")
_TECHNICAL = re.compile(r"[@_=\\]|://|^[-/.~$]|\w/\w*[/.]|\w\.\w+[(/]|\w{2}\.\w{2}")
"""In an option, path, address, name of a setting or file: such a word is cut nowhere inside."""
_AROUND_WORDS = "\"'“”‘’«»„`()[]{}<>,;:!?…|*"
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Thai, Lao, Burmese, Khmer, kana and ideographs: written without spaces, so that no border shows where a word ends."""
_LONGEST_WORD = 200


def whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a span that begins and ends where words do, without blanks at its ends.

    A word ends where neither letter, digit nor underscore goes on. Options, paths, addresses and names of settings stay
    whole, and so do numbers with their signs: `--ckpt_path`, `help@shop.example`, `4.90`, `$5`, `18 %`.

    >>> text = "Pass --ckpt_path last, or pay $1,024.50 to help@shop.example."
    >>> [text[slice(*whole_words(text, text.index(part), text.index(part) + len(part)))]
    ...  for part in ("path", "1", "shop", "las")]
    ['--ckpt_path', '$1,024.50', 'help@shop.example', 'last']
    """
    start, end = whole_characters(text, start, end)
    while start < end and (text[start].isspace() or text[start] in ",;:"):
        start += 1
    while start < end and (text[end - 1].isspace() or text[end - 1] in ",;:"):
        end -= 1
    if start >= end:
        return start, end
    return whole_characters(text, _word_start(text, start), _word_end(text, end))


def _word_start(text: str, start: int) -> int:
    first, last = _around(text, start)
    if _TECHNICAL.search(text[first:last]):
        return first
    while start > first and _goes_on(text, start):
        start -= 1
    if start > first and text[start - 1] in "$€£¥#+-−±~" and text[start].isdigit():
        start -= 1
    return start


def _word_end(text: str, end: int) -> int:
    first, last = _around(text, end - 1)
    if _TECHNICAL.search(text[first:last]):
        return last
    while end < last and _goes_on(text, end):
        end += 1
    if end < len(text) and text[end - 1].isdigit() and text[end] in "%‰°€$£¥":
        end += 1
    elif text[end - 1 : end].isdigit() and text[end : end + 2] in (" %", "\u00a0%", "\u202f%"):
        end += 2
    return end


def _around(text: str, place: int) -> tuple[int, int]:
    """Return what stands between blanks around a place, without quotes, brackets and final marks at its ends."""
    first, last = place, place + 1
    while first > 0 and not text[first - 1].isspace() and place - first < _LONGEST_WORD:
        first -= 1
    while last < len(text) and not text[last].isspace() and last - place < _LONGEST_WORD:
        last += 1
    while first < place and text[first] in _AROUND_WORDS:
        first += 1
    while last > place + 1 and text[last - 1] in _AROUND_WORDS + ".":
        last -= 1
    return first, last


def _goes_on(text: str, place: int) -> bool:
    """Whether a word goes on from the character before `place` to the one at it."""
    before, here = text[place - 1], text[place]
    if _UNSPACED.match(before) or _UNSPACED.match(here):
        return False
    if _is_of_word(before) and _is_of_word(here):
        return True
    if here in ".,:" and before.isdigit():
        return text[place + 1 : place + 2].isdigit()
    return before in ".,:" and here.isdigit() and text[place - 2 : place - 1].isdigit()


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character in "_\u200c\u200d" or unicodedata.category(character)[0] == "M"


def is_unspaced(character: str) -> bool:
    """Whether a character is of a script without blanks between words, such as Thai or Chinese."""
    return bool(_UNSPACED.match(character))


def is_joined(text: str, place: int) -> bool:
    """Whether the character at `place` belongs to the one before it."""
    here, before = text[place], text[place - 1]
    is_skin_tone = "\U0001f3fb" <= here <= "\U0001f3ff"
    return unicodedata.category(here) in ("Mn", "Mc", "Me") or here in _JOINERS or before == "\u200d" or is_skin_tone


def _encoding(found: Any, *, sequence: int) -> Encoding:
    sequence_ids = found.sequence_ids
    return Encoding(
        input_ids=np.array(found.ids, dtype=np.int64),
        token_type_ids=np.array(found.type_ids, dtype=np.int64),
        offsets=np.array(found.offsets, dtype=np.int64).reshape(-1, 2),
        is_text=np.array([each == sequence for each in sequence_ids], dtype=bool),
    )
