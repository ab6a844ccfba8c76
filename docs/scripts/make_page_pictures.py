"""Draw the pictures of the page for browsers, into ``images``.

    python docs/scripts/make_page_pictures.py

Needs Playwright and Chromium. A pack of the bundled example is answered as a person answers it, in
light and dark, on a desktop and on a phone.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from napari_atomicity.io.pack_options import PackOptions
from napari_atomicity.project.packs.browser_packs import (
    PackRequest,
    make_browser_packs,
    write_browser_packs,
)
from napari_atomicity.simulation.example_data import (
    atom_example_path,
    atom_example_truth_path,
    example_path,
    example_truth_path,
)

IMAGES = Path(__file__).resolve().parents[1] / "images"
DESKTOP, PHONE = {"width": 1100, "height": 720}, {"width": 390, "height": 780}


def write_pages(folder: Path) -> tuple[Path, Path]:
    """Write a page of atoms and one of clusters."""
    options = PackOptions(title="Platinum on carbon", repeats=0)
    atoms = make_browser_packs([atom_example_path()], PackRequest(options))
    truth = pd.read_csv(example_truth_path()).assign(image=example_path().name)
    clusters = make_browser_packs([example_path()], PackRequest(options, clusters=truth))
    (first,) = write_browser_packs(atoms, folder / "atoms.html")
    (second,) = write_browser_packs(clusters, folder / "clusters.html")
    return first, second


def open_page(context: Any, path: Path) -> Page:
    """Open a page and begin."""
    page = context.new_page()
    page.goto(path.as_uri())
    page.fill("#name", "Ada")
    page.click("#begin button")
    page.wait_for_selector("#work:not([hidden])")
    page.wait_for_timeout(700)
    return page


def save(page: Page, name: str) -> None:
    """Save what the page shows as WebP."""
    page.wait_for_timeout(300)
    with tempfile.TemporaryDirectory() as folder:
        page.screenshot(path=Path(folder, "shot.png"))
        Image.open(Path(folder, "shot.png")).save(IMAGES / f"{name}.webp", quality=80, method=6)


def click(page: Page, y: float, x: float) -> None:
    """Click a position of the image."""
    at = page.evaluate(
        "([y, x]) => { const box = page.view.canvas.getBoundingClientRect(), at = "
        "page.view.toScreen({y, x}); return [at.x + box.left, at.y + box.top]; }",
        [y, x],
    )
    page.mouse.click(*at)
    page.wait_for_timeout(120)


def draw_atoms(context: Any, path: Path, scheme: str, kind: str) -> None:
    """Do the first example, then mark atoms of the image."""
    page = open_page(context, path)
    points = page.evaluate("page.place.image.points")
    for y, x in [*points[:-3], (40, 60)]:
        click(page, y, x)
    page.click("#check")
    if (kind, scheme) == ("desktop", "light"):
        save(page, "page-example")
    page.evaluate("page.go(page.places.length - 1)")
    page.wait_for_timeout(700)
    truth = pd.read_csv(atom_example_truth_path())
    lone = truth[truth["which"] == "lone"][["y_px", "x_px"]].to_numpy(float)
    for y, x in lone[: len(lone) * 3 // 4]:
        click(page, y, x)
    page.keyboard.press("u")
    save(page, f"page-atoms-{scheme}" if kind == "desktop" else "page-phone")


def main() -> None:
    """Draw all pictures."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        atoms, clusters = write_pages(Path(folder))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme, size, kind in (
            ("light", DESKTOP, "desktop"),
            ("dark", DESKTOP, "desktop"),
            ("light", PHONE, "phone"),
        ):
            context = browser.new_context(color_scheme=scheme, viewport=size)
            draw_atoms(context, atoms, scheme, kind)
            context.close()
        page = open_page(browser.new_context(color_scheme="light", viewport=DESKTOP), clusters)
        page.evaluate("page.go(page.places.findIndex((place) => place.item >= 0))")
        page.wait_for_timeout(700)
        save(page, "page-clusters")
        browser.close()


if __name__ == "__main__":
    main()
