"""Fixtures for every room."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import asdict, replace
from functools import cache
from importlib import import_module
from io import BytesIO
from multiprocessing import get_all_start_methods
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings

from napari_atomicity.io import images
from napari_atomicity.simulation.structures import Isomer
from support import lattice_isomer

# On a busy machine an example may take longer than the 0.2 s that Hypothesis allows.
hypothesis_settings.register_profile("no_deadline", deadline=None)
hypothesis_settings.load_profile("no_deadline")

# What workers of pytest-xdist have seen of the event loop.
_FROM_WORKERS: list[dict] = []

LONG_FILES = (
    "test_documented_commands.py", "test_page.py", "test_watch.py", "test_batch.py",
    "test_site.py", "test_ending.py", "test_review.py", "test_command.py", "test_killed.py",
    "test_workbench.py", "test_export.py", "test_training.py", "test_killed_windows.py",
    "test_live.py", "test_browse.py", "test_session_pass.py", "test_adapt.py", "test_docks.py",
    "test_editing.py", "test_benchmarks.py", "test_examples.py", "test_embedding.py",
    "test_session_labels.py", "test_plots.py", "test_files_of_0_2.py", "test_runs.py",
    "test_comparison.py", "test_adapting_watch.py", "test_failed_statistics.py",
    "test_two_machines.py", "test_a_day.py", "test_demo.py", "test_new_column.py",
)  # fmt: skip
"""Files that take longest, with which a worker of pytest-xdist would otherwise end alone."""

PRELOADED = (
    "distributed", "napari_atomicity.cli.commands", "napari_atomicity.pipeline.atom_runs",
    "napari_atomicity.pipeline.runs.batch", "napari_atomicity.pipeline.runs.dask_workers",
    "napari_atomicity.pipeline.runs.engine", "napari_atomicity.pipeline.runs.sent_model",
    "napari_atomicity.pipeline.live.watch",
)  # fmt: skip
"""What processes of tests import; each takes seconds without it."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser):
    parser.addoption(
        "--event-loop",
        action="store_true",
        help="list the turns of the window's event loop that took long",
    )


def pytest_collection_modifyitems(config, items):
    """With workers, which get one file after the other, begin with those that take long."""
    if config.getoption("loadscopereorder", True):
        return
    size = Counter(item.path for item in items)
    rank = {name: number for number, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: (rank.get(item.path.name, len(rank)), -size[item.path]))


@pytest.fixture(autouse=True, scope="session")
def settled_collector():
    """Let the collector pass over what is imported, and seldom look: it takes a tenth of a test."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 50)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data; tests that need it skip where it is not there."""
    if not SHARED.is_dir():
        pytest.skip("the folder of shared data is not beside the repository")
    return SHARED


@pytest.fixture
def read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read files in this process, whose code a test changes, and not in the reader process."""
    here = tuple(replace(reader, own_process=False) for reader in images.READERS)
    monkeypatch.setattr(images, "READERS", here)


@pytest.fixture(scope="module")
def blank_figures():
    """Write blank files of figures: matplotlib would take a half of the time of many commands.

    The figures are made as usual, only their layout and drawing is left out.
    """
    from matplotlib.figure import Figure

    usual = {name: getattr(Figure, name) for name in ("savefig", "get_layout_engine")}

    @cache
    def blank(kind: str) -> bytes:
        written = BytesIO()
        usual["savefig"](Figure((1, 1)), written, format=kind)
        return written.getvalue()

    def savefig(_: Figure, to, *, format: str, **options) -> None:
        if hasattr(to, "write"):
            to.write(blank(format))
        else:
            Path(to).write_bytes(blank(format))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "get_layout_engine", lambda _: None)
        patch.setattr(Figure, "savefig", savefig)
        yield usual


@pytest.fixture
def drawn_figures(blank_figures, monkeypatch):
    """Draw figures in one test of a module that writes blank ones."""
    from matplotlib.figure import Figure

    for name, method in blank_figures.items():
        monkeypatch.setattr(Figure, name, method)


@pytest.fixture(scope="module")
def forks():
    """Context of multiprocessing, also of the workers of dask.

    Where the system can, processes are forks of one that has imported all that they need.
    """
    import dask
    from distributed.utils import get_mp_context

    method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    settings = {
        "distributed.worker.multiprocessing-method": method,
        "distributed.worker.profile.enabled": False,
    }
    with dask.config.set(settings):
        context = get_mp_context()
        if method == "forkserver":
            from multiprocessing import forkserver

            for name in PRELOADED:  # the server passes over a name that is wrong
                import_module(name)
            context.set_forkserver_preload(list(PRELOADED))
            forkserver.ensure_running()  # before a test limits the size of files
        yield context


@pytest.fixture(scope="session")
def library() -> list[Isomer]:
    """Two isomers of Pt19 and of Pt70."""
    return [lattice_isomer(n, seed) for n in (19, 70) for seed in (0, 1)]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model file of two classes, its network untrained."""
    from support import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.safetensors")


@pytest.fixture(scope="session")
def adaptable(tmp_path_factory, library) -> tuple[Path, Path]:
    """A barely trained model of Pt19 and Pt70 that can be adapted, and an image with both."""
    import tifffile

    from napari_atomicity.simulation.field_settings import FieldSettings
    from napari_atomicity.simulation.fields import simulate_field
    from napari_atomicity.training.request import FolderSource, TrainRequest
    from napari_atomicity.training.run import train
    from support import write_size_selected

    folder = tmp_path_factory.mktemp("adaptable")
    (folder / "data").mkdir()
    write_size_selected(folder / "data", library, images=2)
    model, image = folder / "tiny.safetensors", folder / "field.tif"
    with pytest.MonkeyPatch.context() as patch:  # the map's compilation takes seconds
        patch.setattr("napari_atomicity.models.embedding.fit_map", lambda e, seed: e[:, :2].copy())
        source = FolderSource(folder / "data")
        train(TrainRequest(source, model, ("raw",), epochs=1, start="scratch", device="cpu"))
    settings = FieldSettings(
        shape_px=(640, 640), clusters_per_nm2=0.08, mixture={"Pt19": 0.5, "Pt70": 0.5}
    )
    pixels = simulate_field(library, settings, seed=5).micrograph.data.astype(np.uint16)
    calibration = {"resolution": (25, 25), "metadata": {"unit": "nm"}}
    tifffile.imwrite(image, pixels, imagej=True, **calibration)
    return model, image


@pytest.fixture
def quick_adaptation(monkeypatch):
    """Adaptations of a few steps, without the map, whose compilation takes seconds."""
    from functools import partial

    from napari_atomicity.pipeline.adaptation import runs

    few = partial(runs.AdaptSettings, steps=15, batch_size=24, learning_rate=4e-3)
    monkeypatch.setattr(runs, "AdaptSettings", few)
    monkeypatch.setattr(
        "napari_atomicity.models.embedding.place", lambda embedding, _: embedding[:, :2]
    )


def _blocks() -> list:
    """Turns of the event loop that took long in this process."""
    import sys

    if "slow_turns" not in sys.modules:
        return []
    from qtpy.QtWidgets import QApplication

    return list(getattr(QApplication.instance(), "blocks", []))


def pytest_sessionfinish(session):
    """A worker of pytest-xdist hands its list over to whoever tells."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["blocks"] = [asdict(block) for block in _blocks()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    output = getattr(node, "workeroutput", None)  # none of a worker that crashed
    _FROM_WORKERS.extend(output.get("blocks", []) if output else [])


def pytest_terminal_summary(terminalreporter):
    """With ``--event-loop``: which turns of the event loop took long, and whose they were.

    On a busy machine with a virtual display this proves nothing, so no test depends on it; who
    reads it sees at once what has become slow.
    """
    blocks = _blocks()
    if blocks or _FROM_WORKERS:
        from slow_turns import Block, report

        terminalreporter.section("event loop")
        blocks += [Block(**values) for values in _FROM_WORKERS]
        terminalreporter.write_line(report(blocks))
