"""Both pages in French: in a browser that asks for it, by the switch, and complete. Needs an installed Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser import ROOT, launched, opened
from tests.pages import DICTIONARIES, all_served, untranslated

WORDS = re.compile(r"[A-Za-z]{3,}")
GRADIO = set(re.findall(r"\w+", "Upload file Capture from camera Paste clipboard Reset default value input slider"))
"""Words that Gradio's own parts say."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with all_served(tmp_path_factory.mktemp("page"), "Answer") as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with launched(tmp_path_factory.mktemp("profile"), locale="fr-FR") as context:
        yield context


@pytest.fixture
def page(browser: BrowserContext, server: str) -> Iterator[Page]:
    """The pages as somebody sees them whose browser speaks French."""
    with opened(browser, f"{server}/ui/#language", "#l-message") as page:
        expect(page.locator("html")).to_have_attribute("lang", "fr")
        yield page
        page.evaluate("localStorage.clear()")


def say(page: Page, text: str) -> None:
    page.locator("#l-message").fill(text)
    page.keyboard.press("Enter")
    page.locator(".l-turn").last.locator(".l-card").wait_for()


@pytest.mark.browser
@pytest.mark.server
def test_the_chat_speaks_french_to_a_french_browser_and_leaves_nothing_in_english(page: Page):
    for button in page.locator(".label-wrap:visible").all():
        button.click()
    for text in ("book a flight", "Who made the engine?", "Answer"):
        say(page, text)
    expect(page.locator(".l-ask button")).to_have_text("Envoyer")
    expect(page.locator(".l-mark.l-in").first).to_have_text("dans le domaine")
    assert "\n".join(untranslated(page, "#pages")) == ""


@pytest.mark.browser
@pytest.mark.server
def test_what_people_wrote_and_documents_say_is_never_translated(page: Page):
    say(page, "Answer")
    expect(page.locator(".l-mine").last).to_have_text("Answer")
    assert "Answer" in page.locator(".l-turn").last.locator("cite").first.inner_text()


@pytest.mark.browser
@pytest.mark.server
def test_the_photo_page_speaks_french_and_leaves_nothing_in_english(page: Page, tmp_path: Path):
    photo = tmp_path / "red.png"
    Image.new("RGB", (40, 30), (255, 0, 0)).save(photo)
    page.get_by_role("tab", name="Photos").click()
    page.locator("#photo input[type=file]").set_input_files(photo)
    page.locator(".p-facts").wait_for()
    for button in page.locator(".label-wrap:visible").all():
        button.click()
    expect(page.get_by_role("heading", name=re.compile("Que voit-on sur cette photo"))).to_be_visible()
    assert "\n".join(untranslated(page, "#pages")) == ""


@pytest.mark.browser
@pytest.mark.server
def test_the_switch_changes_the_language_back_and_forth_and_is_remembered(page: Page):
    switch, send = page.locator(".p-language:visible"), page.locator(".l-ask button")
    expect(switch).to_have_text("English")
    switch.click()
    expect(send).to_have_text("Send")
    expect(page.locator("#l-message")).to_have_attribute("placeholder", "Write a message")
    page.reload()
    expect(send).to_have_text("Send")
    switch.click()
    expect(send).to_have_text("Envoyer")
    expect(page.locator("html")).to_have_attribute("lang", "fr")


@pytest.mark.parametrize("file", DICTIONARIES, ids=lambda file: file.parent.parent.name)
def test_every_sentence_that_is_translated_is_said_somewhere(file: Path):
    folders = ("shared/serving", "nlp", "vision")
    sources = [
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".html", ".js", ".py")
    ]
    said = set(WORDS.findall(" ".join(path.read_text() for path in sources)))
    for key in json.loads(file.read_text()):
        unsaid = set(WORDS.findall(key)) - said - GRADIO
        assert not unsaid, f"{file.parent} translates {key!r}, but no page says {unsaid}"
