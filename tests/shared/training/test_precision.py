"""The precision of a run: bfloat16 where the hardware has it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nlp.intent import TASK
from shared.training.cli import parsed

HAS = {"architecture": "x86_64", "avx512_bf16": True}
HAS_NOT = {"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}


@pytest.mark.parametrize(
    ("processor", "asked", "got"),
    [
        (HAS, "bf16-mixed", "bf16-mixed"),
        (HAS_NOT, "bf16-mixed", "32-true"),
        ({**HAS_NOT, "amx_bf16": True}, "bf16-mixed", "bf16-mixed"),
        ({"architecture": "aarch64"}, "bf16-mixed", "bf16-mixed"),
        (HAS_NOT, "32-true", "32-true"),
        (HAS_NOT, "64-true", "64-true"),
    ],
)
def test_a_processor_without_bfloat16_trains_in_float32(
    processor: dict, asked: str, got: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor, raising=False)
    table = tmp_path / "intents.csv"
    table.write_text("text,label\n" + "".join(f"pay bill {i},pay\nbook table {i},book\n" for i in range(10)))
    cli = parsed(TASK, [f"--data.source={table}", "--model.encoder=bilstm", f"--trainer.precision={asked}",
                        "--trainer.accelerator=cpu"])  # fmt: skip
    assert cli.config.trainer.precision == got
    assert cli.recipe["trainer"]["precision"] == asked, "the recipe is for other machines too"
