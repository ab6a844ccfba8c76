"""Which clusters are worth showing."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from napari_atomicity.reporting.examples import (
    DOUBTFUL,
    MAX_EXAMPLES,
    SURE,
    draw_class_maps,
    has_patches,
    select_examples,
    top_examples,
    typical_clusters,
    write_class_maps,
)
from napari_atomicity.reporting.plots.base import Look
from napari_atomicity.state.cluster_rows import bare_rows, insert_rows
from support import CLASSES, synthetic_analysis


def with_columns(analysis, **columns):
    return replace(analysis, table=analysis.table.assign(**columns))


def ids(found, label, kind):
    return [e.cluster_id for e in found if (e.label, e.kind) == (label, kind)]


def shown(found, analysis, classes):
    """The examples that are shown of an image."""
    return top_examples(select_examples(found, analysis, classes))


@pytest.fixture
def analysis():
    """Twelve clusters of Pt19, the surest first."""
    labels = {"label": "Pt19", "label_predicted": "Pt19"}
    return with_columns(synthetic_analysis(12), **labels, confidence=np.linspace(0.99, 0.4, 12))


def test_the_surest_and_the_least_sure_of_each_label(analysis):
    found = shown([], analysis, CLASSES)
    assert ids(found, "Pt19", SURE) == [1, 2] and ids(found, "Pt19", DOUBTFUL) == [12, 11]
    assert len(found) == 2 * MAX_EXAMPLES
    assert all(e.strip.startswith("data:image/jpeg") and len(e.names) == 4 for e in found)


def test_sure_ones_stand_alone_and_none_is_cut(analysis):
    touching, cut = np.arange(12) == 0, np.arange(12) == 11
    found = shown(
        [], with_columns(analysis, touches_neighbour=touching, touches_border=cut), CLASSES
    )
    assert ids(found, "Pt19", SURE) == [2, 3] and ids(found, "Pt19", DOUBTFUL) == [11, 10]


def test_a_label_against_a_sure_prediction_is_no_example(analysis):
    changed = np.where(np.arange(12) == 0, "Pt41", "Pt19")
    found = shown([], with_columns(analysis, label=changed), CLASSES)
    assert ids(found, "Pt19", SURE) == [2, 3] and not ids(found, "Pt41", SURE)
    assert not ids(found, "Pt41", DOUBTFUL)


def test_no_cluster_is_shown_twice(analysis):
    few = with_columns(analysis, label=np.where(np.arange(12) < 3, "Pt19", ""))
    found = shown([], few, CLASSES)
    assert ids(found, "Pt19", SURE) == [1, 2] and ids(found, "Pt19", DOUBTFUL) == [3]


def test_what_is_no_class_is_ranked_by_how_far_it_is(analysis):
    far = np.arange(12.0)
    unknown = {"label": "unknown", "label_predicted": "unknown"}
    found = shown([], with_columns(analysis, **unknown, ood_score=far), CLASSES)
    assert ids(found, "unknown", SURE) == [12, 11] and len(found) == MAX_EXAMPLES


def test_the_order_of_the_images_does_not_matter():
    images = [synthetic_analysis(30, f"{i}.tif", seed=i) for i in range(4)]
    one: list = []
    other: list = []
    for image in images:
        one = select_examples(one, image, CLASSES)
    for image in reversed(images):
        other = select_examples(other, image, CLASSES)
    one, other = top_examples(one), top_examples(other)
    assert {(e.image, e.cluster_id, e.kind) for e in one} == {
        (e.image, e.cluster_id, e.kind) for e in other
    }
    assert len({e.image for e in one}) > 1 and all(e.strip for e in one)


def test_a_doubtful_one_of_few_in_its_image_is_not_missed(analysis):
    """In its image alone it would be the most typical one."""
    few = with_columns(analysis, label=np.where(np.arange(12) == 11, "Pt19", ""), image="few.tif")
    many = with_columns(analysis, label=np.where(np.arange(12) < 11, "Pt19", ""))
    found = shown(select_examples([], few, CLASSES), many, CLASSES)
    assert ids(found, "Pt19", SURE) == [1, 2] and ids(found, "Pt19", DOUBTFUL) == [12, 11]


def test_an_excluded_cluster_is_no_example(analysis):
    excluded = np.arange(12) == 0
    found = shown([], with_columns(analysis, excluded=excluded), CLASSES)
    assert ids(found, "Pt19", SURE) == [2, 3]


def test_clusters_without_patches_are_passed_over(analysis):
    added = bare_rows(analysis.table.iloc[:1].assign(cluster_id=99), analysis.outlines[:1])
    added.table["label"] = added.table["label_corrected"] = "Pt70"
    more = insert_rows(analysis, added)
    assert has_patches(more).tolist() == [True] * 12 + [False]
    assert {e.label for e in select_examples([], more, CLASSES)} == {"Pt19"}
    assert select_examples([], replace(analysis, patches={}, class_maps={}), CLASSES) == []


def test_class_maps_are_of_the_surest_cluster_of_each_label(analysis, tmp_path):
    labels = np.where(np.arange(12) % 2, "Pt19", "Pt41")
    both = {"label": labels, "label_predicted": labels}
    first = with_columns(analysis, **both, confidence=np.linspace(0.9, 0.4, 12))
    both = {"label": "Pt41", "label_predicted": "Pt41"}
    second = with_columns(analysis, **both, confidence=np.linspace(0.4, 0.95, 12))
    found = typical_clusters([first, second], CLASSES)
    assert [(one is second, row) for one, row in found] == [(False, 1), (True, 11)]
    files = write_class_maps([first, second], CLASSES, tmp_path)
    assert {path.suffix for path in files} == {".png", ".svg", ".pdf", ".csv"}
    axes = Figure().add_subplot()
    draw_class_maps(axes, found, Look(CLASSES))
    assert len(axes.images) == 2 * 4
    assert [text.get_text() for text in axes.get_xticklabels()] == ["Pt19\n0.85", "Pt41\n0.95"]


def test_without_a_network_there_are_no_class_maps(analysis, tmp_path):
    bare = replace(analysis, patches={}, class_maps={})
    assert write_class_maps([bare], CLASSES, tmp_path) == []
    axes = Figure().add_subplot()
    draw_class_maps(axes, typical_clusters([bare], CLASSES), Look(CLASSES))
    assert "network" in axes.texts[0].get_text()
