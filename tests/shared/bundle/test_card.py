"""The model card: Hugging Face reads it, its code runs, and any label name survives it."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from shared.bundle.card import render_card
from shared.bundle.layout import BundleConfig
from shared.bundle.read import Bundle
from shared.runtime.cpu import OnnxRuntime
from tests.bundles import make_tagger_bundle
from vision.tagging.predictor import TagPredictor

FINGERPRINT = "0123456789abcdef" * 4


def measured(top1: float | None = 0.875) -> dict[str, Any]:
    """What `evaluate` returns, with round numbers."""
    pets = {"examples": 1200, "labels": 2, "top1": top1, "top5": None, "map": 0.75, "macro_f1": 0.7,
            "parents_map": None, "ece": 0.031}  # fmt: skip
    overall = {"examples": 1200, "labels": 3, "quality": top1, "map": 0.75, "macro_f1": 0.7, "micro_f1": 0.72,
               "micro_precision": 0.71, "micro_recall": 0.73, "top1": top1, "ece": 0.031, "ece_given": 0.02,
               "untagged": 0.05}  # fmt: skip
    row = {"support": 600, "known": 1200, "ap": 0.75, "f1": 0.7, "precision": 0.71, "recall": None, "threshold": 0.5}
    return {
        "overall": overall,
        "sources": {"Our Pets": pets},
        "per_label": [{"label": "cat", **row}, {"label": "dog", **row}],
        "confusions": [{"source": "Our Pets", "label": "cat", "given": "dog", "count": 7, "of": 600}],
        "reliability": {"Our Pets": []},
    }


def changed(bundle: Bundle, **changes: Any) -> BundleConfig:
    provenance = {
        **bundle.config.provenance.model_dump(),
        "dataset": [
            {"name": "Our Pets", "examples": 12000, "labels": 2, "fingerprint": FINGERPRINT, "licence": "CC-BY-4.0",
             "origin": "https://huggingface.co/datasets/someone/pets", "skipped": 3},
            {"name": "Beach (2024)", "examples": 10, "labels": 1, "fingerprint": FINGERPRINT, "licence": None,
             "origin": None, "skipped": 0},
        ],
        "command": "percept fit tagging -c tagging.yaml",
        "versions": {"percept": "0.1.0", "torch": "2.15.0"},
    }  # fmt: skip
    said = {"summary": "Tells cats from dogs.", "license": "Apache-2.0", "intended_use": "Sorting photos.",
            "not_for": "Medicine.", "limits": "Knows no birds.", "recipe": "Two epochs."}  # fmt: skip
    content = {**bundle.config.model_dump(), "provenance": provenance, "card": said, "metrics": {"test": measured()}}
    return BundleConfig.model_validate({**content, **changes})


def section(text: str, heading: str) -> str:
    """The text from a heading to the next one of its level."""
    level = heading.split(" ", maxsplit=1)[0]
    start = text.index(f"\n{heading}\n")
    end = text.find(f"\n{level} ", start + len(heading))
    return text[start : end if end > 0 else None]


def test_hugging_face_reads_the_card_and_its_results(tagger_bundle: Bundle):
    data = ModelCard(render_card(changed(tagger_bundle))).data
    assert data.license == "apache-2.0"
    assert data.to_dict()["library_name"] == "percept"
    assert data.pipeline_tag == "image-classification"
    assert data.model_name == "tiny-tagger"
    found = {(r.dataset_name, r.dataset_split, r.metric_type): r.metric_value for r in data.eval_results}
    assert found == {
        ("Our Pets", "test", "accuracy"): 0.875,
        ("Our Pets", "test", "mean_average_precision"): 0.75,
        ("Our Pets", "test", "f1"): 0.7,
        ("Our Pets", "test", "expected_calibration_error"): 0.031,
    }
    assert {r.dataset_type for r in data.eval_results} == {"someone/pets"}
    assert {r.dataset_revision for r in data.eval_results} == {FINGERPRINT}


def test_datasets_have_the_hubs_names_or_their_own_in_its_spelling(tagger_bundle: Bundle):
    assert ModelCard(render_card(changed(tagger_bundle))).data.datasets == ["someone/pets", "beach-2024"]


def test_undefined_metrics_are_left_out_of_the_index_and_dashes_in_tables(tagger_bundle: Bundle):
    text = render_card(changed(tagger_bundle, metrics={"test": measured(top1=None)}))
    assert "accuracy" not in {r.metric_type for r in ModelCard(text).data.eval_results}
    assert "| test | Our Pets | 1,200 | 2 | – | – | 0.750 | – | 0.700 | 0.031 |" in section(text, "## Evaluation")


def test_without_measurements_there_are_neither_results_nor_tables(tagger_bundle: Bundle):
    text = render_card(changed(tagger_bundle, metrics={}))
    assert ModelCard(text).data.eval_results is None
    assert "## Evaluation" not in text
    assert "## Calibration" in text


def test_test_results_come_first_and_are_those_that_are_shown_label_by_label(tagger_bundle: Bundle):
    validation = {**measured(), "per_label": [], "confusions": []}
    text = render_card(changed(tagger_bundle, metrics={"val": validation, "test": measured()}))
    evaluation = section(text, "## Evaluation")
    assert evaluation.index("| test |") < evaluation.index("| validation |")
    assert "trust the test rows" in evaluation
    assert "2 labels on test photos" in text


def test_validation_alone_says_that_new_photos_will_do_worse(tagger_bundle: Bundle):
    assert "new ones will do a little worse" in render_card(changed(tagger_bundle, metrics={"val": measured()}))


def test_what_a_person_says_stands_in_its_section(tagger_bundle: Bundle):
    text = render_card(changed(tagger_bundle))
    assert "Tells cats from dogs." in text.split("## Use it")[0]
    assert "Sorting photos." in section(text, "## Intended use")
    assert "**Not for:** Medicine." in section(text, "## Intended use")
    assert "Knows no birds." in section(text, "## Limits")
    assert "Two epochs." in section(text, "## Training")
    assert "percept fit tagging -c tagging.yaml" in section(text, "## Training")


def test_what_nobody_said_has_no_section(tagger_bundle: Bundle):
    text = render_card(changed(tagger_bundle, card={}))
    assert "## Intended use" not in text
    assert "## Limits" not in text
    assert "None" not in text
    assert ModelCard(text).data.license == "unknown"


def test_a_licence_that_is_no_name_is_given_as_other(tagger_bundle: Bundle):
    data = ModelCard(render_card(changed(tagger_bundle, card={"license": "ask us first"}))).data
    assert (data.license, data.license_name) == ("other", "ask us first")


def test_each_set_of_photos_has_licence_origin_and_fingerprint(tagger_bundle: Bundle):
    text = section(render_card(changed(tagger_bundle)), "## Training data")
    assert (
        f"| Our Pets | 12,000 | 2 | 3 | CC-BY-4.0 | https://huggingface.co/datasets/someone/pets | {FINGERPRINT[:12]} |"
        in text
    )
    assert f"| Beach (2024) | 10 | 1 | 0 | not stated | not stated | {FINGERPRINT[:12]} |" in text


def test_labels_are_grouped_by_what_stands_above_them(tmp_path: Path):
    parents = {"tabby": ["cat"], "cat": ["animal"], "dog": ["animal"]}
    bundle = make_tagger_bundle(tmp_path / "b", ("tabby", "cat", "dog", "car"), parents=parents)
    text = section(render_card(bundle.config), "## Labels")
    assert "**animal** (3): tabby, cat, dog" in text
    assert "**others** (1): car" in text
    assert "5 labels, 2 of which are parents of others" in text
    assert "<details>" not in text


def test_many_labels_are_folded(tmp_path: Path):
    bundle = make_tagger_bundle(tmp_path / "b", [f"label {i}" for i in range(60)])
    assert "<summary>All labels</summary>" in section(render_card(bundle.config), "## Labels")


def test_pictures_stand_in_their_sections(tagger_bundle: Bundle):
    plots = ["learning_curves.png", "reliability.png", "per_label.png", "confusions.png", "other.png"]
    text = render_card(changed(tagger_bundle), plots=plots)
    assert "](learning_curves.png)" in section(text, "## Training")
    assert "](reliability.png)" in section(text, "## Calibration")
    assert "](per_label.png)" in section(text, "### Labels one by one")
    assert "](confusions.png)" in section(text, "### Confusions")
    assert all(text.count(f"]({name})") == 1 for name in plots)


def test_int8_gate_is_reported_whichever_way_it_went(tagger_bundle: Bundle):
    gate = {"quality_fp32": 0.912, "quality_int8": 0.85, "loss": 0.062, "max_loss": 0.003, "passed": False}
    onnx = {**tagger_bundle.config.model_dump()["onnx"], "int8_gate": gate}
    text = section(render_card(changed(tagger_bundle, onnx=onnx)), "## Export")
    assert "int8 gate not passed: fp32 ships" in text
    assert "| quality int8 | 0.850 |" in text
    passed = {**onnx, "precision": "int8", "int8_gate": {**gate, "passed": True}}
    assert "int8 gate passed: int8 ships" in render_card(changed(tagger_bundle, onnx=passed))


def test_a_label_name_breaks_neither_table_nor_front_matter(tmp_path: Path):
    nasty = ["a|b", "<b>bold</b>", "line\nbreak", "*stars*", "---", 'quote: "x"']
    bundle = make_tagger_bundle(tmp_path / "b", nasty)
    rows = [{**measured()["per_label"][0], "label": label} for label in nasty]
    text = render_card(changed(bundle, metrics={"test": {**measured(), "per_label": rows}}))
    lines = [line for line in section(text, "### Labels one by one").splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(nasty)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {8}
    assert "<b>" not in text
    assert yaml.safe_load(text.split("---\n")[1])["library_name"] == "percept"


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "single_label_classification"])
def test_the_cards_python_gives_what_the_predictor_gives(tmp_path: Path, monkeypatch, problem_type):
    parents = {"cat": ["animal"], "dog": ["animal"]}
    bundle = make_tagger_bundle(tmp_path / "b", parents=parents, problem_type=problem_type)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8))
    photo.paste((250, 30, 30), (0, 0, 50, 50))
    photo.save(bundle.path / "photo.jpg", quality=95)
    [code] = re.findall(r"```python\n(.*?)```", render_card(bundle.config), re.DOTALL)
    monkeypatch.chdir(bundle.path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a snippet leaves closing files to the interpreter
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    [expected] = TagPredictor(bundle, OnnxRuntime(bundle)).predict([Image.open("photo.jpg").convert("RGB")])
    found = dict(eval(printed.getvalue(), {"__builtins__": {}}))  # noqa: S307
    assert expected
    assert found == pytest.approx({tag.label: tag.score for tag in expected}, abs=1e-5)


def test_a_task_without_a_pipeline_has_a_card_without_photos(tagger_bundle: Bundle):
    text = render_card(changed(tagger_bundle, task="embedding", decision={}))
    assert "pipeline_tag" not in text
    assert "photo.jpg" not in text
