"""A real browser for what people look at: headless Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PHONE, DESKTOP = 390, 1280
# A busy machine may take long to start a page; a broken page fails all the same.
PATIENCE_MS = 120_000


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        reason = "there is no Chromium here: apt-get install chromium"
        if os.environ.get("GAIT_TEST_BROWSER") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        # In a container root has no sandbox, and /dev/shm may be tiny.
        started = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., tuple[Page, list[str]]]]:
    """Opens an address; the list grows with every console error, page error and failed request."""
    contexts = []

    def open_at(
        address: str, width: int = DESKTOP, height: int = 900, color_scheme: str = "light"
    ) -> tuple[Page, list[str]]:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=color_scheme
        )
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        problems: list[str] = []
        page.on("console", lambda said: said.type == "error" and problems.append(said.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.goto(address)
        return page, problems

    yield open_at
    for context in contexts:
        context.close()
