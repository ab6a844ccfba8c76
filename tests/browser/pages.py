"""Pages of small packs, and how a browser of the system is started."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_atomicity.io.pack_options import PackOptions
from napari_atomicity.project.packs.browser_packs import (
    BrowserPack,
    PackRequest,
    make_browser_packs,
    write_browser_packs,
)

PX_NM = 0.05
SPOTS = [(30.0, 40.0), (31.25, 100.5), (70.0, 60.0), (95.75, 130.25)]
PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "firefox": ("firefox-esr", "firefox"),
}
OPTIONS = {
    "chromium": {"args": ["--no-sandbox"]},
    "firefox": {"channel": "moz-firefox"},  # that of the system speaks WebDriver BiDi
}


def write_spots(path: Path, seed: int = 0, spots=SPOTS) -> Path:
    """A calibrated image of 120 × 160 pixels with bright spots."""
    y, x = np.mgrid[:120, :160]
    pixels = np.random.default_rng(seed).normal(100, 2, y.shape)
    for cy, cx in spots:
        pixels += 200 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 1.8**2))
    data = pixels.astype(np.uint16)
    resolution = (1 / PX_NM, 1 / PX_NM)
    tifffile.imwrite(path, data, imagej=True, resolution=resolution, metadata={"unit": "nm"})
    return path


def find_program(name: str) -> str | None:
    """Where a browser of the system is."""
    return next(filter(None, map(shutil.which, PROGRAMS[name])), None)


def start(playwright, name: str, downloads: Path | None = None):
    """Start a browser of the system that puts downloads into a folder; skip if there is none."""
    program = find_program(name)
    if program is None:
        pytest.skip(f"{name} is not installed: apt-get install {PROGRAMS[name][0]}")
    return getattr(playwright, name).launch(
        executable_path=program, downloads_path=downloads, **OPTIONS[name]
    )


def make_pack(tmp_path: Path, n: int = 3, **options) -> tuple[BrowserPack, Path]:
    folder = tmp_path / "raw"
    folder.mkdir()
    images = [write_spots(folder / f"{i:03}.tif", i) for i in range(n)]
    given = PackOptions(**{"examples": False, "repeats": 0.0, **options})
    (made,) = make_browser_packs(images, PackRequest(given))
    (page,) = write_browser_packs([made], tmp_path / "page.html")
    return made, page
