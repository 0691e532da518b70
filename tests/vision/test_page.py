"""A person at the tagger's page, in a real browser against two workers. Needs an installed Chromium, and no network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser import NAMELESS, WORKER_HEADER, dropped, launched, opened, served
from tests.bundles import make_tagger_bundle

pytestmark = [pytest.mark.browser, pytest.mark.server]

PERMISSIONS = ["camera", "clipboard-read", "clipboard-write"]
HOSTILE = '<img src=x onerror="window.wasRun=1">${window.wasRun=1}{{value}}'
CLEAR = "Remove Image"
"""The cross on Gradio's image."""
BACK = "Show the photo again"
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "grey": (128, 128, 128)}
DRAWN = "#samples button"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the page, with two workers; a red photo is a cat and also the hostile label, grey is nothing."""
    folder = tmp_path_factory.mktemp("page")
    labels = ("cat", "dog", "car", HOSTILE)
    make_tagger_bundle(folder / "bundle", labels, parents={"cat": ["animal"], "dog": ["animal"]})
    with served("tests.vision.page_server:create", folder, {"PAGE_BUNDLE": str(folder / "bundle")}) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with launched(tmp_path_factory.mktemp("profile"), PERMISSIONS) as context:
        yield context


@pytest.fixture
def page(browser: BrowserContext, server: str) -> Iterator[Page]:
    with opened(browser, f"{server}/ui/", DRAWN) as page:
        yield page


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("photos")
    for name, colour in COLOURS.items():
        Image.new("RGB", (120, 90), colour).save(folder / f"{name}.png")
    patch = Image.new("RGB", (140, 140), COLOURS["grey"])
    patch.paste(COLOURS["red"], (20, 20, 120, 120))
    patch.save(folder / "patch.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no photo")
    return {path.stem: path for path in folder.iterdir()}


def choose(page: Page, photo: Path) -> None:
    page.set_input_files("#photo input[type=file]", photo)


def tags(page: Page) -> list[str]:
    """Labels of the tags, without the ones that were only considered."""
    page.locator("#tags .p-facts").wait_for()
    return page.locator("#tags .p-tag:not(.p-weak) .p-label").all_inner_texts()


def test_dropped_photo_gets_its_tags_under_their_parent(page: Page, photos: dict[str, Path]):
    page.locator("#photo button.upload-container").dispatch_event(
        "drop", {"dataTransfer": dropped(page, "photo.png", photos["red"].read_bytes())}
    )
    expect(page.locator("#tags .p-head .p-label")).to_have_text(re.compile("animal", re.IGNORECASE))
    expect(page.locator("#tags .p-group .p-tree .p-label")).to_have_text("cat")
    expect(page.locator("#tags .p-group .p-tree .p-score")).to_have_text("98%")
    expect(page.locator("#tags .p-facts")).to_contain_text("120 × 90 px")


def test_photo_dropped_beside_the_field_takes_the_place_of_the_one_shown(page: Page, photos: dict[str, Path]):
    choose(page, photos["red"])
    expect(page.locator("#tags .p-group .p-tree .p-label")).to_have_text("cat")
    page.locator("h1").dispatch_event(
        "drop", {"dataTransfer": dropped(page, "photo.png", photos["green"].read_bytes())}
    )
    expect(page.locator("#tags .p-group .p-tree .p-label")).to_have_text("dog")


def test_pasted_photo_gets_its_tags(page: Page, photos: dict[str, Path]):
    page.evaluate(
        """async (transfer) => navigator.clipboard.write([new ClipboardItem({ 'image/png': transfer.files[0] })])""",
        dropped(page, "photo.png", photos["green"].read_bytes()),
    )
    page.keyboard.press("ControlOrMeta+V")
    expect(page.locator("#tags .p-group .p-tree .p-label")).to_have_text("dog")


def test_slider_changes_what_is_shown_without_the_model(page: Page, photos: dict[str, Path]):
    choose(page, photos["red"])
    expect(page.locator("#tags h2")).to_have_text("3 tags")
    facts = page.locator("#tags .p-facts").inner_text()
    slider = page.locator(".p-thresholds input[type=number]")
    slider.fill("90")
    slider.press("Enter")
    expect(page.locator("#tags h2")).to_have_text("2 tags")
    assert page.locator("#tags .p-facts").inner_text() == facts  # the timings of the one run
    expect(page.get_by_role("checkbox")).not_to_be_checked()
    page.get_by_role("checkbox").check()
    expect(page.locator("#tags h2")).to_have_text("3 tags")


def test_photo_of_nothing_known_gets_an_honest_answer(page: Page, photos: dict[str, Path]):
    choose(page, photos["grey"])
    expect(page.locator("#tags")).to_contain_text("I see nothing that I know in this photo")
    expect(page.locator("#tags .p-near[open] .p-tag")).to_have_count(3)
    assert tags(page) == []


def test_sample_is_one_click_away(page: Page):
    page.locator("#samples button").first.click()
    page.locator("#tags .p-facts").wait_for()
    shown = page.locator("#photo img").first
    shown.wait_for()
    assert page.evaluate("image => image.decode().then(() => image.naturalWidth)", shown.element_handle()) > 100


def test_pressed_tag_shows_its_heat_map(page: Page, photos: dict[str, Path]):
    choose(page, photos["patch"])
    page.locator("#tags .p-tag", has_text="cat").first.focus()
    page.keyboard.press("Enter")  # the keyboard does what the mouse does
    expect(page.locator("#heat figcaption")).to_contain_text("“cat”")
    assert page.locator("#heat img").get_attribute("src").startswith("data:image/jpeg")
    expect(page.locator("#tags [aria-pressed=true]")).to_contain_text("cat")
    expect(page.locator("#photo")).to_be_hidden()  # the map is in its place
    page.get_by_role("button", name=BACK).click()
    expect(page.locator("#heat figure")).to_have_count(0)
    expect(page.locator("#photo")).to_be_visible()
    page.locator("#tags .p-tag").first.click()  # the same map once more
    page.locator("#heat img").wait_for()
    page.get_by_role("button", name=BACK).click()
    page.get_by_role("button", name=CLEAR).click()
    expect(page.locator("#tags")).to_contain_text("Choose a photo")


def test_broken_file_gets_a_kind_message(page: Page, photos: dict[str, Path]):
    choose(page, photos["broken"])
    notice = page.get_by_role("alert").filter(has_text="I cannot read this photo")
    expect(notice).to_be_visible()
    assert not re.search("Traceback|Error|/tmp|PIL", notice.inner_text())


def test_every_worker_can_answer_every_event(page: Page, photos: dict[str, Path]):
    answers: list[tuple[str, str, int]] = []
    page.on("response", lambda it: answers.append((it.url, it.headers.get(WORKER_HEADER, ""), it.status)))
    meetings: set[tuple[str, str]] = set()
    for attempt in range(30):
        answers.clear()
        choose(page, photos["red" if attempt % 2 else "green"])
        expect(page.locator("#tags .p-group .p-tree .p-label")).to_have_text("cat" if attempt % 2 else "dog")
        page.locator("#tags .p-tag").first.click()
        page.locator("#heat img").wait_for()
        page.get_by_role("button", name=BACK).click()
        page.get_by_role("button", name=CLEAR).click()
        expect(page.locator("#heat img")).to_have_count(0)
        assert [url for url, _, status in answers if status >= 500] == []
        uploader = next(worker for url, worker, _ in answers if "/upload?" in url or url.endswith("/upload"))
        meetings |= {(uploader, worker) for url, worker, _ in answers if url.endswith("/run/predict")}
        if len(meetings) == 4:  # each worker was asked of photos that it took itself and of photos of the other
            break
    assert len(meetings) == 4


def test_camera_takes_a_photo(page: Page):
    page.get_by_role("button", name="Capture from camera").click()
    page.get_by_role("button", name="Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#photo video')?.readyState === 4")  # or there is nothing to take
    page.get_by_role("button", name="capture photo").click()
    page.locator("#tags .p-facts").wait_for()


def test_label_is_text_and_never_html(page: Page, photos: dict[str, Path]):
    choose(page, photos["red"])
    assert HOSTILE in tags(page)
    page.get_by_role("button", name="What it knows").click()
    expect(page.locator(".p-labels li").filter(has_text=HOSTILE)).to_be_visible()
    assert page.evaluate("window.wasRun") is None
    assert page.locator("img[src=x]").count() == 0


def test_no_request_leaves_the_host(browser: BrowserContext, server: str, photos: dict[str, Path]):
    asked: list[str] = []
    browser.on("request", lambda request: asked.append(request.url))
    with opened(browser, f"{server}/ui/", DRAWN) as page:
        page.on("websocket", lambda socket: asked.append(socket.url))
        choose(page, photos["red"])
        page.locator("#tags .p-tag").first.click()
        page.locator("#heat img").wait_for()
        for button in page.locator("button.label-wrap").all():
            button.click()
        page.wait_for_load_state("networkidle")
    assert any("/gradio_api/" in url for url in asked)
    assert [url for url in asked if not url.startswith((server, "data:", "blob:"))] == []


def test_labels_can_be_searched_and_the_call_names_this_host(page: Page, server: str):
    page.get_by_role("button", name="What it knows").click()
    page.get_by_label("Search the labels").fill("og")
    expect(page.locator(".p-found")).to_have_text("1 found")
    expect(page.locator(".p-labels li:visible")).to_have_text("dog")
    page.get_by_label("Search the labels").fill("zebra")
    expect(page.locator(".p-found")).to_have_text("It does not know that.")
    page.get_by_role("button", name="Call it from your program").click()
    expect(page.locator(".p-code code")).to_have_text(f'curl -F image=@photo.jpg "{server}/v1/tag"')
    assert page.get_by_role("link", name="API docs").first.evaluate("link => link.href") == f"{server}/docs"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_shows_the_whole_width(page: Page, photos: dict[str, Path], theme: str):
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    page.locator("#samples button").first.wait_for()
    choose(page, photos["red"])
    page.locator("#tags .p-facts").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")


def test_everything_that_can_be_pressed_has_a_name(page: Page, photos: dict[str, Path]):
    choose(page, photos["red"])
    page.locator("#tags .p-facts").wait_for()
    assert page.locator("h1").count() == 1
    assert page.evaluate(NAMELESS) == []
