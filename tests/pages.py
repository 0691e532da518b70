"""The page of all services, with tiny bundles and a guide to ask about, on two workers; and what a page says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page

from nlp.knowledge import KnowledgeBase
from tests.browser import ROOT, served
from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_intent_bundle, make_qa_bundle

DICTIONARIES = [
    ROOT / folder / "french.json"
    for folder in ("shared/serving/page", "nlp/page", "vision/page", "shared/serving/recording/page")
]
FRENCH: dict[str, str] = {key: value for file in DICTIONARIES for key, value in json.loads(file.read_text()).items()}
SHOWN = """(within) => {
    const kept = '[translate=no], script, style, code, pre, textarea, svg';
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
        const parent = walker.currentNode.parentElement;
        if (!parent.closest(kept) && parent.offsetParent) found.push(walker.currentNode.data);
    }
    for (const each of document.querySelectorAll(`${within} :is([placeholder], [aria-label], [title])`)) {
        if (each.closest(kept) || !each.offsetParent) continue;
        for (const name of ['placeholder', 'aria-label', 'title']) found.push(each.getAttribute(name) ?? '');
    }
    return found.map((text) => text.trim().replace(/\\s+/g, ' ')).filter((text) => /[a-z]{2}/i.test(text));
}"""
"""Script that returns what the page says in its own words."""
SENTENCES = re.compile(r"(?<=[.!?]) ")
SAME = r"Percept|ada|PERCEPT|Accordion.*|v?\d[\d.]*|.* ms|[\d.]+ .*px|ms|px"
"""What is the same in French: names, and units."""


@contextmanager
def all_served(folder: Path, title: str) -> Iterator[str]:
    """Give the address of the page; the guide has this title."""
    make_tagger_bundle(folder / "tagger", ("cat", "dog", "car"))
    make_intent_bundle(folder / "intent")
    make_qa_bundle(folder / "qa")
    knowledge = KnowledgeBase(folder / "knowledge.sqlite")
    knowledge.put("guide.md", f"# {title}\n\nThe engine is by ada.".encode())
    knowledge.close()
    with served("tests.page_server:create", folder, {"PAGE_FOLDER": str(folder)}) as address:
        yield address


def untranslated(page: Page, within: str = "body") -> list[str]:
    """Return what the page says in its own words and that is in no dictionary; of parts `within`, also their names."""
    holes = [re.sub(r"\\\{\d?\\\}", "(.+?)", re.escape(value.replace("\u00a0", " "))) for value in FRENCH.values()]
    known = re.compile("|".join([*holes, SAME]))
    # Sentences of one paragraph are translated one by one.
    texts = [
        part
        for text in page.evaluate(SHOWN, within)
        for part in ([text] if known.fullmatch(text) else SENTENCES.split(text))
    ]
    return [text for text in texts if not known.fullmatch(text)]
