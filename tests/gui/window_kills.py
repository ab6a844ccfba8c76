"""Kill windows that correct labels again and again, and check that nothing saved is lost."""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "project")]
from bench import analysed, write_image  # noqa: E402
from brightness import BrightnessClassifier  # noqa: E402
from project_kills import KILLED_IMAGE, EditorServer, acknowledged_edits, check_project  # noqa: E402

from napari_atomicity.io.images import load  # noqa: E402
from napari_atomicity.pipeline.analysis import analyse  # noqa: E402
from napari_atomicity.project import EditKind, ImageEdit, Project  # noqa: E402

WINDOWS = Path(__file__).with_name("killed_window.py")
PROJECT = "morning.atomicity"
_TIMEOUT_S = 600.0
_BEFORE_EDIT_EVERY = 8
_ANALYSE_ALL_EVERY = 4


@dataclass
class WindowKills:
    """What became of windows that were killed."""

    windows: int = 0
    before_first_edit: int = 0
    in_analyse_all: int = 0
    acknowledged: int = 0


def make_project(folder: Path) -> Path:
    """Make a project of four images, of which the first is analysed; return its file."""
    for seed, name in enumerate((KILLED_IMAGE, "b.tif", "c.tif", "d.tif")):
        write_image(folder / name, seed)
    with Project(folder / PROJECT) as project:
        project.add_paths([folder])
        # Without class maps and patches, a window is ready sooner.
        first = replace(analysed(folder / KILLED_IMAGE), patches={}, embedding=None, class_maps={})
        project.image_files.update_metadata(first.micrograph)
        project.record(ImageEdit(KILLED_IMAGE, EditKind.ANALYSIS, "Ada"), None, first)
    return folder / PROJECT


def kill_windows(folder: Path, kills: int, seed: int, until: float | None = None) -> WindowKills:
    """Kill windows at random moments; every fourth one while *Analyse all* runs.

    Parameters
    ----------
    folder : Path
        Empty folder for projects.
    kills : int
        How many windows are killed.
    seed : int
        Of what each does, and when it is killed.
    until : float, optional
        Time (`time.monotonic`) after which no further window is opened. Ctrl-C ends it as well.

    Returns
    -------
    WindowKills
        Numbers of windows and of acknowledged edits, all of which were found again.

    Raises
    ------
    AssertionError
        If an edit is missing, a project is damaged or locked, or an image can't be analysed.
    """
    if kills == 0:
        return WindowKills()
    chance = random.Random(seed)
    for name in ("project", "template", "settings"):
        (folder / name).mkdir()
    path, template = make_project(folder / "project"), make_project(folder / "template").parent
    found, n_before = WindowKills(), 0
    settings = {"XDG_CONFIG_HOME": str(folder / "settings"), "NAPARI_CONFIG": ""}
    start_s = 1.0
    with (
        contextlib.suppress(KeyboardInterrupt),
        EditorServer(WINDOWS, _TIMEOUT_S, NAPARI_ASYNC="0", **settings) as server,
    ):
        for i in range(kills):
            if until is not None and time.monotonic() > until:
                break
            where, seed = f"window {i}", chance.randrange(1000)
            if i % _ANALYSE_ALL_EVERY == _ANALYSE_ALL_EVERY - 1:
                lines = _kill_in_analyse_all(server, template, folder / "copy", seed, chance)
                found.in_analyse_all += ["analysed"] not in lines
            elif i % _BEFORE_EDIT_EVERY == 0:
                lines = server.edit_until_killed(f"{path} {seed} 0", 0, chance.uniform(0, start_s))
                n_before = check_project(path, lines, n_before, where)
                found.before_first_edit += not acknowledged_edits(lines)
            else:
                began = time.monotonic()
                n_lines = chance.randrange(1, 20)
                lines = server.edit_until_killed(
                    f"{path} {seed} 0", n_lines, chance.uniform(0, 0.1)
                )
                start_s = (time.monotonic() - began) / (1 + n_lines / 10)
                n_before = check_project(path, lines, n_before, where)
            found.windows += 1
            found.acknowledged += len(acknowledged_edits(lines))
    return found


def _kill_in_analyse_all(
    server: EditorServer, template: Path, folder: Path, seed: int, chance: random.Random
) -> list[list[str]]:
    """Kill a window of a new project in *Analyse all*, and analyse the images that are left."""
    path = shutil.copytree(template, folder) / PROJECT
    # The first two lines: ready, analysing.
    lines = server.edit_until_killed(
        f"{path} {seed} 1", chance.randrange(2, 9), chance.uniform(0, 0.1)
    )
    check_project(path, lines, 0, f"window {seed} in Analyse all")
    analyse_the_rest(path)
    shutil.rmtree(folder)
    return lines


def analyse_the_rest(path: Path) -> None:
    """Analyse the images of a project that *Analyse all* has not reached."""
    with Project(path) as project:
        images = {image.name: image.path for image in project.images()}
        for name in images:
            contents = project.load(name)
            assert not contents.damage, contents.damage
            if contents.analysis is None:
                analysis = analyse(load(images[name], name=name), BrightnessClassifier())
                project.image_files.update_metadata(analysis.micrograph)
                project.record(ImageEdit(name, EditKind.ANALYSIS, "Ada"), None, analysis)
        project.flush()
        assert all(project.load(name).analysis is not None for name in images)
