"""A map of the clusters of a session."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import made_up

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.tables.cluster_table import MODEL_MAP, SESSION_MAP
from napari_atomicity.pipeline import session_map
from napari_atomicity.pipeline.session_map import (
    extend_session_map,
    fit_session_map,
    session_positions,
)
from napari_atomicity.project import EditKind, ImageEdit, Project


@pytest.fixture
def images(monkeypatch):
    """Two images whose embeddings are positions already."""
    monkeypatch.setattr(session_map, "fit_map", lambda embedding, seed: embedding[:, :2] + 1)
    return [made_up(20, "one", seed=1), made_up(12, "two", seed=2)]


def of_another_model(analysis):
    return replace(analysis, parameters={"model": {"model_id": "another"}})


def test_all_clusters_of_the_session_are_in_one_map(images):
    found = fit_session_map(images)
    for before, after in zip(images, found, strict=True):
        assert session_positions(after) == pytest.approx(before.embedding[:, :2] + 1)
        assert after.table[list(MODEL_MAP)].equals(before.table[list(MODEL_MAP)])


def test_clusters_without_an_embedding_have_no_position(images):
    embedding = images[0].embedding.copy()
    embedding[3] = np.nan
    first, _ = fit_session_map([replace(images[0], embedding=embedding), images[1]])
    assert np.flatnonzero(np.isnan(session_positions(first)).any(axis=1)).tolist() == [3]


def test_the_map_is_of_the_model_of_most_clusters(images):
    (found,) = fit_session_map([images[0], of_another_model(images[1])])
    assert found.micrograph.name == "one"


def test_too_few_clusters_are_said(images):
    with pytest.raises(AtomicityError, match="16 classified clusters, and there are 12"):
        fit_session_map(images[1:])


def test_new_clusters_take_places_near_those_that_are_like_them(images):
    first, _ = fit_session_map(images)
    assert extend_session_map(images) == [] and extend_session_map([first]) == []
    again = replace(images[0], micrograph=replace(images[0].micrograph, name="again"))
    (found,) = extend_session_map([first, again, of_another_model(images[1])])
    distance = np.linalg.norm(session_positions(found) - session_positions(first), axis=1)
    spread = np.ptp(session_positions(first), axis=0).max()
    assert distance.max() < 0.5 * spread and np.median(distance) < 0.1 * spread


def test_the_map_is_kept_in_the_project(images, tmp_path):
    from bench import write_image

    write_image(tmp_path / "one.tif")
    path = tmp_path / "p.atomicity"
    with Project(path) as project:
        project.add_paths([tmp_path])
        micrograph = project.load("one.tif").micrograph
        analysis, _ = fit_session_map([replace(images[0], micrograph=micrograph), images[1]])
        project.record(ImageEdit("one.tif", EditKind.ANALYSIS, "Ada"), None, analysis)
    with Project(path) as again:
        assert session_positions(again.load("one.tif").analysis) == pytest.approx(
            session_positions(analysis)
        )
    assert set(SESSION_MAP) <= set(analysis.table.columns)
