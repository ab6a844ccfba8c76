"""Small images, and workers that all tests of this room share."""

from __future__ import annotations

import os
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_atomicity.models.domain_shift import FeatureSummary
from napari_atomicity.pipeline.live import watch
from napari_atomicity.pipeline.runs.part_store import PartStore
from support import synthetic_analysis


def write_image(path: Path, seed: int = 0, n: int = 6) -> Path:
    """Discs on noise, 120 × 160 pixels of 0.1 nm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = synthetic_analysis(n, seed=seed).micrograph.data.astype(np.uint16)
    tifffile.imwrite(path, pixels, imagej=True, resolution=(10, 10), metadata={"unit": "nm"})
    return path


def write_film(path: Path, seed: int = 3, frames: int = 5) -> Path:
    """The same as a stack that moves by a pixel per frame."""
    frame = synthetic_analysis(6, seed=seed).micrograph.data.astype(np.uint16)
    stack = np.stack([np.roll(frame, step, axis=1) for step in range(frames)])
    said = {"unit": "nm", "axes": "TYX"}
    tifffile.imwrite(path, stack, imagej=True, resolution=(10, 10), metadata=said)
    return path


@pytest.fixture(autouse=True, scope="module")
def figures_of_runs(blank_figures):
    """The tests of this room look at tables and records, but for those with `drawn_figures`."""


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder with five images."""
    for i in range(5):
        write_image(tmp_path / "in" / f"{i}.tif", seed=i)
    return tmp_path / "in"


@pytest.fixture(scope="module")
def address(forks):
    """Of a scheduler with two workers, who may die once with a task."""
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        yield cluster.scheduler_address


def parts(out: Path) -> dict[str, dict]:
    """Return what each part in a folder says of itself, the times of its analysis too."""
    store = PartStore(out)
    return {stem: store.about(stem) for stem in store.stems}


def run_dask(program: str, *arguments: str) -> None:
    """Run a program of dask, such as ``dask_worker``, in this process, without output."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    sys.argv = [program, *arguments]
    runpy.run_module(f"distributed.cli.{program}", run_name="__main__")


@pytest.fixture
def moved(images, monkeypatch):
    """Adds images whose clusters are where their name says: "at 4 b.tif" is far from "at 0 …"."""
    for path in images.iterdir():
        path.unlink()
    real = watch.conditions_of
    rng = np.random.default_rng(0)

    def conditions(analysis, *more):
        place = rng.normal(0, 0.3, 12)
        place[0] += float(analysis.micrograph.name.split()[1])
        return replace(real(analysis, *more), where=FeatureSummary(place, 0.1))

    monkeypatch.setattr(watch, "conditions_of", conditions)

    def add(at, letters):
        for letter in letters:
            number = ord(letter)
            path = write_image(images / f"at {at} {letter}.tif", seed=number)
            os.utime(path, (1000 + number, 1000 + number))

    return add
