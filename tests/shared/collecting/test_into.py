"""What was collected is put into the knowledge base of a running service, which then answers from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.language_bundles import make_qa_bundle
from tests.server import serving

ROOT = Path(__file__).parents[3]
KEY = "a key of the admin's"


@pytest.mark.server
def test_texts_are_put_into_the_knowledge_base_with_a_key(tmp_path: Path):
    (tmp_path / "pages.jsonl").write_text(
        '{"title": "Lamp", "text": "The lamp is lit at nine."}\n{"title": "Empty", "text": ""}\n'
    )
    spec = "name: pages\nlicence: MIT\nsources:\n- {kind: files, path: pages.jsonl}\n"
    (tmp_path / "spec.yaml").write_text(spec)
    bundle = make_qa_bundle(tmp_path / "qa").path
    settings = {"PERCEPT_KNOWLEDGE": str(tmp_path / "knowledge.sqlite"), "PERCEPT_ADMIN_KEY": KEY}

    def collect(url: str, out: str, key: str) -> subprocess.CompletedProcess[str]:
        words = ["collect", str(tmp_path / "spec.yaml"), str(tmp_path / out), "--into", url]
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "scripts.main", *words],
            env=os.environ | {"PYTHONPATH": str(ROOT), "PERCEPT_KEY": key},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    with serving([bundle], tmp_path / "log", workers=1, models=1, **settings) as running:
        refused = collect(running.url, "out", "another key")
        assert refused.returncode == 2
        assert "Set PERCEPT_KEY to an administrator's key" in refused.stderr
        done = collect(running.url, "out", KEY)  # the same command again: only what failed is done
        assert done.returncode == 0, done.stderr
        assert "is collected already" in done.stdout
        assert "1 documents are in the knowledge base" in done.stdout
        listed = httpx.get(f"{running.url}/v1/knowledge", headers={"Authorization": f"Bearer {KEY}"}).json()
        titles = [each["title"] for each in listed["documents"]]
        assert "Lamp" in titles
        assert "Empty" not in titles
