"""A demo page on two workers, and a real browser to look at it with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, JSHandle, Page, expect, sync_playwright
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
SLOW_MS = 30_000
WORKER_HEADER = "x-worker"


class NamesItsWorker:
    """Says in every response which process answered, and hangs up, so that the next request may meet another one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[WORKER_HEADER] = str(os.getpid())
                headers["connection"] = "close"
            await send(message)

        await self.app(scope, receive, send_named)


@contextmanager
def served(factory: str, folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Give the address of the application that `module:function` makes, in two workers; uploads lie in the folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", factory, "--workers", "2", "--port", str(port)]
    variables = os.environ | {"GRADIO_TEMP_DIR": str(folder)} | dict(environment)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(f"{address}/ui/", process, folder / "log")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def launched(
    profile: Path, permissions: Sequence[str] = (), key: str | None = None, locale: str | None = None
) -> Iterator[BrowserContext]:
    """Give a browser, or skip the test where there is none; asked for a password, it gives the key."""
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome is installed")
    expect.set_options(timeout=SLOW_MS)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            args=FLAGS,
            permissions=list(permissions),
            locale=locale,
            http_credentials={"username": "anybody", "password": key} if key else None,
        )
        context.set_default_timeout(SLOW_MS)
        yield context
        context.close()


@contextmanager
def opened(browser: BrowserContext, address: str, drawn: str) -> Iterator[Page]:
    """Give the page at the address once the element `drawn` is there."""
    page = browser.new_page()
    page.goto(address)
    page.locator(drawn).first.wait_for()
    yield page
    page.close()


NAMELESS = """() => [...document.querySelectorAll('button, a[href], input, textarea')].filter((element) =>
    element.offsetParent && !(element.textContent.trim() || element.ariaLabel || element.title || element.labels?.length
    || element.querySelector('img[alt]'))).map((element) => element.outerHTML)"""
"""Script that returns what can be pressed or filled and has no name."""


def _wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    pytest.fail(f"the page did not come up:\n{log.read_text()}")


def dropped(page: Page, name: str, content: bytes) -> JSHandle:
    """Return what the browser hands over when a file is dropped."""
    return page.evaluate_handle(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            const type = name.endsWith('png') ? 'image/png' : '';
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
            return transfer;
        }""",
        [name, list(content)],
    )
