"""Real browsers for the page of packs: Chromium and Firefox of the system, driven by Playwright."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import make_pack, start

from napari_atomicity.project.packs.browser_packs import BrowserPack


@pytest.fixture(scope="session")
def playwright():
    """Playwright, in a process of its own."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with api.sync_playwright() as running:
        yield running


@pytest.fixture(scope="session", params=["chromium", "firefox"])
def browser(request, playwright, tmp_path_factory):
    downloads = tmp_path_factory.mktemp("downloads")
    started = start(playwright, request.param, downloads)
    started.program, started.downloads = request.param, downloads
    yield started
    started.close()


@pytest.fixture
def context(browser):
    made = browser.new_context(
        accept_downloads=True, reduced_motion="null", forced_colors="null",
        viewport={"width": 1000, "height": 760}, color_scheme="null",
    )  # fmt: skip
    yield made
    made.close()


@pytest.fixture
def pack(tmp_path) -> tuple[BrowserPack, Path]:
    """Three images without examples, and their page."""
    return make_pack(tmp_path)
