"""The command and the lines of Python that repeat an analysis give the same clusters."""

import shlex
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from napari_atomicity import analyse, find_atoms
from napari_atomicity.atoms.marks import ImageAtoms
from napari_atomicity.cli.commands import app
from napari_atomicity.core.acquisition_session import AcquisitionSession, EarlierScale
from napari_atomicity.core.errors import AtomicityError, ModelError
from napari_atomicity.io.tables import read_clusters, read_table
from napari_atomicity.pipeline.repeat import (
    as_command,
    as_python,
    atom_run_of,
    request_of,
    runs_of,
)
from support import synthetic_analysis

LABELS = ["image", "cluster_id", "label", "confidence", "diameter_nm"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two words")
    for name in ("a.tif", "b's.tif"):
        tifffile.imwrite(folder / name, synthetic_analysis().micrograph.data)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def analyses(images, tiny_model):
    settings = {"threshold": 7.5, "split_touching": False}
    return analyse(
        images, str(tiny_model), "cpu", pixel_size_nm=0.05, settings=settings, session="all",
        labels="network", progress=False,
    )  # fmt: skip


@pytest.fixture
def request_(analyses, tiny_model, monkeypatch):
    monkeypatch.setattr("napari_atomicity.models.files.model_files", lambda _: [tiny_model])
    return request_of(list(analyses))


def test_the_command_gives_the_same_clusters(analyses, images, request_, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(as_command(request_, images))
    assert words[:2] == ["atomicity", "analyse"] and "--no-split" in as_command(request_, images)
    ended = CliRunner().invoke(app, words[1:])
    assert ended.exit_code == 0, ended.output
    found = read_clusters(tmp_path / "results" / "clusters.csv")
    pd.testing.assert_frame_equal(
        found[LABELS], analyses.table[LABELS].reset_index(drop=True), check_dtype=False
    )


def test_the_lines_of_python_give_the_same_clusters(
    analyses, images, request_, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(as_python(request_, images), names)
    pd.testing.assert_frame_equal(names["analyses"].table[LABELS], analyses.table[LABELS])
    assert (tmp_path / "results" / "clusters.csv").is_file()


def test_settings_that_are_the_defaults_are_not_given(images, tiny_model, monkeypatch):
    alone = analyse(images[0], str(tiny_model), "cpu", pixel_size_nm=0.05, progress=False)
    monkeypatch.setattr("napari_atomicity.models.files.model_files", lambda _: [tiny_model])
    text = as_command(request_of([alone]), images[:1])
    assert "--threshold" not in text and "--labels" not in text and "--session none" in text


def test_images_of_a_session_are_one_run_and_others_are_alone(analyses, images, request_):
    first, second = analyses
    alone = replace(second, parameters={**second.parameters, "session": None})
    session = AcquisitionSession("one", tuple(one.micrograph.name for one in analyses))
    runs = runs_of([first, alone], session)
    assert [(run[0].session, run[1]) for run in runs] == [
        ("all", [images[0]]), ("none", [images[1]]),
    ]  # fmt: skip
    assert [run[1] for run in runs_of(list(analyses), session)] == [images]


def test_what_was_entered_of_the_session_is_in_the_command(analyses, request_, tmp_path):
    record = tmp_path / "run.json"
    record.touch()
    names = tuple(one.micrograph.name for one in analyses)
    session = AcquisitionSession(
        "one", names, {names[0]: {"Pt19": 1.0}}, EarlierScale(1.0, 0.1, str(record)),
        frozenset(names[:1]), 0.08,
    )  # fmt: skip
    text = as_command(*runs_of(list(analyses), session)[0])
    assert "--pixel-size-error 8.0" in text and "--keep-known" in text
    assert f"--earlier-run {record}" in text
    assert "--pixel-size-error 7.0 " in as_command(
        *runs_of(list(analyses), replace(session, pixel_size_error=0.07))[0]
    )
    with pytest.raises(AtomicityError, match="takes no scale of an earlier session"):
        as_python(*runs_of(list(analyses), session)[0])
    elsewhere = replace(session, earlier=EarlierScale(1.0, 0.1, "monday"))
    with pytest.raises(AtomicityError, match="in no file"):
        runs_of(list(analyses), elsewhere)
    alone = replace(analyses[0], parameters={**analyses[0].parameters, "session": None})
    ((request, _),) = runs_of([alone], elsewhere)  # labelled without the session
    assert request == replace(request_of([alone]), session="none")
    some = replace(session, known={name: {"Pt19": 1.0} for name in names})
    unsaved = {**analyses[0].parameters, "model": {"model_id": "pt-dual-adapted-1-0123"}}
    with pytest.raises(AtomicityError, match=r"pt-dual-adapted-1-0123 is in no file\. Save"):
        runs_of([replace(analyses[0], parameters=unsaved)], session)
    with pytest.raises(AtomicityError, match="only some"):
        runs_of(list(analyses), some)


def test_the_settings_of_the_ratios_are_in_the_lines_of_python(
    images, request_, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    request = replace(request_, reference="Pt19:Pt70 = 1:1", keep_ratios=True)
    exec(as_python(request, images), {})
    assert "Pt19:Pt70 = 1:1" in (tmp_path / "results" / "run.json").read_text("utf-8")
    with pytest.raises(ModelError, match="expectation"):  # which this model does not allow
        exec(as_python(replace(request, ratios="em"), images), {})


def test_images_with_different_settings_are_not_one_run(analyses, request_):
    first, second = analyses
    other = replace(second, parameters={**second.parameters, "labels_from": "mixture"})
    assert other.labels_from != first.labels_from
    with pytest.raises(AtomicityError, match="different settings"):
        request_of([first, other])


def test_entered_pixel_sizes_that_differ_are_not_one_run(analyses, request_):
    """The command would analyse with those of the files."""
    first, second = analyses
    other = replace(second, micrograph=second.micrograph.with_pixel_size(0.06))
    with pytest.raises(AtomicityError, match="entered by hand"):
        request_of([first, other])
    assert request_of([other]).pixel_size_nm == 0.06


@pytest.fixture(scope="module")
def atoms(tmp_path_factory):
    """Atoms of two images, the second one at another threshold."""
    folder, found = tmp_path_factory.mktemp("atoms"), []
    y, x = np.mgrid[:128, :128]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        pixels = rng.normal(200, 8, y.shape)
        for cy, cx in rng.uniform(12, 116, (9, 2)):
            pixels += 90 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 1.6**2))
        tifffile.imwrite(folder / f"{seed}.tif", pixels.astype(np.uint16))
        analysis = find_atoms(folder / f"{seed}.tif", pixel_size_nm=0.05, progress=False)
        found.append(ImageAtoms(f"{seed}.tif", 0.05, analysis, group_distance_nm=0.4))
    found[2] = replace(found[2], analysis=replace(found[2].analysis, threshold=0.3))
    return found


@pytest.mark.parametrize(("like", "n"), [(0, 2), (2, 1)])
def test_command_and_python_find_the_same_atoms(atoms, like, n, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request, images = atom_run_of(atoms, atoms[like])
    assert [path.name for path in images] == ["0.tif", "1.tif", "2.tif"][like:][:n]
    expected = pd.concat([one.table for one in atoms[like:][:n]], ignore_index=True)
    assert len(expected) > 3
    columns = ["image", "y_px", "x_px", "confidence", "group_id"]
    words = shlex.split(as_command(replace(request, completeness=False), images))
    ended = CliRunner().invoke(app, words[1:])
    assert ended.exit_code == 0, ended.output
    exec(as_python(request, images), {})
    for path in (tmp_path / "results" / "atoms.csv", tmp_path / "results.csv"):
        found = read_table(path)[columns]
        pd.testing.assert_frame_equal(
            found, expected[columns], check_dtype=False, check_column_type=False
        )


def test_marks_alone_can_not_be_repeated(atoms):
    marked = replace(atoms[0], analysis=None)
    assert atom_run_of([marked, atoms[1]], marked) is None
