"""The costs of requests: a few of each kind here, all of them and hundreds of mutants in `make fuzz`."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.project import PROJECT_ROOT
from tests.fuzz import costs
from tests.fuzz.costs import Cost, Sent
from tests.fuzz.page_costs import page_requests
from tests.server import serving

KINDS = {
    "escaped quotes without a text", "nested arrays", "39,000 arrays", "8 MB of wrong items", "39,000 unknown names",
    "64 texts of punctuation", "a context of ideographs", "a context of nothing but marks", "a compressed body",
    "8,000 scans of 36 megapixels", "a WebP of 16383x2441", "a PNG of 39 megapixels with alpha", "32 MB of spaces",
    "30 MB of boundaries that are none", "16 WebPs of 16 megapixels",
}  # fmt: skip
ON_THE_PAGE = {
    "a PNG of 39 megapixels with alpha on the page", "a heat map of a photo of 1 megapixel",
    "a message of punctuation on the page", "a pasted text of ideographs", "1 MB of one-letter words, dropped",
    "an event of 300,000 arrays", "30 MB of carriage returns",
}  # fmt: skip


@pytest.mark.server
@pytest.mark.slow
def test_no_request_costs_more_than_the_bounds(tmp_path: Path):
    models = [PROJECT_ROOT / "models" / name for name in ("tagger", "intent", "qa")]
    chosen = {sent.kind: sent for sent in costs.hostile() if sent.kind in KINDS}
    assert set(chosen) == KINDS
    knowledge = {"PERCEPT_KNOWLEDGE": str(tmp_path / "knowledge.sqlite")}
    uploads = {"GRADIO_TEMP_DIR": str(tmp_path)}
    with serving(models, tmp_path / "log", workers=1, models=3, **knowledge, **uploads) as server:
        server.wait_for("a page", lambda: server.get("/ui/").status == 200)
        page = [sent for sent in page_requests(server) if sent.kind in ON_THE_PAGE]
        assert {sent.kind for sent in page} == ON_THE_PAGE
        requests = [*costs.honest_requests().values(), *chosen.values(), *page]
        found = costs.measure(server, mutants=20, requests=requests)
    assert len(found) == len(requests) + 20
    by_kind = {cost.sent.kind: cost for cost in found}
    slowness = max(1.0, by_kind["64 texts of 2,000 characters"].cpu_s / 1.1)
    assert not [cost.line for cost in found if not cost.is_within(slowness)]
    assert by_kind["a PNG of 39 megapixels"].cpu_s > 5 * by_kind["a photo of 1 megapixel"].cpu_s
    assert by_kind["a PNG of 39 megapixels"].mb > 100
    assert costs.table(found).count("\n") > 20


@pytest.mark.parametrize(
    ("status", "cpu_s", "mb", "ratio"),
    [(200, 4.1, 0, 1.0), (200, 0.1, 301, 1.0), (200, 0.6, 0, 10.1), (500, 0.1, 0, 1.0)],
)
def test_what_is_beyond_a_bound_counts(status: int, cpu_s: float, mb: float, ratio: float):
    sent = Sent("/v1/tag", "a photo", b"")
    assert Cost(sent, 200, 0.1, 1, 1.0).is_within()
    assert not Cost(sent, status, cpu_s, mb, ratio).is_within()


def test_costs_are_written_into_the_page_and_nothing_else_changes(tmp_path: Path):
    page = tmp_path / "security.md"
    page.write_text(f"before\n{costs.BEGIN}\nold\n{costs.END}\nafter\n")
    sent = Sent("/v1/tag", "a photo", b"12345")
    costs.publish([Cost(sent, 200, 0.5, 12.4, None)], page)
    row = "| `/v1/tag` | a photo | 5 | 200 | 0.50 | 12 | honest |"
    assert page.read_text() == f"before\n{costs.BEGIN}\n{costs.HEAD}\n{row}\n{costs.END}\nafter\n"
