from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from nlp.text import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS, TextEncoder, check_text, whole_characters
from shared.errors import InputError
from tests.encoders import make_tokenizer

TEXTS = ["the keeper lit the lamp", "Straße, café, naïve, 北京, שלום, مرحبا, ice 🧊", "who lit it? where?"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer(TEXTS)


@pytest.fixture(scope="module")
def encoder(tokenizer: Tokenizer) -> TextEncoder:
    return TextEncoder(tokenizer, max_length=16, stride=4)


@pytest.mark.parametrize(
    "text",
    [
        "the lamp",
        "THE  Lamp\r\n\tlit",
        "cafe\u0301 na\u00efve",
        "שלום the lamp مرحبا",
        "👩‍👩‍👧 lamp 🇫🇷 👍🏽",
        "北京 lamp",
        "a\u0000b lamp",
        "ﬁn ½ ΑΩ lamp",
    ],
)
def test_offsets_point_into_the_text_as_it_came(encoder: TextEncoder, text: str):
    encoding = encoder.encode(text)
    for (start, end), is_text in zip(encoding.offsets, encoding.is_text, strict=True):
        if is_text:
            assert 0 <= start <= end <= len(text)
    place = text.lower().find("lamp")
    if place >= 0:
        assert text[place : place + 4].lower() == "lamp"
        starts = [int(start) for (start, _), own in zip(encoding.offsets, encoding.is_text, strict=True) if own]
        assert place in starts


def test_special_tokens_are_no_text(encoder: TextEncoder):
    encoding = encoder.encode("the lamp")
    assert not encoding.is_text[0]
    assert not encoding.is_text[-1]
    assert encoding.is_text[1:-1].all()


def test_a_long_text_is_cut_at_max_length(encoder: TextEncoder):
    assert len(encoder.encode("the lamp " * 100)) == 16


def test_windows_cover_the_whole_context_and_overlap_by_the_stride(encoder: TextEncoder):
    context = " ".join(["the lamp lit"] * 20)
    windows = encoder.windows("who?", context)
    assert len(windows) > 2
    covered = {tuple(pair) for window in windows for pair in window.offsets[window.is_text].tolist()}
    whole = TextEncoder(make_tokenizer(TEXTS), max_length=500).encode(context)
    assert covered == {tuple(pair) for pair in whole.offsets[whole.is_text].tolist()}
    for left, right in pairwise(windows):
        shared = {tuple(p) for p in left.offsets[left.is_text].tolist()} & {
            tuple(p) for p in right.offsets[right.is_text].tolist()
        }
        assert len(shared) >= 4
    assert all(len(window) <= 16 for window in windows)


def test_a_question_longer_than_its_share_leaves_room_for_the_context(encoder: TextEncoder):
    windows = encoder.windows("who lit the lamp and where " * 50, "the keeper lit it")
    assert all(window.is_text.sum() >= 4 for window in windows[:1])


def test_a_window_tells_question_from_context(encoder: TextEncoder):
    [window] = encoder.windows("who?", "the lamp")
    assert window.token_type_ids[window.is_text].tolist() == [1] * int(window.is_text.sum())
    assert window.token_type_ids[0] == 0


def test_a_batch_is_padded_to_its_longest(encoder: TextEncoder):
    short, long = encoder.encode_batch(["lamp", "the keeper lit the lamp"])
    batch = encoder.batch([short, long], (INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS))
    assert batch[INPUT_IDS].shape == (2, len(long))
    assert batch[ATTENTION_MASK].sum(axis=1).tolist() == [len(short), len(long)]
    np.testing.assert_array_equal(batch[INPUT_IDS][0, : len(short)], short.input_ids)
    assert (batch[INPUT_IDS][0, len(short) :] == encoder.pad_id).all()
    rounded = encoder.batch([short], (INPUT_IDS,), multiple=8)
    assert rounded[INPUT_IDS].shape == (1, 8)


@pytest.mark.parametrize("text", ["\ud83d", "ok \udc00 ok"])
def test_half_a_surrogate_pair_is_refused_with_its_place(encoder: TextEncoder, text: str):
    for call in (encoder.encode, check_text, lambda bad: encoder.windows("who?", bad)):
        with pytest.raises(InputError, match=f"character {text.index(next(c for c in text if c > '~'))}"):
            call(text)


@pytest.mark.parametrize(
    ("text", "span", "whole"),
    [
        ("cafe\u0301!", (0, 4), (0, 5)),
        ("👍🏽 ok", (0, 1), (0, 2)),
        ("👩‍👧 x", (0, 1), (0, 3)),
        ("x ❤️!", (2, 3), (2, 4)),
        ("plain", (1, 3), (1, 3)),
        ("e\u0301", (1, 2), (0, 2)),
    ],
)
def test_spans_are_widened_to_whole_characters(text: str, span: tuple[int, int], whole: tuple[int, int]):
    assert whole_characters(text, *span) == whole


@given(text=st.text(max_size=60), start=st.integers(0, 60), length=st.integers(0, 60))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_widening_never_shrinks_and_never_leaves_the_text(text: str, start: int, length: int):
    start = min(start, len(text))
    end = min(start + length, len(text))
    wider = whole_characters(text, start, end)
    assert 0 <= wider[0] <= start
    assert end <= wider[1] <= len(text)
    assert whole_characters(text, *wider) == wider


def test_what_is_written_reads_back_the_same(encoder: TextEncoder, tmp_path: Path):
    for name, content in encoder.files({"tokenizer_class": "BertTokenizer"}).items():
        (tmp_path / name).write_bytes(content)
    settings_read = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings_read["tokenizer_class"] == "BertTokenizer"
    again = TextEncoder(
        Tokenizer.from_file(str(tmp_path / "tokenizer.json")), settings_read["max_length"], settings_read["stride"]
    )
    for text in TEXTS:
        np.testing.assert_array_equal(again.encode(text).input_ids, encoder.encode(text).input_ids)


def test_of_a_text_that_is_too_long_the_beginning_and_the_end_are_kept(encoder: TextEncoder):
    words = [f"{n}" for n in range(100)]
    text = " ".join(words)
    found = encoder.encode(text)
    assert found.is_cut
    assert len(found) == encoder.max_length
    kept = [text[start:end] for start, end in found.offsets[found.is_text]]
    assert "".join(words).startswith("".join(kept[: len(kept) // 2]))
    assert "".join(words).endswith("".join(kept[-(len(kept) // 2) :]))
    [same] = encoder.encode_batch([text])
    np.testing.assert_array_equal(same.input_ids, found.input_ids)
    assert not encoder.encode("short").is_cut
