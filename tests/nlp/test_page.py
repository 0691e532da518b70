"""A person at the language page, in a real browser against two workers. Needs an installed Chromium, and no network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect

from nlp.knowledge import KnowledgeBase
from tests.browser import NAMELESS, WORKER_HEADER, dropped, launched, opened, served
from tests.language_bundles import make_intent_bundle, make_qa_bundle

pytestmark = [pytest.mark.browser, pytest.mark.server]

DRAWN = "#l-message"
HOSTILE = "<img src=x onerror=window.wasRun=1>${window.wasRun=1}{{value}}<script>window.wasRun=1</script>"
STYLED = "<svg onload=window.wasRun=1><i style=background:url(//elsewhere.test)>"
GUIDE = b"# Percept\n\n## Authors\n\nThe engine was written by ada.\n\n## Prices\n\nIt costs nothing in the winter.\n"
CALLS = "**/component_server/"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the page, with two workers, tiny models and one document."""
    folder = tmp_path_factory.mktemp("page")
    make_intent_bundle(folder / "intent")
    make_qa_bundle(folder / "qa")
    knowledge = KnowledgeBase(folder / "knowledge.sqlite")
    knowledge.put("guide.md", GUIDE)
    knowledge.close()
    with served("tests.nlp.page_server:create", folder, {"PAGE_FOLDER": str(folder)}) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with launched(tmp_path_factory.mktemp("profile"), ["clipboard-read", "clipboard-write"]) as context:
        yield context


@pytest.fixture
def page(browser: BrowserContext, server: str) -> Iterator[Page]:
    """The page as a visitor sees it who was never here."""
    with opened(browser, f"{server}/ui/", DRAWN) as page:
        page.evaluate("localStorage.clear()")
        page.reload()
        page.locator(DRAWN).wait_for()
        yield page


def say(page: Page, text: str) -> Locator:
    """Send a message and return its reply."""
    page.locator("#l-message").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator(".l-turn").last.locator(".l-mine")).to_have_text(text)
    reply = page.locator(".l-turn").last.locator(".l-theirs")
    reply.locator(".l-card, .l-notice").wait_for()
    return reply


def drop(page: Page, name: str, content: bytes, *, onto: str = "h1") -> None:
    page.locator(onto).first.dispatch_event("drop", {"dataTransfer": dropped(page, name, content)})


def test_message_shows_its_intent_with_a_ranking_as_bars(page: Page):
    reply = say(page, "book a flight")
    expect(reply.locator(".l-intent h2")).to_contain_text("book flight")
    expect(reply.locator(".l-mark")).to_have_text("in scope")
    expect(reply.locator(".l-ranking .p-label")).to_have_text(["book flight", "play music", "weather"])
    page.wait_for_function(  # they grow
        """() => [...document.querySelectorAll('.l-ranking .p-bar')].map((bar) => Math.round(
            parseFloat(getComputedStyle(bar, '::before').width) / bar.clientWidth * 20)).join() === '20,0,0'"""
    )
    expect(reply.locator(".l-answer")).to_have_count(0)


def test_question_out_of_scope_is_answered_with_the_answer_marked_and_its_source(page: Page):
    reply = say(page, "who wrote the engine?")
    expect(reply.locator(".l-out")).to_have_text("out of scope")
    expect(reply.locator(".l-answer h2")).to_have_text("ada")
    expect(reply.locator("mark")).to_have_text("ada")
    expect(reply.locator(".l-passage").first).to_have_text("The engine was written by ada.")
    expect(reply.locator(".l-source cite").first).to_have_text("Percept › Authors")
    expect(page.locator(".l-said")).to_have_text(re.compile("^Answer: ada, from Percept.*Out of scope"))


def test_no_answer_is_a_normal_reply_with_the_nearest_passages(page: Page):
    reply = say(page, "what does it cost in the winter")
    expect(reply.locator(".l-answer h2")).to_have_text("No answer found")
    expect(reply.locator("details[open] .l-passage").first).to_have_text("It costs nothing in the winter.")


def test_dropped_documents_are_asked_first_and_can_be_removed(page: Page, browser: BrowserContext, server: str):
    drop(page, "mine.md", b"# Mine\n\nThe engine was written by marie.")
    expect(page.locator(".l-kept .l-name")).to_have_text("mine.md")
    reply = say(page, "who wrote the engine?")
    expect(reply.locator("mark")).to_have_text("marie")
    expect(reply.locator(".l-source").first).to_contain_text("yours")
    page.reload()
    expect(page.locator(".l-kept .l-name")).to_have_text("mine.md")  # the browser keeps the visitor's name
    page.get_by_role("button", name="Remove mine.md").click()
    expect(page.locator(".l-kept")).to_have_count(0)
    expect(say(page, "who wrote the engine?").locator("mark")).to_have_text("ada")


def test_documents_of_one_visitor_are_no_other_s(page: Page, browser: BrowserContext, server: str):
    drop(page, "mine.md", b"# Mine\n\nThe engine was written by marie.")
    expect(page.locator(".l-kept .l-name")).to_have_text("mine.md")
    page.evaluate("localStorage.clear()")
    page.reload()
    expect(say(page, "who wrote the engine?").locator("mark")).to_have_text("ada")
    expect(page.locator(".l-kept")).to_have_count(0)


def test_files_can_be_chosen_and_text_pasted(page: Page, tmp_path: Path):
    (tmp_path / "page.html").write_text("<title>Shop</title><p>The shop is by hugo.</p>")
    (tmp_path / "notes.txt").write_text("The hut is by turing.")
    page.set_input_files(".l-drop input", [tmp_path / "page.html", tmp_path / "notes.txt"])
    expect(page.locator(".l-kept .l-name")).to_have_count(2)
    expect(say(page, "who made the shop").locator("mark")).to_have_text("hugo")
    page.get_by_text("Or paste text").click()
    page.get_by_label("Text to ask about").fill("Opening hours\nThe hall is by émile.")
    page.get_by_role("button", name="Add text").click()
    expect(page.locator(".l-kept .l-name").filter(has_text="Opening hours")).to_have_count(1)
    expect(say(page, "who made the hall").locator("mark")).to_have_text("émile")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("broken.pdf", b"%PDF-1.7 no more", "cannot read"),
        ("photo.jpg", b"\xff\xd8\xff\xe0", "names end in .md"),
        ("empty.md", b"", "It is empty"),
        ("blank.txt", b" \n ", "no words"),
    ],
)
def test_file_that_cannot_be_read_gets_a_kind_notice(page: Page, name: str, content: bytes, said: str):
    drop(page, name, content)
    notice = page.locator(".l-status .l-notice")
    expect(notice).to_contain_text(name)
    expect(notice).to_contain_text(said)
    assert not re.search("Traceback|/tmp|sqlite|pypdf", notice.inner_text())
    expect(page.locator(".l-kept")).to_have_count(0)


def test_nothing_that_anybody_says_is_run(page: Page):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    document = f"# {HOSTILE}\n\n[a](javascript:window.wasRun=1) ![b](x) \\{HOSTILE} `{HOSTILE}` was written by marie."
    drop(page, f"{HOSTILE.replace('/', '')}.txt", document.encode())
    expect(page.locator(".l-kept .l-name")).to_contain_text("<img src=x")
    reply = say(page, f"who was written {HOSTILE}")
    expect(reply.locator("mark")).to_have_text("marie")
    expect(reply.locator(".l-passage").first).to_contain_text("javascript:window.wasRun=1")
    drop(page, f"{HOSTILE.replace('/', '')}.exe", b"x")
    expect(page.locator(".l-status .l-notice")).to_contain_text("<img src=x")
    page.get_by_text("Or paste text").click()
    page.get_by_label("Text to ask about").fill(f"{STYLED} {HOSTILE} is by hugo")
    page.get_by_role("button", name="Add text").click()
    expect(page.locator(".l-kept .l-name")).to_have_count(2)
    say(page, f"who is it {STYLED}")
    page.wait_for_timeout(200)  # a picture that does not load says so late
    assert page.evaluate("window.wasRun") is None
    assert page.locator("#language :is(img, script, svg[onload], i[style], a[href^=javascript])").count() == 0
    assert not [url for url in asked if "elsewhere.test" in url]


def test_every_worker_can_answer_every_call(page: Page):
    drop(page, "mine.md", b"# Mine\n\nThe engine was written by marie.")
    workers: set[str] = set()
    statuses: set[int] = set()
    page.on("response", lambda it: (workers.add(it.headers.get(WORKER_HEADER, "")), statuses.add(it.status)))
    expect(page.locator(".l-kept .l-name")).to_have_count(1)
    workers.clear()
    for _ in range(30):
        expect(say(page, "who wrote the engine?").locator("mark")).to_have_text("marie")
        if len(workers) == 2:  # each answered about a document that one of them took
            break
    assert len(workers) == 2
    assert max(statuses) < 500


def test_enter_sends_once_and_the_field_stays_ready(page: Page):
    calls: list[str] = []
    held: list[Route] = []

    def hold(route: Route) -> None:
        calls.append(route.request.post_data or "")
        held.append(route)

    page.route(CALLS, hold)
    page.locator("#l-message").fill("book a flight")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.locator("#l-message").fill("play a song")
    page.keyboard.press("Enter")  # while the first one waits
    expect(page.locator(".l-pending")).to_have_count(1)
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    expect(page.locator("#l-message")).to_be_focused()
    expect(page.locator("#l-message")).to_have_value("play a song")  # nothing is lost
    assert len(calls) == 1
    held[0].continue_()
    page.unroute(CALLS)
    expect(page.locator(".l-card")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator(".l-card")).to_have_count(2)


def test_newest_reply_is_scrolled_to_and_shift_enter_makes_a_line(page: Page):
    for _ in range(3):
        say(page, "who wrote the engine?")
    page.wait_for_function(
        """() => { const log = document.querySelector('.l-log').getBoundingClientRect();
                   const mine = [...document.querySelectorAll('.l-mine')].at(-1).getBoundingClientRect();
                   return mine.top >= log.top - 1 && mine.bottom <= log.top + 120; }"""
    )
    page.locator("#l-message").fill("book")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("a flight")
    expect(page.locator("#l-message")).to_have_value("book\na flight")


def test_what_goes_wrong_is_said_kindly(page: Page):
    page.locator("#l-message").fill("  ")
    page.keyboard.press("Enter")
    expect(page.locator(".l-hint")).to_have_text("Write a message first.")
    page.locator("#l-message").fill("a" * 201)
    page.keyboard.press("Enter")
    expect(page.locator(".l-hint")).to_have_text("This message has 201 characters; 200 is the limit.")
    assert page.locator(".l-turn").count() == 0
    page.route(CALLS, lambda route: route.abort())
    page.locator("#l-message").fill("book a flight")
    page.keyboard.press("Enter")
    expect(page.locator(".l-turn .l-notice")).to_contain_text("I cannot be reached right now.")
    expect(page.locator("#l-message")).to_have_value("book a flight")  # to send it again
    page.unroute(CALLS)
    page.keyboard.press("Enter")
    expect(page.locator(".l-card")).to_have_count(1)


def test_samples_are_one_click_away(page: Page):
    expect(page.get_by_role("group", name="Out of scope").locator("button").first).to_be_visible()
    page.get_by_role("button", name="What licence does Percept have?").click()
    expect(page.locator(".l-mine")).to_have_text("What licence does Percept have?")
    page.locator(".l-card").wait_for()


def test_calls_can_be_copied_and_name_this_host(page: Page, server: str):
    page.get_by_role("button", name="Call it from your program").click()
    expect(page.locator(".p-code code").first).to_contain_text(f'curl "{server}/v1/understand"')
    shown = page.locator(".p-code code").all_inner_texts()
    routes = [re.search(r"\d(/[\w/]+)", call)[1] for call in shown]
    assert routes == ["/v1/understand", "/v1/intent", "/v1/answer", "/v1/answer", "/model/parse"]
    page.get_by_role("button", name="Copy the call of /model/parse").click()
    page.wait_for_function("async (text) => await navigator.clipboard.readText() === text", arg=shown[-1])
    page.get_by_role("button", name="What it understands").click()
    page.get_by_label("Search the intents").fill("fl")
    expect(page.locator(".p-labels li:visible")).to_have_text("book flight")


def test_no_request_leaves_the_host(browser: BrowserContext, server: str):
    asked: list[str] = []
    browser.on("request", lambda request: asked.append(request.url))
    with opened(browser, f"{server}/ui/", DRAWN) as page:
        say(page, "who wrote the engine?")
        for button in page.locator("button.label-wrap").all():
            button.click()
        page.wait_for_load_state("networkidle")
    assert any("component_server" in url for url in asked)
    assert [url for url in asked if not url.startswith((server, "data:", "blob:"))] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_shows_the_whole_width(page: Page, theme: str):
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    page.locator(DRAWN).wait_for()
    say(page, "who wrote the engine " + "and" * 40)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
    expect(page.get_by_role("button", name="Send")).to_be_in_viewport()


def test_everything_that_can_be_pressed_has_a_name_and_a_place_in_the_order(page: Page):
    drop(page, "mine.md", b"# Mine\n\nThe engine was written by marie.")
    expect(page.locator(".l-kept .l-name")).to_have_count(1)
    say(page, "who wrote the engine?")
    assert page.locator("h1").count() == 1
    assert page.evaluate(NAMELESS) == []
    page.locator("#l-message").fill("book a flight")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Send")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator(".l-drop input")).to_be_focused()
