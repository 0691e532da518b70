"""Sets of questions as other programs write them."""

from __future__ import annotations

import json
from pathlib import Path

from nlp.qa.sources import Source, load_source

SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Kap Nord",
            "paragraphs": [
                {
                    "context": "The lighthouse was built in 1887 by Ada Brandt.",
                    "qas": [
                        {
                            "id": "a",
                            "question": "Who built it?",
                            "answers": [{"text": "Ada Brandt", "answer_start": 36}],
                        }
                    ],
                }
            ],
        }
    ],
}


def test_squads_json_is_read_with_a_byte_order_mark(tmp_path: Path, cache_dir: str):
    file = tmp_path / "squad.json"
    file.write_text(json.dumps(SQUAD), encoding="utf-8-sig")
    assert [e.texts for e in load_source(Source(str(file)), 0, cache_dir).splits["train"]] == [("Ada Brandt",)]


def test_squads_own_train_and_dev_files_are_read_from_a_folder(tmp_path: Path, cache_dir: str):
    folder = tmp_path / "squad"
    folder.mkdir()
    other = json.loads(json.dumps(SQUAD).replace("built", "made").replace('"answer_start": 36', '"answer_start": 35'))
    (folder / "train-v2.0.json").write_text(json.dumps(SQUAD))
    (folder / "dev-v2.0.json").write_text(json.dumps(other))
    found = load_source(Source(str(folder)), 0, cache_dir)
    assert {split: len(examples) for split, examples in found.splits.items()} == {"train": 1, "val": 1}


def test_flat_rows_under_data_are_read(tmp_path: Path, cache_dir: str):
    file = tmp_path / "flat.json"
    row = {"question": "Who?", "context": "Ada lit it.", "answers": {"text": ["Ada"], "answer_start": [0]}}
    file.write_text(json.dumps({"data": [row]}))
    assert [e.texts for e in load_source(Source(str(file)), 0, cache_dir).splits["train"]] == [("Ada",)]
