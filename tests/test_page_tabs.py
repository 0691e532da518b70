"""A person at the page of all services, in a real browser against two workers. Needs an installed Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser import NAMELESS, dropped, launched, opened
from tests.pages import all_served

pytestmark = [pytest.mark.browser, pytest.mark.server]

TABS = "#pages [role=tab]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with all_served(tmp_path_factory.mktemp("page"), "Guide") as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with launched(tmp_path_factory.mktemp("profile")) as context:
        yield context


@pytest.fixture
def page(browser: BrowserContext, server: str) -> Iterator[Page]:
    with opened(browser, f"{server}/ui/", TABS) as page:
        yield page


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "red.png"
    Image.new("RGB", (40, 30), (255, 0, 0)).save(path)
    return path


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def ask(page: Page) -> None:
    page.locator("#l-message").fill("who wrote the engine?")
    page.keyboard.press("Enter")
    expect(page.locator(".l-turn").last.locator("mark")).to_have_text("ada")


def test_each_service_has_its_tab_and_both_work(page: Page, photo: Path):
    expect(page.get_by_role("tab")).to_have_text(["Photos", "Language"])
    expect(page.locator("h1:visible")).to_have_text("What is in this photo?")
    page.set_input_files("#photo input[type=file]", photo)
    page.locator("#tags .p-facts").wait_for()
    open_tab(page, "Language")
    expect(page.locator("h1:visible")).to_have_text("What does this message want?")
    ask(page)


def test_what_was_said_and_seen_stays_when_the_tab_changes(page: Page, photo: Path):
    page.set_input_files("#photo input[type=file]", photo)
    page.locator("#tags .p-facts").wait_for()
    open_tab(page, "Language")
    ask(page)
    open_tab(page, "Photos")
    expect(page.locator("#tags .p-facts")).to_be_visible()
    open_tab(page, "Language")
    expect(page.locator("mark")).to_have_text("ada")
    ask(page)
    expect(page.locator(".l-turn")).to_have_count(2)  # nothing listens twice


@pytest.mark.parametrize("address", ["#language", "?tab=language"])
def test_tab_has_an_address(browser: BrowserContext, server: str, address: str):
    with opened(browser, f"{server}/ui/{address}", "#l-message") as page:
        expect(page.locator("#l-message")).to_be_visible()
        open_tab(page, "Photos")
        page.wait_for_function("location.hash === '#photos'")
        page.evaluate("location.hash = 'language'")  # as a link to it does
        expect(page.locator("#l-message")).to_be_visible()


def test_what_is_dropped_goes_to_the_tab_that_is_open(page: Page, photo: Path):
    open_tab(page, "Language")
    page.locator("#l-message").wait_for()
    text = dropped(page, "mine.md", b"The engine is by marie.")
    picture = dropped(page, "red.png", photo.read_bytes())
    page.locator("h1:visible").dispatch_event("drop", {"dataTransfer": text})
    expect(page.locator(".l-kept .l-name")).to_have_text("mine.md")
    page.locator("h1:visible").dispatch_event("drop", {"dataTransfer": picture})
    expect(page.locator(".l-status .l-notice")).to_contain_text("red.png")
    open_tab(page, "Photos")
    expect(page.locator("#tags .p-facts")).to_have_count(0)
    page.locator("h1:visible").dispatch_event("drop", {"dataTransfer": picture})
    page.locator("#tags .p-facts").wait_for()


@pytest.mark.parametrize("tab", ["photos", "language"])
def test_phone_shows_the_whole_width_and_everything_has_a_name(page: Page, tab: str):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(page.url.split("#", maxsplit=1)[0] + f"#{tab}")
    page.reload()
    page.locator("#samples button" if tab == "photos" else "#l-message").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(NAMELESS) == []
    expect(page.locator("h1:visible")).to_have_count(1)
    expect(page.get_by_role("tab")).to_have_count(2)


def test_gradios_own_client_finds_and_calls_the_pages_by_name(server: str, photo: Path):
    client = Client(f"{server}/ui", verbose=False, analytics_enabled=False)
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/tag", "/understand"}
    with ThreadPoolExecutor(8) as pool:  # so that both workers answer some, and results wait where the other reads
        calls = [
            pool.submit(client.predict, handle_file(str(photo)), api_name="/tag")
            if place % 2
            else pool.submit(client.predict, "play a song", api_name="/understand")
            for place in range(40)
        ]
        answers = [call.result(timeout=60) for call in calls]
    for place, answer in enumerate(answers):
        if place % 2:
            assert (answer["width"], answer["height"]) == (40, 30)
            assert answer["tags"]
        else:
            assert answer["intent"]["intent"] == "play_music"


def test_gradios_own_client_is_told_what_is_wrong(server: str):
    client = Client(f"{server}/ui", verbose=False, analytics_enabled=False)
    with pytest.raises(AppError, match="blank"):
        client.predict("  ", api_name="/understand")
    with pytest.raises(AppError, match="no longer here"):
        client.predict("no-upload.jpg", api_name="/tag")
    assert client.predict("play a song", api_name="/understand")["intent"]["intent"] == "play_music"
